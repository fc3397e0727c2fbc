"""How much energy did the engine's devices take for a trial? All that they took, idle power included; GPUs only.

From the start of the plan to the end of its last measured response. A device's own counter of energy is taken where it
has one, else the integral of its power readings. Over several devices: the sum, known only if it is of each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferometer.base.units import NS_PER_S, seconds
from inferometer.core import quantities
from inferometer.core.record import Sample, Trial

UNREAD_NS = NS_PER_S
"""So far may the readings begin after the plan's start or end before its end."""


def energy_j(trial: Trial) -> float | None:
    """Of all the engine's devices together; None where one of them told neither energy nor power all through."""
    span = _span(trial)
    devices = _devices(trial.samples)
    if span is None or not devices:
        return None
    of_each = [_device_energy_j(trial.samples, device, *span) for device in devices]
    known = [energy for energy in of_each if energy is not None]
    return sum(known) if len(known) == len(of_each) else None


def mean_power_w(trial: Trial) -> float | None:
    """Of all the engine's devices together, over the same time."""
    span, energy = _span(trial), energy_j(trial)
    return None if span is None or energy is None else energy / seconds(span[1] - span[0])


def per_token(energy: float | None, tokens: int | None) -> float | None:
    """None where either is unknown, or nothing was generated."""
    return energy / tokens if energy is not None and tokens else None


def energy_notes(trial: Trial) -> list[str]:
    """Of what the energy is, and from which readings."""
    if energy_j(trial) is None:
        return []
    devices = _devices(trial.samples)
    counted = [device for device in devices if _series(trial.samples, quantities.ENERGY_J, device) is not None]
    how = "the device's own counter" if counted == devices else "the integral of its power readings"
    return [f"Energy: of {', '.join(devices)} alone, idle power included; {how}"]


def _span(trial: Trial) -> tuple[int, int] | None:
    """The plan's start, and the end of its last measured response."""
    ends_ns = [record.done_ns for record in trial.records if record.measured]
    if trial.plan_started_ns is None or not ends_ns or max(ends_ns) <= trial.plan_started_ns:
        return None
    return trial.plan_started_ns, max(ends_ns)


def _devices(samples: Sequence[Sample]) -> list[str]:
    """Those on which the engine was seen to hold memory; where that is unknown, those whose power was read."""
    held = {s.device: None for s in samples if s.quantity == quantities.GPU_MEMORY_BYTES and s.device is not None}
    read = {
        s.device: None
        for s in samples
        if s.quantity in (quantities.POWER_W, quantities.ENERGY_J) and s.device is not None
    }
    return list(held or read)


def _device_energy_j(samples: Sequence[Sample], device: str, from_ns: int, to_ns: int) -> float | None:
    counted = _series(samples, quantities.ENERGY_J, device)
    if counted is not None and _covers(counted[0], from_ns, to_ns) and bool(np.all(np.diff(counted[1]) >= 0)):
        at_ns, total_j = counted
    else:
        power = _series(samples, quantities.POWER_W, device)
        if power is None or not _covers(power[0], from_ns, to_ns):
            return None
        at_ns, watts = power
        steps_j = np.diff(at_ns) / NS_PER_S * (watts[1:] + watts[:-1]) / 2
        total_j = np.concatenate(([0.0], np.cumsum(steps_j)))
    return _at(at_ns, total_j, to_ns) - _at(at_ns, total_j, from_ns)


def _series(samples: Sequence[Sample], quantity: str, device: str) -> tuple[NDArray[np.float64], ...] | None:
    """Times, ns, and values, in order; None for fewer than two."""
    found = sorted((s.at_ns, s.value) for s in samples if s.quantity == quantity and s.device == device)
    if len(found) < 2:
        return None
    return np.array([at_ns for at_ns, _ in found], np.float64), np.array([value for _, value in found], np.float64)


def _covers(at_ns: NDArray[np.float64], from_ns: int, to_ns: int) -> bool:
    return bool(at_ns[0] <= from_ns + UNREAD_NS and at_ns[-1] >= to_ns - UNREAD_NS)


def _at(at_ns: NDArray[np.float64], total_j: NDArray[np.float64], when_ns: int) -> float:
    """The counter between two readings, and beyond the first and last by the slope there."""
    inside = float(np.interp(when_ns, at_ns, total_j))
    for near, far, beyond in ((0, 1, when_ns < at_ns[0]), (-1, -2, when_ns > at_ns[-1])):
        if beyond and at_ns[near] != at_ns[far]:
            slope = (total_j[near] - total_j[far]) / (at_ns[near] - at_ns[far])
            return float(total_j[near] + slope * (when_ns - at_ns[near]))
    return inside

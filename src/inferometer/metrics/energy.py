"""Energy and mean power of the engine's GPUs during a trial, idle power included.

The span is from the start of the plan to the end of its last measured response; with interleaved requests, the arm's
own turns. An engine that waits on the same device adds its idle power. A device's energy counter is used if it
has one, else the integral of its power readings. The energy of several devices is their sum, and known only if the
energy of each is known.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferometer.base.units import NS_PER_S, seconds
from inferometer.core import quantities
from inferometer.core.record import Sample, Trial
from inferometer.metrics.turns import Span, length_ns, turns_of, working_spans

MAX_UNCOVERED_NS = NS_PER_S
"""Readings may begin this long after the span's start, and end this long before its end."""


def energy_j(trial: Trial) -> float | None:
    """Of all the engine's devices together; None if any of them lacks energy and power readings over the whole span."""
    spans = working_spans(trial)
    devices = _devices(trial.samples)
    if not spans or not devices:
        return None
    per_device = [_device_energy_j(trial.samples, device, spans) for device in devices]
    known = [energy for energy in per_device if energy is not None]
    return sum(known) if len(known) == len(per_device) else None


def mean_power_w(trial: Trial) -> float | None:
    """Of all the engine's devices together, over the same span; None if the energy is unknown."""
    energy = energy_j(trial)
    return None if energy is None else energy / seconds(length_ns(working_spans(trial)))


def per_token(energy_j: float | None, tokens: int | None) -> float | None:
    """Energy per token, J; None if either is unknown, or no token was generated."""
    return energy_j / tokens if energy_j is not None and tokens else None


def energy_notes(trial: Trial) -> list[str]:
    """The devices that the energy covers, and the readings that it comes from."""
    if energy_j(trial) is None:
        return []
    devices = _devices(trial.samples)
    counted = [device for device in devices if _series(trial.samples, quantities.ENERGY_J, device) is not None]
    source = "the device's energy counter" if counted == devices else "the integral of its power readings"
    turns = ", in its own turns" if turns_of(trial) else ""
    return [f"Energy: {', '.join(devices)} only, idle power included{turns}; from {source}"]


def _devices(samples: Sequence[Sample]) -> list[str]:
    """Devices on which the engine held memory; if that is unknown, devices whose power or energy was read."""
    with_memory = {
        s.device: None for s in samples if s.quantity == quantities.GPU_MEMORY_BYTES and s.device is not None
    }
    with_power = {
        s.device: None
        for s in samples
        if s.quantity in (quantities.POWER_W, quantities.ENERGY_J) and s.device is not None
    }
    return list(with_memory or with_power)


def _device_energy_j(samples: Sequence[Sample], device: str, spans: Sequence[Span]) -> float | None:
    from_ns, to_ns = spans[0][0], spans[-1][1]
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
    return sum(_value_at(at_ns, total_j, end) - _value_at(at_ns, total_j, start) for start, end in spans)


def _series(samples: Sequence[Sample], quantity: str, device: str) -> tuple[NDArray[np.float64], ...] | None:
    """Times, ns, and values, in order; None for fewer than two readings."""
    found = sorted((s.at_ns, s.value) for s in samples if s.quantity == quantity and s.device == device)
    if len(found) < 2:
        return None
    return np.array([at_ns for at_ns, _ in found], np.float64), np.array([value for _, value in found], np.float64)


def _covers(at_ns: NDArray[np.float64], from_ns: int, to_ns: int) -> bool:
    return bool(at_ns[0] <= from_ns + MAX_UNCOVERED_NS and at_ns[-1] >= to_ns - MAX_UNCOVERED_NS)


def _value_at(at_ns: NDArray[np.float64], total_j: NDArray[np.float64], when_ns: int) -> float:
    """The counter at a time: interpolated between two readings, extrapolated by the slope before the first and after
    the last."""
    inside = float(np.interp(when_ns, at_ns, total_j))
    for near, far, beyond in ((0, 1, when_ns < at_ns[0]), (-1, -2, when_ns > at_ns[-1])):
        if beyond and at_ns[near] != at_ns[far]:
            slope = (total_j[near] - total_j[far]) / (at_ns[near] - at_ns[far])
            return float(total_j[near] + slope * (when_ns - at_ns[near]))
    return inside

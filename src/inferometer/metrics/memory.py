"""Memory that the engine held over time, from samples of one quantity.

Reading PSS is expensive: it is read only every few seconds. RSS is read twice a second and fills the gaps. RSS counts
shared pages more than once; this excess changes slowly, so that RSS less the excess at the neighbouring PSS readings
estimates PSS. The excess is that of one reading of both. RSS interpolated to the time of a PSS reading is too small
while memory grows; the estimate then exceeded all memory that the engine ever had.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from inferometer.core import quantities
from inferometer.core.record import Sample, Trial

_MEMORY_QUANTITIES = (quantities.GPU_MEMORY_BYTES, quantities.PSS_BYTES, quantities.RSS_BYTES)


LEAST_GPU_BYTES = 64 * 1024**2
"""An engine that holds less on its GPUs keeps its model elsewhere: on the CPU, or in memory that an integrated GPU
shares with the CPU and that its driver does not count."""


def engine_samples(trial: Trial) -> tuple[Sample, ...]:
    """A trial's samples without those that say nothing about the engine: where the server is not among the watched
    processes (a container, a service), their memory is a launcher's. Devices show the memory of all processes."""
    if not any(fact.name == quantities.SERVER_ELSEWHERE for fact in trial.facts):
        return trial.samples
    return tuple(one for one in trial.samples if one.quantity not in (quantities.PSS_BYTES, quantities.RSS_BYTES))


def memory_quantity(samples: Iterable[Sample]) -> str | None:
    """The quantity that Memory Usage is made of: GPU memory if the engine holds any, else PSS, else RSS; else None."""
    samples = tuple(samples)
    sampled = {sample.quantity for sample in samples}
    if len(sampled.intersection(_MEMORY_QUANTITIES)) > 1:
        held = _summed(samples, quantities.GPU_MEMORY_BYTES).values()
        if max(held, default=0.0) < LEAST_GPU_BYTES:
            sampled.discard(quantities.GPU_MEMORY_BYTES)
    return next((quantity for quantity in _MEMORY_QUANTITIES if quantity in sampled), None)


def held_bytes(samples: Iterable[Sample], quantity: str | None) -> dict[int, float]:
    """By time, ns: the sum over processes and devices. Empty if the quantity was never read."""
    samples = tuple(samples)
    readings = _summed(samples, quantity)
    if quantity != quantities.PSS_BYTES or not readings:
        return readings
    resident = _summed(samples, quantities.RSS_BYTES)
    if not resident:
        return readings
    rss_at_ns = np.array(sorted(resident), np.float64)
    rss_bytes = np.array([resident[at_ns] for at_ns in sorted(resident)], np.float64)
    pss_at_ns = np.array(sorted(readings), np.float64)
    pss_bytes = np.array([readings[at_ns] for at_ns in sorted(readings)], np.float64)
    same_moment = _summed(samples, quantities.RSS_AT_PSS_BYTES)
    paired = [same_moment.get(at_ns, _largest_near(at_ns, rss_at_ns, rss_bytes)) for at_ns in sorted(readings)]
    excess = np.maximum(0.0, np.array(paired) - pss_bytes)
    estimated = rss_bytes - np.interp(rss_at_ns, pss_at_ns, excess)
    found = {at_ns: max(0.0, float(value)) for at_ns, value in zip(sorted(resident), estimated, strict=True)}
    return found | {
        at_ns: min(value, rss) for (at_ns, value), rss in zip(sorted(readings.items()), paired, strict=True)
    }


def _largest_near(at_ns: int, rss_at_ns: NDArray[np.float64], rss_bytes: NDArray[np.float64]) -> float:
    """The larger of the two RSS readings around a time: for studies without RSS in the reading of PSS."""
    after = int(np.searchsorted(rss_at_ns, at_ns))
    if after < len(rss_at_ns) and rss_at_ns[after] == at_ns:
        return float(rss_bytes[after])
    return float(rss_bytes[max(0, after - 1) : after + 1].max())


def _summed(samples: Iterable[Sample], quantity: str | None) -> dict[int, float]:
    by_time: defaultdict[int, float] = defaultdict(float)
    for sample in samples:
        if sample.quantity == quantity:
            by_time[sample.at_ns] += sample.value
    return dict(by_time)

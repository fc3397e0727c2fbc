"""Memory that the engine held over time, from samples of one quantity.

Reading PSS is expensive: of a large engine it is read only every few seconds. RSS is read ten times a second and fills
the gaps. RSS counts shared pages more than once; this excess changes slowly, so that RSS less the excess at the
neighbouring PSS readings estimates PSS.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from inferometer.core import quantities
from inferometer.core.record import Sample

_MEMORY_QUANTITIES = (quantities.GPU_MEMORY_BYTES, quantities.PSS_BYTES, quantities.RSS_BYTES)


def memory_quantity(samples: Iterable[Sample]) -> str | None:
    """The quantity that Memory Usage is made of: GPU memory if it was sampled, else PSS, else RSS; None without any."""
    sampled = {sample.quantity for sample in samples}
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
    excess = np.interp(pss_at_ns, rss_at_ns, rss_bytes) - pss_bytes
    estimated = rss_bytes - np.interp(rss_at_ns, pss_at_ns, excess)
    return {at_ns: float(value) for at_ns, value in zip(sorted(resident), estimated, strict=True)} | readings


def _summed(samples: Iterable[Sample], quantity: str | None) -> dict[int, float]:
    by_time: defaultdict[int, float] = defaultdict(float)
    for sample in samples:
        if sample.quantity == quantity:
            by_time[sample.at_ns] += sample.value
    return dict(by_time)

"""How much memory did the engine hold at each moment at which it was looked at? Of one quantity, as dense as it can be.

PSS is dear to read, and of a large engine it is read every few seconds only. RSS, which is read ten times a second,
fills the gaps: RSS less what it counted too much at the PSS readings around, which changes slowly.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from inferometer.core import quantities
from inferometer.core.record import Sample


def held_bytes(samples: Iterable[Sample], quantity: str | None) -> dict[int, float]:
    """By time, ns: the sum over processes and devices. Empty where the quantity was never read."""
    samples = tuple(samples)
    told = _summed(samples, quantity)
    if quantity != quantities.PSS_BYTES or not told:
        return told
    resident = _summed(samples, quantities.RSS_BYTES)
    if not resident:
        return told
    times_ns = np.array(sorted(resident), np.float64)
    rss_bytes = np.array([resident[at_ns] for at_ns in sorted(resident)], np.float64)
    read_ns = np.array(sorted(told), np.float64)
    too_much = np.interp(read_ns, times_ns, rss_bytes) - np.array([told[at_ns] for at_ns in sorted(told)], np.float64)
    filled = rss_bytes - np.interp(times_ns, read_ns, too_much)
    return {at_ns: float(value) for at_ns, value in zip(sorted(resident), filled, strict=True)} | told


def _summed(samples: Iterable[Sample], quantity: str | None) -> dict[int, float]:
    at_once: defaultdict[int, float] = defaultdict(float)
    for sample in samples:
        if sample.quantity == quantity:
            at_once[sample.at_ns] += sample.value
    return dict(at_once)

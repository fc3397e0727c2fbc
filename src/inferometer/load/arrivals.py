"""Arrival times of an exchange's reads: the kernel's stamps where they are valid, else our own clock's. Pure."""

import array
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.load import compiled
from inferometer.load.wire import Exchange

TOLERANCE_NS = 100_000
"""How far a stamp may lie before the send or after the read without being an error. The two clocks are compared a few
times per second, and each comparison is accurate to microseconds."""


class Arrivals(msgspec.Struct, frozen=True):
    """`at_ns`: one per read, monotonic clock, never decreasing. `lag_ns`: read time minus arrival time, one per read
    with a kernel stamp. `errors`: number of stamps before the send or after the read; those reads get our own clock's
    time."""

    at_ns: NDArray[np.int64]
    lag_ns: NDArray[np.int64]
    errors: int


def arrivals(exchange: Exchange) -> Arrivals:
    """The arrival time of each read of `exchange`."""
    read_ns = np.frombuffer(exchange.read_ns, np.int64)
    if not exchange.kernel or exchange.clock_stepped:
        return Arrivals(read_ns, np.zeros(0, np.int64), 0)
    sent_ns = exchange.sent_ns or 0
    if compiled.arrivals is not None:
        at, lag, errors = compiled.arrivals(
            exchange.read_ns, exchange.kernel, exchange.wall_offset_ns, sent_ns, TOLERANCE_NS
        )
        return Arrivals(np.frombuffer(at, np.int64), np.frombuffer(lag, np.int64), errors)
    pairs = np.frombuffer(exchange.kernel, np.int64).reshape(-1, 2)
    stamped = pairs[:, 0] != 0
    kernel_ns = pairs[:, 0] * 1_000_000_000 + pairs[:, 1] - exchange.wall_offset_ns
    sound = stamped & (kernel_ns >= sent_ns - TOLERANCE_NS) & (kernel_ns <= read_ns + TOLERANCE_NS)
    at_ns = np.where(sound, np.clip(kernel_ns, sent_ns, read_ns), read_ns)
    return Arrivals(
        np.maximum.accumulate(at_ns),
        (read_ns - at_ns)[sound],
        int(np.count_nonzero(stamped & ~sound)),
    )


def timed_reads(exchange: Exchange, arrived: Arrivals) -> Iterator[tuple[int, bytes]]:
    """Stamp and bytes of each read, in order."""
    start = 0
    for at_ns, length in zip(arrived.at_ns.tolist(), array.array("I", exchange.lengths), strict=True):
        yield at_ns, exchange.raw[start : start + length]
        start += length

"""Clocks behind one protocol, so that tests can supply their own."""

import time
from typing import Protocol

import msgspec


class Clock(Protocol):
    """`monotonic_ns` never goes back and measures durations; `wall_ns` counts from 1970 UTC and dates a study."""

    def monotonic_ns(self) -> int: ...

    def wall_ns(self) -> int: ...


class SystemClock:
    """This host's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def slept_ns() -> int:
    """How long this host has been suspended since its start; its monotonic clock stops meanwhile. 0 on systems other
    than Linux, which do not state it."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class TrialClock(msgspec.Struct, frozen=True):
    """A trial's own time: ns since `origin_ns` on `clock`'s monotonic clock."""

    origin_ns: int
    clock: Clock

    def now_ns(self) -> int:
        return self.clock.monotonic_ns() - self.origin_ns


def trial_clock(clock: Clock) -> TrialClock:
    """A trial clock that starts now."""
    return TrialClock(clock.monotonic_ns(), clock)

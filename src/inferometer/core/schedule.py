"""Schedules: due times of requests, drawn from a seed before the clock starts."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from inferometer.base.units import NS_PER_S

if TYPE_CHECKING:
    from numpy.random import RandomState


class Closed(msgspec.Struct, frozen=True, tag_field="kind", tag="closed", forbid_unknown_fields=True):
    """Each of `concurrency` users sends the next request when its answer is complete; None: all requests at once."""

    concurrency: int | None = 1

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return [None] * count

    def problems(self) -> list[str]:
        return _positive("concurrency", self.concurrency)


class Constant(msgspec.Struct, frozen=True, tag_field="kind", tag="constant", forbid_unknown_fields=True):
    """One request every 1/`rate_per_s` seconds, the first at 0, with at most `max_concurrency` in flight."""

    rate_per_s: float
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return [round(i / self.rate_per_s * NS_PER_S) for i in range(count)]

    def problems(self) -> list[str]:
        return _positive("rate_per_s", self.rate_per_s) + _positive("max_concurrency", self.max_concurrency)


class Poisson(msgspec.Struct, frozen=True, tag_field="kind", tag="poisson", forbid_unknown_fields=True):
    """Random arrivals of mean rate `rate_per_s`, the first at 0.

    Gaps follow a gamma distribution of shape `burstiness` and mean 1/rate: 1 is a Poisson process, below 1 is burstier,
    above 1 more even, infinite perfectly even. The draws are those of vLLM's benchmark script for the same seed
    (numpy's legacy generator).
    """

    rate_per_s: float
    burstiness: float = 1.0
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return _gamma_due_ns(self.rate_per_s, self.burstiness, count, rng)

    def problems(self) -> list[str]:
        return (
            _positive("rate_per_s", self.rate_per_s)
            + _burstiness_problems(self.burstiness)
            + _positive("max_concurrency", self.max_concurrency)
        )


class Gamma(msgspec.Struct, frozen=True, tag_field="kind", tag="gamma", forbid_unknown_fields=True):
    """`Poisson` under the name of its gap distribution; `burstiness`, the shape of the gaps, is required."""

    rate_per_s: float
    burstiness: float
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        return _gamma_due_ns(self.rate_per_s, self.burstiness, count, rng)

    def problems(self) -> list[str]:
        return Poisson(self.rate_per_s, self.burstiness, self.max_concurrency).problems()


class Ramp(msgspec.Struct, frozen=True, tag_field="kind", tag="ramp", forbid_unknown_fields=True):
    """Arrivals whose rate rises or falls from `start_per_s` to `end_per_s`; the first is at 0.

    `duration_s` None: the rate changes from request to request, from the first to the last. That is vLLM's ramp, with
    the same draws for the same seed; vLLM waits before its first request, so its times are one gap later. With a
    `duration_s`, the rate changes with time and then stays at `end_per_s`. `burstiness`: the shape of the gaps, as in
    Poisson; infinite: the gaps are not random.
    """

    start_per_s: float
    end_per_s: float
    strategy: Literal["linear", "exponential"] = "linear"
    duration_s: float | None = None
    burstiness: float = 1.0
    max_concurrency: int | None = None

    def due_ns(self, count: int, rng: "RandomState") -> list[int | None]:
        units = list(itertools.islice(_unit_gaps(self.burstiness, rng), count))[1:]  # vLLM's wait before the first
        if self.duration_s is None:
            gaps_s = (unit / self._rate_per_s((i + 1) / (count - 1)) for i, unit in enumerate(units))
            times_s = itertools.accumulate(gaps_s, initial=0.0)
        else:
            times_s = map(self._time_s, itertools.accumulate(units, initial=0.0), itertools.repeat(self.duration_s))
        return [round(at_s * NS_PER_S) for at_s in itertools.islice(times_s, count)]

    def problems(self) -> list[str]:
        may_start_at_0 = self.strategy == "linear" and self.duration_s is not None
        start = self.start_per_s
        return (
            ([] if may_start_at_0 and start == 0 else _positive("start_per_s", start))
            + _positive("end_per_s", self.end_per_s)
            + _positive("duration_s", self.duration_s)
            + _burstiness_problems(self.burstiness)
            + _positive("max_concurrency", self.max_concurrency)
        )

    def _rate_per_s(self, progress: float) -> float:
        """At `progress` from 0 to 1 of the ramp."""
        if self.strategy == "linear":
            return self.start_per_s + (self.end_per_s - self.start_per_s) * progress
        return self.start_per_s * (self.end_per_s / self.start_per_s) ** progress

    def _time_s(self, arrivals: float, duration_s: float) -> float:
        """The time at which the integral of the rate from 0 reaches `arrivals`, the expected number of arrivals.

        It maps the times of a process of mean rate 1 to a process with the ramp's rate at every time.
        """
        start, end = self.start_per_s, self.end_per_s
        if self.strategy == "linear":
            whole = (start + end) / 2 * duration_s
            if arrivals < whole:  # start·t + (end − start)·t²/2D = arrivals, in the form that allows start = end
                root = math.sqrt(start**2 + 2 * (end - start) / duration_s * arrivals)
                return 2 * arrivals / (start + root) if arrivals else 0.0
        else:
            growth = math.log(end / start)
            whole = duration_s * (start if growth == 0 else (end - start) / growth)
            if arrivals < whole:  # start·D/growth·(exp(growth·t/D) − 1) = arrivals
                if growth == 0:
                    return arrivals / start
                return duration_s / growth * math.log1p(arrivals * growth / (start * duration_s))
        return duration_s + (arrivals - whole) / end


class Replay(msgspec.Struct, frozen=True, tag_field="kind", tag="replay", forbid_unknown_fields=True):
    """The workload's recorded times, `speed` times as fast, with the first shifted to 0."""

    speed: float = 1.0
    max_concurrency: int | None = None

    def due_ns_of(self, recorded_ns: Sequence[int]) -> list[int]:
        """The due times of requests recorded at these times, which never decrease."""
        return [round((at_ns - recorded_ns[0]) / self.speed) for at_ns in recorded_ns]

    def problems(self) -> list[str]:
        return _positive("speed", self.speed) + _positive("max_concurrency", self.max_concurrency)


Drawn = Closed | Constant | Poisson | Gamma | Ramp
"""Schedules that need only the number of requests from the workload."""

Schedule = Drawn | Replay


def concurrency_limit(schedule: Schedule) -> int | None:
    """The most requests in flight at once; None: no limit."""
    return schedule.concurrency if isinstance(schedule, Closed) else schedule.max_concurrency


def requested_rate_per_s(schedule: Schedule) -> float | None:
    """The constant mean rate at which requests should arrive; None if there is no such rate."""
    return schedule.rate_per_s if isinstance(schedule, Constant | Poisson | Gamma) else None


def _gamma_due_ns(rate_per_s: float, burstiness: float, count: int, rng: "RandomState") -> list[int | None]:
    """Never decreasing, from 0. Draws one gap more than there are between the requests, as vLLM does."""
    units = list(itertools.islice(_unit_gaps(burstiness, rng), count))
    times = itertools.accumulate(units, initial=0.0)
    return [round(at / rate_per_s * NS_PER_S) for at in itertools.islice(times, count)]


def _unit_gaps(burstiness: float, rng: "RandomState") -> Iterator[float]:
    """An endless sequence of gaps of mean 1; an infinite `burstiness` draws no random numbers."""
    while True:
        yield 1.0 if math.isinf(burstiness) else float(rng.gamma(shape=burstiness, scale=1.0 / burstiness))


def _burstiness_problems(burstiness: float) -> list[str]:
    return [] if burstiness == math.inf else _positive("burstiness", burstiness)


def _positive(name: str, value: float | None) -> list[str]:
    if value is None or (value > 0 and math.isfinite(value)):
        return []
    return [f"{name} must be greater than 0, not {value:g}"]

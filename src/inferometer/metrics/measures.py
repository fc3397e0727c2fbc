"""How is a trial's number made from its requests, and made again when the prompts are drawn again?

A measure gives the value of a trial and its replicates: the values that the trial would have had, had its prompts been
others of their kind (`stats.Resampling`). From the replicates comes the part of an interval that prompts make.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from inferometer.base.units import NS_PER_S
from inferometer.core.record import RequestRecord, Trial
from inferometer.core.request import Request
from inferometer.metrics.consistency import Contradiction
from inferometer.metrics.request_timing import MetricDialect, RequestTiming
from inferometer.metrics.statistics import Floats, Resampling, Series, resampling

_T = TypeVar("_T")


class RequestView(msgspec.Struct, frozen=True):
    """A record and its timing; `timing` None: the request failed, as the dialect sees it. `asked`: its prompt and
    limit, where these are known; `contradictions`: its numbers that a known fact refutes."""

    record: RequestRecord
    timing: RequestTiming | None
    asked: Request | None = None
    contradictions: tuple[Contradiction, ...] = ()
    known: list[Any] = []  # what was computed once of this request (`remembered`)

    def remembered(self, of: Callable[[RequestRecord], _T]) -> _T:
        """`of(record)`, computed at the first call: of one function only."""
        if not self.known:
            self.known.append(of(self.record))
        return self.known[0]


class TrialView(msgspec.Struct, frozen=True):
    """The measured requests of a trial, in the plan's order, as one dialect sees them: what metrics are made of."""

    trial: Trial
    dialect: MetricDialect
    requests: tuple[RequestView, ...]
    known: dict[Any, Series] = {}  # what was computed once: several statistics are taken of each series

    @property
    def timings(self) -> list[RequestTiming]:
        """Of the successful requests."""
        return [request.timing for request in self.requests if request.timing is not None]

    def series(self, of: "Values") -> Series:
        """All values of all requests."""
        found = self.known.get(of)
        if found is None:
            each = [of(request) for request in self.requests]
            owners = np.repeat(np.arange(len(each)), [len(values) for values in each])
            flat = np.array([value for values in each for value in values], np.float64)
            found = self.known[of] = Series(flat, owners.astype(np.int64), len(each))
        return found


Values = Callable[[RequestView], Sequence[float]]
"""The values of one request: none, one, or many."""


class Measure(Protocol):
    """`value` is None where undefined or unknown, never 0 in its place; `replicates` is None where other prompts tell
    nothing of it."""

    def value(self, trial: TrialView) -> float | None: ...

    def replicates(self, trial: TrialView) -> Floats | None: ...


class TrialValue(msgspec.Struct, frozen=True):
    """A number of the trial as a whole."""

    number: Callable[[TrialView], float | None]

    def value(self, trial: TrialView) -> float | None:
        return self.number(trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return None


class Mean(msgspec.Struct, frozen=True):
    """The mean of all values of all requests, in units of `per`."""

    of: Values
    per: float

    def value(self, trial: TrialView) -> float | None:
        return _statistic(np.mean, self.of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return _drawn(trial).means(trial.series(self.of)) / self.per


class Percentile(msgspec.Struct, frozen=True):
    """By linear interpolation between the two nearest ranks."""

    of: Values
    percent: float
    per: float

    def value(self, trial: TrialView) -> float | None:
        return _statistic(lambda values: np.percentile(values, self.percent), self.of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return _drawn(trial).quantiles(trial.series(self.of), self.percent) / self.per


class Deviation(msgspec.Struct, frozen=True):
    """The standard deviation of the population, as numpy.std."""

    of: Values
    per: float

    def value(self, trial: TrialView) -> float | None:
        return _statistic(np.std, self.of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return None


class Rate(msgspec.Struct, frozen=True):
    """`total` over the trial's duration, per second. In a closed loop other prompts take another time: the duration is
    drawn again as the sum of the requests' times."""

    total: Callable[[TrialView], float | None]
    of: Values

    def value(self, trial: TrialView) -> float | None:
        total, duration = self.total(trial), duration_ns(trial)
        return total / (duration / NS_PER_S) if total is not None and duration else None

    def replicates(self, trial: TrialView) -> Floats | None:
        value = self.value(trial)
        amount = trial.series(self.of)
        if value is None or not amount.values.sum():
            return None
        found = _drawn(trial).totals(amount) / amount.values.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            # of a trial that was cut off, a draw may hold no request that had ended: not a number, and used by nobody
            return value * found / _times_drawn(trial)


class Duration(msgspec.Struct, frozen=True):
    """The trial's duration, s."""

    def value(self, trial: TrialView) -> float | None:
        found = duration_ns(trial)
        return None if found is None else found / NS_PER_S

    def replicates(self, trial: TrialView) -> Floats | None:
        value = self.value(trial)
        return None if value is None else value * _times_drawn(trial)


class Ratio(msgspec.Struct, frozen=True):
    """A sum over all requests by another, times `scale`; None where the lower one is not above 0."""

    upper: Values
    lower: Values
    scale: float = 1.0

    def value(self, trial: TrialView) -> float | None:
        upper, lower = trial.series(self.upper).values, trial.series(self.lower).values
        return float(self.scale * upper.sum() / lower.sum()) if len(upper) and lower.sum() > 0 else None

    def replicates(self, trial: TrialView) -> Floats | None:
        if self.value(trial) is None:
            return None
        drawn = _drawn(trial)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.scale * drawn.totals(trial.series(self.upper)) / drawn.totals(trial.series(self.lower))


class FirstAvailable(msgspec.Struct, frozen=True):
    """The first of two measures that is known."""

    first: Measure
    second: Measure

    def value(self, trial: TrialView) -> float | None:
        value = self.first.value(trial)
        return self.second.value(trial) if value is None else value

    def replicates(self, trial: TrialView) -> Floats | None:
        chosen = self.second if self.first.value(trial) is None else self.first
        return chosen.replicates(trial)


def duration_ns(trial: TrialView) -> int | None:
    """From the start of the plan to the end of the last measured response, failed ones too."""
    started_ns = trial.trial.plan_started_ns
    if started_ns is None or not trial.requests:
        return None
    return max(request.record.done_ns for request in trial.requests) - started_ns


def _statistic(statistic: Callable[[Floats], Any], of: Values, per: float, trial: TrialView) -> float | None:
    """None where there is nothing to take it of; vLLM's dialects say 0."""
    values = trial.series(of).values
    if not len(values):
        return None if trial.dialect == "inferometer" else 0.0
    return float(statistic(values)) / per


def _drawn(trial: TrialView) -> Resampling:
    return resampling(len(trial.requests))


def _times_drawn(trial: TrialView) -> Floats:
    """By how much longer or shorter the trial would have been; 1 where the schedule says when requests are due."""
    if any(request.record.due_ns is not None for request in trial.requests):
        return np.ones(1)
    times = trial.series(_busy_ns)
    total = times.values.sum()
    return _drawn(trial).totals(times) / total if total else np.ones(1)


def _busy_ns(request: RequestView) -> Sequence[float]:
    record = request.record
    return [] if record.sent_ns is None else [record.done_ns - record.sent_ns]

"""Measures: how a trial's number is computed from its requests, and recomputed for resampled prompts.

A measure gives the value of a trial and its replicates: the values that the trial would have had with other prompts of
the same kind (`resampling.Resampling`). The replicates give the part of an interval that is due to the prompts.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from inferometer.base.units import NS_PER_S
from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record import AnswerCheck, RequestRecord, Trial
from inferometer.core.record_columns import UNKNOWN, RecordColumns
from inferometer.core.request import Request
from inferometer.core.spec import Api
from inferometer.metrics.consistency import Contradiction, ReportedNumber
from inferometer.metrics.request_columns import Asked, OutputColumns, TimingColumns
from inferometer.metrics.request_timing import MetricDialect, RequestTiming, request_timing
from inferometer.metrics.resampling import Resampling, resampling
from inferometer.metrics.series import Floats, Series, deviation
from inferometer.metrics.turns import length_ns, turns_of

_T = TypeVar("_T")


class RequestView(msgspec.Struct, frozen=True):
    """A record and its timing; `timing` None: the request failed by the dialect's rules.

    `asked`: its prompt and limit, if known. `contradictions`: its numbers that a known fact refutes. `left_out`: it is
    in no series, because it failed in another arm. `check`: the outcome of its answer's check; None without one.
    """

    record: RequestRecord
    timing: RequestTiming | None
    asked: Request | None = None
    contradictions: tuple[Contradiction, ...] = ()
    left_out: bool = False
    check: AnswerCheck | None = None
    cache: list[Any] = []  # the one value that `cached` computed

    @property
    def times_refuted(self) -> bool:
        """Whether a known fact refutes the times of its tokens."""
        return any(one.about == "token_times" for one in self.contradictions)

    def cached(self, compute: Callable[[RequestRecord], _T]) -> _T:
        """`compute(record)`, computed at the first call only. Every call must pass the same function."""
        if not self.cache:
            self.cache.append(compute(self.record))
        return self.cache[0]


class TrialView(msgspec.Struct, frozen=True):
    """The measured requests of a trial, in the plan's order, by the rules of one dialect: the input of all metrics.

    `records`, `outputs`, `asked`, `timing`: columns with one entry a request. `contradictions`: of each request that
    has any, by its position. `left_out`: whether a request is in no series; None: each is in. `checks`: by index.
    """

    trial: Trial
    dialect: MetricDialect
    api: Api
    records: RecordColumns
    outputs: OutputColumns
    asked: Asked
    timing: TimingColumns
    contradictions: Mapping[int, tuple[Contradiction, ...]] = {}
    left_out: Bools | None = None
    checks: Mapping[int, AnswerCheck] = {}
    cache: dict[Any, Any] = {}
    of_values: dict[Any, Any] = {}  # series, and numbers of them: several statistics are computed from each series

    @property
    def requests(self) -> "tuple[RequestView, ...]":
        """Each request by itself: made at the first call, for what shows single requests."""
        return self.cached("requests", lambda trial: tuple(map(trial.request, range(trial.size))))

    def request(self, place: int) -> RequestView:
        """One request by itself."""
        record, asked = self.records.record(place), self.asked.requests[place]
        return RequestView(
            record,
            self._timing(place, record, asked),
            asked,
            self.contradictions.get(place, ()),
            self.left_out is not None and bool(self.left_out[place]),
            self.checks.get(record.index),
        )

    def _timing(self, place: int, record: RequestRecord, asked: Request | None) -> RequestTiming | None:
        """Pieces of text count for tokens in all answers of a trial or in none (see `timing_columns`)."""
        found = request_timing(record, self.dialect, self.api, asked)
        if found is None or found.output_source != "output events" or self.timing.output_source[place]:
            return found
        return msgspec.structs.replace(found, output_tokens=None, output_source=None)

    @property
    def size(self) -> int:
        """The number of measured requests."""
        return len(self.records)

    @property
    def index(self) -> Ints:
        """The index of each request in the plan."""
        return self.records.numbers["index"]

    def refuted(self, about: ReportedNumber) -> Bools:
        """Whether a known fact refutes this number of each request."""
        return self.cached(("refuted", about), lambda trial: trial._refuted(about))

    def _refuted(self, about: ReportedNumber) -> Bools:
        found = np.zeros(self.size, np.bool_)
        for place, reasons in self.contradictions.items():
            found[place] = any(one.about == about for one in reasons)
        return found

    def without(self, indices: set[int]) -> "TrialView":
        """The trial with these requests left out of all series."""
        left_out = np.isin(self.index, list(indices))
        return msgspec.structs.replace(self, left_out=left_out, cache={}, of_values={})

    def series(self, values_of: "Values", *, left_out: bool = False) -> Series:
        """All values of all requests; of those that are left out only if `left_out`."""
        in_columns = _IN_COLUMNS.get(values_of)
        if left_out:
            return in_columns(self) if in_columns else _series(values_of, self.requests)
        return self.cached_values(values_of, lambda trial: _kept(trial.series(values_of, left_out=True), trial))

    def cached(self, key: Any, compute: "Callable[[TrialView], _T]") -> _T:
        """`compute(self)`, computed at the first call only. The same key must come with the same function."""
        return _cached(self.cache, key, lambda: compute(self))

    def cached_values(self, key: Any, compute: "Callable[[TrialView], _T]") -> _T:
        """As `cached`, until `release`: for values of all tokens, and for what is found by the identity of a series."""
        return _cached(self.of_values, key, lambda: compute(self))

    def release(self) -> None:
        """Free all series: they are computed again when somebody asks for them."""
        self.of_values.clear()
        _resampling(self).forget()


def _cached(known: dict[Any, Any], key: Any, compute: Callable[[], _T]) -> _T:
    found = known.get(key)
    if found is None:
        found = known[key] = compute()
    return found


Values = Callable[[RequestView], Sequence[float]]
"""A function that returns the values of one request: none, one, or many."""

_IN_COLUMNS: dict[Values, Callable[[TrialView], Series]] = {}


def in_columns(whole: Callable[[TrialView], Series]) -> Callable[[Values], Values]:
    """Decorates the values of one request with `whole`, which computes the same values of all requests at once."""

    def registered(values_of: Values) -> Values:
        _IN_COLUMNS[values_of] = whole
        return values_of

    return registered


def _series(values_of: Values, requests: Sequence[RequestView]) -> Series:
    by_request = list(map(values_of, requests))
    positions = np.repeat(np.arange(len(by_request)), [len(values) for values in by_request])
    flat = np.fromiter(chain.from_iterable(by_request), np.float64, len(positions))
    return Series(flat, positions.astype(np.int64), len(by_request))


def _kept(series: Series, trial: TrialView) -> Series:
    """Without the values of requests that are left out."""
    if trial.left_out is None or not trial.left_out.any():
        return series
    kept = ~trial.left_out[series.positions]
    return Series(series.values[kept], series.positions[kept], series.requests)


def one_each(trial: TrialView, values: "Ints | Floats", known: Bools) -> Series:
    """The value of each request for which it is `known`."""
    return Series(values[known].astype(np.float64), np.flatnonzero(known), trial.size)


def paired(one: TrialView, other: TrialView, wanted: Bools, others: Bools) -> tuple[Ints, Ints]:
    """The positions in two trials of the same requests, of those that are `wanted` in each, in the order of `other`."""
    mine, theirs = np.flatnonzero(wanted), np.flatnonzero(others)
    index = one.index[mine]
    places = np.minimum(np.searchsorted(index, other.index[theirs]), max(0, len(index) - 1))
    if not len(index):
        return mine, theirs[:0]
    found = index[places] == other.index[theirs]
    return mine[places[found]], theirs[found]


class Measure(Protocol):
    """`value`: None if undefined or unknown, never 0 instead. `replicates`: None if they cannot be computed from
    resampled prompts."""

    def value(self, trial: TrialView) -> float | None: ...

    def replicates(self, trial: TrialView) -> Floats | None: ...


class TrialValue(msgspec.Struct, frozen=True):
    """A number of the trial as a whole, without replicates."""

    compute: Callable[[TrialView], float | None]

    def value(self, trial: TrialView) -> float | None:
        return self.compute(trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return None


class Mean(msgspec.Struct, frozen=True):
    """The mean of all values of all requests, divided by `per`."""

    values_of: Values
    per: float

    def value(self, trial: TrialView) -> float | None:
        return _statistic(lambda series: float(np.mean(series.values)), self.values_of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return _resampling(trial).means(trial.series(self.values_of)) / self.per


class Percentile(msgspec.Struct, frozen=True):
    """A percentile by linear interpolation between the two nearest ranks, divided by `per`."""

    values_of: Values
    percent: float
    per: float

    def value(self, trial: TrialView) -> float | None:
        def percentile(series: Series) -> float:  # several rows have the same series
            key = ("percentile", id(series), self.percent)
            return trial.cached_values(key, lambda trial: _resampling(trial).percentile(series, self.percent))

        return _statistic(percentile, self.values_of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        series = trial.series(self.values_of)  # several rows have the same series
        found = trial.cached_values(
            ("quantiles", id(series), self.percent), lambda trial: _resampling(trial).quantiles(series, self.percent)
        )
        return found / self.per


class Deviation(msgspec.Struct, frozen=True):
    """The population's standard deviation, as numpy.std, divided by `per`."""

    values_of: Values
    per: float

    def value(self, trial: TrialView) -> float | None:
        return _statistic(lambda series: deviation(series.values), self.values_of, self.per, trial)

    def replicates(self, trial: TrialView) -> Floats | None:
        return None


class Rate(msgspec.Struct, frozen=True):
    """`total` over the trial's duration, per second. In a closed loop other prompts take a different time: in the
    replicates, the duration scales with the sum of the requests' times."""

    total: Callable[[TrialView], float | None]
    values_of: Values

    def value(self, trial: TrialView) -> float | None:
        total, duration = self.total(trial), duration_ns(trial)
        return total / (duration / NS_PER_S) if total is not None and duration else None

    def replicates(self, trial: TrialView) -> Floats | None:
        value = self.value(trial)
        amount = trial.series(self.values_of)
        if value is None or not amount.values.sum():
            return None
        ratio = _resampling(trial).totals(amount) / amount.values.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            # in a trial that was cut off, a resample may hold no request that ended: NaN, which nobody uses
            return value * ratio / _resampled_time_ratio(trial)


class Duration(msgspec.Struct, frozen=True):
    """The trial's duration, s."""

    def value(self, trial: TrialView) -> float | None:
        found = duration_ns(trial)
        return None if found is None else found / NS_PER_S

    def replicates(self, trial: TrialView) -> Floats | None:
        value = self.value(trial)
        return None if value is None else value * _resampled_time_ratio(trial)


class Ratio(msgspec.Struct, frozen=True):
    """One sum over all requests divided by another, times `scale`; None if the denominator is not above 0."""

    numerator: Values
    denominator: Values
    scale: float = 1.0

    def value(self, trial: TrialView) -> float | None:
        above, below = trial.series(self.numerator).values, trial.series(self.denominator).values
        return float(self.scale * above.sum() / below.sum()) if len(above) and below.sum() > 0 else None

    def replicates(self, trial: TrialView) -> Floats | None:
        if self.value(trial) is None:
            return None
        draws = _resampling(trial)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                self.scale * draws.totals(trial.series(self.numerator)) / draws.totals(trial.series(self.denominator))
            )


class IfAny(msgspec.Struct, frozen=True):
    """A measure of a trial in which some request has a value of `values_of`; otherwise None."""

    values_of: Values
    measure: Measure

    def value(self, trial: TrialView) -> float | None:
        return self.measure.value(trial) if len(trial.series(self.values_of).values) else None

    def replicates(self, trial: TrialView) -> Floats | None:
        return self.measure.replicates(trial) if len(trial.series(self.values_of).values) else None


class FirstAvailable(msgspec.Struct, frozen=True):
    """The first of two measures whose value is known."""

    first: Measure
    second: Measure

    def value(self, trial: TrialView) -> float | None:
        value = self.first.value(trial)
        return self.second.value(trial) if value is None else value

    def replicates(self, trial: TrialView) -> Floats | None:
        chosen = self.second if self.first.value(trial) is None else self.first
        return chosen.replicates(trial)


def duration_ns(trial: TrialView) -> int | None:
    """From the start of the plan to the end of the last measured response, failed requests included; with interleaved
    requests, the time of the arm's own turns."""
    started_ns = trial.trial.plan_started_ns
    if started_ns is None or not trial.size:
        return None
    turns = turns_of(trial.trial)
    return length_ns(turns) if turns else int(trial.records.numbers["done_ns"].max()) - started_ns


def _statistic(statistic: Callable[[Series], float], values_of: Values, per: float, trial: TrialView) -> float | None:
    """None without values; 0 in vLLM's dialects, as vLLM prints it."""
    series = trial.series(values_of)
    if not len(series.values):
        return None if trial.dialect == "inferometer" else 0.0
    return statistic(series) / per


def _resampling(trial: TrialView) -> Resampling:
    return resampling(trial.size)


def _resampled_time_ratio(trial: TrialView) -> Floats:
    """Resampled over measured duration of the trial; 1 if the schedule sets the time of each request."""
    if (trial.records.numbers["due_ns"] != UNKNOWN).any():
        return np.ones(1)
    times = trial.series(_request_time_ns)
    total = times.values.sum()
    return _resampling(trial).totals(times) / total if total else np.ones(1)


def _request_times(trial: TrialView) -> Series:
    numbers = trial.records.numbers
    return one_each(trial, numbers["done_ns"] - numbers["sent_ns"], numbers["sent_ns"] != UNKNOWN)


@in_columns(_request_times)
def _request_time_ns(request: RequestView) -> Sequence[float]:
    record = request.record
    return [] if record.sent_ns is None else [record.done_ns - record.sent_ns]

"""Distributions of the arms' times and rates, and the ratios of two arms request by request."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from inferometer.analysis.comparison import Comparison, Difference, Estimate
from inferometer.analysis.validity import ArmTrials
from inferometer.base.units import NS_PER_MS, NS_PER_S, seconds
from inferometer.core.grouped_values import Ints
from inferometer.metrics.measures import RequestView, TrialView, Values, in_columns, one_each
from inferometer.metrics.request_measures import token_gap_ns, tpot_ns, ttft_ns
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.series import Floats, Series, percentile_of_sorted
from inferometer.report.page.request_keys import evenly_spaced, means_by_request

BINS = 48
MOST_POINTS = 120
"""Up to this many values are shown as dots, more as a shape. Of more ratios, this many are shown, evenly by rank."""
MOST_VALUES = 4_000_000
"""Of more values, evenly spaced ones are drawn: no quantile moves by as much as a pixel."""
PERCENTS = (5, 25, 50, 75, 95, 99)
LOG_FROM = 20.0
"""The axis is logarithmic if P99 is more than this many times P1."""


class ArmDistribution(msgspec.Struct, frozen=True):
    """One arm's values. `quantiles`: P5, P25, P50, P75, P95 and P99 by percent. `shares`: share of the values in each
    bin between the picture's edges, if there are many; `points`: the values, if there are few. `estimate`: the table's
    estimate, if the table has the same metric."""

    arm: str
    n: int
    quantiles: dict[int, float]
    shares: tuple[float, ...]
    points: tuple[float, ...]
    estimate: Estimate | None = None


class PairedRatios(msgspec.Struct, frozen=True):
    """Ratios of `arm` to `baseline`, pair by pair: `points` from `n` pairs in rising order, and the comparison's
    difference in the row `label`."""

    arm: str
    baseline: str
    n: int
    points: tuple[float, ...]
    below_1: int
    label: str
    difference: Difference | None


class Distribution(msgspec.Struct, frozen=True):
    """Data of one picture. `each` describes one value, `pair` one ratio. With many values the axis ends at the highest
    P99.5, so that one outlier does not squeeze the others; `beyond` values lie outside."""

    key: str
    title: str
    unit: str
    each: str
    pair: str
    better: Literal["higher", "lower"]
    is_log: bool
    edges: tuple[float, ...]
    shapes: tuple[ArmDistribution, ...]
    ratios: tuple[PairedRatios, ...]
    beyond: int = 0


class _Quantity(msgspec.Struct, frozen=True):
    """What a picture shows; the fields are those of Distribution."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    each: str
    pair: str


class _OfRequests(msgspec.Struct, frozen=True):
    """A quantity that each request has. `values`: what is drawn, times `scale`. `of_request`: what pairs of requests
    compare. `metric`: key of the row with the difference."""

    quantity: _Quantity
    values: Values
    scale: float
    of_request: Values
    metric: str


def distributions(cases: Sequence[ArmTrials], comparison: Comparison) -> tuple[Distribution, ...]:
    """TTFT, time per token, speed of one request, and throughput of each trial; without those for which no arm has a
    value."""
    found = [*(_of_requests(cases, comparison, one) for one in _REQUEST_QUANTITIES), _of_trials(cases, comparison)]
    return tuple(one for one in found if any(shape.n for shape in one.shapes))


def _of_requests(cases: Sequence[ArmTrials], comparison: Comparison, found: _OfRequests) -> Distribution:
    by_arm = {case.name: _sorted_values(case, found.values) * found.scale for case in cases}
    by_request = {case.name: means_by_request(case, found.of_request) for case in cases}
    base, *others = by_request
    ratios = [
        _ratios(_of_same_requests(by_request[base], by_request[arm]), arm, base, found.metric, comparison)
        for arm in others
    ]
    return _distribution(found.quantity, by_arm, {}, ratios)


def _sorted_values(case: ArmTrials, values: Values) -> Floats:
    """Of all completed trials; of more than MOST_VALUES, evenly spaced ones."""
    found = [trial.series(values).values for trial in case.done]
    step = -(-sum(map(len, found)) // MOST_VALUES) or 1
    return np.sort(np.concatenate([np.empty(0), *(one[::step] for one in found)]))


def _of_same_requests(base: tuple[Ints, Floats], other: tuple[Ints, Floats]) -> Floats:
    """The other arm's mean of each request divided by the base's, where that is not 0."""
    _, mine, theirs = np.intersect1d(base[0], other[0], assume_unique=True, return_indices=True)
    below, above = base[1][mine], other[1][theirs]
    return above[below != 0] / below[below != 0]


def _of_trials(cases: Sequence[ArmTrials], comparison: Comparison) -> Distribution:
    metric = METRICS_BY_KEY["output_throughput"]
    by_number = {
        case.name: {t.trial.number: value for t in case.done if (value := metric.value(t)) is not None}
        for case in cases
    }
    row = next((row for row in comparison.rows if row.metric == metric.key), None)
    base, *others = by_number
    ratios: list[PairedRatios] = []
    for arm in others:
        found = _ratios(np.zeros(0), arm, base, metric.key, comparison)
        if found.difference is None or found.difference.paired:
            pairs = [own / by_number[base][i] for i, own in by_number[arm].items() if by_number[base].get(i)]
            found = _ratios(np.array(pairs, np.float64), arm, base, metric.key, comparison)
        ratios.append(found)
    by_arm = {arm: np.sort(np.array(list(values.values()), np.float64)) for arm, values in by_number.items()}
    estimates = {} if row is None else row.estimates
    return _distribution(_THROUGHPUT, by_arm, estimates, ratios)


def _distribution(
    quantity: _Quantity,
    by_arm: dict[str, Floats],
    estimates: dict[str, Estimate],
    ratios: Sequence[PairedRatios],
) -> Distribution:
    known = [values for values in by_arm.values() if len(values)]
    together = np.sort(np.concatenate(known)) if known else np.array([1.0])
    outside = 0.5 if max(map(len, by_arm.values())) > MOST_POINTS else 0.0
    low = min((percentile_of_sorted(values, outside) for values in known), default=0.0)
    high = max((percentile_of_sorted(values, 100 - outside) for values in known), default=1.0)
    ends = [end for one in estimates.values() for end in (one.low, one.high) if end is not None]
    if estimates and known:
        low, high = min([low, *ends]), max([high, *ends])
    p1, p99 = (percentile_of_sorted(together, percent) for percent in (1, 99))
    is_log = low > 0 and p99 / max(p1, low) > LOG_FROM
    if low == high:
        low, high = low - abs(low) * 0.05 - 1e-9, high + abs(high) * 0.05 + 1e-9
    edges = np.geomspace(low, high, BINS + 1) if is_log else np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    return Distribution(
        **msgspec.structs.asdict(quantity),
        is_log=is_log,
        edges=tuple(edges.tolist()),
        shapes=tuple(_shape(arm, values, edges, estimates.get(arm)) for arm, values in by_arm.items()),
        ratios=tuple(ratios),
        beyond=int(((together < low) | (together > high)).sum()) if known else 0,
    )


def _shape(arm: str, values: Floats, edges: Floats, estimate: Estimate | None) -> ArmDistribution:
    """`values`: in rising order."""
    if not len(values):
        return ArmDistribution(arm, 0, {}, (), ())
    quantiles: dict[int, float] = {percent: percentile_of_sorted(values, percent) for percent in PERCENTS}
    before = np.searchsorted(values, edges)
    before[-1] = np.searchsorted(values, edges[-1], "right")
    counts = before[1:] - before[:-1]
    return ArmDistribution(
        arm=arm,
        n=len(values),
        quantiles=quantiles,
        shares=tuple((counts / len(values)).tolist()) if len(values) > MOST_POINTS else (),
        points=tuple(values.tolist()) if len(values) <= MOST_POINTS else (),
        estimate=estimate,
    )


def _ratios(found: Floats, arm: str, base: str, metric: str, comparison: Comparison) -> PairedRatios:
    row = next((row for row in comparison.rows if row.metric == metric), None)
    difference = None
    if row is not None and arm in row.estimates and base in row.estimates:
        difference = row.against(base, arm)
    return PairedRatios(
        arm=arm,
        baseline=base,
        n=len(found),
        points=tuple(evenly_spaced(np.sort(found).tolist(), MOST_POINTS)),
        below_1=int((found < 1).sum()),
        label="" if row is None else row.label.partition(" (")[0],
        difference=difference,
    )


def _speeds(trial: TrialView) -> Series:
    timing = trial.timing
    known = timing.timed & (timing.output_tokens > 0) & (timing.latency_ns > 0)
    return one_each(trial, timing.output_tokens / np.where(known, timing.latency_ns / NS_PER_S, 1), known)


@in_columns(_speeds)
def _speed(request: RequestView) -> Sequence[float]:
    timing = request.timing
    if timing is None or not timing.output_tokens or timing.latency_ns <= 0:
        return []
    return [timing.output_tokens / seconds(timing.latency_ns)]


_THROUGHPUT = _Quantity(
    key="throughput",
    title="Output token throughput",
    unit="tok/s",
    better="higher",
    each="output tokens of one trial divided by its duration",
    pair="one trial of each arm, run one after the other",
)
_TTFT = _Quantity(
    key="ttft",
    title="Time to first token",
    unit="ms",
    better="lower",
    each="TTFT of one request",
    pair="TTFT of one request, the mean over each arm's trials",
)
_PER_TOKEN = _Quantity(
    key="per_token",
    title="Time per token after the first",
    unit="ms",
    better="lower",
    each="time of one token (a burst's gap divided by its tokens)",
    pair="TPOT of one request, the mean over each arm's trials",
)
_REQUEST_SPEED = _Quantity(
    key="request_speed",
    title="Speed of one request",
    unit="tok/s",
    better="higher",
    each="output tokens of one request divided by its time from sending to last token",
    pair="speed of one request, the mean over each arm's trials",
)
_REQUEST_QUANTITIES = (
    _OfRequests(_TTFT, ttft_ns, 1 / NS_PER_MS, ttft_ns, "median_ttft_ms"),
    _OfRequests(_PER_TOKEN, token_gap_ns, 1 / NS_PER_MS, tpot_ns, "mean_tpot_ms"),
    _OfRequests(_REQUEST_SPEED, _speed, 1.0, _speed, "output_throughput"),
)

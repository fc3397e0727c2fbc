"""Intervals from trials and prompts, p-values, and the power of a design; docs/explanation/statistics.md explains them.

A trial's number varies for two reasons: the machine differs from trial to trial, and other prompts would give another
number. With T trials that play the same P prompts, the variance of the mean of the T numbers (or of their paired
differences) is

    V = s²/T + π

s² is the variance between the trials (T - 1 degrees of freedom). π is the part due to the prompts, which no further
trial removes. Resampling the prompts jointly, once for all trials, gives π + ε; resampling them separately for each
trial gives π/T + ε, where ε is the noise of single requests, which s² includes already. So
π = (joint - separate) · T/(T - 1), at least 0.
The decomposition is that of a crossed design (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).

Two intervals answer two questions. "These prompts": what another study of the same prompts would show. Its half-width
is t(T-1)·s/√T. "Prompts like these": what other prompts of the same kind would show. Two half-widths are valid for it,
and the smaller one is used: √(t²(T-1)·s²/T + t²(P-1)·π), in which each part has its own quantile of Student's t
(Graybill and Wang 1980, JASA 75, 869-873; for differences Zou and Donner 2008, Statistics in Medicine 27, 1693-1702);
and t(f)·√V, with the degrees of freedom f of Satterthwaite (1946, Biometrics Bulletin 2, 110-114) for
V = s²/T + joint - ε/T, but never less than the half-width of these prompts. The first is exact if one of the parts is
0, the second is shorter if both parts count.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.base.lazy import lazy_module
from inferometer.core.grouped_values import ranges, starts_of, summed

special = lazy_module("scipy.special")
"""scipy.stats takes half a second to import, more than the comparison of a small study: its tests are written here."""

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
REPLICATES = 999
MAX_GROUPS = 400
"""More requests than this are resampled in this many groups: the variance of a sum of groups is that of the sum."""
MAX_RANKS = 2048
"""Quantiles of resampled values are exact up to this many values; beyond, they are exact to one in 2048 ranks."""
PART_VALUES = 1 << 20
MAX_LINE_POINTS = 1000
"""A robust line through this many points has half a million slopes: 20 ms and 20 MB. Its slope is nearly as sure as
that of a million points: both are far surer than the limits that they are compared with."""
_EXACT_TREND_VALUES = 33
MAX_TRIALS = 1000
MAX_PROMPTS = 1_000_000
"""`trials_needed` and `prompts_needed` do not search beyond these numbers."""
_SEED = 20160525

# --- resampling of prompts ------------------------------------------------------------------------


class Series(msgspec.Struct, frozen=True):
    """Values of a trial. `owners`: for each value the position of its request; None if the values follow each other in
    the order of the requests (`in_order`). `requests`: number of requests, failed ones included. Values of each token
    are kept as narrow as they fit: as ns in 4 bytes, say."""

    values: NDArray[Any]
    owners: NDArray[np.integer[Any]] | None
    requests: int
    known: dict[str, NDArray[Any]] = {}  # what `totals` and `counts` computed: several metrics use it

    @classmethod
    def in_order(cls, values: NDArray[Any], counts: NDArray[np.int64]) -> "Series":
        """`counts`: the number of values of each request."""
        return cls(values, None, len(counts), {"counts": counts})

    @property
    def positions(self) -> NDArray[np.integer[Any]]:
        """For each value the position of its request."""
        return np.repeat(np.arange(self.requests), self.counts()) if self.owners is None else self.owners

    def parts(self) -> "Iterator[Series]":
        """The values in parts of about `PART_VALUES`: what is computed of a part does not fill the memory. Of values in
        order, each part has whole requests."""
        if self.owners is None:
            starts = starts_of(self.counts())
            for first, last in ranges(starts, PART_VALUES):
                owners = np.repeat(np.arange(first, last), self.counts()[first:last])
                yield Series(self.values[starts[first] : starts[last]], owners, self.requests)
            return
        for begin in range(0, len(self.values), PART_VALUES):
            part = slice(begin, begin + PART_VALUES)
            yield Series(self.values[part], self.owners[part], self.requests)

    def totals(self) -> Floats:
        """The sum of the values of each request."""
        if "totals" not in self.known:
            self.known["totals"] = self._totals()
        return self.known["totals"]

    def _totals(self) -> Floats:
        if self.owners is None and self.values.dtype.kind == "u":
            return summed(self.values, starts_of(self.counts())).astype(np.float64)
        found = np.zeros(self.requests)
        for part in self.parts():
            found += np.bincount(part.positions, part.values, self.requests)
        return found

    def counts(self) -> NDArray[np.int64]:
        """The number of values of each request."""
        if "counts" not in self.known:
            found = self.known["counts"] = np.zeros(self.requests, np.int64)
            for part in self.parts():
                found += np.bincount(part.positions, minlength=self.requests)
        return self.known["counts"]


class Resampling:
    """Bootstrap of a trial's requests: drawn with replacement, `REPLICATES` times (Efron 1979). Trials with the same
    number of requests use the same draws, so that pairs stay pairs."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        groups = min(requests, MAX_GROUPS)
        rng = np.random.default_rng(_SEED)
        self._group = np.arange(requests) % groups if groups else np.zeros(0, np.int64)
        share = np.full(groups, 1 / groups) if groups else np.zeros(0)
        drawn = rng.multinomial(groups, share, REPLICATES) if groups else np.zeros((REPLICATES, 0))
        self._weights = drawn.astype(np.float32)
        self._exact_weights = drawn.astype(np.float64)
        self._last: tuple[Series, _Ranked] | None = None
        self._last_ordered: tuple[Series, _Ordered] | None = None

    def totals(self, series: Series) -> Floats:
        """The sum of the values in each replicate."""
        return self._exact_weights @ self._of_groups(series.totals())

    def _of_groups(self, of_requests: NDArray[Any]) -> Floats:
        groups = self._weights.shape[1]
        return np.bincount(self._group, of_requests, groups).astype(np.float64) if groups else np.zeros(0)

    def means(self, series: Series) -> Floats:
        """The mean of the values in each replicate; NaN for a replicate without values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.totals(series) / (self._exact_weights @ self._of_groups(series.counts()))

    def percentile(self, series: Series, percent: float) -> float:
        """As numpy.percentile of the values; of many whole numbers by the order that the replicates use too."""
        if len(series.values) < MAX_RANKS or not _are_whole(series):
            return float(np.percentile(series.values, percent))
        ordered = self._ordered(series)
        return _interpolated(lambda place: float(ordered.value(np.array([place]))[0]), len(series.values), percent)

    def forget(self) -> None:
        """Free what is kept of the last series."""
        self._last_ordered = self._last = None

    def _ordered(self, series: Series) -> "_Ordered":
        """The last result is kept: several numbers of the same series are computed one after another."""
        if self._last_ordered is None or self._last_ordered[0] is not series:
            self.forget()
            self._last_ordered = series, _sorted_with_groups(series, self._group)
        return self._last_ordered[1]

    def _ranked(self, series: Series) -> "_Ranked":
        """The last result is kept, as in `_ordered`."""
        if self._last is None or self._last[0] is not series:
            ordered = self._ordered(series)
            self._last = series, self._ranks_of(ordered, len(series.values))
        return self._last[1]

    def _ranks_of(self, ordered: "_Ordered", count: int) -> "_Ranked":
        groups, ranks = self._weights.shape[1], min(count, MAX_RANKS)
        ends = np.arange(1, ranks + 1) * count // ranks
        counts = np.zeros((ranks, groups), np.int64)
        for begin in range(0, ranks, _COARSE):  # some ranks at once: their values fit into the memory
            own = ends[begin : begin + _COARSE]
            first = int(ends[begin - 1]) if begin else 0
            rank = np.repeat(np.arange(len(own)), np.diff(own, prepend=first))
            found = ordered.group(slice(first, int(own[-1]))) + rank * groups
            counts[begin : begin + len(own)] = np.bincount(found, minlength=len(own) * groups).reshape(-1, groups)
        up_to = np.cumsum(counts.T, axis=1).astype(np.float32)
        firsts = np.concatenate(([0], ends[:-1]))
        last = np.minimum(np.arange(_COARSE, ranks + _COARSE, _COARSE), ranks) - 1
        middle = ordered.value((firsts + ends - 1) // 2)
        return _Ranked(middle, up_to, self._weights @ up_to[:, last])

    def quantiles(self, series: Series, percent: float) -> Floats:
        """The percentile in each replicate, by linear interpolation between the two nearest ranks as in numpy; NaN for
        a replicate without values."""
        if not len(series.values):
            return np.full(REPLICATES, np.nan)
        ranked = self._ranked(series)
        drawn = ranked.reached[:, -1]
        position = (drawn - 1) * percent / 100
        low = np.floor(position)
        high = np.minimum(low + 1, drawn - 1)
        first, end = (np.argmax(ranked.reached > limit[:, None], axis=1) for limit in (low, high))
        fine = slice(int(first.min()) * _COARSE, (int(end.max()) + 1) * _COARSE)  # where the percentile may be
        reached, values = self._weights @ ranked.up_to[:, fine], ranked.values[fine]
        below, above = (values[np.argmax(reached > limit[:, None], axis=1)] for limit in (low, high))
        return np.where(drawn > 0, below + (above - below) * (position - low), np.nan)


class _Ranked(msgspec.Struct, frozen=True):
    """`values` by rank; `up_to`: in each group, the number of values up to each rank; `reached`: in each replicate, the
    number of values up to every rank that ends a block of `_COARSE`."""

    values: Floats
    up_to: NDArray[np.float32]
    reached: NDArray[np.float32]


_COARSE = 32


class _Ordered(msgspec.Struct, frozen=True):
    """Values in rising order with the group of each: in one column of integers if they fit, `joined`, because it is
    sorted 10 times faster than two."""

    joined: NDArray[np.int64] | None
    values: Floats
    groups: NDArray[np.int64]

    def value(self, places: NDArray[np.int64]) -> Floats:
        return self.values[places] if self.joined is None else (self.joined[places] >> 9).astype(np.float64)

    def group(self, places: slice) -> NDArray[np.int64]:
        return self.groups[places] if self.joined is None else self.joined[places] & 511  # MAX_GROUPS < 2^9


def _sorted_with_groups(series: Series, group: NDArray[np.int64]) -> _Ordered:
    """`group`: of each request."""
    values, nothing = series.values, np.zeros(0)
    if len(values) >= MAX_RANKS and _are_whole(series):
        joined, end = np.empty(len(values), np.int64), 0
        for part in series.parts():
            begin, end = end, end + len(part.values)
            np.left_shift(part.values, 9, out=joined[begin:end], dtype=np.int64, casting="unsafe")
            joined[begin:end] |= group[part.positions]
        joined.sort()
        return _Ordered(joined, nothing, nothing.astype(np.int64))
    order = np.argsort(values, kind="stable")
    return _Ordered(None, values[order].astype(np.float64), group[series.positions][order])


def _are_whole(series: Series) -> bool:
    """Whether the values are whole numbers of less than 53 bits."""
    if series.values.dtype.kind == "u":
        return True
    return all(
        np.array_equal(part.values.astype(np.int64), part.values) and abs(part.values).max() < 1 << 53
        for part in series.parts()
    )


@functools.lru_cache(maxsize=4)
def resampling(requests: int) -> Resampling:
    """The bootstrap for this number of requests; the same number always gives the same draws."""
    return Resampling(requests)


def percentile_of_sorted(values: Floats, percent: float) -> float:
    """As numpy.percentile, of values in rising order."""
    return _interpolated(lambda place: float(values[place]), len(values), percent)


def _interpolated(value_at: Callable[[int], float], count: int, percent: float) -> float:
    """By linear interpolation between the two nearest ranks. `value_at`: the value at a place in rising order."""
    place = (count - 1) * (percent / 100)
    below = math.floor(place)
    low, high, share = value_at(below), value_at(min(below + 1, count - 1)), place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def deviation(values: NDArray[Any]) -> float:
    """As numpy.std, which makes two wide copies of all values."""
    if len(values) <= PART_VALUES:
        return float(np.std(values))
    return math.sqrt(_squares(values, float(np.mean(values))) / len(values))


def _squares(values: NDArray[Any], mean: float) -> float:
    """The sum of the squared distances from the mean, added in pairs of halves as numpy adds."""
    if len(values) > PART_VALUES:
        half = len(values) // 2
        half -= half % 8
        return _squares(values[:half], mean) + _squares(values[half:], mean)
    distances = values - mean
    distances *= distances
    return float(distances.sum())


def minimum_count(percent: float) -> int:
    """Number of values that a percentile needs for a distribution-free two-sided 95% interval: the extreme value must
    lie beyond the percentile with a probability of 97.5%, 1 - p^n (Hahn and Meeker 1991, Statistical Intervals, section
    5.2). 368 for p = 0.99.
    """
    p = max(percent, 100 - percent) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(p)) if p < 1 else MAX_TRIALS**2


# --- intervals ------------------------------------------------------------------------------------


class PromptsVariance(msgspec.Struct, frozen=True):
    """The part of a variance that is due to the prompts, π of the module's docstring. `joint`: its estimate plus the
    noise of single requests; `noise`: that noise, with `noise_freedom` degrees of freedom. π is their difference."""

    joint: float
    noise: float
    freedom: float
    noise_freedom: float

    @property
    def variance(self) -> float:
        """π, at least 0."""
        return max(0.0, self.joint - self.noise)


class VarianceComponents(msgspec.Struct, frozen=True):
    """A mean and the two components of its variance; an unknown component is None. `trials`: number of values that the
    mean is taken from. `trials_freedom`: degrees of freedom of `trials_variance`. `starts_variance`: known part that is
    due to the starts of engines that ran all trials in one start, so that no trial shows it."""

    mean: float
    trials: int
    trials_variance: float | None
    trials_freedom: float
    prompts: PromptsVariance | None
    starts_variance: float = 0.0

    @property
    def basis(self) -> str:
        """What an interval covers: "trials", "prompts" or "trials and prompts"; "" if both components are unknown."""
        known = {"trials": self.trials_variance, "prompts": self.prompts}
        return " and ".join(name for name, variance in known.items() if variance is not None)

    @property
    def of_these_prompts(self) -> "VarianceComponents":
        """Without the prompts' component: what another study of the same prompts would show."""
        return msgspec.structs.replace(self, prompts=None)


def variance_components(
    points: Sequence[float], replicates: Sequence[Floats] | None, prompts: int
) -> VarianceComponents:
    """From one number per trial, and its replicates over prompts if there are any."""
    found = np.asarray(points, np.float64)
    count = len(found)
    trials_variance = float(np.var(found, ddof=1)) / count if count > 1 else None
    of_prompts = None if replicates is None else prompts_variance(replicates, prompts)
    return VarianceComponents(float(found.mean()), count, trials_variance, count - 1, of_prompts)


def unpaired_difference(
    first: VarianceComponents, second: VarianceComponents, prompts: PromptsVariance | None
) -> VarianceComponents:
    """Of second - first, if their trials are not pairs (Welch 1947, Biometrika 34, 28-35)."""
    trials_variance: float | None = None
    freedom = 0.0
    if first.trials_variance is not None and second.trials_variance is not None:
        trials_variance = first.trials_variance + second.trials_variance
        parts = first.trials_variance**2 / first.trials_freedom + second.trials_variance**2 / second.trials_freedom
        freedom = trials_variance**2 / parts if parts else first.trials_freedom + second.trials_freedom
    mean = second.mean - first.mean
    return VarianceComponents(mean, min(first.trials, second.trials), trials_variance, freedom, prompts)


def prompts_variance(replicates: Sequence[Floats], prompts: int) -> PromptsVariance | None:
    """The part of the variance of these trials' mean that is due to the prompts, from replicates by trial; None if
    unknown. With one trial: the whole variance of the prompts."""
    drawn = np.asarray(replicates)
    trials = len(drawn)
    if not trials or prompts < 2 or not np.isfinite(drawn).all():
        return None
    bias = prompts / (prompts - 1)  # a bootstrap's variance is that of n, not n - 1 (Efron and Tibshirani 1993, 5.3)
    joint = float(_robust_deviation(drawn.mean(axis=0))) ** 2 * bias
    if trials == 1:
        return PromptsVariance(joint, 0.0, prompts - 1, 1)
    separate = float((_robust_deviation(drawn) ** 2).sum()) / trials**2 * bias
    noise = max(0.0, (trials * separate - joint) / (trials - 1))
    return PromptsVariance(joint, noise, prompts - 1, (trials - 1) * (prompts - 1))


def _robust_deviation(values: Floats) -> Floats:
    """Standard deviations along the last axis, estimated from the middle 68%: a resampled median jumps between few
    values, so that its tails would count too much."""
    ordered = np.sort(values, axis=-1)
    last = ordered.shape[-1] - 1
    places = np.array((special.ndtr(-1.0), special.ndtr(1.0))) * last
    below = np.floor(places).astype(np.int64)
    ends = ordered[..., below] + (ordered[..., np.minimum(below + 1, last)] - ordered[..., below]) * (places - below)
    return (ends[..., 1] - ends[..., 0]) / 2


def half_width(found: VarianceComponents, confidence: float = CONFIDENCE, *, sequential: bool = False) -> float | None:
    """Half the width of the interval around the mean; None if both components are unknown. `sequential`: the study
    stopped as soon as its result was good enough, so that the trials' component needs `anytime_quantile`."""
    tail = (1 + confidence) / 2
    of_trials = of_prompts = 0.0
    if found.trials_variance is None and found.prompts is None:
        return None
    if found.trials_variance:
        level = 1 - confidence
        quantile = anytime_quantile(found.trials, level) if sequential else _student(found.trials_freedom, tail)
        of_trials = quantile * math.sqrt(found.trials_variance)
    if found.starts_variance:
        of_trials = math.hypot(of_trials, float(special.ndtri(tail)) * math.sqrt(found.starts_variance))
    if found.prompts is not None:
        of_prompts = _student(found.prompts.freedom, tail) * math.sqrt(found.prompts.variance)
    separate = math.hypot(of_trials, of_prompts)
    if not found.trials_variance or found.prompts is None or not of_prompts or sequential:
        return separate
    variance = found.trials_variance + found.prompts.variance + found.starts_variance
    joined = _student(_joined_freedom(variance, found.trials_variance, found.trials_freedom, found.prompts), tail)
    return min(separate, max(of_trials, joined * math.sqrt(variance)))


def _joined_freedom(variance: float, trials_variance: float, trials_freedom: float, prompts: PromptsVariance) -> float:
    """Degrees of freedom of `variance`, the sum of all components (Satterthwaite 1946)."""
    parts = (
        (trials_variance, trials_freedom),
        (prompts.joint, prompts.freedom),
        (prompts.noise, prompts.noise_freedom),
    )
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    return max(1.0, variance**2 / spread)


def _student(freedom: float, probability: float) -> float:
    """The quantile of Student's t."""
    return float(special.stdtrit(freedom, probability))


def p_value(found: VarianceComponents, *, sequential: bool = False) -> float | None:
    """The level at which the interval just reaches 0; None if the trials' component is unknown."""
    if found.trials_variance is None:
        return None
    distance = abs(found.mean)

    def overlap(level: float) -> float:
        return min(half_width(found, 1 - level, sequential=sequential) or 0.0, 1e300) - distance

    lowest = 1e-12
    if distance == 0 or overlap(1 - 1e-9) >= 0:
        return 1.0
    if overlap(lowest) <= 0:
        return lowest
    return root(overlap, lowest, 1 - 1e-9)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """A zero of a function that has different signs at `low` and `high`, by bisection: scipy.optimize takes longer to
    import than all our zeros take."""
    for end in (low, high):
        if function(end) == 0:
            return end
    rises = function(low) < 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (function(middle) < 0) == rises else (low, middle)
    return (low + high) / 2


ANYTIME_EFFECT_VARIANCE = 25.0
"""Prior variance of the effect, in squared standard deviations between trials (5²), chosen before any data were seen.
Every value gives valid intervals; this one makes them narrow after a few trials if the effect is several standard
deviations, which is common in practice."""


def anytime_quantile(trials: int, level: float = 1 - CONFIDENCE) -> float:
    """Replaces Student's quantile if the result is examined after every trial; inf while there are too few trials.

    The confidence sequence of the scale-invariant normal mixture (Wang and Ramdas 2025, "Anytime-valid t-tests and
    confidence sequences for Gaussian means with unknown variance", Sequential Analysis 44; the Bayes factor is that of
    Gönen et al. 2005, The American Statistician 59, 252-257): all means whose mixture against them is under 1/level.
    With n trials, g = 1 + n·v, where v is the prior variance above, and k = (√g/level)^(2/n), these are the means
    within √((n - 1)·(k - 1)/(1 - k/g)) standard errors.
    """
    if trials < 2:
        return math.inf
    g = 1 + trials * ANYTIME_EFFECT_VARIANCE
    k = (math.sqrt(g) / level) ** (2 / trials)
    return math.sqrt((trials - 1) * (k - 1) / (1 - k / g)) if k < g else math.inf


# --- power of a design --------------------------------------------------------------------------------------


def detectable_difference(
    found: VarianceComponents, trials: int | None = None, confidence: float = CONFIDENCE
) -> float | None:
    """The smallest difference that `trials` trials (None: the actual number) detect with a power of 80%: the half-width
    plus the quantile of the power (Bloom 1995, Evaluation Review 19, 547-556). None for one trial."""
    if found.trials_variance is None:
        return None
    planned = found if trials is None else _with_trials(found, found.trials_variance, trials)
    power_margin = half_width(planned, 2 * POWER - 1)
    return (half_width(planned, confidence) or 0.0) + (power_margin or 0.0)


def _with_trials(found: VarianceComponents, trials_variance: float, trials: int) -> VarianceComponents:
    """What to expect of another number of trials."""
    share = found.trials / trials
    prompts = found.prompts
    if prompts is not None:
        noise = prompts.noise * share
        prompts = PromptsVariance(
            prompts.variance + noise, noise, prompts.freedom, max(1, trials - 1) * prompts.freedom
        )
    return msgspec.structs.replace(
        found, trials=trials, trials_variance=trials_variance * share, trials_freedom=trials - 1, prompts=prompts
    )


def trials_needed(found: VarianceComponents, effect: float, confidence: float = CONFIDENCE) -> int | None:
    """Number of trials that detect `effect` with a power of 80%. None if even `MAX_TRIALS` do not, because of the
    prompts' component, or if the trials' component is unknown."""
    if found.trials_variance is None:
        return None

    def detects(trials: int) -> bool:
        reached = detectable_difference(found, trials, confidence)
        return reached is not None and reached <= effect

    if not detects(MAX_TRIALS):
        return None
    return _smallest(2, MAX_TRIALS, detects)


def prompts_needed(
    found: VarianceComponents, prompts: int, effect: float, confidence: float = CONFIDENCE
) -> int | None:
    """Number of prompts with which `MAX_TRIALS` trials detect `effect` with a power of 80%, if `prompts` prompts gave
    these components. None if `MAX_PROMPTS` do not, or if a component is unknown."""
    if found.prompts is None or found.trials_variance is None:
        return None
    many = _with_trials(found, found.trials_variance, MAX_TRIALS)
    of_one = found.prompts.variance * prompts

    def detects(count: int) -> bool:
        of_prompts = PromptsVariance(of_one / count, 0.0, count - 1, 1)
        reached = detectable_difference(msgspec.structs.replace(many, prompts=of_prompts), confidence=confidence)
        return reached is not None and reached <= effect

    return _smallest(2, MAX_PROMPTS, detects) if detects(MAX_PROMPTS) else None


def _smallest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from `low` to `high` for which `holds`: it must hold for `high`, and for all above the
    smallest."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons by the false discovery rate (Benjamini and Hochberg 1995, JRSS B 57,
    289-300; for positively dependent metrics Benjamini and Yekutieli 2001, Annals of Statistics 29)."""
    count = len(p_values)
    order = np.argsort(p_values)[::-1]
    scaled = np.asarray(p_values, np.float64)[order] * count / np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that all tests together err in 5% of studies (Holm 1979, Scandinavian Journal of Statistics
    6, 65-70)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - place)))
        adjusted[i] = highest
    return adjusted


# --- tests for the validity checks -----------------------------------------------------------------


def sign_test_p_value(one: int, other: int) -> float:
    """Two-sided, exact: whether cases fall on either side with the same probability. Without cases it is 1."""
    return min(1.0, 2 * float(special.bdtr(min(one, other), one + other, 0.5))) if one + other else 1.0


def fisher_p_value(first: tuple[int, int], second: tuple[int, int], *, less: bool = False) -> float:
    """Fisher's exact test of two shares, each as hits and misses. `less`: one-sided, whether the first is lower."""
    (hits, misses), (other_hits, other_misses) = first, second
    tried, of_all, all_hits = hits + misses, hits + misses + other_hits + other_misses, hits + other_hits
    if 0 in (tried, of_all - tried, all_hits, of_all - all_hits):
        return 1.0
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, of_all + 1)))))  # of the factorials
    possible = np.arange(max(0, tried - (of_all - all_hits)), min(tried, all_hits) + 1)
    chosen = logs[possible] + logs[all_hits - possible] + logs[tried - possible]
    chance = -(chosen + logs[of_all - all_hits - tried + possible])  # up to a constant
    chance = np.exp(chance - chance.max())
    place = hits - possible[0]
    extreme = chance[: place + 1] if less else chance[chance <= chance[place] * (1 + 1e-7)]
    return min(1.0, float(extreme.sum() / chance.sum()))


def trend_p_value(values: Sequence[float]) -> float:
    """Kendall's rank test of a trend over the order of the values (two-sided; NaN if all are equal). Exact for few
    values without ties, else by the normal approximation with its correction for ties (Kendall 1970, Rank Correlation
    Methods, chapters 4 and 5). Of more than `MAX_LINE_POINTS` values, as many evenly spaced ones are tested."""
    found = np.asarray(values, np.float64)
    found = found[_evenly_spaced(len(found))]
    count = len(found)
    ties = np.unique(found, return_counts=True)[1]
    if len(ties) < 2:
        return math.nan
    pairs = count * (count - 1) // 2
    first, second = np.triu_indices(count, 1)
    score = int(np.sign(found[second] - found[first]).sum())
    if len(ties) == count and count <= _EXACT_TREND_VALUES:
        return _exact_trend_p_value(count, (pairs - abs(score)) // 2)
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return math.erfc(abs(score) / math.sqrt(2 * variance))


def _exact_trend_p_value(count: int, inversions: int) -> float:
    """Twice the share of all orders of `count` values that have at most this many inversions, at most 1."""
    orders = np.ones(1)  # the number of orders with 0, 1, … inversions
    for values in range(2, count + 1):
        orders = np.convolve(orders, np.ones(values)) / values
    return min(1.0, 2 * float(orders[: inversions + 1].sum()))


def _evenly_spaced(count: int) -> NDArray[np.int64]:
    """At most `MAX_LINE_POINTS` positions of `count`."""
    return np.linspace(0, count - 1, min(count, MAX_LINE_POINTS)).round().astype(np.int64)


def robust_line(positions: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept by Theil and Sen: the median of all slopes, which a few outliers do not change.

    There are n²/2 slopes: of more than `MAX_LINE_POINTS` points, the slopes of as many evenly spaced ones are used."""
    x, y = np.asarray(positions, np.float64), np.asarray(values, np.float64)
    spread = _evenly_spaced(len(x))
    first, second = np.triu_indices(len(spread), 1)
    run = x[spread[second]] - x[spread[first]]
    rise = y[spread[second]] - y[spread[first]]
    known = run != 0
    slope = float(np.median(rise[known] / run[known])) if known.any() else math.nan
    return slope, float(np.median(y) - slope * np.median(x))

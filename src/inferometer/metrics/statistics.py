"""How sure is it? Intervals from trials and prompts, and what a design could have shown; docs/statistics.md says more.

A trial's number m varies for two reasons: the machine is not the same in every trial, and other prompts would have
given another number. With T trials that play the same P prompts, the variance of the mean of the T numbers (or of their
paired differences) is

    V = s²/T + π

s² is the variance between the trials (T - 1 degrees of freedom). π is the part of the prompts that no further trial
removes: drawing the prompts again, once for all trials, gives π + ε; drawing them again for each trial by itself gives
π/T + ε, where ε is noise of single requests, which s² holds already. So π = (together - apart) · T/(T - 1), at least 0.
The decomposition is that of a crossed design (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).

The interval joins the two parts, each with its own quantile of Student's t: half² = t²(T-1)·s²/T + t²(P-1)·π (Graybill
and Wang 1980, JASA 75, 869-873; for differences Zou and Donner 2008, Statistics in Medicine 27, 1693-1702). It is exact
where one part is all, and a little wide in between.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
REPLICATES = 999
MAX_GROUPS = 400
"""Above so many requests, requests are drawn in so many groups: the variance of a sum of groups is that of the sum."""
MAX_RANKS = 2048
"""Quantiles of resampled values are exact for so many values; of more, to one in 2048 ranks."""
MAX_TRIALS = 1000
_SEED = 20160525

# --- drawing prompts again ------------------------------------------------------------------------


class Series(msgspec.Struct, frozen=True):
    """Values of a trial and the position of the request it belongs to; `requests` counts all, failed ones too."""

    values: Floats
    owners: NDArray[np.int64]
    requests: int


class Resampling:
    """The requests of a trial drawn again with replacement, `REPLICATES` times (Efron 1979). Two trials of as many
    requests are drawn alike, so that pairs stay pairs."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        groups = min(requests, MAX_GROUPS)
        rng = np.random.default_rng(_SEED)
        self._group = np.arange(requests) % groups if groups else np.zeros(0, np.int64)
        share = np.full(groups, 1 / groups) if groups else np.zeros(0)
        drawn = rng.multinomial(groups, share, REPLICATES) if groups else np.zeros((REPLICATES, 0))
        self._weights = drawn.astype(np.float32)
        self._last: tuple[Series, Floats, Any] | None = None

    def totals(self, series: Series) -> Floats:
        """The sum of the values in each replicate."""
        groups = self._weights.shape[1]
        sums = np.bincount(self._group[series.owners], series.values, groups) if groups else np.zeros(0)
        return self._weights.astype(np.float64) @ sums

    def means(self, series: Series) -> Floats:
        """NaN where a replicate has no value."""
        ones = Series(np.ones_like(series.values), series.owners, series.requests)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.totals(series) / self.totals(ones)

    def _ranked(self, series: Series) -> tuple[Floats, Any]:
        """The values by rank, and in each replicate how many there are up to each of them (float32). Several
        percentiles are taken of a series, one after another: the last one's is kept."""
        if self._last is None or self._last[0] is not series:
            count = len(series.values)
            order = np.argsort(series.values, kind="stable")
            groups, ranks = self._weights.shape[1], min(count, MAX_RANKS)
            rank = (np.arange(count) * ranks) // count
            counts = np.bincount(self._group[series.owners[order]] * ranks + rank, minlength=groups * ranks)
            first, behind = np.searchsorted(rank, np.arange(ranks)), np.searchsorted(rank, np.arange(ranks), "right")
            values = series.values[order][(first + behind - 1) // 2]
            reached = np.cumsum(self._weights @ counts.reshape(groups, ranks).astype(np.float32), axis=1)
            self._last = series, values, reached
        return self._last[1:]

    def quantiles(self, series: Series, percent: float) -> Floats:
        """By linear interpolation between the two nearest ranks, as numpy's; NaN where a replicate has no value."""
        count = len(series.values)
        if not count:
            return np.full(REPLICATES, np.nan)
        values, reached = self._ranked(series)
        place = (reached[:, -1] - 1) * percent / 100
        low = np.floor(place)
        below = values[np.argmax(reached > low[:, None], axis=1)]
        above = values[np.argmax(reached > np.minimum(low + 1, reached[:, -1] - 1)[:, None], axis=1)]
        found = below + (above - below) * (place - low)
        return np.where(reached[:, -1] > 0, found, np.nan)


@functools.lru_cache(maxsize=4)
def resampling(requests: int) -> Resampling:
    """The one way in which so many requests are drawn again."""
    return Resampling(requests)


def least_count(percent: float) -> int:
    """How many values a percentile needs for a two-sided 95% interval that rests on no distribution: the extreme value
    must lie beyond it with 97.5%, 1 - p^n (Hahn and Meeker 1991, Statistical Intervals, section 5.2): 368 for p = 0.99.
    """
    p = max(percent, 100 - percent) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(p)) if p < 1 else MAX_TRIALS**2


# --- intervals ------------------------------------------------------------------------------------


class Spread(msgspec.Struct, frozen=True):
    """A mean and the two parts of its variance; a part that is not known is None. `trials` is how many numbers the mean
    is of; `trials_freedom` and `prompts_freedom` are degrees of freedom."""

    mean: float
    trials: int
    trials_variance: float | None
    trials_freedom: float
    prompts_variance: float | None
    prompts_freedom: float

    @property
    def basis(self) -> str:
        """What an interval of it covers: other trials, other prompts, or both; "" for nothing."""
        known = {"trials": self.trials_variance, "prompts": self.prompts_variance}
        return " and ".join(name for name, variance in known.items() if variance is not None)


def spread(points: Sequence[float], replicates: Sequence[Floats] | None, prompts: int) -> Spread:
    """Of one number a trial, with its replicates over prompts where there are any."""
    found = np.asarray(points, np.float64)
    count = len(found)
    of_trials = float(np.var(found, ddof=1)) / count if count > 1 else None
    of_prompts = None if replicates is None else _prompts_variance(np.asarray(replicates), prompts)
    return Spread(float(found.mean()), count, of_trials, count - 1, of_prompts, max(prompts - 1, 1))


def unpaired(first: Spread, second: Spread, prompts_variance: float | None) -> Spread:
    """Of second - first, whose trials are no pairs (Welch 1947, Biometrika 34, 28-35)."""
    of_trials: float | None = None
    freedom = 0.0
    if first.trials_variance is not None and second.trials_variance is not None:
        of_trials = first.trials_variance + second.trials_variance
        parts = first.trials_variance**2 / first.trials_freedom + second.trials_variance**2 / second.trials_freedom
        freedom = of_trials**2 / parts if parts else first.trials_freedom + second.trials_freedom
    return Spread(
        second.mean - first.mean,
        min(first.trials, second.trials),
        of_trials,
        freedom,
        prompts_variance,
        min(first.prompts_freedom, second.prompts_freedom),
    )


def _prompts_variance(replicates: Floats, prompts: int) -> float | None:
    """π of the module's docstring, from replicates by trial (T × R); with one trial all that the prompts make."""
    trials = len(replicates)
    if prompts < 2 or not np.isfinite(replicates).all():
        return None
    bias = prompts / (prompts - 1)  # a bootstrap's variance is that of n, not n - 1 (Efron and Tibshirani 1993, 5.3)
    together = _scale(replicates.mean(axis=0)) ** 2 * bias
    if trials == 1:
        return together
    apart = sum(_scale(own) ** 2 for own in replicates) / trials**2 * bias
    return max(0.0, (together - apart) * trials / (trials - 1))


def prompts_variance(replicates: Sequence[Floats], prompts: int) -> float | None:
    """The variance that prompts make in the mean of these trials and that no further trial removes; None where it is
    not known."""
    return _prompts_variance(np.asarray(replicates), prompts) if len(replicates) else None


def _scale(values: Floats) -> float:
    """A standard deviation from the middle 68%: a resampled median jumps between few values, and its tails would count
    too much."""
    low, high = np.quantile(values, (special.ndtr(-1.0), special.ndtr(1.0)))
    return float(high - low) / 2


def half_width(found: Spread, confidence: float = CONFIDENCE, *, looked_at: bool = False) -> float | None:
    """Half the interval around the mean; None where neither part is known. `looked_at`: the trials were counted while
    they ran and ended when it looked well, so that the part of the trials needs `anytime_quantile`."""
    if found.trials_variance is None and found.prompts_variance is None:
        return None
    tail = (1 + confidence) / 2
    square = 0.0
    if found.trials_variance is not None:
        of_trials = (
            anytime_quantile(found.trials, 1 - confidence) if looked_at else _student(found.trials_freedom, tail)
        )
        square += of_trials**2 * found.trials_variance if found.trials_variance else 0.0
    if found.prompts_variance is not None:
        square += _student(found.prompts_freedom, tail) ** 2 * found.prompts_variance
    return math.sqrt(square)


def _student(freedom: float, probability: float) -> float:
    """The quantile of Student's t."""
    return float(special.stdtrit(freedom, probability))


def p_value(found: Spread, *, looked_at: bool = False) -> float | None:
    """The level at which the interval just reaches 0; None where the trials' part is not known."""
    if found.trials_variance is None:
        return None
    distance = abs(found.mean)

    def beyond(level: float) -> float:
        return min(half_width(found, 1 - level, looked_at=looked_at) or 0.0, 1e300) - distance

    least = 1e-12
    if distance == 0 or beyond(1 - 1e-9) >= 0:
        return 1.0
    if beyond(least) <= 0:
        return least
    return root(beyond, least, 1 - 1e-9)


def root(of: Callable[[float], float], low: float, high: float) -> float:
    """Where `of`, which has different signs at `low` and `high`, is 0."""
    return float(cast("Any", optimize).brentq(of, low, high))  # scipy ships no types


ANYTIME_EFFECT_VARIANCE = 25.0
"""Prior variance of the effect in standard deviations between trials (5²): set before any data were seen. Any value is
valid; this one is narrow after a few trials for effects of several such deviations, which are what people measure."""


def anytime_quantile(trials: int, level: float = 1 - CONFIDENCE) -> float:
    """What takes the place of Student's quantile where the result is looked at after every trial: inf while nothing can
    be said.

    The confidence sequence of the scale-invariant normal mixture (Wang and Ramdas 2025, "Anytime-valid t-tests and
    confidence sequences for Gaussian means with unknown variance", Sequential Analysis 44; the Bayes factor is that of
    Gönen et al. 2005, The American Statistician 59, 252-257): all means whose mixture against them is under 1/level.
    With n trials, g = 1 + n·v, v the prior variance above, and k = (√g/level)^(2/n), these are the means within
    √((n - 1)·(k - 1)/(1 - k/g)) standard errors.
    """
    if trials < 2:
        return math.inf
    g = 1 + trials * ANYTIME_EFFECT_VARIANCE
    k = (math.sqrt(g) / level) ** (2 / trials)
    return math.sqrt((trials - 1) * (k - 1) / (1 - k / g)) if k < g else math.inf


# --- designs --------------------------------------------------------------------------------------


def detectable(found: Spread, trials: int | None = None) -> float | None:
    """The smallest difference that `trials` (None: as many as there were) would have shown with a power of 80%: the
    half-width and the quantile of the power (Bloom 1995, Evaluation Review 19, 547-556). None for one trial."""
    if found.trials_variance is None:
        return None
    count = found.trials if trials is None else trials
    freedom = found.trials_freedom if trials is None else trials - 1
    planned = msgspec.structs.replace(
        found,
        trials=count,
        trials_variance=found.trials_variance * found.trials / count,
        trials_freedom=freedom,
    )
    beside = half_width(planned, 2 * POWER - 1)
    return (half_width(planned) or 0.0) + (beside or 0.0)


def trials_to_show(found: Spread, effect: float) -> int | None:
    """How many trials would show `effect` with a power of 80%; None where no number of trials up to `MAX_TRIALS` does,
    because of the prompts, or where it is not known."""
    if found.trials_variance is None:
        return None

    def shows(trials: int) -> bool:
        reached = detectable(found, trials)
        return reached is not None and reached <= effect

    if not shows(MAX_TRIALS):
        return None
    return _first(2, MAX_TRIALS, shows)


def _first(low: int, high: int, is_so: Callable[[int], bool]) -> int:
    """The least number from `low` to `high` for which it is so; it is so for `high`, and for all above the least."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_so(middle) else (middle + 1, high)
    return low


def corrected(p_values: Sequence[float]) -> list[float]:
    """Adjusted for being many: a share of false ones among those called different is held (Benjamini and Hochberg 1995,
    JRSS B 57, 289-300; for metrics that move together Benjamini and Yekutieli 2001, Annals of Statistics 29)."""
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


# --- tests that validity asks for -----------------------------------------------------------------


def fisher_level(one: tuple[int, int], other: tuple[int, int], *, less: bool = False) -> float:
    """The level of Fisher's exact test of two shares, each as hits and misses; `less`: whether the first is lower."""
    found: Any = stats.fisher_exact([one, other], alternative="less" if less else "two-sided")
    return float(found.pvalue)


def trend_level(values: Sequence[float]) -> float:
    """The level of Kendall's rank test of a trend over the order of the values."""
    found: Any = stats.kendalltau(np.arange(len(values)), values)
    return float(found.pvalue)


def robust_line(places: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept by Theil and Sen: the median of all slopes, which a few outliers do not move."""
    found: Any = stats.theilslopes(values, places)
    return float(found[0]), float(found[1])

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

The interval combines the two parts, each with its own quantile of Student's t: half² = t²(T-1)·s²/T + t²(P-1)·π
(Graybill and Wang 1980, JASA 75, 869-873; for differences Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).
It is exact if one of the parts is 0, and slightly too wide otherwise.
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
"""More requests than this are resampled in this many groups: the variance of a sum of groups is that of the sum."""
MAX_RANKS = 2048
"""Quantiles of resampled values are exact up to this many values; beyond, they are exact to one in 2048 ranks."""
MAX_TRIALS = 1000
"""`trials_needed` does not search beyond this number."""
_SEED = 20160525

# --- resampling of prompts ------------------------------------------------------------------------


class Series(msgspec.Struct, frozen=True):
    """Values of a trial, and for each value the position of its request. `requests`: number of requests, failed ones
    included."""

    values: Floats
    positions: NDArray[np.int64]
    requests: int


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
        self._last: tuple[Series, Floats, Any] | None = None

    def totals(self, series: Series) -> Floats:
        """The sum of the values in each replicate."""
        groups = self._weights.shape[1]
        sums = np.bincount(self._group[series.positions], series.values, groups) if groups else np.zeros(0)
        return self._weights.astype(np.float64) @ sums

    def means(self, series: Series) -> Floats:
        """The mean of the values in each replicate; NaN for a replicate without values."""
        ones = Series(np.ones_like(series.values), series.positions, series.requests)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.totals(series) / self.totals(ones)

    def _ranked(self, series: Series) -> tuple[Floats, Any]:
        """The values by rank, and in each replicate the number of values up to each rank (float32). The last result is
        kept: several percentiles of the same series are computed one after another."""
        if self._last is None or self._last[0] is not series:
            count = len(series.values)
            order = np.argsort(series.values, kind="stable")
            groups, ranks = self._weights.shape[1], min(count, MAX_RANKS)
            rank = (np.arange(count) * ranks) // count
            counts = np.bincount(self._group[series.positions[order]] * ranks + rank, minlength=groups * ranks)
            first, end = np.searchsorted(rank, np.arange(ranks)), np.searchsorted(rank, np.arange(ranks), "right")
            values = series.values[order][(first + end - 1) // 2]
            reached = np.cumsum(self._weights @ counts.reshape(groups, ranks).astype(np.float32), axis=1)
            self._last = series, values, reached
        return self._last[1:]

    def quantiles(self, series: Series, percent: float) -> Floats:
        """The percentile in each replicate, by linear interpolation between the two nearest ranks as in numpy; NaN for
        a replicate without values."""
        count = len(series.values)
        if not count:
            return np.full(REPLICATES, np.nan)
        values, reached = self._ranked(series)
        position = (reached[:, -1] - 1) * percent / 100
        low = np.floor(position)
        below = values[np.argmax(reached > low[:, None], axis=1)]
        above = values[np.argmax(reached > np.minimum(low + 1, reached[:, -1] - 1)[:, None], axis=1)]
        found = below + (above - below) * (position - low)
        return np.where(reached[:, -1] > 0, found, np.nan)


@functools.lru_cache(maxsize=4)
def resampling(requests: int) -> Resampling:
    """The bootstrap for this number of requests; the same number always gives the same draws."""
    return Resampling(requests)


def minimum_count(percent: float) -> int:
    """Number of values that a percentile needs for a distribution-free two-sided 95% interval: the extreme value must
    lie beyond the percentile with a probability of 97.5%, 1 - p^n (Hahn and Meeker 1991, Statistical Intervals, section
    5.2). 368 for p = 0.99.
    """
    p = max(percent, 100 - percent) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(p)) if p < 1 else MAX_TRIALS**2


# --- intervals ------------------------------------------------------------------------------------


class VarianceComponents(msgspec.Struct, frozen=True):
    """A mean and the two components of its variance; an unknown component is None. `trials`: number of values that the
    mean is taken from. `trials_freedom`, `prompts_freedom`: degrees of freedom."""

    mean: float
    trials: int
    trials_variance: float | None
    trials_freedom: float
    prompts_variance: float | None
    prompts_freedom: float

    @property
    def basis(self) -> str:
        """What an interval covers: "trials", "prompts" or "trials and prompts"; "" if both components are unknown."""
        known = {"trials": self.trials_variance, "prompts": self.prompts_variance}
        return " and ".join(name for name, variance in known.items() if variance is not None)


def variance_components(
    points: Sequence[float], replicates: Sequence[Floats] | None, prompts: int
) -> VarianceComponents:
    """From one number per trial, and its replicates over prompts if there are any."""
    found = np.asarray(points, np.float64)
    count = len(found)
    trials_variance = float(np.var(found, ddof=1)) / count if count > 1 else None
    prompts_variance = None if replicates is None else _prompts_variance(np.asarray(replicates), prompts)
    return VarianceComponents(
        float(found.mean()), count, trials_variance, count - 1, prompts_variance, max(prompts - 1, 1)
    )


def unpaired_difference(
    first: VarianceComponents, second: VarianceComponents, prompts_variance: float | None
) -> VarianceComponents:
    """Of second - first, if their trials are not pairs (Welch 1947, Biometrika 34, 28-35)."""
    trials_variance: float | None = None
    freedom = 0.0
    if first.trials_variance is not None and second.trials_variance is not None:
        trials_variance = first.trials_variance + second.trials_variance
        parts = first.trials_variance**2 / first.trials_freedom + second.trials_variance**2 / second.trials_freedom
        freedom = trials_variance**2 / parts if parts else first.trials_freedom + second.trials_freedom
    return VarianceComponents(
        second.mean - first.mean,
        min(first.trials, second.trials),
        trials_variance,
        freedom,
        prompts_variance,
        min(first.prompts_freedom, second.prompts_freedom),
    )


def _prompts_variance(replicates: Floats, prompts: int) -> float | None:
    """π of the module's docstring, from replicates by trial (T × R). With one trial: the whole variance of the
    prompts."""
    trials = len(replicates)
    if prompts < 2 or not np.isfinite(replicates).all():
        return None
    bias = prompts / (prompts - 1)  # a bootstrap's variance is that of n, not n - 1 (Efron and Tibshirani 1993, 5.3)
    joint = _robust_deviation(replicates.mean(axis=0)) ** 2 * bias
    if trials == 1:
        return joint
    separate = sum(_robust_deviation(of_trial) ** 2 for of_trial in replicates) / trials**2 * bias
    return max(0.0, (joint - separate) * trials / (trials - 1))


def prompts_variance(replicates: Sequence[Floats], prompts: int) -> float | None:
    """The part of the variance of these trials' mean that is due to the prompts, and that no further trial removes;
    None if unknown."""
    return _prompts_variance(np.asarray(replicates), prompts) if len(replicates) else None


def _robust_deviation(values: Floats) -> float:
    """A standard deviation estimated from the middle 68%: a resampled median jumps between few values, so that its
    tails would count too much."""
    low, high = np.quantile(values, (special.ndtr(-1.0), special.ndtr(1.0)))
    return float(high - low) / 2


def half_width(found: VarianceComponents, confidence: float = CONFIDENCE, *, sequential: bool = False) -> float | None:
    """Half the width of the interval around the mean; None if both components are unknown. `sequential`: the study
    stopped as soon as its result was good enough, so that the trials' component needs `anytime_quantile`."""
    if found.trials_variance is None and found.prompts_variance is None:
        return None
    tail = (1 + confidence) / 2
    square = 0.0
    if found.trials_variance is not None:
        quantile = (
            anytime_quantile(found.trials, 1 - confidence) if sequential else _student(found.trials_freedom, tail)
        )
        square += quantile**2 * found.trials_variance if found.trials_variance else 0.0
    if found.prompts_variance is not None:
        square += _student(found.prompts_freedom, tail) ** 2 * found.prompts_variance
    return math.sqrt(square)


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
    """A zero of a function that has different signs at `low` and `high`."""
    return float(cast("Any", optimize).brentq(function, low, high))  # scipy ships no types


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


def detectable_difference(found: VarianceComponents, trials: int | None = None) -> float | None:
    """The smallest difference that `trials` trials (None: the actual number) detect with a power of 80%: the half-width
    plus the quantile of the power (Bloom 1995, Evaluation Review 19, 547-556). None for one trial."""
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
    power_margin = half_width(planned, 2 * POWER - 1)
    return (half_width(planned) or 0.0) + (power_margin or 0.0)


def trials_needed(found: VarianceComponents, effect: float) -> int | None:
    """Number of trials that detect `effect` with a power of 80%. None if even `MAX_TRIALS` do not, because of the
    prompts' component, or if the trials' component is unknown."""
    if found.trials_variance is None:
        return None

    def detects(trials: int) -> bool:
        reached = detectable_difference(found, trials)
        return reached is not None and reached <= effect

    if not detects(MAX_TRIALS):
        return None
    return _smallest(2, MAX_TRIALS, detects)


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
    return [float(p) for p in stats.false_discovery_control(p_values)] if p_values else []


# --- tests for the validity checks -----------------------------------------------------------------


def fisher_p_value(first: tuple[int, int], second: tuple[int, int], *, less: bool = False) -> float:
    """Fisher's exact test of two shares, each as hits and misses. `less`: one-sided, whether the first is lower."""
    found: Any = stats.fisher_exact([first, second], alternative="less" if less else "two-sided")
    return float(found.pvalue)


def trend_p_value(values: Sequence[float]) -> float:
    """Kendall's rank test of a trend over the order of the values."""
    found: Any = stats.kendalltau(np.arange(len(values)), values)
    return float(found.pvalue)


def robust_line(positions: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept by Theil and Sen: the median of all slopes, which a few outliers do not change."""
    found: Any = stats.theilslopes(values, positions)
    return float(found[0]), float(found[1])

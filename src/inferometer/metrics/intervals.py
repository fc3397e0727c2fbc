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

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from inferometer.base.lazy import lazy_module
from inferometer.metrics.series import Floats

special = lazy_module("scipy.special")
"""scipy.stats takes half a second to import, more than the comparison of a small study: its quantiles suffice here."""

CONFIDENCE = 0.95
POWER = 0.8
MAX_TRIALS = 1000
MAX_PROMPTS = 1_000_000
"""`trials_needed` and `prompts_needed` do not search beyond these numbers."""


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


def minimum_count(percent: float) -> int:
    """Number of values that a percentile needs for a distribution-free two-sided 95% interval: the extreme value must
    lie beyond the percentile with a probability of 97.5%, 1 - p^n (Hahn and Meeker 1991, Statistical Intervals, section
    5.2). 368 for p = 0.99.
    """
    p = max(percent, 100 - percent) / 100
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(p)) if p < 1 else MAX_TRIALS**2

"""Estimates of a metric per arm and differences between two arms, with intervals, before any verdict.

docs/explanation/statistics.md explains the numbers; `metrics.intervals` computes them. Values that are all positive
are compared on the log scale, so that differences are ratios.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import msgspec
import numpy as np

from inferometer.analysis.comparison import Difference, Estimate, Interval, Prompts
from inferometer.metrics import intervals
from inferometer.metrics.intervals import VarianceComponents
from inferometer.metrics.rows import Metric, minimum_values
from inferometer.metrics.series import Floats
from inferometer.metrics.summary import TrialSummary

_ONE_TRIAL = "one trial per arm does not show how much trials vary"
_SECOND_TRIAL = "2 trials"
SEVERAL_STARTS = "several starts"


def estimate(metric: Metric, trials: Sequence[TrialSummary], *, sequential: bool) -> Estimate:
    """The mean of a metric over an arm's trials, and its interval. `sequential` as in `intervals.half_width`."""
    known = _with_value(metric, trials)
    if not known:
        return Estimate(None, None, None, 0)
    points = _points(metric, known)
    value = fmean(points)
    deviation = stdev(points) if len(points) > 1 else None
    reason, _ = _too_few_values(metric, known)
    if reason:
        return Estimate(value, None, None, len(known), reason=reason, deviation=deviation)
    replicates = _replicates(metric, known)
    is_log = _all_positive(points, replicates)
    resampled = None if replicates is None else [_on_scale(of_trial, is_log) for of_trial in replicates]
    found = intervals.variance_components(list(_on_scale(np.array(points), is_log)), resampled, _prompts(known))
    half = intervals.half_width(found, sequential=sequential)
    if half is None or not np.isfinite(half):
        return Estimate(value, None, None, len(known), reason=_ONE_TRIAL)
    low, high = found.mean - half, found.mean + half
    if is_log:
        # around the arithmetic mean, which is shown; the geometric mean is slightly lower
        low, high = value * np.exp(low - found.mean), value * np.exp(high - found.mean)
    return Estimate(value, float(low), float(high), len(known), found.basis, deviation=deviation)


class _Scale(msgspec.Struct, frozen=True):
    """Conversion between a difference and percent of the baseline. `is_log`: differences are those of logarithms."""

    is_log: bool
    baseline_mean: float

    def percent(self, difference: float) -> float:
        if self.is_log:
            return 100 * float(np.expm1(difference))
        return max(-100.0, 100 * difference / self.baseline_mean)

    def size_percent(self, size: float) -> float:
        """Of a half-width or another size, which is never negative."""
        return 100 * float(np.expm1(size)) if self.is_log else 100 * size / abs(self.baseline_mean)

    def size(self, percent: float) -> float:
        return float(np.log1p(percent / 100)) if self.is_log else percent / 100 * abs(self.baseline_mean)


class Evidence(msgspec.Struct, frozen=True):
    """A difference without intervals, and what these are made of: its variance components on the metric's scale, None
    if there is no interval. `prompts`: number of prompts. `sequential` as in `intervals.half_width`. `one_start`: the
    arms whose trials all ran in one start of their engine."""

    difference: Difference
    components: VarianceComponents | None = None
    scale: _Scale = _Scale(True, 1.0)
    prompts: int = 0
    sequential: bool = False
    one_start: tuple[str, ...] = ()

    def of(self, prompts: Prompts) -> VarianceComponents | None:
        """The components of the interval that answers this question."""
        return self.components.of_these_prompts if self.components and prompts == "fixed" else self.components

    def with_known_starts(self, percent: float) -> "Evidence":
        """The evidence if starts of an engine are known to vary by this standard deviation in percent."""
        if not self.one_start or self.components is None:
            return self
        variance = len(self.one_start) * self.scale.size(percent) ** 2
        known = msgspec.structs.replace(self.components, starts_variance=variance)
        return msgspec.structs.replace(self, components=known, one_start=())

    def p_value(self, prompts: Prompts) -> float | None:
        """None if there is no interval that covers other trials."""
        found = self.of(prompts)
        return None if found is None else intervals.p_value(found, sequential=self.sequential)

    def interval(self, prompts: Prompts, confidence: float) -> Interval | None:
        """None if the components are unknown, or if too few trials make it infinite."""
        found = self.of(prompts)
        half = None if found is None else intervals.half_width(found, confidence, sequential=self.sequential)
        if found is None or half is None or not np.isfinite(half):
            return None
        low, high = self.scale.percent(found.mean - half), self.scale.percent(found.mean + half)
        return Interval(low, high, 100 * confidence, found.basis)

    def repeats(self, other: "Evidence") -> bool:
        """Whether both rows state the same fact: the same ratio or its inverse, with the same variance."""
        mine, theirs = self.components, other.components
        if mine is None or theirs is None or not mine.mean or not mine.trials_variance or not theirs.trials_variance:
            return False
        numbers = [(abs(mine.mean), abs(theirs.mean)), (mine.trials_variance, theirs.trials_variance)]
        if mine.prompts is not None and theirs.prompts is not None:
            numbers.append((mine.prompts.joint, theirs.prompts.joint))
        is_one_scale = self.scale.is_log and other.scale.is_log and (mine.prompts is None) == (theirs.prompts is None)
        return is_one_scale and all(math.isclose(a, b, rel_tol=1e-6) for a, b in numbers)


def evidence(
    metric: Metric,
    baseline: tuple[str, Sequence[TrialSummary]],
    arm: tuple[str, Sequence[TrialSummary]],
    *,
    sequential: bool,
) -> Evidence:
    """The difference of `arm` from `baseline`, each a name with its trials. `sequential` as in `intervals.half_width`.

    The verdict is "unknown" until `verdicts` decides, or "" if there is nothing to decide.
    """
    unknown = Difference(arm[0], baseline[0], verdict="unknown" if metric.better else "")
    first, second = _with_value(metric, baseline[1]), _with_value(metric, arm[1])
    if not first or not second:
        return Evidence(msgspec.structs.replace(unknown, verdict="", reason="an arm has no value"))
    pairs = _pairs(first, second)
    unknown = msgspec.structs.replace(unknown, paired=bool(pairs))
    if pairs:
        first, second = [before for before, _ in pairs], [after for _, after in pairs]
    before, after = _points(metric, first), _points(metric, second)
    is_log = all(_all_positive(_points(metric, trials), _replicates(metric, trials)) for trials in (first, second))
    scale = _Scale(is_log, fmean(before))
    if not is_log and scale.baseline_mean == 0:
        if set(before) == set(after) == {0.0}:
            return _without_difference(unknown, len(first))
        return Evidence(msgspec.structs.replace(unknown, reason="the baseline is 0, so that there is no ratio"))
    found = _difference_components(metric, first, second, is_paired=bool(pairs), is_log=is_log)
    percent = scale.percent(found.mean)
    known = msgspec.structs.replace(unknown, percent=percent, ratio=1 + percent / 100)
    reason, needs = _too_few_values(metric, [*first, *second])
    if reason:
        return Evidence(msgspec.structs.replace(known, reason=reason, needs=needs))
    if found.trials_variance is None:
        known = msgspec.structs.replace(known, reason=_ONE_TRIAL, needs=_SECOND_TRIAL)
    one_start = tuple(name for name, trials in ((baseline[0], first), (arm[0], second)) if _is_one_start(trials))
    return Evidence(known, found, scale, _prompts([*first, *second]), sequential, one_start)


def _without_difference(unknown: Difference, trials: int) -> Evidence:
    """Both arms have 0 in every trial: a difference of 0, which more than one trial shows."""
    if trials == 1:
        return Evidence(msgspec.structs.replace(unknown, reason=_ONE_TRIAL, needs=_SECOND_TRIAL))
    found = VarianceComponents(0.0, trials, 0.0, trials - 1, None)
    return Evidence(msgspec.structs.replace(unknown, percent=0.0), found)


def _is_one_start(trials: Sequence[TrialSummary]) -> bool:
    """Whether several trials ran in one start of the engine, so that they do not show how starts vary."""
    return len(trials) > 1 and bool(trials[0].start) and len({trial.start for trial in trials}) == 1


def with_design(found: Evidence, prompts: Prompts, effect_percent: float, confidence: float) -> Difference:
    """The difference with the smallest difference that its design detects, and what a difference of `effect_percent`
    needs. `confidence`: of a single verdict."""
    components = found.of(prompts)
    if components is None or components.trials_variance is None:
        return found.difference
    detectable = intervals.detectable_difference(components, confidence=confidence)
    alone = intervals.half_width(msgspec.structs.replace(components, trials_variance=None))
    effect = found.scale.size(effect_percent)
    needed = intervals.trials_needed(components, effect, confidence)
    of_starts = msgspec.structs.replace(components, trials_variance=0.0, prompts=None)
    is_too_few_starts = bool(components.starts_variance) and not intervals.trials_needed(of_starts, effect, confidence)
    return msgspec.structs.replace(
        found.difference,
        detectable_percent=None if detectable is None else found.scale.size_percent(detectable),
        trials_needed=needed,
        prompts_needed=None if needed else intervals.prompts_needed(components, found.prompts, effect, confidence),
        needs=SEVERAL_STARTS if is_too_few_starts else found.difference.needs,
        prompts_percent=None if alone is None else found.scale.size_percent(alone),
    )


def _pairs(first: Sequence[TrialSummary], second: Sequence[TrialSummary]) -> list[tuple[TrialSummary, TrialSummary]]:
    """Trials of the same study and number, which ran one after the other; empty for trials of different studies."""
    others = {(trial.study, trial.number): trial for trial in second}
    return [(trial, others[trial.study, trial.number]) for trial in first if (trial.study, trial.number) in others]


def _difference_components(
    metric: Metric,
    first: Sequence[TrialSummary],
    second: Sequence[TrialSummary],
    *,
    is_paired: bool,
    is_log: bool,
) -> VarianceComponents:
    """Of second - first, on the log scale if `is_log`. If the arms played different prompts, the prompts of each arm
    are resampled independently."""
    before, after = (_on_scale(np.array(_points(metric, trials)), is_log) for trials in (first, second))
    before_replicates, after_replicates = _replicates(metric, first), _replicates(metric, second)
    prompts = _prompts([*first, *second])
    differences: list[Floats] | None = None
    if before_replicates is not None and after_replicates is not None:
        shift = 0 if len({trial.plan for trial in (*first, *second)}) == 1 else 1  # 1: other draws, so independent
        differences = [
            np.roll(_on_scale(later, is_log), shift) - _on_scale(earlier, is_log)
            for earlier, later in zip(before_replicates, after_replicates, strict=False)
        ]
    if is_paired:
        return intervals.variance_components(list(after - before), differences, prompts)
    of_prompts = None if differences is None else intervals.prompts_variance(differences, prompts)
    by_arm = [intervals.variance_components(list(points), None, prompts) for points in (before, after)]
    return intervals.unpaired_difference(by_arm[0], by_arm[1], of_prompts)


def _with_value(metric: Metric, trials: Sequence[TrialSummary]) -> list[TrialSummary]:
    return [trial for trial in trials if trial.values.get(metric.key) is not None]


def _points(metric: Metric, trials: Sequence[TrialSummary]) -> list[float]:
    return [value for trial in trials if (value := trial.values[metric.key]) is not None]


def _replicates(metric: Metric, trials: Sequence[TrialSummary]) -> list[Floats] | None:
    """One array per trial; None if any trial has none."""
    found = [trial.replicates.get(metric.key) for trial in trials]
    known = [of_trial for of_trial in found if of_trial is not None and np.isfinite(of_trial).all()]
    return known if len(known) == len(found) else None


def _on_scale(values: Floats, is_log: bool) -> Floats:
    return np.log(values) if is_log else values


def _all_positive(points: Sequence[float], replicates: Sequence[Floats] | None) -> bool:
    return min(points) > 0 and all(bool((of_trial > 0).all()) for of_trial in replicates or ())


def _prompts(trials: Sequence[TrialSummary]) -> int:
    return min(trial.requests for trial in trials)


def _too_few_values(metric: Metric, trials: Sequence[TrialSummary]) -> tuple[str, str]:
    """Why a percentile of too few values has no interval, and what it needs; "" if it has one, or if the number of
    values is unknown."""
    counts = [trial.counts[metric.key] for trial in trials if metric.key in trial.counts]
    needed = minimum_values(metric)
    if not counts or min(counts) >= needed:
        return "", ""
    one_per_request = metric.group in _ONE_VALUE_PER_REQUEST
    what = f"{needed} {'requests' if one_per_request else 'values per trial'}"
    return f"{min(counts)} values per trial; an interval of this percentile needs {needed}", what


_ONE_VALUE_PER_REQUEST = frozenset({"ttft", "tpot", "open_loop"})
"""Groups of rows whose percentiles are taken from one value per request."""

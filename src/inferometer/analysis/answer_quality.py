"""Differences in right answers between two arms, paired by problem, and their verdicts. Pure.

Each problem gives the difference of the arms' shares of right answers to it, from -1 to 1; their mean, in percentage
points, is compared with 0 and with a margin.

- One deterministic answer each: every difference is -1, 0 or 1. The interval is the wider, at each end, of two: that of
  the exact test of McNemar (1947), by Clopper and Pearson (1934) among the problems on which the arms differ, and the
  score interval of Tango (1998, Statistics in Medicine 17, 891-908). The first makes "worse" exact. The second also
  counts that other problems may differ, which matters for "the same".
- Several answers: Student's interval over problems, with half a problem added to each way to differ (Agresti and Min
  2005, Statistics in Medicine 24, 729-740), so that equal outcomes on a few problems do not look like certainty.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import msgspec

from inferometer.base.lazy import lazy_module
from inferometer.metrics import intervals, significance

special = lazy_module("scipy.special")

QualityVerdict = Literal["better", "worse", "same", "inconclusive"]
"""`same`: the interval lies within the margin. `better` and `worse`: it excludes 0, and does not lie within the margin.
Without a right answer in either arm nothing is compared: `inconclusive`."""

Outcomes = Mapping[str, Sequence[bool]]
"""Whether each answer to a problem is right, by problem."""

_PARTS_LEVEL = 0.01
"""How often any part of two equal arms is called worse. It adds to the 5% for all problems together."""
_TAIL = (1 - intervals.CONFIDENCE) / 2
_MOST_PROBLEMS = 1_000_000


class Share(msgspec.Struct, frozen=True):
    """Right answers in a part of the problems. `by`: "set", "language" or "task", with its `name`. `is_worse`: the arm
    is shown to be worse there by more than the margin (see `parts_judged`)."""

    by: str
    name: str
    problems: int
    baseline_percent: float
    arm_percent: float
    is_worse: bool = False


class QualityDifference(msgspec.Struct, frozen=True):
    """`arm` compared with `baseline` on the `problems` that both answered.

    `points`: the difference in percentage points, with its 95% interval and how it was made (`method`). `p_value`: of
    McNemar's exact test, where that is the method. `lost` and `gained`: problems that only the baseline, or only the
    arm, solves more often. `unstable`: by arm, the problems that it does not always answer equally, of those that it
    answered more than once (`repeated`): the noise floor. `problems_needed`: how many problems detect a difference of
    the margin with 80% power; None if the verdict is not inconclusive. `parts`: by set, language and task.
    """

    baseline: str
    arm: str
    problems: int
    baseline_percent: float
    arm_percent: float
    points: float
    low_points: float
    high_points: float
    verdict: QualityVerdict
    margin: float
    method: str
    p_value: float | None
    lost: int
    gained: int
    unstable: dict[str, int]
    repeated: dict[str, int]
    problems_needed: int | None
    parts: tuple[Share, ...] = ()

    @property
    def is_any_right(self) -> bool:
        return self.baseline_percent > 0 or self.arm_percent > 0

    @property
    def worse_parts(self) -> tuple[Share, ...]:
        return tuple(one for one in self.parts if one.is_worse)

    @property
    def is_worse(self) -> bool:
        """Of all problems, or of a part that the others may hide."""
        return self.verdict == "worse" or bool(self.worse_parts)


def quality_difference(
    baseline: tuple[str, Outcomes], arm: tuple[str, Outcomes], margin: float, parts: Sequence[Share] = ()
) -> QualityDifference | None:
    """None if no problem was answered and checked in both arms. `margin`: in percentage points."""
    (base_name, base), (arm_name, other) = baseline, arm
    common = [problem for problem in base if base[problem] and other.get(problem)]
    if not common:
        return None
    before, after = [fmean(base[one]) for one in common], [fmean(other[one]) for one in common]
    differences = [b - a for a, b in zip(before, after, strict=True)]
    is_whole = all(one in (-1.0, 0.0, 1.0) for one in differences)
    lost, gained = sum(one < 0 for one in differences), sum(one > 0 for one in differences)
    low, high = _paired_interval(lost, gained, len(common)) if is_whole else _mean_interval(differences)
    is_any_right = any(before) or any(after)
    verdict = _verdict(100 * low, 100 * high, margin) if is_any_right else "inconclusive"
    return QualityDifference(
        baseline=base_name,
        arm=arm_name,
        problems=len(common),
        baseline_percent=100 * fmean(before),
        arm_percent=100 * fmean(after),
        points=100 * fmean(differences),
        low_points=100 * low,
        high_points=100 * high,
        verdict=verdict,
        margin=margin,
        method="exact McNemar" if is_whole else "paired by problem",
        p_value=_mcnemar_p_value(lost, gained) if is_whole else None,
        lost=lost,
        gained=gained,
        unstable={
            name: sum(0 < sum(found[one]) < len(found[one]) for one in common) for name, found in (baseline, arm)
        },
        repeated={name: sum(len(found[one]) > 1 for one in common) for name, found in (baseline, arm)},
        problems_needed=_problems_needed(differences, margin) if verdict == "inconclusive" else None,
        parts=tuple(parts),
    )


def parts_judged(parts: Sequence[tuple[Share, int, int]], margin: float) -> tuple[Share, ...]:
    """The shares of parts, each with the problems lost and gained there: marked as worse where the sign test shows a
    loss at 1% for all parts together (Bonferroni), and the loss is larger than the margin."""

    def is_worse(part: Share, lost: int, gained: int) -> bool:
        is_shown = significance.sign_test_p_value(lost, gained) <= _PARTS_LEVEL / len(parts)
        return is_shown and part.arm_percent - part.baseline_percent < -margin

    return tuple(msgspec.structs.replace(one, is_worse=is_worse(one, *counts)) for one, *counts in parts)


def _verdict(low: float, high: float, margin: float) -> QualityVerdict:
    if -margin <= low and high <= margin:
        return "same"
    return "better" if low > 0 else "worse" if high < 0 else "inconclusive"


def _mcnemar_p_value(lost: int, gained: int) -> float:
    """The exact test: the share of losses among the problems that differ is one half if the arms are alike."""
    return significance.sign_test_p_value(lost, gained)


def _paired_interval(lost: int, gained: int, problems: int) -> tuple[float, float]:
    """Of (gained - lost) / problems; excludes 0 exactly where McNemar's exact test does at 5%, or later."""
    exact, score = _conditional_interval(lost, gained, problems), _score_interval(lost, gained, problems)
    return min(exact[0], score[0]), max(exact[1], score[1])


def _conditional_interval(lost: int, gained: int, problems: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of the share of gains among the problems that differ, as a difference."""
    differ = lost + gained
    if not differ:
        return 0.0, 0.0
    low = float(special.betaincinv(gained, lost + 1, _TAIL)) if gained else 0.0
    high = float(special.betaincinv(gained + 1, lost, 1 - _TAIL)) if lost else 1.0
    return (2 * low - 1) * differ / problems, (2 * high - 1) * differ / problems


def _score_interval(lost: int, gained: int, problems: int) -> tuple[float, float]:
    """Tango's score interval: the differences that his score test does not reject at 5%."""
    quantile = float(special.ndtri(1 - _TAIL))
    found = (gained - lost) / problems

    def excess(difference: float) -> float:
        """How far the score test's statistic is beyond its quantile."""
        factor = 2 * problems
        linear = -gained - lost + (2 * problems - gained + lost) * difference
        constant = -lost * difference * (1 - difference)
        nuisance = (math.sqrt(max(0.0, linear**2 - 4 * factor * constant)) - linear) / (2 * factor)
        variance = problems * (2 * nuisance + difference * (1 - difference))
        distance = gained - lost - problems * difference
        if variance <= 0:
            return -quantile if distance == 0 else math.inf
        return abs(distance) / math.sqrt(variance) - quantile

    low = -1.0 if excess(-1 + 1e-9) <= 0 else intervals.root(excess, -1 + 1e-9, found)
    high = 1.0 if excess(1 - 1e-9) <= 0 else intervals.root(excess, found, 1 - 1e-9)
    return low, high


def _mean_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean, with two problems added: one half of each of four ways to answer a problem."""
    mean, variance, count = _with_two_more(differences)
    quantile: Any = special.stdtrit(len(differences) - 1, 1 - _TAIL) if len(differences) > 1 else math.inf
    half = float(quantile) * math.sqrt(variance / count)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _with_two_more(differences: Sequence[float]) -> tuple[float, float, int]:
    """Mean, variance and count with half a problem at -1, half at 1 and one at 0 added."""
    count = len(differences) + 2
    mean = math.fsum(differences) / count
    return mean, (math.fsum(one * one for one in differences) + 1) / count - mean**2, count


def _problems_needed(differences: Sequence[float], margin: float) -> int:
    """Problems that detect a mean difference of `margin` points with a power of 80% (Connor 1987,
    Biometrics 43, 207-211, for the paired differences of a study that is as variable as this one)."""
    _, variance, _ = _with_two_more(differences)
    quantiles = float(special.ndtri(1 - _TAIL)) + float(special.ndtri(intervals.POWER))
    return min(_MOST_PROBLEMS, math.ceil(variance * (quantiles / (margin / 100)) ** 2))

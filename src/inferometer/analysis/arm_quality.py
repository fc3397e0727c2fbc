"""Right answers of arms, from the checks of their trials: outcomes by problem, and shares by set, language and task."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from inferometer.analysis.answer_quality import QualityDifference, Share, parts_judged, quality_difference
from inferometer.analysis.validity import ArmTrials
from inferometer.core.request import problem_id
from inferometer.metrics.right_answers import checked

_PARTS = ("set", "language", "task")


def quality_differences(
    cases: Sequence[ArmTrials], pairs: Sequence[tuple[str, str]], margin: float
) -> tuple[QualityDifference, ...]:
    """Of each pair, given as baseline and arm, that has checked answers to the same problems."""
    outcomes = {case.name: outcomes_of(case) for case in cases}
    tags = {problem: of for case in cases if outcomes[case.name] for problem, of in tags_of(case).items()}
    found: list[QualityDifference] = []
    for baseline, arm in pairs:
        base, other = outcomes.get(baseline, {}), outcomes.get(arm, {})
        parts = parts_judged(list(shares(base, other, tags)), margin)
        one = quality_difference((baseline, base), (arm, other), margin, parts)
        found += [] if one is None else [one]
    return tuple(found)


def outcomes_of(case: ArmTrials) -> dict[str, list[bool]]:
    """Whether each checked answer of the arm's done trials is right, by problem."""
    found: dict[str, list[bool]] = {}
    for trial in case.done:
        for place, check in checked(trial):
            if check.passed is not None:
                found.setdefault(problem_id(trial.records.request_ids[place]), []).append(check.passed)
    return found


def unchecked_notes(cases: Sequence[ArmTrials]) -> list[str]:
    """A note for each language whose answers could not be checked."""
    found: dict[str, set[str]] = {}
    for trial in (trial for case in cases for trial in case.done):
        for place, check in checked(trial):
            if check.result == "no_toolchain":
                found.setdefault(check.reason, set()).add(problem_id(trial.records.request_ids[place]))
    return [f"Not checked, and counted neither way: {len(ids)} problem(s): {reason}." for reason, ids in found.items()]


def tags_of(case: ArmTrials) -> dict[str, dict[str, str]]:
    """Set, language and task of each problem."""
    return {problem_id(request.id): request.tags for request in case.requests.values()}


def shares(
    base: Mapping[str, Sequence[bool]], other: Mapping[str, Sequence[bool]], tags: Mapping[str, dict[str, str]]
) -> Iterator[tuple[Share, int, int]]:
    """Of every part that does not hold all problems, with the problems that the arm solves less and more often."""
    common = [problem for problem in base if problem in other]
    for by in _PARTS:
        names = dict.fromkeys(tags.get(problem, {}).get(by, "") for problem in common)
        for name in names if len(names) > 1 else ():
            of = [problem for problem in common if tags.get(problem, {}).get(by, "") == name]
            changes = [fmean(other[one]) - fmean(base[one]) for one in of]
            share = Share(by, name or "other", len(of), _percent(base, of), _percent(other, of))
            yield share, sum(one < 0 for one in changes), sum(one > 0 for one in changes)


def _percent(outcomes: Mapping[str, Sequence[bool]], problems: Sequence[str]) -> float:
    return 100 * sum(sum(outcomes[one]) / len(outcomes[one]) for one in problems) / len(problems)

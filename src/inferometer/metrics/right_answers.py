"""Measures of checked answers: how many are right, and what a right answer costs in time and energy.

Answers that could not be checked (no toolchain) count neither way. A request that failed has no right answer.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from inferometer.core.record import AnswerCheck
from inferometer.core.record_columns import UNKNOWN
from inferometer.core.request import problem_id
from inferometer.metrics.energy import energy_j
from inferometer.metrics.measures import RequestView, TrialView, in_columns
from inferometer.metrics.series import Series

_S_PER_HOUR = 3600.0
_J_PER_KJ = 1000.0


def checked(trial: TrialView) -> list[tuple[int, AnswerCheck]]:
    """The position and the check of each request whose answer was checked, in order."""
    if not trial.checks:
        return []
    pairs = enumerate(map(trial.checks.get, trial.index.tolist()))
    return [(place, check) for place, check in pairs if check is not None]


def _checked_series(trial: TrialView, value_of: Callable[[int, AnswerCheck], bool | int | None]) -> Series:
    known = [(place, value) for place, check in checked(trial) if (value := value_of(place, check)) is not None]
    positions = np.array([place for place, _ in known], np.int64)
    return Series(np.array([value for _, value in known], np.float64), positions, trial.size)


def _all_passed(trial: TrialView) -> Series:
    return _checked_series(trial, lambda _, check: check.passed)


def _all_base_passed(trial: TrialView) -> Series:
    return _checked_series(trial, lambda _, check: None if check.passed is None else check.base_passed)


def _all_times(trial: TrialView) -> Series:
    spent_ns = trial.records.numbers["done_ns"] - trial.records.numbers["sent_ns"]
    sent = trial.records.numbers["sent_ns"] != UNKNOWN
    return _checked_series(
        trial, lambda place, check: int(spent_ns[place]) if check.passed is not None and sent[place] else None
    )


def is_right(request: RequestView) -> bool | None:
    """None if the answer was not checked."""
    return None if request.check is None else request.check.passed


@in_columns(_all_passed)
def passed(request: RequestView) -> Sequence[float]:
    """1 for a right answer, 0 for a wrong one; empty if it was not checked."""
    found = is_right(request)
    return [] if found is None else [float(found)]


@in_columns(_all_base_passed)
def base_passed(request: RequestView) -> Sequence[float]:
    """As `passed`, by the base tests alone; empty for a set without other tests."""
    check = request.check
    return [] if check is None or check.passed is None or check.base_passed is None else [float(check.base_passed)]


@in_columns(_all_times)
def checked_time_ns(request: RequestView) -> Sequence[float]:
    """Time of a checked request, whatever its outcome."""
    record = request.record
    if is_right(request) is None or record.sent_ns is None:
        return []
    return [float(record.done_ns - record.sent_ns)]


def right_answers(trial: TrialView) -> int | None:
    """None if no answer was checked."""
    values = trial.series(passed).values
    return int(values.sum()) if len(values) else None


def right_answers_times_3600(trial: TrialView) -> float | None:
    """For a rate per hour from one per second."""
    count = right_answers(trial)
    return None if count is None else count * _S_PER_HOUR


def right_answers_per_kilojoule(trial: TrialView) -> float | None:
    """None if the energy is unknown, or no answer was checked."""
    count, used_j = right_answers(trial), energy_j(trial.trial)
    return None if count is None or not used_j else count / (used_j / _J_PER_KJ)


def pass_at(k: int, trial: TrialView) -> float | None:
    """Percent of problems that k answers would solve: the mean over problems of `pass_at_k`. None if no problem has k
    checked answers."""
    by_problem: dict[str, list[bool]] = {}
    for place, check in checked(trial):
        if check.passed is not None:
            by_problem.setdefault(problem_id(trial.records.request_ids[place]), []).append(check.passed)
    found = [pass_at_k(len(answers), sum(answers), k) for answers in by_problem.values() if len(answers) >= k]
    return 100 * math.fsum(found) / len(found) if found else None


def pass_at_k(answers: int, right: int, k: int) -> float:
    """Probability that at least one of k answers, drawn from `answers` without replacement, is right: the unbiased
    estimator of Chen et al. 2021 ("Evaluating Large Language Models Trained on Code", equation 1)."""
    return 1.0 - math.comb(answers - right, k) / math.comb(answers, k)

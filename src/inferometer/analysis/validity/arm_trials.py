"""Input of the validity checks: an arm with its trials and its planned requests."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from inferometer.core.continuation import Continuation
from inferometer.core.record import Fact, Finding
from inferometer.core.request import Request
from inferometer.core.spec import Arm, Sampling
from inferometer.metrics.measures import TrialView
from inferometer.metrics.row_inputs import RowInput


class ArmTrials(msgspec.Struct, frozen=True):
    """An arm with its trials. `requests`: the plan's requests, by index. `plan`: equal for arms that played the same
    plan. `cores`: of the machine, None if unknown. `study`: the name of the arm's study, "" if there is only one;
    `machine`, `workload` and `seed` belong to that study. `continuations`: answers of the fidelity pass, by request."""

    name: str
    arm: Arm
    trials: tuple[TrialView, ...]
    requests: dict[int, Request]
    sampling: Sampling = Sampling()
    plan: str = ""
    cores: int | None = None
    study: str = ""
    machine: tuple[Fact, ...] = ()
    workload: dict[str, str] = {}
    seed: int = 1
    concurrency: int | None = None
    continuations: dict[str, Continuation] = {}

    @property
    def done(self) -> tuple[TrialView, ...]:
        return tuple(trial for trial in self.trials if trial.trial.state == "done")

    def finding(
        self,
        severity: Literal["note", "warning", "invalid"],
        code: str,
        message: str,
        action: str,
        trial: int | None = None,
        withholds: tuple[RowInput, ...] = (),
    ) -> Finding:
        return Finding(severity, code, message, action, self.name, trial, withholds)


def fact_of(trial: TrialView, name: str) -> str | None:
    """The value of the trial's first fact of this name."""
    return next((fact.value for fact in trial.trial.facts if fact.name == name), None)


def same_rounds(first: ArmTrials, case: ArmTrials) -> list[tuple[TrialView, TrialView]]:
    """The done trials of two arms in pairs of one number. A trial without a partner gets the other arm's first one."""
    base = {trial.trial.number: trial for trial in first.done}
    if not base:
        return []
    pairs = [(base.pop(trial.trial.number, first.done[0]), trial) for trial in case.done]
    return pairs + [(trial, case.done[0]) for trial in base.values() if case.done]


Check = Callable[[Sequence[ArmTrials]], Iterator[Finding]]


def for_each_arm(check: Callable[[ArmTrials], Iterable[Finding]]) -> Check:
    """Turn a check of one arm into a check of all arms."""

    @functools.wraps(check)
    def check_all(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
        for case in arms:
            yield from check(case)

    return check_all

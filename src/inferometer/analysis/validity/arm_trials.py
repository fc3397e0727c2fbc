"""What does a check look at? An arm with its trials, and what each of its requests asked."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from inferometer.core.record import Fact, Finding
from inferometer.core.request import Request
from inferometer.core.spec import Arm, Sampling
from inferometer.metrics.measures import TrialView
from inferometer.metrics.row_inputs import RowInput


class ArmTrials(msgspec.Struct, frozen=True):
    """An arm with its trials. `requests`: what the plan asked, by index. `plan`: equal for arms that were asked the
    same. `cores`: the machine's, None where that is not known. `study`: the name of the one that it is of, "" where
    there is only one; `machine`, `workload` and `seed` are that study's."""

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


Check = Callable[[Sequence[ArmTrials]], Iterator[Finding]]


def each(check: Callable[[ArmTrials], Iterable[Finding]]) -> Check:
    """A check of one arm by itself, for all."""

    @functools.wraps(check)
    def of_all(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
        for case in cases:
            yield from check(case)

    return of_all

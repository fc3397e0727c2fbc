"""A study while it runs, in memory: its trials so far and everything else that a reader of its folder would get."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from inferometer.core.continuation import Continuation
from inferometer.core.record import AnswerCheck, Fact, Trial
from inferometer.core.redaction import redacted_spec
from inferometer.core.spec import Spec
from inferometer.store import Store
from inferometer.study.shared_plan import SharedPlan

if TYPE_CHECKING:
    from inferometer.results.read import Study


class LiveStudy:
    """The trials of a resumed study are read once, here; later trials are added as they end. Only the thread of the
    study loop uses it."""

    def __init__(self, spec: Spec, store: Store, plan: SharedPlan, machine: tuple[Fact, ...]) -> None:
        self._spec = redacted_spec(spec)
        self._store = store
        self._plan = plan
        self._machine = machine
        self._stopped = store.stopped()
        self._trials = [trial for trial in store.trials() if trial.arm in spec.arms]
        self._continuations = store.continuations()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials so far."""
        return tuple(self._trials)

    def study(self) -> "Study":
        """The study as it is now."""
        from inferometer.results.read import Study

        plan = self._plan
        return Study(
            folder=self._store.folder,
            spec=self._spec,
            trials=self.trials,
            notes=plan.notes,
            machine=self._machine,
            workload=plan.workload,
            plan=plan.plan,
            stopped=self._stopped,
            continuations=self._continuations,
        )

    def ended(self) -> set[tuple[str, int]]:
        """Arm and number of each trial that has ended, whether it succeeded or failed."""
        return {(trial.arm, trial.number) for trial in self._trials}

    def add(self, trials: Iterable[Trial | None]) -> None:
        """Adds trials in the order in which they began; None is a trial whose end could not be stored."""
        self._trials += [trial for trial in trials if trial is not None]

    def set_checks(self, checks: Mapping[tuple[str, int], tuple[AnswerCheck, ...]]) -> None:
        """Adds the outcomes of the answers' checks to the trials, by arm and number."""
        self._trials = [
            msgspec.structs.replace(trial, checks=checks.get((trial.arm, trial.number), trial.checks))
            for trial in self._trials
        ]

    def set_continuations(self, found: dict[str, dict[str, Continuation]]) -> None:
        """Adds the answers of the fidelity pass, by arm and request."""
        self._continuations = found

    def forget(self, arm: str, number: int) -> None:
        """Removes a trial, here and in the store, so that it can run again."""
        self._trials = [trial for trial in self._trials if (trial.arm, trial.number) != (arm, number)]
        self._store.forget_trial(arm, number)

    def set_stopped(self, why: str) -> None:
        """Stores why the study ended before its last possible trial, or why it has not ended yet."""
        self._stopped = why
        self._store.set_meta("stopped", why)

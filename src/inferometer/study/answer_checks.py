"""Checks of a study's answers, after its last trial: nothing of them runs while something is measured."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from inferometer.core.spec import Spec
from inferometer.store import Store
from inferometer.study.interrupts import Interrupts
from inferometer.study.live_study import LiveStudy
from inferometer.study.progress import CheckingAnswers, Progress
from inferometer.workloads.catalog import make_workload

if TYPE_CHECKING:
    from inferometer.quality.problem import Problem
    from inferometer.quality.sandbox import Sandbox


class AnswerChecks:
    """The checks of one study. Raises RequestWrong at once, before anything is measured, where they cannot run."""

    def __init__(self, spec: Spec, *, unsafe: bool = False) -> None:
        self._quality = spec.quality
        self._problems: dict[str, Problem] = {}
        self._sandbox: Sandbox | None = None
        if spec.quality.check and hasattr(make_workload(spec.workload), "problems"):
            from inferometer.quality.stored_checks import problems_of, sandbox_for

            self._problems = problems_of(spec.workload)
            self._sandbox = sandbox_for(self._problems, unsafe=unsafe) if self._problems else None

    def run(self, store: Store, live: LiveStudy, interrupts: Interrupts) -> Iterator[Progress]:
        """Checks the answers that have no outcome yet, and adds the outcomes to the study in memory."""
        if not self._problems:
            return
        from inferometer.quality.stored_checks import check_stored

        for count in check_stored(store, self._problems, self._sandbox, self._quality):
            interrupts.check()
            yield CheckingAnswers(count.done, count.total)
        live.set_checks({key: store.checks(trial_id) for key, trial_id in store.trial_ids().items()})

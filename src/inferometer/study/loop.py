"""The study loop: rounds of trials until the study has enough, a pause between them, and a retry after a failure."""

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import msgspec

from inferometer.analysis.stopping import stop_decision
from inferometer.base.errors import RequestWrong
from inferometer.base.extensions import factory
from inferometer.base.redactor import Redactor
from inferometer.core import study as order
from inferometer.core.redaction import redactor_for
from inferometer.core.schedule import concurrency_limit
from inferometer.core.spec import Arm, Settle, Spec, TrialSpec
from inferometer.engines.base import Engine
from inferometer.probes.gpu_cooldown import GpuState, gpu_states, remaining_wait
from inferometer.probes.machine_facts import machine_facts
from inferometer.results.comparison import comparison_of
from inferometer.results.metric_names import known_metric
from inferometer.results.read import Study
from inferometer.standin.model_names import resolve
from inferometer.store import Store
from inferometer.study.answer_checks import AnswerChecks
from inferometer.study.device_conflicts import require_separate_devices
from inferometer.study.engine_pool import EnginePool
from inferometer.study.interrupts import Interrupts
from inferometer.study.live_study import LiveStudy
from inferometer.study.load_workers import load_workers
from inferometer.study.parallel_trials import run_in_parallel
from inferometer.study.preconditions import require_same_machine
from inferometer.study.progress import Progress, Settling, StoppingRuleChecked, TrialBegan
from inferometer.study.shared_plan import SharedPlan
from inferometer.study.trial import RunningTrial, StudyResources, TrialTask
from inferometer.workloads.catalog import make_workload

_SETTLE_STEP_S = 0.5
_OPEN_LOOP_SLOTS = 4  # llama-server's own default, for schedules that do not limit the requests in flight


def run_study(
    spec: Spec,
    folder: Path,
    headers: dict[str, str] | None = None,
    ray: str | None = None,
    *,
    resume: bool = False,
    unsafe_checks: bool = False,
) -> "StudyRun":
    """A run of every trial of `spec`, with everything stored in `folder`. Iterate over the run to make it happen.

    `headers` go to the servers and are not stored. `ray`: the address of a Ray cluster whose nodes send the requests;
    None: this host sends them. `resume`: the trials in `folder` that succeeded stay, and only the others run.
    `unsafe_checks`: answers that are programs run without a sandbox.
    """
    return StudyRun(spec, folder, headers or {}, ray, resume=resume, unsafe_checks=unsafe_checks)


class StudyRun:
    """One run of a study: iterating over it runs the trials and yields the progress; `study` is the study so far.

    A failed trial is stored with its error, and `spec.on_failure` decides what happens next. An interrupt ends the
    trial under way, keeps its records, and is raised. Raises RequestWrong before anything starts where the spec cannot
    be run, and StoreBroken where the folder cannot be written any more.
    """

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        headers: dict[str, str],
        ray: str | None,
        *,
        resume: bool,
        unsafe_checks: bool = False,
    ) -> None:
        self.interrupts = Interrupts()
        self._spec = spec
        self.folder = folder
        self._headers = headers
        self._ray = ray
        self._resume = resume
        self._unsafe_checks = unsafe_checks
        self._live: LiveStudy | None = None

    @property
    def study(self) -> Study | None:
        """The study as it is now, without reading its folder; None before the folder is made."""
        return None if self._live is None else self._live.study()

    def __iter__(self) -> Generator[Progress, None, None]:
        spec = self._spec
        known_metric(spec.metric)
        with self.interrupts.listening(), contextlib.ExitStack() as stack:
            arms = _resolved_arms(spec, ray=self._ray)
            redactor = redactor_for(spec.arms.values(), self._headers, os.environ)
            engines = _checked_engines(arms, self._headers, redactor)
            workers = load_workers(spec, self._ray, arms, stack)
            stored = msgspec.structs.replace(spec, workers=workers.count)
            workload = make_workload(spec.workload)
            checks = AnswerChecks(spec, unsafe=self._unsafe_checks)
            store = Store.resume(self.folder, stored) if self._resume else Store.create(self.folder, stored)
            stack.callback(store.close)
            machine = machine_facts()
            require_same_machine(store.machine(), machine)
            store.set_meta("machine", machine)
            plan = SharedPlan(spec, workload, store, workers.count)
            self._live = LiveStudy(stored, store, plan, machine)
            pool = stack.enter_context(EnginePool(keeps=spec.restart == "never"))
            resources = StudyResources(spec, store, plan, workers, pool, self.interrupts, redactor)
            yield from _Rounds(resources, arms, engines, self._live).run(resumed=self._resume)
            yield from checks.run(store, self._live, self.interrupts)


class _Rounds:
    """The rounds of one study."""

    def __init__(
        self, resources: StudyResources, arms: Mapping[str, Arm], engines: Mapping[str, Engine], live: LiveStudy
    ) -> None:
        self._resources = resources
        self._spec = resources.spec
        self._arms = arms
        self._engines = engines
        self._live = live
        self._cool = gpu_states()
        self._has_enough = False
        self._earlier_errors: dict[tuple[str, int], str] = {}

    def run(self, *, resumed: bool) -> Iterator[Progress]:
        if resumed and self._live.ended():
            self._check_stopping_rule()
        while trials := order.next_round(self._spec, self._live.ended(), enough=self._has_enough):
            if self._live.ended():
                yield from _settle(self._spec.settle_settings, self._cool)
            yield from self._begin(trials)
            ended = [RunningTrial(task) for task in self._tasks(trials)]
            try:
                yield from ended[0].run() if len(ended) == 1 else run_in_parallel(ended, self._resources.interrupts)
            finally:
                self._live.add(trial.result for trial in ended)
            self._resources.interrupts.check()
            if self._runs_again(ended):
                continue
            if self._stops_after_failure(ended):
                return
            if (checked := self._check_stopping_rule()) is not None:
                self._live.set_stopped(checked.why)
                yield checked

    def _begin(self, trials: list[TrialSpec]) -> Iterator[Progress]:
        total = len(order.trial_order(self._spec))
        for position, trial in enumerate(trials, len(self._live.ended()) + 1):
            yield TrialBegan(trial.arm_name, trial.number, position, total, total // len(self._spec.arms))

    def _tasks(self, trials: list[TrialSpec]) -> list[TrialTask]:
        arms_of_round = tuple(trial.arm_name for trial in trials)
        return [
            TrialTask(
                self._resources,
                trial.arm_name,
                trial.number,
                self._arms[trial.arm_name],
                self._engines[trial.arm_name],
                arms_of_round,
                self._earlier_errors.get((trial.arm_name, trial.number), ""),
            )
            for trial in trials
        ]

    def _runs_again(self, ended: list[RunningTrial]) -> bool:
        """Whether a trial failed and gets a second attempt, for which the first one is removed."""
        again = [trial for trial in ended if trial.runs_again]
        for trial in again:
            self._earlier_errors[trial.key] = trial.error
            self._live.forget(*trial.key)
        return bool(again)

    def _stops_after_failure(self, ended: list[RunningTrial]) -> bool:
        failed = next((trial for trial in ended if trial.error), None)
        if failed is None or self._spec.on_failure != "stop":
            return False
        name, number = failed.key
        self._live.set_stopped(f"{name}, trial {number} failed, and on_failure is stop")
        return True

    def _check_stopping_rule(self) -> StoppingRuleChecked | None:
        """The rule of `until`, applied to the trials in memory; None where there is none or a round is under way."""
        spec = self._spec
        if spec.until_percent is None or not order.ends_round(spec, self._live.ended()):
            return None
        found = stop_decision(comparison_of([self._live.study()], "inferometer"), spec.until_percent)
        self._has_enough = found.enough
        return StoppingRuleChecked(found.enough, found.reason)


def _resolved_arms(spec: Spec, *, ray: str | None) -> dict[str, Arm]:
    """The arms with their models as files and their number of slots. Raises RequestWrong for parallel arms that would
    disturb each other."""
    slots = concurrency_limit(spec.schedule) or _OPEN_LOOP_SLOTS
    arms = {name: msgspec.structs.replace(resolve(arm), slots=arm.slots or slots) for name, arm in spec.arms.items()}
    if spec.parallel:
        require_separate_devices(arms)
        if ray is not None:
            raise RequestWrong("--ray cannot run parallel trials: remove --ray, or parallel in the study.")
    return arms


def _checked_engines(arms: Mapping[str, Arm], headers: dict[str, str], redactor: Redactor) -> dict[str, Engine]:
    """An engine for each arm. Raises RequestWrong, without secrets in its message, where one cannot be started."""
    engines: dict[str, Engine] = {name: factory("engine", arm.engine)(headers) for name, arm in arms.items()}
    for name, engine in engines.items():
        try:
            engine.check(arms[name])
        except RequestWrong as wrong:
            wrong.args = (redactor.redact(str(wrong)),)
            raise
    return engines


def _settle(settling: Settle, cool: list[GpuState]) -> Iterator[Settling]:
    """Waits as `settling` says; `cool`: the GPUs before the first trial. Yields twice a second."""
    began_s = time.monotonic()
    while (why := remaining_wait(settling, time.monotonic() - began_s, cool, gpu_states())) is not None:
        yield Settling(why)
        time.sleep(_SETTLE_STEP_S)

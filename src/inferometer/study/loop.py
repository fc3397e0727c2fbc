"""The study loop: rounds of trials until the study has enough, a pause between them, and a retry after a failure."""

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.extensions import factory
from inferometer.base.redactor import Redactor
from inferometer.core import quantities
from inferometer.core import study as order
from inferometer.core.interleaving import why_not_interleaved
from inferometer.core.redaction import redactor_for
from inferometer.core.request import Workload
from inferometer.core.schedule import concurrency_limit
from inferometer.core.spec import PRIMARY_METRIC, Arm, Settle, Spec, TrialSpec
from inferometer.engines.base import Engine
from inferometer.engines.catalog import describe
from inferometer.engines.requested_settings import stated_contexts
from inferometer.load.worker_pool import local_workers
from inferometer.probes.gpu_cooldown import GpuState, gpu_states, remaining_wait
from inferometer.probes.machine_facts import machine_facts
from inferometer.standin.model_names import resolve
from inferometer.store import Store
from inferometer.study.answer_checks import AnswerChecks
from inferometer.study.device_conflicts import require_separate_devices
from inferometer.study.engine_pool import EnginePool, engine_names
from inferometer.study.interleaved_round import InterleavedRound, StudyOrder
from inferometer.study.interrupts import Interrupts
from inferometer.study.live_study import LiveStudy
from inferometer.study.load_workers import load_workers
from inferometer.study.parallel_trials import run_in_parallel
from inferometer.study.preconditions import require_same_machine, require_tokenizer
from inferometer.study.progress import (
    FindingRaised,
    OrderChosen,
    Progress,
    Settling,
    StoppingRuleChecked,
    TrialBegan,
)
from inferometer.study.shared_plan import SharedPlan
from inferometer.study.trial import RunningTrial, StudyResources, TrialTask
from inferometer.workloads.catalog import make_workload

if TYPE_CHECKING:
    from inferometer.results.read import Study

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
    source: Workload | None = None,
) -> "StudyRun":
    """A run of every trial of `spec`, with everything stored in `folder`. Iterate over the run to make it happen.

    `headers` go to the servers and are not stored. `ray`: the address of a Ray cluster whose nodes send the requests;
    None: this host sends them. `resume`: the trials in `folder` that succeeded stay, and only the others run.
    `unsafe_checks`: answers that are programs run without a sandbox. `source`: the requests; None: those of the spec's
    workload.
    """
    return StudyRun(spec, folder, headers or {}, ray, resume=resume, unsafe_checks=unsafe_checks, source=source)


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
        source: Workload | None = None,
    ) -> None:
        self.interrupts = Interrupts()
        self.spec = spec
        self.folder = folder
        self._headers = headers
        self._ray = ray
        self._resume = resume
        self._unsafe_checks = unsafe_checks
        self._source = source
        self._live: LiveStudy | None = None

    @property
    def study(self) -> "Study | None":
        """The study as it is now, without reading its folder; None before the folder is made."""
        return None if self._live is None else self._live.study()

    def __iter__(self) -> Generator[Progress, None, None]:
        spec = self.spec
        if spec.metric != PRIMARY_METRIC:
            from inferometer.results.metric_names import known_metric

            known_metric(spec.metric)
        with self.interrupts.listening(), contextlib.ExitStack() as stack:
            arms = resolved_arms(spec, ray=self._ray)
            redactor = redactor_for(spec.arms.values(), self._headers, os.environ, spec.sampling)
            engines = checked_engines(arms, self._headers, redactor)
            workers = load_workers(spec, self._ray, arms, stack)
            stored = msgspec.structs.replace(spec, workers=workers.count)
            if self._ray is not None and spec.order == "requests":
                raise RequestWrong("--ray cannot interleave requests: remove --ray, or use order: trials.")
            workload = self._source or make_workload(spec.workload)
            if not self._resume:
                require_tokenizer(spec.tokenizer)
                _require_prompts(spec, workload, arms)
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
            if spec.fidelity:
                from inferometer.study.fidelity_pass import FidelityPass

                for progress in FidelityPass(spec, arms, engines, pool).run(store):
                    self.interrupts.check()
                    yield progress
                self._live.set_continuations(store.continuations())


class _Rounds:
    """The rounds of one study."""

    def __init__(
        self, resources: StudyResources, arms: Mapping[str, Arm], engines: Mapping[str, Engine], live: LiveStudy
    ) -> None:
        self._resources = resources
        self._spec = resources.spec
        self._arms = arms
        self._engines = engines
        self._engine_names = engine_names(arms, keeps=resources.spec.restart == "never")
        self._live = live
        self._cool = gpu_states()
        self._has_enough = False
        self._differences_shown = False
        self._earlier_errors: dict[tuple[str, int], str] = {}
        self._order = _order_of(resources, arms, live)
        self._given_up: set[str] = set()

    def run(self, *, resumed: bool) -> Iterator[Progress]:
        if self._order.why:
            yield OrderChosen(self._order.order, self._order.why)
        if resumed and self._live.ended():
            self._check_stopping_rule()
        while trials := self._next_round():
            if self._live.ended():
                yield from _settle(self._spec.settle_settings, self._cool)
            play = self._play_in_turn if self._order.may_interleave else self._play
            ended: list[RunningTrial] = []
            yield from play(trials, ended)
            self._resources.interrupts.check()
            if self._runs_again(ended):
                continue
            yield from self._first_round_differences()
            yield from self._give_up(ended)
            if self._stops_after_failure(ended):
                return
            if (checked := self._check_stopping_rule()) is not None:
                self._live.set_stopped(checked.why)
                yield checked

    def _next_round(self) -> list[TrialSpec]:
        interleaved = self._order.may_interleave
        found = order.next_round(self._spec, self._ended(), enough=self._has_enough, interleaved=interleaved)
        return [trial for trial in found if trial.arm_name not in self._given_up]

    def _play(self, trials: list[TrialSpec], ended: list[RunningTrial]) -> Iterator[Progress]:
        """Plays one trial, or trials in parallel, and puts them into `ended`."""
        yield from self._began(trials)
        ended += [RunningTrial(task) for task in self._tasks(trials)]
        for trial in ended:
            trial.add_facts(self._order.facts())
        try:
            yield from ended[0].run() if len(ended) == 1 else run_in_parallel(ended, self._resources.interrupts)
        finally:
            self._live.add(trial.result for trial in ended)

    def _play_in_turn(self, trials: list[TrialSpec], ended: list[RunningTrial]) -> Iterator[Progress]:
        """Plays a whole round with interleaved requests. Trials of it that have ended before are replaced: only
        requests that were sent in turn can be paired."""
        for key in [(trial.arm_name, trial.number) for trial in trials]:
            if key in self._live.ended():
                self._live.forget(*key)
        tasks = [msgspec.structs.replace(task, arms_of_round=()) for task in self._tasks(trials)]
        round_ = InterleavedRound(tasks, self._began(trials), self._order)
        try:
            yield from round_.run()
        finally:
            ended += round_.ended
            self._live.add(trial.result for trial in ended)
        if not self._order.may_interleave:  # found in this round: the engines do not fit into memory together
            self._resources.engines.one_at_a_time()

    def _first_round_differences(self) -> Iterator[Progress]:
        """What differs in force between the arms, once, as soon as each arm has a trial."""
        ended = self._live.ended()
        if self._differences_shown or len(self._spec.arms) < 2 or not order.ends_round(self._spec, ended):
            return
        from inferometer.analysis.validity.in_force import differences_in_force

        self._differences_shown = True
        first, *others = self._live.study().arm_trials("inferometer")
        for case in others:
            if first.done and case.done:
                found = differences_in_force(first, case)
                shown = "; ".join(found) or "nothing that the engines report"
                yield FindingRaised(f"{case.name} differs from {first.name} in force: {shown}.")

    def _began(self, trials: list[TrialSpec]) -> list[TrialBegan]:
        total = len(order.trial_order(self._spec))
        return [
            TrialBegan(trial.arm_name, trial.number, position, total, total // len(self._spec.arms))
            for position, trial in enumerate(trials, len(self._live.ended()) + 1)
        ]

    def _tasks(self, trials: list[TrialSpec]) -> list[TrialTask]:
        arms_of_round = tuple(trial.arm_name for trial in trials)
        return [
            TrialTask(
                self._resources,
                trial.arm_name,
                trial.number,
                self._arms[trial.arm_name],
                self._engines[trial.arm_name],
                self._engine_names[trial.arm_name],
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

    def _ended(self) -> set[tuple[str, int]]:
        """The trials that have ended, and those that do not start because their arm's engine does not."""
        return self._live.ended() | {key for key in self._planned() if key[0] in self._given_up}

    def _give_up(self, ended: list[RunningTrial]) -> Iterator[Progress]:
        """An engine whose first start failed would fail again: its arm's other trials do not start."""
        for trial in ended:
            name, number = trial.key
            left = len({key for key in self._planned() if key[0] == name} - self._live.ended())
            if not trial.failed_to_start or number != 1 or not left:
                continue
            self._given_up.add(name)
            yield FindingRaised(f"{name}: its engine did not start, so its other {left} trial(s) are not started. Fix "
                                "the cause, then continue with run --resume.")  # fmt: skip

    def _planned(self) -> list[tuple[str, int]]:
        return [(trial.arm_name, trial.number) for trial in order.trial_order(self._spec)]

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
        from inferometer.analysis.stopping import stop_decision
        from inferometer.results.study_comparison import comparison_of

        found = stop_decision(comparison_of([self._live.study()], "inferometer"), spec.until_percent)
        self._has_enough = found.enough
        return StoppingRuleChecked(found.enough, found.reason)


def _order_of(resources: StudyResources, arms: Mapping[str, Arm], live: LiveStudy) -> StudyOrder:
    """The order that is known before an engine starts: the one of the trials so far, the one that was asked for, or
    the only one that is possible."""
    spec, workers = resources.spec, resources.workers
    trials = live.trials
    if trials:
        facts = {fact.name: fact.value for trial in trials for fact in trial.facts}
        return StudyOrder(spec, arms, facts.get(quantities.ORDER, "trials"), facts.get(quantities.ORDER_WHY, ""))
    if spec.order == "auto":
        why = why_not_interleaved(msgspec.structs.replace(spec, workers=workers.count))
        if not why and workers.pool_of is not local_workers:
            why = "the load workers are on other machines, and one worker has to hold the connections of all arms"
        return StudyOrder(spec, arms, "trials" if why else "", why if len(arms) > 1 and not spec.parallel else "")
    return StudyOrder(spec, arms, spec.order)


def resolved_arms(spec: Spec, *, ray: str | None) -> dict[str, Arm]:
    """The arms with their models as files and their number of slots. Raises RequestWrong for parallel arms that would
    disturb each other, and for an order that is not possible."""
    slots = concurrency_limit(spec.schedule) or _OPEN_LOOP_SLOTS
    arms: dict[str, Arm] = {}
    wrong: dict[str, RequestWrong] = {}
    for name, arm in spec.arms.items():
        try:
            found = resolve(arm, describe(arm.engine).draft_file_flags)
            arms[name] = msgspec.structs.replace(found, slots=arm.slots or slots)
        except RequestWrong as error:
            wrong[name] = error
    _raise_all(wrong, of=len(spec.arms))
    if spec.parallel:
        require_separate_devices(arms)
        if ray is not None:
            raise RequestWrong("--ray cannot run parallel trials: remove --ray, or parallel in the study.")
    return arms


def checked_engines(arms: Mapping[str, Arm], headers: dict[str, str], redactor: Redactor) -> dict[str, Engine]:
    """An engine for each arm. Raises RequestWrong, without secrets in its message, where some cannot be started: it
    names all of them."""
    engines: dict[str, Engine] = {name: factory("engine", arm.engine)(headers) for name, arm in arms.items()}
    wrong: dict[str, RequestWrong] = {}
    for name, engine in engines.items():
        try:
            engine.check(arms[name])
        except RequestWrong as error:
            error.args = (redactor.redact(str(error)),)
            wrong[name] = error
    _raise_all(wrong, of=len(arms))
    return engines


def _raise_all(wrong: Mapping[str, RequestWrong], of: int) -> None:
    """Raises what is wrong with the arms; in a study of several arms each message names its arm."""
    if len(wrong) == 1 and of == 1:
        raise next(iter(wrong.values()))
    if wrong:
        raise RequestWrong("\n".join(f"arms.{name}: {error}" for name, error in wrong.items()))


def _require_prompts(spec: Spec, workload: Workload, arms: Mapping[str, Arm]) -> None:
    """Raises RequestWrong, before any engine starts, where the workload has no prompt, or an arm's context cannot hold
    its longest request. Without a tokenizer only the answer's tokens count, and the number of prompts is not final."""
    requests = workload.sample(spec.seed, None).requests
    if not requests:
        raise RequestWrong(f"workload: {spec.workload.kind} has no usable prompt; see its path and its limits.")
    longest = max(request.max_tokens or 0 for request in requests)
    wrong: dict[str, RequestWrong] = {}
    for name, arm in arms.items():
        small = next(((what, size) for what, size in stated_contexts(arm).items() if size <= longest), None)
        if small is not None:
            wrong[name] = RequestWrong(
                f"its {small[0]} of {small[1]} tokens cannot hold the longest request, which asks for {longest} output "
                "tokens after its prompt. Give a larger context, or fewer output tokens (max_tokens)."
            )
    _raise_all(wrong, of=len(arms))


def _settle(settling: Settle, cool: list[GpuState]) -> Iterator[Settling]:
    """Waits as `settling` says; `cool`: the GPUs before the first trial. Yields twice a second."""
    began_s = time.monotonic()
    while (why := remaining_wait(settling, time.monotonic() - began_s, cool, gpu_states())) is not None:
        yield Settling(why)
        time.sleep(_SETTLE_STEP_S)

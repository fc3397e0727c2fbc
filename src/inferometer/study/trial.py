"""One trial: start the engine, play the plan, count, stop the engine, store the result."""

import datetime
import http.client
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from inferometer.base.clock import SystemClock, slept_ns, trial_clock
from inferometer.base.errors import RequestWrong, StoreBroken, TrialFailed
from inferometer.base.redactor import Redactor, header_secrets
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import with_prefix
from inferometer.core.quantities import ENGINE_READY_AT_NS
from inferometer.core.record import INTERRUPTED, Fact, Trial
from inferometer.core.request import TokenCounter
from inferometer.core.spec import Arm, Spec
from inferometer.engines.base import Engine
from inferometer.engines.catalog import metric_names
from inferometer.engines.prefix_cache import CacheTreatment, KeptServer
from inferometer.load.worker_pool import WorkerPool
from inferometer.probes.engine_watch import EngineWatch
from inferometer.store import Store
from inferometer.study.engine_pool import EnginePool, engine_names
from inferometer.study.engine_processes import EngineProcesses
from inferometer.study.interrupts import Interrupts
from inferometer.study.load_workers import LoadWorkers
from inferometer.study.plan_player import EngineSession, PlanPlayer
from inferometer.study.preconditions import require_context
from inferometer.study.progress import EngineReady, PlanReady, Progress, TrialEnded
from inferometer.study.shared_plan import SharedPlan
from inferometer.study.trial_findings import (
    not_counted_finding,
    parallel_findings,
    refused_findings,
    retried_finding,
    suspended_findings,
)
from inferometer.study.trial_recorder import TrialRecorder
from inferometer.workloads.token_counts import counter_for


class StudyResources(msgspec.Struct, frozen=True):
    """What all trials of one study share. `keep_prompts`: servers (URL, or name in the engine pool)
    that were found to keep prompts."""

    spec: Spec
    store: Store
    plan: SharedPlan
    workers: LoadWorkers
    engines: EnginePool
    interrupts: Interrupts
    redactor: Redactor
    keep_prompts: set[str] = msgspec.field(default_factory=set[str])
    run_id: int = msgspec.field(default_factory=lambda: random.SystemRandom().getrandbits(64))


class TrialTask(msgspec.Struct, frozen=True):
    """One trial to run. `arm` has its model resolved to a file. `arms_of_round`: the arms whose trials run at the same
    time, its own among them. `earlier_error`: why the first attempt at this trial failed, "" at the first attempt.
    `pool`: makes the worker pool of an interleaved trial; None: it gets separate workers. `engine_name`: its engine in
    the engine pool."""

    study: StudyResources
    arm_name: str
    number: int
    arm: Arm
    engine: Engine
    engine_name: str
    arms_of_round: tuple[str, ...] = ()
    earlier_error: str = ""
    pool: Callable[[], WorkerPool] | None = None


class RunningTrial:
    """A trial from its first row in the store to its last.

    After `run`: `error` is why it failed, "" where it did not, and `result` is the whole trial, None where its end
    could not be stored.
    """

    def __init__(self, task: TrialTask) -> None:
        self.key = (task.arm_name, task.number)
        self.error = ""
        self.result: Trial | None = None
        self._was_ready = False
        self._task = task
        self._interrupts = task.study.interrupts
        self._clock = trial_clock(SystemClock())
        self._processes = EngineProcesses()
        begun = Trial(
            task.arm_name,
            task.number,
            "running",
            draft_asked=task.arm.draft is not None,
            started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        self._recorder = TrialRecorder(task.study.store, begun, task.study.redactor)
        self._recorder.findings += parallel_findings(task.arm_name, task.arms_of_round)
        if task.earlier_error:
            self._recorder.findings.append(retried_finding(task.earlier_error))

    @property
    def failed_to_start(self) -> bool:
        """Whether the trial failed before its engine gave a token."""
        return bool(self.error) and not self._was_ready

    @property
    def runs_again(self) -> bool:
        """Whether the trial failed and gets a second attempt."""
        task = self._task
        return bool(self.error) and task.study.spec.on_failure == "retry" and not task.earlier_error

    def run(self) -> Iterator[Progress]:
        """Whatever happens, the trial ends in the store with its state. An interrupt ends it as INTERRUPTED."""
        slept_before_ns = slept_ns()
        self.error = INTERRUPTED
        try:
            yield from self._measure()
            self.error = ""
        except TrialFailed as failure:
            self._interrupts.check()  # an engine that we ended ourselves did not fail
            self.error = self._recorder.redacted(str(failure))
        except (RequestWrong, StoreBroken) as wrong:
            self.error = self._recorder.redacted(str(wrong))
            wrong.args = (self.error,)
            raise
        finally:
            with self._interrupts.holding_all():
                self._recorder.findings += suspended_findings(slept_ns() - slept_before_ns)
                self.result = self._recorder.end("failed" if self.error else "done", self.error)
        yield TrialEnded(*self.key, self.error, self.runs_again)

    def add_facts(self, facts: Iterable[Fact]) -> None:
        """Stores these with the trial's own facts at its end."""
        self._recorder.facts += facts

    def stop_engine_on_interrupt(self) -> None:
        """Ends an engine that `run` is still waiting for in another thread, and after a second interrupt any engine."""
        self._processes.stop(urgent=self._interrupts.urgent)

    def _measure(self) -> Iterator[Progress]:
        """The trial, watched from before its engine starts; all samples are kept, however the trial ends."""
        watch = EngineWatch(self._clock, {**os.environ, **self._task.arm.env}, metric_names())
        try:
            yield from self._start_and_play(watch)
        finally:
            watch.stop()
            self._recorder.add_samples(watch.take())
            self._recorder.facts += watch.facts()

    def _start_and_play(self, watch: EngineWatch) -> Iterator[Progress]:
        task, study = self._task, self._task.study
        log_path = study.store.folder / "logs" / f"{task.arm_name}-{task.number}.log"
        spawned = partial(self._engine_spawned, watch)
        start = partial(task.engine.start, task.arm, log_path, spawned, study.spec.sampling)
        with (task.pool or study.workers.pool)() as workers, study.engines.engine(task.engine_name, start) as endpoint:
            yield self._engine_ready(endpoint, watch)
            with counter_for(study.spec.tokenizer, endpoint) as counter:
                plan, notes = study.plan.for_trial(counter)
                self._interrupts.check()
                yield PlanReady(plan, notes)
                require_context(plan, endpoint.facts)
                kept = self._kept_server(endpoint)
                cache = kept.treatment(self._prompt_number()) if kept else CacheTreatment()
                self._recorder.facts += cache.facts
                session = self._session(endpoint, workers, watch, cache.extra_body)
                yield from PlanPlayer(session, with_prefix(plan, cache.prefix)).play()
                watch.stop()
                if kept and study.spec.trials > 1:
                    cache_after = kept.facts_after(cache)
                    self._recorder.facts += cache_after
                    self._remember_cache(*cache.facts, *cache_after)
                if counter is not None:
                    self._count_tokens(counter)
        self._recorder.facts += task.engine.facts_at_end(endpoint)

    def _kept_server(self, endpoint: Endpoint) -> KeptServer | None:
        """The server, if it may keep prompts of an earlier trial; None if it starts for this trial."""
        task, spec = self._task, self._task.study.spec
        if not task.arm.runs_already and spec.restart != "never":
            return None
        nonce = random.Random()  # other numbers in each trial, also if the study runs again
        keeps = self._server_name in task.study.keep_prompts
        return KeptServer(task.arm, endpoint, spec.sampling, nonce, self._interrupts.check, keeps)

    def _remember_cache(self, *facts: Fact) -> None:
        if any(fact.value in ("prefix", "used") for fact in facts):
            self._task.study.keep_prompts.add(self._server_name)

    @property
    def _server_name(self) -> str:
        return self._task.arm.url or self._task.engine_name

    def _prompt_number(self) -> int:
        task = self._task
        return prompt_number(task.study.spec, task.arm_name, task.number, task.study.run_id)

    def _engine_spawned(self, watch: EngineWatch, pid: int) -> None:
        self._processes.spawned(pid)
        watch.spawned(pid)

    def _engine_ready(self, endpoint: Endpoint, watch: EngineWatch) -> EngineReady:
        ready_ns = self._clock.now_ns()
        self._was_ready = True
        self._processes.ready()
        watch.ready(endpoint)
        self._recorder.hide(header_secrets(endpoint.headers.values()))
        ready = Fact(ENGINE_READY_AT_NS, str(ready_ns), "the trial's clock")
        self._recorder.facts += [*endpoint.facts, ready, *self._task.study.workers.facts]
        self._recorder.findings += refused_findings(endpoint.refused, self._task.study.spec.sampling)
        self._interrupts.check()
        return EngineReady(self._task.arm_name, ready_ns, endpoint)

    def _session(
        self, endpoint: Endpoint, workers: WorkerPool, watch: EngineWatch, extra_body: dict[str, Any]
    ) -> EngineSession:
        """`extra_body`: fields of this trial's requests; those of the study and of the arm come last."""
        task, spec = self._task, self._task.study.spec
        fields = {**extra_body, **spec.sampling.extra_body, **task.arm.request}
        sampling = msgspec.structs.replace(spec.sampling, extra_body=fields)
        return EngineSession(
            spec=msgspec.structs.replace(spec, sampling=sampling),
            arm_name=task.arm_name,
            arm=task.arm,
            endpoint=endpoint,
            workers=workers,
            watch=watch,
            clock=self._clock,
            recorder=self._recorder,
            interrupts=self._interrupts,
        )

    def _count_tokens(self, counter: TokenCounter) -> None:
        """Counts the tokens of each output by our tokenizer, as vLLM's older scripts do. After the clock has stopped.

        Where the tokenizer is the server's and the server is gone, the measurement stands without these counts.
        """
        counts: dict[int, int] = {}
        try:
            for record in self._recorder.records():
                self._interrupts.check()
                if record.ok:
                    counts[record.index] = counter.count(record.text, special=False)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            self._recorder.findings.append(not_counted_finding(counter.name, reason))
            return
        self._recorder.set_our_tokens(counts)


def prompt_number(spec: Spec, arm_name: str, trial: int, run_id: int) -> int:
    """The number of 9 digits with which a trial's prompts begin where a server keeps prompts.

    The arms of a round get the same number, so that they process the same prompts. Arms that share a server get
    different numbers, because the second one would find the first one's prompts in the cache. `run_id` differs each
    time a study runs: the server may still keep the prompts of the time before.
    """
    url, engines = spec.arms[arm_name].url, engine_names(spec.arms, keeps=spec.restart == "never")
    before = list(spec.arms)[: list(spec.arms).index(arm_name)]
    sharing = sum(spec.arms[one].url == url != "" or engines[one] == engines[arm_name] for one in before)
    return random.Random(f"{run_id} {trial} {sharing}").randrange(10**8, 10**9)

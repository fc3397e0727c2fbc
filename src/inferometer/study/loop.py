"""How does a study run? One trial after another, each from its engine's start to its end; prints nothing."""

import contextlib
import datetime
import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
from numpy.random import RandomState

from inferometer.analysis.accounting import account
from inferometer.analysis.hang_detection import INITIAL_TIMEOUTS, HangSuspicion
from inferometer.analysis.stopping import stop_decision
from inferometer.base.clock import SystemClock, slept_ns, trial_clock
from inferometer.base.errors import (
    EngineDied,
    EngineHung,
    NothingAnswered,
    RequestWrong,
    ServerUnusable,
    StopNow,
    StoreBroken,
    TrialFailed,
)
from inferometer.base.extensions import factory
from inferometer.core import plan as plans
from inferometer.core import study
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan
from inferometer.core.record import Fact, Finding, Outcome, RequestRecord
from inferometer.core.redaction import redact, secrets_in
from inferometer.core.request import Request, TokenCounter, Workload
from inferometer.core.schedule import concurrency_limit
from inferometer.core.spec import Arm, Settle, Spec, TrialSpec, worker_problems
from inferometer.engines.base import Engine
from inferometer.engines.catalog import metric_names
from inferometer.engines.liveness import dead_process, why_no_token
from inferometer.load import Started, WorkerLost, play
from inferometer.load.audit import LoadReport
from inferometer.load.wire import Tick
from inferometer.load.worker_pool import WorkerPool, local_workers
from inferometer.metrics.phases import READY_FACT
from inferometer.net.target import is_local
from inferometer.probes.engine_watch import EngineWatch
from inferometer.probes.machine_facts import machine_facts
from inferometer.probes.settling import GpuState, gpu_states, waits_for
from inferometer.results.read import comparison_of, known_metric
from inferometer.standin.model_names import resolve
from inferometer.store import Store
from inferometer.study.device_conflicts import require_apart
from inferometer.study.engine_pool import EnginePool
from inferometer.study.parallel_trials import at_once
from inferometer.study.progress import (
    STOPPING,
    EngineReady,
    FindingRaised,
    PlanReady,
    Progress,
    SampleTaken,
    Settling,
    Tally,
    TrialBegan,
    TrialEnded,
)
from inferometer.study.trial_findings import load_facts, load_findings, lost_finding, retried_finding, slept_findings
from inferometer.workloads.catalog import make_workload
from inferometer.workloads.token_counts import counter_for

_WARMUP_TOKENS = 32
_SETTLE_STEP_S = 0.5
_TELL_EVERY_NS = 100_000_000
_ASK_AGAIN_S = 10.0
_OPEN_LOOP_SLOTS = 4  # llama-server's own default, where nothing says how many requests will be under way


def run_study(
    spec: Spec, folder: Path, headers: dict[str, str] | None = None, ray: str | None = None, *, resume: bool = False
) -> Iterator[Progress]:
    """Runs every trial of `spec` and keeps all of it in `folder`.

    A trial that fails is kept with its error, and `spec.on_failure` says what comes next. An interrupt ends the trial
    under way, keeps what it has, and rises. `headers` go to the servers and are stored nowhere. `ray`: the address of a
    Ray cluster, whose nodes play the plans; None: this host does. `resume`: what `folder` holds of this study stays,
    and the trials that are missing or did not end well are played. Raises RequestWrong before anything is started where
    the spec cannot be run, and StoreBroken where it can no longer be written.
    """
    known_metric(spec.metric)
    slots = concurrency_limit(spec.schedule) or _OPEN_LOOP_SLOTS
    arms = {name: msgspec.structs.replace(resolve(arm), slots=arm.slots or slots) for name, arm in spec.arms.items()}
    if spec.parallel:
        require_apart(arms)
        if ray is not None:
            raise RequestWrong("--ray cannot play several trials at once: leave out --ray, or parallel in the study.")
    engines: dict[str, Engine] = {name: factory("engine", arm.engine)(headers or {}) for name, arm in arms.items()}
    secrets = secrets_in(spec, headers, os.environ)
    for name, engine in engines.items():
        try:
            engine.check(arms[name])
        except RequestWrong as wrong:
            wrong.args = (redact(str(wrong), secrets),)
            raise
    workload: Workload = make_workload(spec.workload)
    with contextlib.ExitStack() as stack:
        hire = _hiring(spec, ray, arms, stack)
        resolved = msgspec.structs.replace(spec, workers=hire.workers)
        store = Store.resume(folder, resolved) if resume else Store.create(folder, resolved)
        stack.callback(store.close)
        machine = machine_facts()
        require_same_machine(store.machine(), machine)
        store.set_meta("machine", machine)
        garage = stack.enter_context(EnginePool(keeps=spec.restart == "never"))
        cool = gpu_states()
        enough = False
        failed_once: dict[tuple[str, int], str] = {}
        if resume and spec.until_percent is not None and store.ended() and study.ends_round(spec, store.ended()):
            enough = stop_decision(comparison_of([folder], "inferometer"), spec.until_percent).enough
        total = len(study.trial_order(spec))
        while next_ones := study.next_round(spec, store.ended(), enough=enough):
            if store.ended():
                yield from _settle(spec.settling, cool)
            for place, trial in enumerate(next_ones, len(store.ended()) + 1):
                yield TrialBegan(trial.arm_name, trial.number, place, total, total // len(spec.arms))
            names = [trial.arm_name for trial in next_ones]
            trials = [
                _Trial(
                    *(spec, trial, arms[name], engines[name], workload, store, hire, garage, secrets),
                    beside=names,
                    failed_before=failed_once.get((name, trial.number), ""),
                )
                for trial, name in zip(next_ones, names, strict=True)
            ]
            yield from trials[0].run() if len(trials) == 1 else at_once(trials)
            again = [trial for trial in trials if trial.again]
            for trial in again:
                failed_once[trial.key] = trial.error
                store.forget_trial(*trial.key)
            if again:
                continue
            failed = next((trial for trial in trials if trial.error), None)
            if failed is not None and spec.on_failure == "stop":
                name, number = failed.key
                store.set_meta("stopped", f"{name}, trial {number} failed, and on_failure is stop")
                break
            if spec.until_percent is not None and study.ends_round(spec, store.ended()):
                looked = stop_decision(comparison_of([folder], "inferometer"), spec.until_percent)
                enough = looked.enough
                store.set_meta("stopped", looked.reason)
                yield SampleTaken(looked.enough, looked.reason)


def _settle(settling: Settle, cool: list[GpuState]) -> Iterator[Settling]:
    """Waits as `settling` says; `cool`: the GPUs before the first trial. At most a second between two progresses, so
    that an interrupt is heard."""
    began_s = time.monotonic()
    while (why := waits_for(settling, time.monotonic() - began_s, cool, gpu_states())) is not None:
        yield Settling(why)
        time.sleep(_SETTLE_STEP_S)


class _Hiring(msgspec.Struct, frozen=True):
    """Who plays the plans: `crew` gives a new crew of `workers` for each trial."""

    workers: int
    crew: Callable[[int], WorkerPool]
    facts: tuple[Fact, ...] = ()


def _hiring(spec: Spec, ray: str | None, arms: dict[str, Arm], stack: contextlib.ExitStack) -> _Hiring:
    """Workers on this host, or on the nodes of the cluster at `ray`, to which we are connected until `stack` ends."""
    if ray is None:
        return _Hiring(spec.workers or 1, local_workers)
    from inferometer.load.ray_workers import connected

    cluster = stack.enter_context(connected(ray))
    if not cluster.is_all_here:
        require_reach(arms)
    workers = spec.workers or len(cluster.nodes)
    problems = worker_problems(spec, workers)
    if problems:
        raise RequestWrong(f"the Ray cluster has {len(cluster.nodes)} nodes; {problems[0]} (--workers)")
    where = ", ".join(cluster.nodes[number % len(cluster.nodes)].host for number in range(workers))
    return _Hiring(workers, cluster.crew, (Fact("load_hosts", where, "the Ray cluster"),))


def require_reach(arms: dict[str, Arm]) -> None:
    """Raises RequestWrong for an arm that only this host can reach."""
    for name, arm in arms.items():
        if not arm.runs_already:
            raise RequestWrong(
                f"--ray plays the plan from other machines, and arm {name} is an engine that we start, which listens "
                "on 127.0.0.1 alone. Start the server yourself on an address that they reach, and name it by "
                "`engine: external` and `url:`."
            )
        if is_local(arm.url):
            raise RequestWrong(
                f"--ray plays the plan from other machines, and arm {name}'s {arm.url} means something else on each of "
                "them. Give the address by which they reach this server."
            )


def require_same_machine(before: tuple[Fact, ...], now: tuple[Fact, ...]) -> None:
    """Raises RequestWrong where a study would go on with another CPU or GPU. `before` is empty for a new study."""
    known = {fact.name: fact.value for fact in now}
    for fact in before:
        if fact.name == "cpu" or fact.name.startswith("gpu_"):
            here = known.get(fact.name, "none")
            if here != fact.value:
                raise RequestWrong(
                    f"this study was begun on another machine: its {fact.name} is {fact.value}, and here it is {here}. "
                    "Trials of two machines are no comparison; run the study anew with another --out."
                )


class _Trial:
    """One plan played against one started arm."""

    def __init__(
        self,
        spec: Spec,
        trial: TrialSpec,
        arm: Arm,
        engine: Engine,
        workload: Workload,
        store: Store,
        hire: _Hiring,
        garage: EnginePool,
        secrets: list[str],
        *,
        beside: Sequence[str],
        failed_before: str,
    ) -> None:
        self.interrupts: list[int] = []
        self.can_end = False
        self._spec = spec
        self._trial = trial
        self._arm = arm
        self._engine = engine
        self._workload = workload
        self._store = store
        self._hire = hire
        self._garage = garage
        self._clock = trial_clock(SystemClock())
        self._id = store.begin_trial(trial.arm_name, trial.number, arm.draft is not None, _now_text())
        self._secrets = secrets
        self._facts: list[Fact] = []
        self._findings = _beside_findings(trial.arm_name, beside)
        self._findings += [retried_finding(failed_before)] if failed_before else []
        self._may_again = spec.on_failure == "retry" and not failed_before
        self.key = (trial.arm_name, trial.number)
        self.error = ""

    @property
    def again(self) -> bool:
        """Whether it failed and is to be played once more."""
        return bool(self.error) and self._may_again

    def run(self) -> Iterator[Progress]:
        """Start, play, count, stop; whatever happens, the trial ends in the store with its state. Then `error` is why
        it failed, "" where it did not."""
        slept_before_ns = slept_ns()
        state, self.error = "failed", "interrupted"
        try:
            yield from self._measure()
            state, self.error = "done", ""
        except TrialFailed as failure:
            self.error = redact(str(failure), self._secrets)
        except (RequestWrong, StoreBroken) as wrong:
            self.error = redact(str(wrong), self._secrets)
            wrong.args = (self.error,)
            raise
        finally:
            self._findings += slept_findings(slept_ns() - slept_before_ns)
            facts = [msgspec.structs.replace(fact, value=redact(fact.value, self._secrets)) for fact in self._facts]
            self._store.end_trial(self._id, state, self.error, facts, self._findings)
        yield TrialEnded(*self.key, self.error, self.again)

    def _measure(self) -> Iterator[Progress]:
        """The trial, watched from before its engine starts; what was seen of it is kept however it ends."""
        watch = EngineWatch(self._clock, {**os.environ, **self._arm.env}, metric_names())
        try:
            yield from self._start_and_play(watch)
        finally:
            watch.stop()
            self._store.add_samples(self._id, watch.take())
            self._facts += watch.facts()

    def _start_and_play(self, watch: EngineWatch) -> Iterator[Progress]:
        log_path = self._store.folder / "logs" / f"{self._trial.arm_name}-{self._trial.number}.log"
        hire = self._hire
        start = partial(self._engine.start, self._arm, log_path, watch.spawned)
        with hire.crew(hire.workers) as crew, self._garage.engine(self._trial.arm_name, start) as endpoint:
            ready_ns = self._clock.now_ns()
            watch.ready(endpoint)
            self._facts += [*endpoint.facts, Fact(READY_FACT, str(ready_ns), "the trial's clock"), *hire.facts]
            yield EngineReady(self._trial.arm_name, ready_ns, endpoint)
            with counter_for(self._spec.tokenizer, endpoint) as counter:
                plan, notes = self._plan(counter)
                yield PlanReady(plan, notes)
                yield from self._play(plan, endpoint, crew, watch)
                watch.stop()
                if counter is not None:
                    self._count_again(counter)
        self._facts += self._engine.facts_at_end(endpoint)

    def _plan(self, counter: TokenCounter | None) -> tuple[Plan, tuple[str, ...]]:
        """The study's plan: made at its first trial, the same ever after."""
        with self._store.turn:
            return self._made_plan(counter)

    def _made_plan(self, counter: TokenCounter | None) -> tuple[Plan, tuple[str, ...]]:
        plan = self._store.plan()
        if plan is not None:
            return plan, ()
        spec = self._spec
        sampled = self._workload.sample(spec.seed, counter)
        asked = {request.messages for request in sampled.requests}  # a data set may have a prompt more than once
        spare = [_as_warmup(request) for request in sampled.spare if request.messages not in asked][: spec.warmups]
        spare += [plans.warmup_request(n, _WARMUP_TOKENS) for n in range(len(spare), spec.warmups)]
        rng = RandomState(spec.seed)
        plan = plans.build(sampled.requests, spare, spec.schedule, spec.seed, rng, sampled.asked_ns)
        try:
            plans.shard(plan, 0, self._hire.workers)
        except ValueError as error:
            raise RequestWrong(f"{error}: give fewer --workers, or more requests") from error
        tokenizer = counter.name if counter is not None else "none"
        self._store.set_meta("workload", dict(sampled.source) | {"tokenizer": tokenizer})
        self._store.set_meta("notes", sampled.notes)
        self._store.set_meta("plan", plan)
        return plan, sampled.notes

    def _play(self, plan: Plan, endpoint: Endpoint, crew: WorkerPool, watch: EngineWatch) -> Iterator[Progress]:
        """Plays the plan; every record and sample is in the store within a second. An interrupt cancels what is under
        way, keeps it, and rises when all has ended."""
        tally, stopped = Tally(self._trial.arm_name, len(plan.measured)), False
        ended: list[tuple[int, Outcome]] = []
        suspicion = HangSuspicion()
        failure: TrialFailed | None = None
        started_ns = told_ns = self._clock.now_ns()
        with self._interrupts_wait():
            for happening in play(
                plan, endpoint, self._spec.sampling, self._clock.origin_ns, crew, self._spec.timeouts
            ):
                if self.interrupts and not stopped:
                    stopped = True
                    crew.stop()
                    yield FindingRaised(STOPPING)
                samples = watch.take()
                tally.read(samples)
                self._store.add_samples(self._id, samples)
                match happening:
                    case RequestRecord():
                        record = _without(happening, self._secrets)
                        self._store.add_record(self._id, record)
                        if not record.measured:
                            _require_ok(record, endpoint)
                            watch.mark()
                            continue
                        ended.append((record.index, record.outcome))
                        if said := tally.ended(record):
                            yield FindingRaised(said)
                        if failure is None and suspicion.update(record):
                            failure = self._hung(endpoint, suspicion)
                    case Started():
                        started_ns = happening.at_ns
                        self._store.set_plan_started(self._id, started_ns)
                        watch.mark()
                    case Tick():
                        tally.ticked(happening.in_flight, happening.reads)
                        if failure is None and (pid := dead_process(endpoint)) is not None:
                            failure = _dead(pid)
                    case WorkerLost():
                        self._findings.append(lost_finding(happening))
                        yield FindingRaised(self._findings[-1].message)
                    case LoadReport():
                        self._facts += load_facts(happening)
                        self._findings += load_findings(happening)
                    case _:
                        pass
                if failure is not None:
                    crew.stop()  # what is left would only be refused
                self._store.commit_when_due()
                now_ns = self._clock.now_ns()
                if tally.is_whole or now_ns - told_ns >= _TELL_EVERY_NS:
                    told_ns = now_ns
                    yield tally.played(now_ns - started_ns)
            if failure is None and (pid := dead_process(endpoint)) is not None:
                failure = _dead(pid)
            accounted = account(plan, ended)
            self._facts.append(Fact("requests_accounted", accounted.sentence(), "the trial's records"))
            self._findings += accounted.findings()
            self._store.commit()
            if self.interrupts:
                raise KeyboardInterrupt
            if failure is not None:
                raise failure
            _require_answers(ended)

    def _hung(self, endpoint: Endpoint, suspicion: HangSuspicion) -> EngineHung | None:
        """The trial's failure, where the server is silent to our own question too."""
        patience_s = min(_ASK_AGAIN_S, self._spec.timeouts.first_token_s or _ASK_AGAIN_S)
        said = why_no_token(self._arm, endpoint, patience_s)
        if not said:
            suspicion.reset()
            return None
        return EngineHung(
            f"the server at {endpoint.shown_url} has stopped answering: {INITIAL_TIMEOUTS} requests or more ended "
            f"without a byte, and to one token more it gave {said}. The rest of the plan was cancelled."
        )

    @contextlib.contextmanager
    def _interrupts_wait(self) -> Iterator[None]:
        """While it lasts, the first Ctrl-C is noted instead of raised; the second one is raised at once, as
        StopNow."""
        self.can_end = True
        try:
            if threading.current_thread() is not threading.main_thread():
                yield  # signals go to the main thread alone: see at_once
                return
            before = signal.signal(signal.SIGINT, self._note)
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, before)
        finally:
            self.can_end = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.interrupts:
            raise StopNow
        self.interrupts.append(number)

    def _count_again(self, counter: TokenCounter) -> None:
        """Tokens of each output by our tokenizer: what vLLM's older scripts report. After the clock has stopped.

        Where the tokenizer is the server's and the server is no more, what was measured stands without the counts.
        """
        try:
            counts = {
                record.index: counter.count(record.text, special=False)
                for record in self._store.records(self._id)
                if record.ok
            }
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
            message = f"the outputs could not be counted again by {counter.name}: {said}."
            action = "Token counts are the server's own; name a tokenizer (`tokenizer:`) to have ours."
            self._findings.append(Finding("warning", "not-counted", message, action))
            return
        self._store.set_our_tokens(self._id, counts)


def _without(record: RequestRecord, secrets: list[str]) -> RequestRecord:
    """What the server says of itself in a record, without what the arm or the environment told it."""
    model = None if record.model is None else redact(record.model, secrets)
    return msgspec.structs.replace(record, error=redact(record.error, secrets), model=model)


def _as_warmup(request: Request) -> Request:
    tokens = _WARMUP_TOKENS if request.max_tokens is None else min(request.max_tokens, _WARMUP_TOKENS)
    return msgspec.structs.replace(request, max_tokens=tokens)


def _require_ok(warmup: RequestRecord, endpoint: Endpoint) -> None:
    """Nothing is measured on a server that could not answer a warm-up."""
    if warmup.outcome in ("ok", "cancelled"):
        return
    raise ServerUnusable(
        f"the warm-up request to {endpoint.shown_url} failed ({warmup.outcome}): {warmup.error}\n"
        "Nothing was measured. Check the model's name, the path and the API (--backend, --endpoint) against the server."
    )


def _beside_findings(arm: str, beside: Sequence[str]) -> list[Finding]:
    """What is to be said of a trial that ran at once with the trials of these arms, its own among them."""
    others = [other for other in beside if other != arm]
    if not others:
        return []
    message = (
        f"it ran at the same time as {', '.join(others)} (`parallel`): they share the CPU, its memory and PCIe, and "
        "the limits of power and cooling."
    )
    return [Finding("warning", "parallel", message, "Without `parallel` one runs after another, at the cost of time.")]


def _dead(pid: int) -> EngineDied:
    return EngineDied(f"the engine's process {pid} is gone.")


def _require_answers(ended: Sequence[tuple[int, Outcome]]) -> None:
    """A trial without one answer measured nothing. What the user or a lost worker took away is no answer of the
    server's."""
    outcomes = Counter(outcome for _, outcome in ended if outcome not in ("cancelled", "lost"))
    if outcomes and "ok" not in outcomes:
        kinds = ", ".join(f"{kind} {count}" for kind, count in outcomes.most_common())
        raise NothingAnswered(
            f"not one of {outcomes.total()} requests was answered ({kinds}); the records have each one's error."
        )


def _now_text() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

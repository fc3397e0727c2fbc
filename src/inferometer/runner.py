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

from inferometer import plan as plans
from inferometer import study
from inferometer.accounting import account
from inferometer.clock import SystemClock, slept_ns, trial_clock
from inferometer.endpoint import Endpoint
from inferometer.engines.alive import dead_pid, why_no_token
from inferometer.engines.base import Engine
from inferometer.errors import (
    EngineDied,
    EngineHung,
    NothingAnswered,
    RequestWrong,
    ServerUnusable,
    StoreBroken,
    TrialFailed,
)
from inferometer.extensions import factory
from inferometer.facts import machine_facts
from inferometer.garage import Garage
from inferometer.load import Started, WorkerLost, play
from inferometer.load.audit import LoadReport
from inferometer.load.crew import Crew, local_crew
from inferometer.load.wire import Tick
from inferometer.model_names import resolve
from inferometer.phases import READY_FACT
from inferometer.plan import Plan
from inferometer.probes.settled import GpuState, gpu_states, waits_for
from inferometer.probes.watch import EngineWatch
from inferometer.record import Fact, Finding, Outcome, RequestRecord
from inferometer.request import Request, TokenCounter, Workload
from inferometer.results import comparison_of, known_metric
from inferometer.schedule import concurrency_limit
from inferometer.silence import SUSPICIOUS, Suspicion
from inferometer.spec import Arm, Settle, Spec, TrialSpec, worker_problems
from inferometer.stopping import stop
from inferometer.store import Store
from inferometer.target import is_local
from inferometer.told import load_facts, load_findings, lost_finding, retried_finding, slept_findings
from inferometer.workloads.token_counts import counter_for

_WARMUP_TOKENS = 32
_SETTLE_STEP_S = 0.5
_ASK_AGAIN_S = 10.0
_OPEN_LOOP_SLOTS = 4  # llama-server's own default, where nothing says how many requests will be under way


class TrialBegan(msgspec.Struct, frozen=True):
    """`position` of `total` trials of the study; its engine is being started."""

    arm: str
    number: int
    position: int
    total: int


class EngineReady(msgspec.Struct, frozen=True):
    """The engine gave its first token `after_ns` after its start was asked for."""

    arm: str
    after_ns: int
    endpoint: Endpoint


class PlanReady(msgspec.Struct, frozen=True):
    """What each trial will send, and what is to be said of it."""

    plan: Plan
    notes: tuple[str, ...]


class Played(msgspec.Struct, frozen=True):
    """How far the plan is: `tokens` of the `ended` requests by the server's count, `reads` so far of all (about one a
    token), over `elapsed_ns`."""

    ended: int
    failed: int
    total: int
    in_flight: int
    tokens: int
    reads: int
    elapsed_ns: int


class TrialEnded(msgspec.Struct, frozen=True):
    """`error` is "" where all went well. `again`: the trial failed, and is played once more."""

    arm: str
    number: int
    error: str
    again: bool = False


class Settling(msgspec.Struct, frozen=True):
    """The machine is left to itself before the next trial; `why` says what is waited for."""

    why: str


class Looked(msgspec.Struct, frozen=True):
    """The study was looked at after a round, by its rule: whether it has `enough`, and `why`."""

    enough: bool
    why: str


Progress = TrialBegan | EngineReady | PlanReady | Played | TrialEnded | Settling | Looked


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
    engines: dict[str, Engine] = {name: factory("engine", arm.engine)(headers or {}) for name, arm in arms.items()}
    for name, engine in engines.items():
        engine.check(arms[name])
    workload: Workload = factory("workload", workload_kind(spec))(spec.workload)
    with contextlib.ExitStack() as stack:
        hire = _hiring(spec, ray, arms, stack)
        resolved = msgspec.structs.replace(spec, workers=hire.workers)
        store = Store.resume(folder, resolved) if resume else Store.create(folder, resolved)
        stack.callback(store.close)
        machine = machine_facts()
        require_same_machine(store.machine(), machine)
        store.set_meta("machine", machine)
        garage = stack.enter_context(Garage(keeps=spec.restart == "never"))
        cool = gpu_states()
        enough = False
        failed_once: dict[tuple[str, int], str] = {}
        if resume and spec.until_percent is not None and store.ended() and study.ends_round(spec, store.ended()):
            enough = stop(comparison_of([folder], "inferometer"), spec.until_percent).enough
        while (trial := study.next_trial(spec, store.ended(), enough=enough)) is not None:
            if store.ended():
                yield from _settle(spec.settling, cool)
            yield TrialBegan(trial.arm_name, trial.number, len(store.ended()) + 1, len(study.trial_order(spec)))
            name, key = trial.arm_name, (trial.arm_name, trial.number)
            played = _Trial(
                spec, trial, arms[name], engines[name], workload, store, hire, garage, failed_once.get(key, "")
            )
            yield from played.run()
            again = bool(played.error) and spec.on_failure == "retry" and key not in failed_once
            yield TrialEnded(*key, played.error, again)
            if again:
                failed_once[key] = played.error
                store.forget_trial(*key)
                continue
            if played.error and spec.on_failure == "stop":
                store.set_meta("stopped", f"{name}, trial {trial.number} failed, and on_failure is stop")
                break
            if spec.until_percent is not None and study.ends_round(spec, store.ended()):
                looked = stop(comparison_of([folder], "inferometer"), spec.until_percent)
                enough = looked.enough
                store.set_meta("stopped", looked.why)
                yield Looked(looked.enough, looked.why)


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
    crew: Callable[[int], Crew]
    facts: tuple[Fact, ...] = ()


def _hiring(spec: Spec, ray: str | None, arms: dict[str, Arm], stack: contextlib.ExitStack) -> _Hiring:
    """Workers on this host, or on the nodes of the cluster at `ray`, to which we are connected until `stack` ends."""
    if ray is None:
        return _Hiring(spec.workers or 1, local_crew)
    from inferometer.load.machines import connected

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
        if arm.engine != "external":
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
        garage: Garage,
        failed_before: str,
    ) -> None:
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
        self._facts: list[Fact] = []
        self._findings: list[Finding] = [retried_finding(failed_before)] if failed_before else []
        self.error = ""

    def run(self) -> Iterator[Progress]:
        """Start, play, count, stop; whatever happens, the trial ends in the store with its state. Then `error` is why
        it failed, "" where it did not."""
        slept_before_ns = slept_ns()
        state, self.error = "failed", "interrupted"
        try:
            yield from self._measure()
            state, self.error = "done", ""
        except TrialFailed as failure:
            self.error = str(failure)
        except (RequestWrong, StoreBroken) as wrong:
            self.error = str(wrong)
            raise
        finally:
            self._findings += slept_findings(slept_ns() - slept_before_ns)
            self._store.end_trial(self._id, state, self.error, self._facts, self._findings)

    def _measure(self) -> Iterator[Progress]:
        """The trial, watched from before its engine starts; what was seen of it is kept however it ends."""
        watch = EngineWatch(self._clock, {**os.environ, **self._arm.env})
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
        plan = self._store.plan()
        if plan is not None:
            return plan, ()
        spec = self._spec
        sampled = self._workload.sample(spec.seed, counter)
        spare = [_as_warmup(request) for request in sampled.spare[: spec.warmups]]
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

    def _play(self, plan: Plan, endpoint: Endpoint, crew: Crew, watch: EngineWatch) -> Iterator[Played]:
        """Plays the plan; every record and sample is in the store within a second. An interrupt cancels what is under
        way, keeps it, and rises when all has ended."""
        played = Played(0, 0, len(plan.measured), 0, 0, 0, 0)
        ended: list[tuple[int, Outcome]] = []
        suspicion = Suspicion()
        failure: TrialFailed | None = None
        started_ns = self._clock.now_ns()
        with _interrupts_wait() as interrupts:
            for happening in play(
                plan, endpoint, self._spec.sampling, self._clock.origin_ns, crew, self._spec.timeouts
            ):
                if interrupts:
                    crew.stop()
                self._store.add_samples(self._id, watch.take())
                match happening:
                    case RequestRecord():
                        self._store.add_record(self._id, happening)
                        if not happening.measured:
                            _require_ok(happening, endpoint)
                            watch.mark()
                            continue
                        played = _counted(played, happening)
                        ended.append((happening.index, happening.outcome))
                        if failure is None and suspicion.rises(happening):
                            failure = self._hung(endpoint, suspicion)
                    case Started():
                        started_ns = happening.at_ns
                        self._store.set_plan_started(self._id, started_ns)
                        watch.mark()
                    case Tick():
                        played = msgspec.structs.replace(played, in_flight=happening.in_flight, reads=happening.reads)
                        if failure is None and (pid := dead_pid(endpoint)) is not None:
                            failure = _dead(pid)
                    case WorkerLost():
                        self._findings.append(lost_finding(happening))
                    case LoadReport():
                        self._facts += load_facts(happening)
                        self._findings += load_findings(happening)
                    case _:
                        pass
                if failure is not None:
                    crew.stop()  # what is left would only be refused
                self._store.commit_when_due()
                yield msgspec.structs.replace(played, elapsed_ns=self._clock.now_ns() - started_ns)
            if failure is None and (pid := dead_pid(endpoint)) is not None:
                failure = _dead(pid)
            accounted = account(plan, ended)
            self._facts.append(Fact("requests_accounted", accounted.sentence(), "the trial's records"))
            self._findings += accounted.findings()
            self._store.commit()
            if interrupts:
                raise KeyboardInterrupt
            if failure is not None:
                raise failure
            _require_answers(ended)

    def _hung(self, endpoint: Endpoint, suspicion: Suspicion) -> EngineHung | None:
        """The trial's failure, where the server is silent to our own question too."""
        patience_s = min(_ASK_AGAIN_S, self._spec.timeouts.first_token_s or _ASK_AGAIN_S)
        said = why_no_token(self._arm, endpoint, patience_s)
        if not said:
            suspicion.unfounded()
            return None
        return EngineHung(
            f"the server at {endpoint.url} has stopped answering: {SUSPICIOUS} requests or more ended without a byte, "
            f"and to one token more it gave {said}. The rest of the plan was cancelled."
        )

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


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[list[int]]:
    """While it lasts, the first Ctrl-C is noted in the list instead of raised; the second one is raised at once."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted  # signals go to the main thread alone
        return

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def workload_kind(spec: Spec) -> str:
    """The name under which the spec's workload is known."""
    return str(spec.workload.__struct_config__.tag)


def _as_warmup(request: Request) -> Request:
    tokens = _WARMUP_TOKENS if request.max_tokens is None else min(request.max_tokens, _WARMUP_TOKENS)
    return msgspec.structs.replace(request, max_tokens=tokens)


def _require_ok(warmup: RequestRecord, endpoint: Endpoint) -> None:
    """Nothing is measured on a server that could not answer a warm-up."""
    if warmup.outcome in ("ok", "cancelled"):
        return
    raise ServerUnusable(
        f"the warm-up request to {endpoint.url} failed ({warmup.outcome}): {warmup.error}\n"
        "Nothing was measured. Check the model's name, the path and the API (--backend, --endpoint) against the server."
    )


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


def _counted(played: Played, record: RequestRecord) -> Played:
    tokens = (record.usage.completion_tokens if record.usage else None) or 0
    return msgspec.structs.replace(
        played,
        ended=played.ended + 1,
        failed=played.failed + (record.outcome not in ("ok", "cancelled")),
        tokens=played.tokens + tokens,
    )


def _now_text() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

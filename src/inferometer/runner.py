"""How does a study run? One trial after another, each from its engine's start to its end; prints nothing."""

import contextlib
import datetime
import http.client
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
from numpy.random import RandomState

from inferometer import plan as plans
from inferometer import study
from inferometer.clock import SystemClock, trial_clock
from inferometer.endpoint import Endpoint
from inferometer.engines.base import Engine
from inferometer.errors import RequestWrong, ServerUnusable, TrialFailed
from inferometer.extensions import factory
from inferometer.facts import machine_facts
from inferometer.load import Started, WorkerLost, play
from inferometer.load.audit import LoadReport
from inferometer.load.crew import Crew, local_crew
from inferometer.load.wire import Tick
from inferometer.model_names import resolve
from inferometer.plan import Plan
from inferometer.probes.nvidia import device_used_bytes
from inferometer.probes.sampler import Sampler, engine_probes
from inferometer.record import Fact, Finding, RequestRecord, Sample
from inferometer.request import Request, TokenCounter, Workload
from inferometer.schedule import concurrency_limit
from inferometer.spec import Arm, Spec, TrialSpec, worker_problems
from inferometer.store import Store
from inferometer.target import is_local
from inferometer.workloads.token_counts import counter_for

_WARMUP_TOKENS = 32
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
    """`error` is "" where all went well."""

    arm: str
    number: int
    error: str


Progress = TrialBegan | EngineReady | PlanReady | Played | TrialEnded


def run_study(
    spec: Spec, folder: Path, headers: dict[str, str] | None = None, ray: str | None = None, *, resume: bool = False
) -> Iterator[Progress]:
    """Runs every trial of `spec` and keeps all of it in `folder`.

    A trial that fails is kept with its error, and the next one is run. An interrupt ends the trial under way, keeps
    what it has, and rises. `headers` go to the servers and are stored nowhere. `ray`: the address of a Ray cluster,
    whose nodes play the plans; None: this host does. `resume`: what `folder` holds of this study stays, and the trials
    that are missing or did not end well are played. Raises RequestWrong before anything is started where the spec
    cannot be run.
    """
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
        total = len(study.trial_order(spec))
        while (trial := study.next_trial(spec, store.ended())) is not None:
            yield TrialBegan(trial.arm_name, trial.number, len(store.ended()) + 1, total)
            arm = arms[trial.arm_name]
            yield from _Trial(spec, trial, arm, engines[trial.arm_name], workload, store, hire).run()


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
    ) -> None:
        self._spec = spec
        self._trial = trial
        self._arm = arm
        self._engine = engine
        self._workload = workload
        self._store = store
        self._hire = hire
        self._clock = trial_clock(SystemClock())
        self._id = store.begin_trial(trial.arm_name, trial.number, arm.draft is not None, _now_text())
        self._facts: list[Fact] = []
        self._findings: list[Finding] = []

    def run(self) -> Iterator[Progress]:
        """Start, play, count, stop; whatever happens, the trial ends in the store with its state."""
        state, error = "failed", "interrupted"
        try:
            yield from self._measure()
            state, error = "done", ""
        except TrialFailed as failure:
            error = str(failure)
        except RequestWrong as wrong:
            error = str(wrong)
            raise
        finally:
            self._store.end_trial(self._id, state, error, self._facts, self._findings)
        yield TrialEnded(self._trial.arm_name, self._trial.number, error)

    def _measure(self) -> Iterator[Progress]:
        log_path = self._store.folder / "logs" / f"{self._trial.arm_name}-{self._trial.number}.log"
        gpu_before = device_used_bytes()
        hire = self._hire
        with hire.crew(hire.workers) as crew, self._engine.start(self._arm, log_path) as endpoint:
            self._facts += [*endpoint.facts, *hire.facts]
            yield EngineReady(self._trial.arm_name, self._clock.now_ns(), endpoint)
            with counter_for(self._spec.tokenizer, endpoint) as counter:
                plan, notes = self._plan(counter)
                yield PlanReady(plan, notes)
                arrived: deque[Sample] = deque()
                with Sampler(
                    engine_probes(endpoint.pids, gpu_before), self._clock, on_sample=arrived.append
                ) as sampler:
                    yield from self._play(plan, endpoint, crew, arrived)
                self._store.add_samples(self._id, arrived)
                self._facts += sampler.facts()
                if counter is not None:
                    self._count_again(counter)

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

    def _play(self, plan: Plan, endpoint: Endpoint, crew: Crew, arrived: deque[Sample]) -> Iterator[Played]:
        """Plays the plan; every record and sample is in the store within a second. An interrupt cancels what is under
        way, keeps it, and rises when all has ended."""
        played = Played(0, 0, len(plan.measured), 0, 0, 0, 0)
        started_ns = self._clock.now_ns()
        with _interrupts_wait() as interrupts:
            for happening in play(plan, endpoint, self._spec.sampling, self._clock.origin_ns, crew):
                if interrupts:
                    crew.stop()
                while arrived:
                    self._store.add_samples(self._id, [arrived.popleft()])
                match happening:
                    case RequestRecord():
                        self._store.add_record(self._id, happening)
                        if not happening.measured:
                            _require_ok(happening, endpoint)
                            continue
                        played = _counted(played, happening)
                    case Started():
                        started_ns = happening.at_ns
                        self._store.set_plan_started(self._id, started_ns)
                    case Tick():
                        played = msgspec.structs.replace(played, in_flight=happening.in_flight, reads=happening.reads)
                    case WorkerLost():
                        self._findings.append(_lost_finding(happening))
                    case LoadReport():
                        self._facts += _load_facts(happening)
                        self._findings += _load_findings(happening)
                    case _:
                        pass
                self._store.commit_when_due()
                yield msgspec.structs.replace(played, elapsed_ns=self._clock.now_ns() - started_ns)
            if interrupts:
                raise KeyboardInterrupt

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
            message = f"the outputs could not be counted again by {counter.name}: {said}"
            self._findings.append(Finding("warning", "not-counted", message))
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


def _counted(played: Played, record: RequestRecord) -> Played:
    tokens = (record.usage.completion_tokens if record.usage else None) or 0
    return msgspec.structs.replace(
        played,
        ended=played.ended + 1,
        failed=played.failed + (record.outcome not in ("ok", "cancelled")),
        tokens=played.tokens + tokens,
    )


def _load_facts(report: LoadReport) -> list[Fact]:
    """The client's own part, each number by its name; what is not known is left out."""
    source = "the load workers"
    fields = msgspec.structs.asdict(report)
    return [Fact(f"load_{name}", str(value), source) for name, value in fields.items() if value is not None]


def _load_findings(report: LoadReport) -> list[Finding]:
    """A note of what the client cost, a warning where that was near what it can do."""
    severity = "warning" if report.near_the_limit else "note"
    return [Finding(severity, "client", report.line())]


def _lost_finding(lost: WorkerLost) -> Finding:
    message = f"load worker {lost.number} {lost.how}; {lost.missing} of its requests have no answer"
    return Finding("invalid", "worker-lost", message)


def _now_text() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""Playing the plan of one trial: requests are sent, recorded and counted until all of them have ended."""

from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import msgspec

from inferometer.analysis.accounting import account
from inferometer.analysis.hang_detection import INITIAL_TIMEOUTS, HangSuspicion
from inferometer.base.clock import TrialClock
from inferometer.base.errors import EngineDied, EngineHung, NothingAnswered, ServerUnusable, TrialFailed
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan
from inferometer.core.record import Fact, Outcome, RequestRecord, Sample
from inferometer.core.request import with_limit_of
from inferometer.core.spec import Arm, Spec
from inferometer.engines.liveness import dead_process, why_no_token
from inferometer.engines.readiness import LEAVE_OUT
from inferometer.load import Started, Turn, WorkerLost, play
from inferometer.load.audit import LoadReport
from inferometer.load.wire import Tick
from inferometer.load.worker_pool import WorkerPool
from inferometer.probes.engine_watch import EngineWatch
from inferometer.results.collection_pause import rare_collection
from inferometer.study.interrupts import STOPPING_NOTICE, Interrupts
from inferometer.study.progress import FindingRaised, Progress, ProgressCounter
from inferometer.study.trial_findings import client_facts, client_findings, warmup_failed_finding, worker_lost_finding
from inferometer.study.trial_recorder import TrialRecorder

_PROGRESS_EVERY_NS = 100_000_000
_PROBE_TIMEOUT_S = 10.0
_BUSY = frozenset({429, 500, 502, 503, 504, 529})
"""Statuses of a server or proxy that may answer the next request."""


class EngineSession(msgspec.Struct, frozen=True):
    """An engine that is ready, and everything that plays a plan against it."""

    spec: Spec
    arm_name: str
    arm: Arm
    endpoint: Endpoint
    workers: WorkerPool
    watch: EngineWatch
    clock: TrialClock
    recorder: TrialRecorder
    interrupts: Interrupts


class PlanPlayer:
    """Plays `plan` once in `session`."""

    def __init__(self, session: EngineSession, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._recorder = session.recorder
        fields = session.spec.sampling.extra_body
        asked = {item.index: with_limit_of(item.request, fields) for item in plan.measured}
        self._counter = ProgressCounter(session.arm_name, len(plan.measured), asked)
        self._suspicion = HangSuspicion()
        self._ended: list[tuple[int, Outcome]] = []
        self._failure: TrialFailed | None = None
        self._is_stopping = False
        self._started_ns = self._shown_ns = session.clock.now_ns()

    def play(self) -> Iterator[Progress]:
        """Every record and sample is in the store within a second.

        An interrupt cancels the requests in flight, keeps their records, and raises KeyboardInterrupt when all have
        ended. Raises TrialFailed where the engine died or hung, or where nothing was answered.
        """
        session = self._session
        timeouts, origin_ns = session.spec.timeouts, session.clock.origin_ns
        with session.interrupts.holding_first(), rare_collection():
            events = play(self._plan, session.endpoint, session.spec.sampling, origin_ns, session.workers, timeouts)
            for event in events:
                if session.interrupts.requested:
                    yield from self._stop_on_interrupt()
                if isinstance(event, RequestRecord):
                    if first_failure := self._take_record(event):
                        yield FindingRaised(first_failure)
                else:  # several times a second
                    self._take_samples()
                    yield from self._take(event)
                    self._recorder.commit_when_due()
                if self._failure is not None:
                    self._stop()  # the engine would only refuse the rest
                if (progress := self._due_progress()) is not None:
                    yield progress
            self._check_all()

    def _stop_on_interrupt(self) -> Iterator[Progress]:
        interrupts = self._session.interrupts
        if interrupts.urgent:
            interrupts.check()
        if interrupts.requested:
            self._stop()
            if interrupts.first_to_announce():
                yield FindingRaised(STOPPING_NOTICE)

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._session.workers.stop()

    def _take_samples(self) -> None:
        if samples := self._session.watch.take():
            self._counter.add_samples(samples)
            self._recorder.add_samples(samples)

    def _take(self, event: Started | Tick | Turn | WorkerLost | LoadReport | None) -> Iterator[Progress]:
        match event:
            case Started():
                self._started_ns = event.at_ns
                self._recorder.plan_started(event.at_ns)
                self._session.watch.mark()
            case Tick():
                self._counter.tick(event.in_flight, event.reads)
                self._failure = self._failure or _engine_died(self._session.endpoint)
            case Turn():
                length_ns = float(event.end_ns - event.start_ns)
                self._recorder.add_samples([Sample(event.start_ns, "the load worker", quantities.TURN_NS, length_ns)])
            case WorkerLost():
                finding = worker_lost_finding(msgspec.structs.replace(event, how=self._recorder.redacted(event.how)))
                self._recorder.findings.append(finding)
                yield FindingRaised(finding.message)
            case LoadReport():
                self._recorder.facts += client_facts(event)
                self._recorder.findings += client_findings(event)
            case None:
                pass

    def _take_record(self, record: RequestRecord) -> str:
        """A sentence about the first failure of its kind, else ""."""
        record = self._recorder.add_record(record)
        if not record.measured:
            self._require_warmup_answered(record)
            self._counter.add_warmup(record)
            self._session.watch.mark()
            return ""
        self._ended.append((record.index, record.outcome))
        first_failure = self._counter.add_record(record)
        if self._failure is None and self._suspicion.update(record):
            self._failure = self._engine_hung()
        return first_failure

    def _due_progress(self) -> Progress | None:
        now_ns = self._session.clock.now_ns()
        if self._counter.is_complete or now_ns - self._shown_ns >= _PROGRESS_EVERY_NS:
            self._shown_ns = now_ns
            end_ns = self._counter.ended_ns if self._counter.is_complete else now_ns
            return self._counter.progress(end_ns - self._started_ns)
        return None

    def _check_all(self) -> None:
        """After the last request: accounts for every request, and raises what ended the plan early."""
        failure = self._failure or _engine_died(self._session.endpoint)
        accounted = account(self._plan, self._ended)
        self._recorder.facts.append(Fact(quantities.REQUESTS_ACCOUNTED, accounted.sentence(), "the trial's records"))
        self._recorder.findings += accounted.findings()
        self._recorder.commit()
        self._session.interrupts.check()
        if failure is not None:
            raise failure
        _require_answers(self._ended)

    def _require_warmup_answered(self, warmup: RequestRecord) -> None:
        """Raises ServerUnusable: nothing is measured on a server that cannot answer a warm-up request. A server that
        was only busy, or ended the answer at once, gets a second request."""
        if warmup.outcome in ("ok", "cancelled"):
            return
        session, shown = self._session, self._session.endpoint.shown_url
        may_answer = warmup.status in _BUSY or warmup.outcome == "no_tokens"
        if may_answer and not why_no_token(session.arm, session.endpoint, session.spec.sampling, _PROBE_TIMEOUT_S):
            self._recorder.findings.append(warmup_failed_finding(warmup.error))
            return
        advice = (
            LEAVE_OUT
            if warmup.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
            else ("Check the model's name, the path and the API (--backend, --endpoint) against the server.")
        )
        raise ServerUnusable(
            f"the warm-up request to {shown} failed ({warmup.outcome}): {warmup.error}\nNothing was measured. {advice}"
        )

    def _engine_hung(self) -> EngineHung | None:
        """The trial's failure, where the server does not answer a request of our own either."""
        session = self._session
        timeout_s = min(_PROBE_TIMEOUT_S, session.spec.timeouts.first_token_s or _PROBE_TIMEOUT_S)
        evidence = why_no_token(session.arm, session.endpoint, session.spec.sampling, timeout_s)
        if not evidence:
            self._suspicion.reset()
            return None
        return EngineHung(
            f"the server at {session.endpoint.shown_url} has stopped answering: at least {INITIAL_TIMEOUTS} requests "
            f"ended without a byte, and a request for one more token gave {evidence}. The rest of the plan was "
            "cancelled."
        )


def _engine_died(endpoint: Endpoint) -> EngineDied | None:
    pid = dead_process(endpoint)
    return None if pid is None else EngineDied(f"the engine's process {pid} has ended.")


def _require_answers(ended: Sequence[tuple[int, Outcome]]) -> None:
    """Raises NothingAnswered where the server answered none of the requests that it could have answered: not those
    that the user cancelled or that were lost with a load worker."""
    outcomes = Counter(outcome for _, outcome in ended if outcome not in ("cancelled", "lost"))
    if outcomes and "ok" not in outcomes:
        kinds = ", ".join(f"{kind} {count}" for kind, count in outcomes.most_common())
        raise NothingAnswered(
            f"none of {outcomes.total()} requests was answered ({kinds}). The stored records hold the error of each."
        )

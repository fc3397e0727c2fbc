"""Playing a plan: encodes every request, hands the bytes to a pool of workers, and decodes each answer as it ends."""

import os
import time
from collections.abc import Iterator

import msgspec

from inferometer.base.errors import LoadFailed
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem, shard
from inferometer.core.record import RequestRecord
from inferometer.core.spec import Sampling, Timeouts
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.audit import Audit, LoadReport
from inferometer.load.event_decoding import OUTPUT_PATTERN
from inferometer.load.local_workers import lowered_priority
from inferometer.load.packing import unpacked
from inferometer.load.request_encoding import http_request, request_body
from inferometer.load.wire import (
    Exchange,
    Finished,
    Job,
    PlanStarted,
    StartPlan,
    Tick,
    TurnEnded,
    WarmedUp,
    WireRequest,
    WorkerFailed,
)
from inferometer.load.worker_pool import WorkerPool
from inferometer.net.target import Target, target_of
from inferometer.net.tls import tls_context

_START_DELAY_NS = 5_000_000
_REMOTE_DELAY_NS = 100_000_000


class Started(msgspec.Struct, frozen=True):
    """All warm-ups have ended; the plan's clock starts at `at_ns` (from the trial's start)."""

    at_ns: int


class WorkerLost(msgspec.Struct, frozen=True):
    """Worker `number` ended before its share of the plan was done; `missing` requests have no answer and are `lost`."""

    number: int
    how: str
    missing: int


class Turn(msgspec.Struct, frozen=True):
    """A turn of this plan in an interleaved round, from the trial's start: while it lasts, no other arm works."""

    start_ns: int
    end_ns: int


LoadEvent = RequestRecord | Started | Tick | Turn | WorkerLost | LoadReport | None


def play(
    plan: Plan, endpoint: Endpoint, sampling: Sampling, zero_ns: int, pool: WorkerPool, timeouts: Timeouts | None = None
) -> Iterator[LoadEvent]:
    """Play `plan` with the workers of `pool` and yield events: a record as each request ends, `Tick`s summed over all
    workers, `Started` once, and the `LoadReport` last. None comes now and then, so that the caller can do other work.

    `zero_ns` is the trial's start on this host's monotonic clock. After `pool.stop()` the remaining requests come as
    cancelled records. A worker that dies loses only its own share, whose requests come as `lost` records. Raises
    LoadFailed if a worker could not begin, and after the last record if no worker finished.
    """
    with lowered_priority():
        yield from _PlanPlayer(plan, endpoint, sampling, zero_ns, pool, timeouts or Timeouts()).run()


class _WorkerShare:
    """One worker's share of the plan, and its state."""

    def __init__(self, items: dict[int, PlanItem]) -> None:
        self.open_items = items
        self.tick = Tick(0, 0, 0)
        self.offset_ns: int | None = None  # ours minus the worker's monotonic clock
        self.finished: Finished | None = None
        self.stamps = ""
        self.failure = ""  # the worker's own message about why it could not continue


class _PlanPlayer:
    def __init__(
        self, plan: Plan, endpoint: Endpoint, sampling: Sampling, zero_ns: int, pool: WorkerPool, timeouts: Timeouts
    ) -> None:
        self._endpoint = endpoint
        self._sampling = sampling
        self._zero_ns = zero_ns
        self._pool = pool
        self._timeouts = timeouts
        self._plans = [shard(plan, number, len(pool.workers)) for number in range(len(pool.workers))]
        self._shares = [_WorkerShare({item.index: item for item in part.items}) for part in self._plans]
        self._audit = Audit(capped=plan.concurrency is not None)
        self._warmed_up = 0
        self._start_ns = 0
        self._last_ending = ""

    def run(self) -> Iterator[LoadEvent]:
        target = target_of(
            self._endpoint.base_url, os.environ, verify=self._endpoint.verify, ca_file=self._endpoint.ca_file
        )
        if target.tls is not None:
            tls_context(target.tls)  # raises RequestWrong for an unusable CA file before anything is sent
        for number, part in enumerate(self._plans):
            self._pool.send(number, self._job(part, target))
        for received in self._pool.messages():
            if received is None:
                yield None
                continue
            number, message = received
            share = self._shares[number]
            match message:
                case Exchange():
                    yield self._record(share, number, unpacked(message))
                case WarmedUp():
                    share.stamps = message.stamps
                    self._warmed_up += 1
                    if self._warmed_up == len(self._shares):
                        yield self._start_plan()
                case PlanStarted():
                    share.offset_ns = self._start_ns - message.start_ns
                case Tick():
                    share.tick = message
                    yield self._tick()
                case TurnEnded():
                    yield Turn(message.start_ns - self._zero_ns, message.end_ns - self._zero_ns)
                case Finished():
                    share.finished = message
                case WorkerFailed():
                    share.failure = message.message
                case str():
                    yield from self._on_worker_ended(number, share, message)
        if not any(share.finished for share in self._shares):
            raise LoadFailed(f"no load worker finished the plan; the last one {self._last_ending}")
        yield self._report()

    def _job(self, part: Plan, target: Target) -> Job:
        return Job(
            target=target,
            warmups=self._wire_requests(part.warmups, target),
            requests=self._wire_requests(part.measured, target),
            concurrency=part.concurrency,
            timeouts=self._timeouts,
            output_pattern=OUTPUT_PATTERN,
            kernel_stamps=os.environ.get("INFEROMETER_KERNEL_STAMPS") != "0",
        )

    def _wire_requests(self, items: tuple[PlanItem, ...], target: Target) -> tuple[WireRequest, ...]:
        encode = msgspec.json.Encoder().encode
        endpoint, sampling = self._endpoint, self._sampling
        return tuple(
            WireRequest(
                item.index,
                item.due_ns,
                http_request(
                    encode(request_body(item.request, sampling, endpoint.dialect, endpoint.model, endpoint.refused)),
                    endpoint,
                    target,
                ),
            )
            for item in items
        )

    def _start_plan(self) -> Started:
        remote = any(not worker.same_clock for worker in self._pool.workers)
        delay_ns = _REMOTE_DELAY_NS if remote else _START_DELAY_NS
        self._start_ns = time.monotonic_ns() + delay_ns
        for number, worker in enumerate(self._pool.workers):
            self._pool.send(number, StartPlan(self._start_ns) if worker.same_clock else StartPlan(None, delay_ns))
        return Started(self._start_ns - self._zero_ns)

    def _record(self, share: _WorkerShare, number: int, exchange: Exchange) -> RequestRecord:
        """The record with times of our clock.

        The clocks of two hosts are never subtracted. For a worker on another host, its plan's start is set equal to
        ours; a warm-up before that start is placed so that it ends now.
        """
        same_clock = self._pool.workers[number].same_clock
        offset_ns = 0 if same_clock else share.offset_ns
        if offset_ns is None:
            offset_ns = time.monotonic_ns() - exchange.done_ns
        arrived = arrivals(exchange)
        item = share.open_items.pop(exchange.index)
        record = decode_record(exchange, arrived, item, self._endpoint.dialect, self._zero_ns - offset_ns)
        if record.measured:
            self._audit.add(record, arrived.lag_ns)
        return record

    def _tick(self) -> Tick:
        ticks = [share.tick for share in self._shares]
        return Tick(sum(t.in_flight for t in ticks), sum(t.ended for t in ticks), sum(t.reads for t in ticks))

    def _on_worker_ended(self, number: int, share: _WorkerShare, how: str) -> Iterator[LoadEvent]:
        """A worker has ended. If it did not finish, its open requests are lost; if it never began, the trial fails."""
        if share.finished is not None:
            return
        if share.failure:
            how = f"could not continue: {share.failure}"
        self._last_ending = how
        if not self._start_ns:
            raise LoadFailed(f"load worker {number} {how} before the plan began")
        now_ns = time.monotonic_ns() - self._zero_ns
        share.tick = Tick(0, share.tick.ended, share.tick.reads)
        yield WorkerLost(number, how, len(share.open_items))
        for item in share.open_items.values():
            due_ns = None if item.due_ns is None else self._start_ns + item.due_ns - self._zero_ns
            yield RequestRecord(
                index=item.index,
                request_id=item.request.id,
                measured=item.measured,
                outcome="lost",
                due_ns=due_ns,
                sent_ns=None,
                done_ns=now_ns,
                error=f"its load worker {how}",
                prompt_tokens=item.request.prompt_tokens,
            )

    def _report(self) -> LoadReport:
        finished = [share.finished for share in self._shares if share.finished is not None]
        return self._audit.report(
            [end.cpu_ns / max(1, end.wall_ns) for end in finished],
            next((share.stamps for share in self._shares if share.stamps), ""),
            sum(end.clock_steps for end in finished),
        )

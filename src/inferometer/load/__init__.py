"""Plays a plan against an endpoint: the only door to the load path.

`play` encodes every request, hands the bytes to a crew of workers, and decodes what comes back as it ends.
"""

import os
import time
from collections.abc import Iterator

import msgspec

from inferometer.base.errors import LoadFailed
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem, shard
from inferometer.core.record import RequestRecord
from inferometer.core.spec import Sampling, Timeouts
from inferometer.load import dialects
from inferometer.load.arrivals import arrivals
from inferometer.load.audit import Audit, LoadReport
from inferometer.load.local_workers import standing_back
from inferometer.load.wire import Begun, Broken, Exchange, Finished, Go, Job, Tick, Warm, WireRequest
from inferometer.load.worker_pool import WorkerPool
from inferometer.net.target import Target, target_of
from inferometer.net.tls import tls_context

_START_DELAY_NS = 5_000_000
_REMOTE_DELAY_NS = 100_000_000


class Started(msgspec.Struct, frozen=True):
    """The warm-ups are over; the plan's clock starts at `at_ns` (from the trial's start)."""

    at_ns: int


class WorkerLost(msgspec.Struct, frozen=True):
    """Worker `number` ended before its part of the plan was over; `missing` requests have no answer and are `lost`."""

    number: int
    how: str
    missing: int


LoadEvent = RequestRecord | Started | Tick | WorkerLost | LoadReport | None


def play(
    plan: Plan, endpoint: Endpoint, sampling: Sampling, zero_ns: int, crew: WorkerPool, timeouts: Timeouts | None = None
) -> Iterator[LoadEvent]:
    """Plays `plan` by `crew` and yields what happens: records as requests end, `Tick`s of the whole crew, `Started`
    once, and the `LoadReport` last; None now and then, so that the caller can look after other things.

    `zero_ns` is the trial's start on this host's monotonic clock. After `crew.stop()` the rest comes as cancelled
    records. A worker that dies loses only its own part, whose requests come as `lost` records. Raises LoadFailed where
    one could not begin, and after the last record where none is left. Texts of the server and of a worker may repeat
    secrets that they were sent: the caller redacts them.
    """
    with standing_back():
        yield from _Playing(plan, endpoint, sampling, zero_ns, crew, timeouts or Timeouts()).run()


class _Part:
    """One worker's share of the plan, and what is known of it."""

    def __init__(self, items: dict[int, PlanItem]) -> None:
        self.open_items = items
        self.tick = Tick(0, 0, 0)
        self.offset_ns: int | None = None  # ours minus the worker's monotonic clock
        self.finished: Finished | None = None
        self.stamps = ""
        self.broken = ""  # why the worker could not go on, by its own word


class _Playing:
    def __init__(
        self, plan: Plan, endpoint: Endpoint, sampling: Sampling, zero_ns: int, crew: WorkerPool, timeouts: Timeouts
    ) -> None:
        self._endpoint = endpoint
        self._sampling = sampling
        self._zero_ns = zero_ns
        self._crew = crew
        self._timeouts = timeouts
        self._plans = [shard(plan, number, len(crew.workers)) for number in range(len(crew.workers))]
        self._parts = [_Part({item.index: item for item in part.items}) for part in self._plans]
        self._audit = Audit(capped=plan.concurrency is not None)
        self._warm = 0
        self._start_ns = 0
        self._last_ending = ""

    def run(self) -> Iterator[LoadEvent]:
        target = target_of(
            self._endpoint.base_url, os.environ, verify=self._endpoint.verify, ca_file=self._endpoint.ca_file
        )
        if target.tls is not None:
            tls_context(target.tls)  # a CA file that cannot be used is said before anything is sent
        for number, part in enumerate(self._plans):
            self._crew.send(number, self._job(part, target))
        for heard in self._crew.messages():
            if heard is None:
                yield None
                continue
            number, message = heard
            part = self._parts[number]
            match message:
                case Exchange():
                    yield self._record(part, number, message)
                case Warm():
                    part.stamps = message.stamps
                    self._warm += 1
                    if self._warm == len(self._parts):
                        yield self._go()
                case Begun():
                    part.offset_ns = self._start_ns - message.start_ns
                case Tick():
                    part.tick = message
                    yield self._tick()
                case Finished():
                    part.finished = message
                case Broken():
                    part.broken = message.message
                case str():
                    yield from self._ended(number, part, message)
        if not any(part.finished for part in self._parts):
            raise LoadFailed(f"no load worker lived to the plan's end; the last one {self._last_ending}")
        yield self._report()

    def _job(self, part: Plan, target: Target) -> Job:
        return Job(
            target=target,
            warmups=self._shots(part.warmups, target),
            shots=self._shots(part.measured, target),
            concurrency=part.concurrency,
            timeouts=self._timeouts,
            output_pattern=dialects.OUTPUT_PATTERN,
            kernel_stamps=os.environ.get("INFEROMETER_KERNEL_STAMPS") != "0",
        )

    def _shots(self, items: tuple[PlanItem, ...], target: Target) -> tuple[WireRequest, ...]:
        encode = msgspec.json.Encoder().encode
        endpoint, sampling = self._endpoint, self._sampling
        return tuple(
            WireRequest(
                item.index,
                item.due_ns,
                dialects.http_request(
                    encode(dialects.body(item.request, sampling, endpoint.dialect, endpoint.model)),
                    endpoint,
                    target,
                ),
            )
            for item in items
        )

    def _go(self) -> Started:
        remote = any(not worker.same_clock for worker in self._crew.workers)
        delay_ns = _REMOTE_DELAY_NS if remote else _START_DELAY_NS
        self._start_ns = time.monotonic_ns() + delay_ns
        for number, worker in enumerate(self._crew.workers):
            self._crew.send(number, Go(self._start_ns) if worker.same_clock else Go(None, delay_ns))
        return Started(self._start_ns - self._zero_ns)

    def _record(self, part: _Part, number: int, exchange: Exchange) -> RequestRecord:
        """The record on our clock. A worker's clock on another host is never subtracted from ours: its plan's start is
        laid on ours, and a warm-up before that so that it ends now."""
        same_clock = self._crew.workers[number].same_clock
        offset_ns = 0 if same_clock else part.offset_ns
        if offset_ns is None:
            offset_ns = time.monotonic_ns() - exchange.done_ns
        arrived = arrivals(exchange)
        item = part.open_items.pop(exchange.index)
        record = dialects.record(exchange, arrived, item, self._endpoint.dialect, self._zero_ns - offset_ns)
        if record.measured:
            self._audit.add(record, arrived.lag_ns)
        return record

    def _tick(self) -> Tick:
        ticks = [part.tick for part in self._parts]
        return Tick(sum(t.in_flight for t in ticks), sum(t.ended for t in ticks), sum(t.reads for t in ticks))

    def _ended(self, number: int, part: _Part, how: str) -> Iterator[LoadEvent]:
        """A worker's last word. If it did not finish, what it had open is lost; if it never began, so is the trial."""
        if part.finished is not None:
            return
        if part.broken:
            how = f"could not go on: {part.broken}"
        self._last_ending = how
        if not self._start_ns:
            raise LoadFailed(f"load worker {number} {how} before the plan began")
        now_ns = time.monotonic_ns() - self._zero_ns
        part.tick = Tick(0, part.tick.ended, part.tick.reads)
        yield WorkerLost(number, how, len(part.open_items))
        for item in part.open_items.values():
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
        finished = [part.finished for part in self._parts if part.finished is not None]
        return self._audit.report(
            [end.cpu_ns / max(1, end.wall_ns) for end in finished],
            next((part.stamps for part in self._parts if part.stamps), ""),
            sum(end.clock_steps for end in finished),
        )

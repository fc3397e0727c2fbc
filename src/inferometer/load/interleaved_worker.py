"""A load worker that plays the plans of several arms in turn: while one lane works, all others wait.

It reads an `Interleaving`, and then for each lane a `Job` and later `StartPlan`. One process holds the connections of
all arms, so that handing the turn over costs the same for each of them: the return from one loop. Each lane has its own
connections and its own poller, so an arm that waits costs nothing while another one is measured.
"""

import gc
import os
import time
from bisect import bisect_left
from collections import deque
from itertools import pairwise

from inferometer.base.errors import InferometerError
from inferometer.load.connections import monotonic_ns
from inferometer.load.driver import Driver
from inferometer.load.packing import packed
from inferometer.load.wire import (
    Exchange,
    Finished,
    FromWorker,
    Interleaving,
    Job,
    PlanStarted,
    TurnEnded,
    WarmedUp,
    WireRequest,
    WorkerFailed,
    decode_interleaving,
    decode_job,
    decode_start,
    frame,
    lane_frame,
    lane_of,
)
from inferometer.load.worker import Pipes, no_stamps_reason, prepare_process, warm_up

_MOST_IDLE_NS = 3_000_000_000
"""A connection that was idle for longer is replaced before its arm's turn: llama.cpp and uvicorn (vLLM, SGLang) close
idle connections after 5 s, and a request that meets the end of its connection has to be sent again."""


class _Lanes(Pipes):
    """Standard input and output, shared by the lanes."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: list[_Lane] = []

    def open_lanes(self, count: int) -> None:
        self.lanes = [_Lane(number, self) for number in range(count)]
        self._hand_over()

    def read(self) -> None:
        super().read()
        self._hand_over()

    def _hand_over(self) -> None:
        while self.lanes and self._arrived:
            number, payload = lane_of(self._arrived.popleft())
            if payload:
                self.lanes[number].arrived.append(payload)
            else:
                self.lanes[number].stop()
        if self.closed:
            for lane in self.lanes:
                lane.stop()

    def activate(self, driver: Driver | None) -> None:
        """From now on the loop of `driver` watches the output's pipe."""
        if self.driver is not None and self.driver is not driver:
            self.driver.watch_writable(1, False)
        self.driver = driver
        self._flush()

    def wait_for_messages(self) -> "list[_Lane]":
        """Wait until every lane has a message or was stopped; the lanes with a message."""
        self.drain()
        os.set_blocking(1, False)
        while any(not lane.arrived and not lane.stopped for lane in self.lanes):
            self.read()
        return [lane for lane in self.lanes if lane.arrived]


class _Lane:
    """One arm's plan, its connections and its state."""

    def __init__(self, number: int, pipes: _Lanes) -> None:
        self.arrived: deque[bytes] = deque()
        self.stopped = False
        self.job: Job | None = None
        self._number = number
        self._pipes = pipes
        self._driver: Driver | None = None
        self._last_done_ns = 0
        self._cpu_ns = 0
        self._wall_ns = 0

    def send(self, message: FromWorker) -> None:
        self._pipes.send_frame(lane_frame(self._number, frame(message)))

    def stop(self) -> None:
        """Cancel what is under way; the requests of later turns end as cancelled too."""
        self.stopped = True
        if self._driver is not None:
            self._driver.stopped = True

    def fail(self, error: Exception) -> None:
        self.send(WorkerFailed(str(error)))
        self.job = None
        self.stop()

    def warm_up(self) -> None:
        job = decode_job(self.arrived.popleft())
        no_stamps = no_stamps_reason(job)
        self._driver = Driver(job, self._deliver, self.send, self._pipes.serve, [0], kernel_stamps=not no_stamps)
        self._driver.stopped = self.stopped
        self.job = job
        self._pipes.activate(self._driver)
        warm_up(self._driver, job)
        self._last_done_ns = monotonic_ns()
        self.send(WarmedUp(no_stamps))

    def take_turn(self, requests: tuple[WireRequest, ...]) -> None:
        """Play a block; return when every request in it has ended. Its first request is due at once."""
        job, driver = self.job, self._driver
        if job is None or driver is None:
            return
        self._pipes.activate(driver)
        if not self.stopped:
            driver.drop_closed()
            if monotonic_ns() - self._last_done_ns > _MOST_IDLE_NS:
                driver.drop_idle()
            driver.open_connections(min(len(requests), job.concurrency or 1))
        was_stopped, cpu_before_ns = self.stopped, time.process_time_ns()
        start_ns = self._last_done_ns = monotonic_ns()
        driver.play(requests, start_ns - (requests[0].due_ns or 0), job.concurrency)
        if not was_stopped:
            self._cpu_ns += time.process_time_ns() - cpu_before_ns
            self._wall_ns += monotonic_ns() - start_ns
            self.send(TurnEnded(start_ns, self._last_done_ns))

    def finish(self) -> None:
        if self.job is not None and self._driver is not None:
            self._pipes.activate(None)
            self.send(Finished(self._cpu_ns, self._wall_ns, self._driver.clock_steps))
            self._driver.close()

    def _deliver(self, exchange: Exchange) -> None:
        self._last_done_ns = max(self._last_done_ns, exchange.done_ns)
        self.send(packed(exchange))


def main() -> None:
    prepare_process()
    pipes = _Lanes()
    first = pipes.receive()
    if first is not None:
        settings = decode_interleaving(first)
        pipes.open_lanes(settings.lanes)
        _play(pipes, settings)
    pipes.driver = None
    pipes.drain()


def _play(pipes: _Lanes, settings: Interleaving) -> None:
    gc.disable()
    _warm_up(pipes)
    gc.collect()
    gc.freeze()
    _start(pipes)
    lanes = pipes.lanes
    requests = next((lane.job.requests for lane in lanes if lane.job is not None), ())
    ends = block_ends(requests, settings)
    for block, (start, end) in enumerate(pairwise([0, *ends])):
        for number in settings.order_of(block, len(ends)):
            job = lanes[number].job
            if job is not None:
                lanes[number].take_turn(job.requests[start:end])
    for lane in lanes:
        lane.finish()


def _warm_up(pipes: _Lanes) -> None:
    for lane in pipes.wait_for_messages():
        try:
            lane.warm_up()
        except (OSError, InferometerError) as error:
            lane.fail(error)
    pipes.activate(None)


def _start(pipes: _Lanes) -> None:
    """Wait until every lane's plan may start. The clock of each lane's plan starts at its own time, but its duration is
    that of its turns."""
    latest_ns = 0
    for lane in pipes.wait_for_messages():
        start_ns = decode_start(lane.arrived.popleft()).start_ns or monotonic_ns()
        lane.send(PlanStarted(start_ns))
        latest_ns = max(latest_ns, start_ns)
    time.sleep(max(0, latest_ns - monotonic_ns()) / 1e9)


def block_ends(requests: tuple[WireRequest, ...], settings: Interleaving) -> list[int]:
    """Where each block ends: the position after its last request."""
    ends: list[int] = []
    start = 0
    while start < len(requests):
        end = start + (settings.block_requests or 1)
        if settings.block_ns is not None:
            until_ns = (requests[start].due_ns or 0) + settings.block_ns
            end = max(end, bisect_left(requests, until_ns, key=lambda one: one.due_ns or 0))
        start = min(end, len(requests))
        ends.append(start)
    return ends


if __name__ == "__main__":
    main()

"""A load worker: a process that plays one job and writes the results to its standard output.

It reads a `Job` and later `StartPlan` from its standard input; the end of that input means: stop now. It never blocks
on its output: frames wait in memory until the pipe can take them.
"""

import contextlib
import fcntl
import gc
import os
import resource
import signal
import sys
import time
from collections import deque

from inferometer.base.errors import InferometerError
from inferometer.load.connections import monotonic_ns
from inferometer.load.driver import Driver
from inferometer.load.kernel_stamps import unavailable_reason
from inferometer.load.packing import packed
from inferometer.load.wire import (
    Exchange,
    Finished,
    Frames,
    FromWorker,
    Job,
    PlanStarted,
    Tick,
    WarmedUp,
    WorkerFailed,
    decode_job,
    decode_start,
    frame,
)
from inferometer.net.target import Tcp

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class Pipes:
    """Standard input and output as frames; never blocks the loop."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._arrived: deque[bytes] = deque()
        self._backlog: deque[memoryview] = deque()
        self.closed = False
        self.driver: Driver | None = None

    def receive(self) -> bytes | None:
        """Wait for the next frame; None at the end of the input."""
        while not self._arrived and not self.closed:
            self.read()
        return self._arrived.popleft() if self._arrived else None

    def send(self, message: FromWorker) -> None:
        self.send_frame(frame(message))

    def send_frame(self, data: bytes) -> None:
        self._backlog.append(memoryview(data))
        self._flush()

    def serve(self, fd: int) -> None:
        """Called by the loop when `fd` is ready."""
        if fd == 1:
            self._flush()
        else:
            self.read()
            if self.closed and self.driver is not None:
                self.driver.stopped = True

    def drain(self) -> None:
        """Write everything that waits, blocking until it is written."""
        os.set_blocking(1, True)
        while self._backlog:
            self._flush()

    def read(self) -> None:
        """Wait for input."""
        data = os.read(0, 1 << 20)
        self.closed = not data
        self._arrived.extend(self._frames.feed(data))

    def _flush(self) -> None:
        while self._backlog:
            try:
                written = os.write(1, self._backlog[0])
            except BlockingIOError:
                break
            except BrokenPipeError:  # the program has ended
                self._backlog.clear()
                self.closed = True
                if self.driver is not None:
                    self.driver.stopped = True
                break
            if written < len(self._backlog[0]):
                self._backlog[0] = self._backlog[0][written:]
            else:
                self._backlog.popleft()
        if self.driver is not None:
            self.driver.watch_writable(1, bool(self._backlog))


def prepare_process() -> None:
    """Signals, limits and pipes of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program decides what Ctrl-C means, and closes our input
    _raise_file_limit()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not a pipe, or a larger one is not allowed: the backlog waits in memory
            fcntl.fcntl(1, _F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(1, False)


def main() -> None:
    prepare_process()
    pipes = Pipes()
    first = pipes.receive()
    if first is not None:
        try:
            _play(decode_job(first), pipes)
        except (OSError, InferometerError) as error:
            pipes.driver = None
            pipes.send(WorkerFailed(str(error)))
    pipes.drain()


def _play(job: Job, pipes: Pipes) -> None:
    def deliver(exchange: Exchange) -> None:
        pipes.send(packed(exchange))

    def tick(state: Tick) -> None:
        pipes.send(state)

    no_stamps = no_stamps_reason(job)
    driver = Driver(job, deliver, tick, pipes.serve, outside_fds=[0], kernel_stamps=not no_stamps)
    pipes.driver = driver
    gc.collect()
    gc.freeze()
    gc.disable()
    warm_up(driver, job)
    pipes.send(WarmedUp(no_stamps))
    answer = pipes.receive() if not driver.stopped else None
    start_ns = monotonic_ns()
    if answer is None:
        driver.stopped = True
    else:
        start = decode_start(answer)
        start_ns = start_ns + start.in_ns if start.start_ns is None else start.start_ns
    pipes.send(PlanStarted(start_ns))
    cpu_before_ns, steps_before = time.process_time_ns(), driver.clock_steps
    driver.play(job.requests, start_ns, job.concurrency)
    cpu_ns = time.process_time_ns() - cpu_before_ns
    pipes.driver = None
    driver.close()
    pipes.send(Finished(cpu_ns, monotonic_ns() - start_ns, driver.clock_steps - steps_before))


def warm_up(driver: Driver, job: Job) -> None:
    """Play the warm-ups, and open the connections that the plan needs at its start."""
    driver.play(job.warmups, monotonic_ns(), max(1, min(len(job.warmups), job.concurrency or 1)))
    driver.open_connections(min(len(job.requests), job.concurrency or _connections_ahead(job)))


def no_stamps_reason(job: Job) -> str:
    """Why there are no kernel stamps; "" if there are."""
    if not job.kernel_stamps:
        return "switched off"
    if not isinstance(job.target.connect_to, Tcp):
        return "a Unix socket has none"
    return unavailable_reason()


def _connections_ahead(job: Job) -> int:
    """How many connections to open before the plan starts, if there is no concurrency limit."""
    if all(one.due_ns is None for one in job.requests):
        return len(job.requests)
    return 4


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS reports unlimited but refuses it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

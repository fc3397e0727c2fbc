"""A load worker: a process that plays one job and writes what came of it to its standard output.

It reads a `Job` and later `Go` from its standard input; the end of that input means: stop now. It never blocks on its
output: frames wait in memory until the pipe has room.
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
from inferometer.load.driver import Driver, monotonic_ns
from inferometer.load.kernel_stamps import why_not
from inferometer.load.wire import (
    Begun,
    Broken,
    Exchange,
    Finished,
    Frames,
    FromWorker,
    Job,
    Tick,
    Warm,
    decode_go,
    decode_job,
    frame,
)
from inferometer.net.target import Tcp

_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class _Pipes:
    """Standard input and output as frames, without ever making the loop wait."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._arrived: deque[bytes] = deque()
        self._backlog: deque[memoryview] = deque()
        self.closed = False
        self.driver: Driver | None = None

    def receive(self) -> bytes | None:
        """The next frame, waiting for it; None at the end of the input."""
        while not self._arrived and not self.closed:
            self._read()
        return self._arrived.popleft() if self._arrived else None

    def send(self, message: FromWorker) -> None:
        self._backlog.append(memoryview(frame(message)))
        self._flush()

    def serve(self, fd: int) -> None:
        """Called by the loop when `fd` is ready."""
        if fd == 1:
            self._flush()
        else:
            self._read()
            if self.closed and self.driver is not None:
                self.driver.stopped = True

    def drain(self) -> None:
        """Writes all that waits, now with patience."""
        os.set_blocking(1, True)
        while self._backlog:
            self._flush()

    def _read(self) -> None:
        data = os.read(0, 1 << 20)
        self.closed = not data
        self._arrived.extend(self._frames.feed(data))

    def _flush(self) -> None:
        while self._backlog:
            try:
                written = os.write(1, self._backlog[0])
            except BlockingIOError:
                break
            except BrokenPipeError:  # the program is gone, and nobody is left to tell
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


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program decides what Ctrl-C means, and closes our input
    _raise_file_limit()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # no pipe, or no leave for a larger one: the backlog waits in memory
            fcntl.fcntl(1, _F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(1, False)
    pipes = _Pipes()
    first = pipes.receive()
    if first is not None:
        try:
            _play(decode_job(first), pipes)
        except (OSError, InferometerError) as error:
            pipes.driver = None
            pipes.send(Broken(str(error)))
    pipes.drain()


def _play(job: Job, pipes: _Pipes) -> None:
    def deliver(exchange: Exchange) -> None:
        pipes.send(exchange)

    def tick(state: Tick) -> None:
        pipes.send(state)

    stamps = _stamps(job)
    driver = Driver(job, deliver, tick, pipes.serve, outside_fds=[0], kernel_stamps=not stamps)
    pipes.driver = driver
    gc.collect()
    gc.freeze()
    gc.disable()
    driver.play(job.warmups, monotonic_ns(), max(1, min(len(job.warmups), job.concurrency or 1)))
    driver.open_connections(min(len(job.shots), job.concurrency or _lanes_ahead(job)))
    pipes.send(Warm(stamps))
    answer = pipes.receive() if not driver.stopped else None
    start_ns = monotonic_ns()
    if answer is None:
        driver.stopped = True
    else:
        go = decode_go(answer)
        start_ns = start_ns + go.in_ns if go.start_ns is None else go.start_ns
    pipes.send(Begun(start_ns))
    cpu_before_ns, driver.clock_steps = time.process_time_ns(), 0
    driver.play(job.shots, start_ns, job.concurrency)
    cpu_ns = time.process_time_ns() - cpu_before_ns
    pipes.driver = None
    driver.close()
    pipes.send(Finished(cpu_ns, monotonic_ns() - start_ns, driver.clock_steps))


def _stamps(job: Job) -> str:
    """Why there are no kernel stamps, "" where there are."""
    if not job.kernel_stamps:
        return "switched off"
    if not isinstance(job.target.connect_to, Tcp):
        return "a Unix socket has none"
    return why_not()


def _lanes_ahead(job: Job) -> int:
    """Connections to open beforehand where nothing limits how many are under way."""
    if all(shot.due_ns is None for shot in job.shots):
        return len(job.shots)
    return 4


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS says unlimited and means less
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

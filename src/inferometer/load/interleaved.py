"""Interleaved load: one worker process on this host that plays the plans of several arms in turn."""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from inferometer.base.errors import LoadFailed
from inferometer.load.local_workers import LocalWorker
from inferometer.load.wire import Interleaving, frame, lane_frame, lane_of
from inferometer.load.worker_pool import WorkerPool

_MODULE = "inferometer.load.interleaved_worker"


class InterleavedLoad:
    """The worker of one round. Each arm plays its plan with the pool of its lane, as with a separate worker; the
    worker begins when it is configured and every lane has its plan or has been given up. Several threads may use it,
    one for each lane. Leaving the `with` block ends the process, also after an error."""

    def __init__(self, lanes: int) -> None:
        self._worker = LocalWorker(_MODULE)
        self._turn = threading.Lock()
        self._waiting: list[bytes] | None = []  # frames until `configure`; then None
        self._lanes = [_Lane(number, self._send) for number in range(lanes)]

    def __enter__(self) -> Self:
        def deliver(payload: bytes) -> None:
            number, message = lane_of(payload)
            self._lanes[number].deliver(message)

        def ended(how: str) -> None:
            for lane in self._lanes:
                lane.end(how)

        self._worker.listen(deliver, ended)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.close()

    def configure(self, orders: tuple[tuple[int, ...], ...], block: tuple[int | None, int | None]) -> None:
        """Say once in which orders the lanes take turns, and how long a block is: in requests, or in ns."""
        settings = Interleaving(len(self._lanes), orders, *block)
        with self._turn:
            waiting, self._waiting = self._waiting or [], None
            self._worker.send(b"".join([frame(settings), *waiting]))

    def pool(self, lane: int) -> WorkerPool:
        """The pool of this lane, whose one worker is shared with the other lanes."""
        return WorkerPool([self._lanes[lane]])

    def give_up(self, lane: int) -> None:
        """Nobody plays this lane (any more); the others do not wait for it."""
        self._lanes[lane].stop()

    def _send(self, data: bytes) -> None:
        with self._turn:
            if self._waiting is None:
                self._worker.send(data)
            else:
                self._waiting.append(data)


class _Lane:
    """A lane as a worker of a pool. What arrives before anyone listens is kept."""

    same_clock = True

    def __init__(self, number: int, send: Callable[[bytes], None]) -> None:
        self._number = number
        self._send = send
        self._turn = threading.Lock()
        self._deliver: Callable[[bytes], None] | None = None
        self._ended: Callable[[str], None] | None = None
        self._how = ""
        self._is_stopped = False

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        with self._turn:
            self._deliver, self._ended = deliver, ended
            how = self._how
        if how:
            ended(how)

    def deliver(self, message: bytes) -> None:
        if self._deliver is not None:  # a lane sends nothing before it has its job
            self._deliver(message)

    def end(self, how: str) -> None:
        with self._turn:
            self._how = how
            ended = self._ended
        if ended is not None:
            ended(how)

    def send(self, frame: bytes) -> None:
        self._send(lane_frame(self._number, frame))

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            with contextlib.suppress(LoadFailed, ValueError):  # the worker has ended, or its pipe is closed
                self._send(lane_frame(self._number))

    def close(self) -> None:
        self.stop()

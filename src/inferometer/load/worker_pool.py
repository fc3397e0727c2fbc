"""The worker pool: one worker or several, on this host or others, behind one interface."""

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from inferometer.load.local_workers import LocalWorker
from inferometer.load.wire import FromWorker, Job, StartPlan, decode_from_worker, frame


class Worker(Protocol):
    """A worker on any host. `same_clock`: it uses our monotonic clock, so its times can be compared with ours."""

    @property
    def same_clock(self) -> bool: ...

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None: ...

    def send(self, frame: bytes) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class WorkerPool:
    """The workers of one trial, by number. Leaving the `with` block ends them all, also after an error."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)
        self._received: queue.SimpleQueue[tuple[int, FromWorker | str]] = queue.SimpleQueue()
        self._stopped = False

    def __enter__(self) -> Self:
        for number, worker in enumerate(self.workers):
            self._listen(number, worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            for worker in self.workers:
                stack.callback(worker.close)

    def send(self, number: int, message: Job | StartPlan) -> None:
        """Send to one worker; does nothing once the pool was stopped. Raises LoadFailed if the worker is gone."""
        if not self._stopped:
            self.workers[number].send(frame(message))

    def stop(self) -> None:
        """Ask all workers to cancel their requests and to send what they have."""
        self._stopped = True
        for worker in self.workers:
            worker.stop()

    def messages(self, timeout_s: float = 0.25) -> Iterator[tuple[int, FromWorker | str] | None]:
        """The workers' messages, each with the worker's number. A text is the last one and describes how the worker
        ended. None whenever no message came for `timeout_s`. Ends when all workers have ended."""
        left = len(self.workers)
        while left:
            try:
                number, message = self._received.get(timeout=timeout_s)
            except queue.Empty:
                yield None
                continue
            left -= isinstance(message, str)
            yield number, message

    def _listen(self, number: int, worker: Worker) -> None:
        def deliver(payload: bytes) -> None:
            self._received.put((number, decode_from_worker(payload)))

        def ended(how: str) -> None:
            self._received.put((number, how))

        worker.listen(deliver, ended)


def local_workers(count: int = 1) -> WorkerPool:
    """A pool of `count` workers on this host."""
    return WorkerPool([LocalWorker() for _ in range(count)])

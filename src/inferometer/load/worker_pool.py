"""Who plays the plan? One worker or several, on this host or others, spoken to as one."""

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from inferometer.load.local_workers import LocalWorker
from inferometer.load.wire import FromWorker, Go, Job, decode_from_worker, frame


class Worker(Protocol):
    """A worker wherever it is. `same_clock`: its monotonic clock is ours, so its times can be compared with ours."""

    @property
    def same_clock(self) -> bool: ...

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None: ...

    def send(self, frame: bytes) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class WorkerPool:
    """The workers of one trial, by number. Leaving the `with` block ends them all, whatever happened."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)
        self._heard: queue.SimpleQueue[tuple[int, FromWorker | str]] = queue.SimpleQueue()
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

    def send(self, number: int, message: Job | Go) -> None:
        """Does nothing once the crew was stopped. Raises LoadFailed where the worker is gone."""
        if not self._stopped:
            self.workers[number].send(frame(message))

    def stop(self) -> None:
        """Asks all to cancel what is under way and to say what there is."""
        self._stopped = True
        for worker in self.workers:
            worker.stop()

    def messages(self, patience_s: float = 0.25) -> Iterator[tuple[int, FromWorker | str] | None]:
        """What the workers say, each with its worker's number: a text is how it ended, its last word. None whenever
        nothing was said for `patience_s`. Ends when all have ended."""
        left = len(self.workers)
        while left:
            try:
                number, message = self._heard.get(timeout=patience_s)
            except queue.Empty:
                yield None
                continue
            left -= isinstance(message, str)
            yield number, message

    def _listen(self, number: int, worker: Worker) -> None:
        def deliver(payload: bytes) -> None:
            self._heard.put((number, decode_from_worker(payload)))

        def ended(how: str) -> None:
            self._heard.put((number, how))

        worker.listen(deliver, ended)


def local_workers(count: int = 1) -> WorkerPool:
    """`count` workers on this host."""
    return WorkerPool([LocalWorker() for _ in range(count)])

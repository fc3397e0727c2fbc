"""How is a load worker on this host started, spoken to and ended? It lives in a process of its own, so that nothing
that the program does (decoding, storing, drawing, sampling) can delay a byte."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from inferometer.base.errors import LoadFailed
from inferometer.load.wire import Frames

_READ_BYTES = 1 << 20


@contextlib.contextmanager
def standing_back() -> Iterator[None]:
    """While it lasts, this thread gives way to the load worker, where the program has but one core for both: what comes
    back is then decoded while the worker rests. With more cores nobody is in the way, and nothing is changed.

    SCHED_IDLE where this process may come back from it (root, or a limit on niceness that allows it), else SCHED_BATCH.
    Processes that are started meanwhile are not touched by it.
    """
    if not hasattr(os, "SCHED_IDLE") or len(os.sched_getaffinity(0)) > 1:
        yield
        return
    before = os.sched_getscheduler(0)
    policy = os.SCHED_IDLE if _may_come_back() else os.SCHED_BATCH
    with contextlib.suppress(OSError):  # not allowed: then it is as it was
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, before, os.sched_param(0))


def _may_come_back() -> bool:
    """Tried by a thread of its own, which would be the only one to stay behind."""
    came_back: list[bool] = []

    def there_and_back() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            return
        came_back.append(True)

    trial = threading.Thread(target=there_and_back)
    trial.start()
    trial.join()
    return bool(came_back)


class LocalWorker:
    """One worker process on this host. `close` ends it, whatever it is at."""

    same_clock = True

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inferometer.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the program alone, which then asks us to stop
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        """From now on calls `deliver` with each payload, and `ended` once after the last; both in another thread."""

        def read() -> None:
            frames = Frames()
            with standing_back():
                while data := os.read(self._output.fileno(), _READ_BYTES):
                    for payload in frames.feed(data):
                        deliver(payload)
            ended(self._ending())

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def send(self, frame: bytes) -> None:
        """Raises LoadFailed where the worker is gone."""
        try:
            self._input.write(frame)
            self._input.flush()
        except BrokenPipeError as error:
            raise LoadFailed(f"the load worker {self._ending()}") from error

    def stop(self) -> None:
        """Asks the worker to cancel what is under way and to say what there is."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def close(self) -> None:
        self.stop()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._output.close()

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "fell silent"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

"""Load workers on this host: starting, messaging and ending them.

A worker is a separate process, so that the program's other work (decoding, storing, drawing, sampling) cannot delay a
byte.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from inferometer.base.errors import LoadFailed
from inferometer.load.wire import Frames

_READ_BYTES = 1 << 20
_START = "import sys; sys.modules['typing_extensions'] = None; from {module} import main; main()"
"""Starts a worker 15 ms sooner than `python -m`: without runpy, and msgspec then takes from typing what it would take
from typing_extensions, which imports half a compiler."""
_READ_EVERY_S = 0.02
"""Answers are taken from a worker's pipe many at a time: waking for each costs the client more than decoding it. The
pipe holds a megabyte, and the worker keeps what exceeds it."""


@contextlib.contextmanager
def lowered_priority() -> Iterator[None]:
    """Give the load worker priority over this thread inside the block, if both share a single core: answers are then
    decoded while the worker is idle. With more cores nothing is changed.

    Uses SCHED_IDLE if this process may leave it again (root, or a niceness limit that allows it), else SCHED_BATCH.
    Processes started in the block do not inherit it.
    """
    if not hasattr(os, "SCHED_IDLE") or len(os.sched_getaffinity(0)) > 1:
        yield
        return
    before = os.sched_getscheduler(0)
    policy = os.SCHED_IDLE if _can_leave_idle() else os.SCHED_BATCH
    with contextlib.suppress(OSError):  # not allowed: the policy stays unchanged
        os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, before, os.sched_param(0))


def _can_leave_idle() -> bool:
    """Whether a thread may return from SCHED_IDLE. Tried in a separate thread, so that only that one could be stuck."""
    returned: list[bool] = []

    def enter_and_leave() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            return
        returned.append(True)

    attempt = threading.Thread(target=enter_and_leave)
    attempt.start()
    attempt.join()
    return bool(returned)


class LocalWorker:
    """One worker process on this host. `close` ends it in any state."""

    same_clock = True

    def __init__(self, module: str = "inferometer.load.worker") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(module=module), module],  # its name is for those who look at processes
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only the program, which then asks the worker to stop
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        """Call `deliver` with each payload, and `ended` once after the last, in another thread, from now on."""

        def read() -> None:
            frames = Frames()
            with lowered_priority():
                while data := os.read(self._output.fileno(), _READ_BYTES):
                    for payload in frames.feed(data):
                        deliver(payload)
                    time.sleep(_READ_EVERY_S)
            ended(self._ending())

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def send(self, frame: bytes) -> None:
        """Raises LoadFailed if the worker is gone."""
        try:
            self._input.write(frame)
            self._input.flush()
        except BrokenPipeError as error:
            raise LoadFailed(f"the load worker {self._ending()}") from error

    def stop(self) -> None:
        """Ask the worker to cancel its requests and to send what it has."""
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
            return "closed its output but did not end within 5 s"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

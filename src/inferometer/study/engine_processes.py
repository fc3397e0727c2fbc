"""The processes of an engine of a parallel trial, which an interrupt ends from the main thread."""

import contextlib
import time

import psutil

from inferometer.engines.process_group import STOP_TIMEOUT_S


class EngineProcesses:
    """The root processes that one trial's engine has started.

    A thread that waits for an engine's first token sees the end of the process and stops waiting. Descendants are not
    handled here: the engine's own stop, in that thread, ends them.
    """

    def __init__(self) -> None:
        self._processes: list[psutil.Process] = []
        self._is_ready = False
        self._asked_at_s: float | None = None

    def spawned(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._processes.append(psutil.Process(pid))

    def ready(self) -> None:
        """The engine has given its first token: its trial now looks for interrupts by itself."""
        self._is_ready = True

    def stop(self, *, urgent: bool) -> None:
        """Ends an engine that is not ready yet: with SIGTERM, and with SIGKILL when it takes too long. `urgent`: kills
        any engine. To be called again and again."""
        if self._is_ready and not urgent:
            return
        if self._asked_at_s is None:
            self._asked_at_s = time.monotonic()
        kill = urgent or time.monotonic() - self._asked_at_s > STOP_TIMEOUT_S
        for process in list(self._processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill() if kill else process.terminate()

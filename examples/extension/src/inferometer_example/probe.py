"""The probe `process-count`: how many processes the engine has."""

from collections.abc import Sequence

import psutil

from inferometer.core.record import Fact, Sample


class ProcessCount:
    name = "process count"
    reason = ""
    interval_s = 1.0

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def read(self, at_ns: int) -> Sequence[Sample]:
        count = sum(
            1 + len(psutil.Process(pid).children(recursive=True)) for pid in self._pids if psutil.pid_exists(pid)
        )
        return [Sample(at_ns, "psutil", "engine_processes", float(count))]

    def facts(self) -> Sequence[Fact]:
        return ()

"""Resident memory, CPU and threads of the engine's process tree.

RSS counts a shared page in each process that shares it. The kernel counts CPU in ticks of 10 ms, so over 0.1 s the
cores of one process are known to a tenth; means over longer times are more precise.
"""

from collections.abc import Sequence

from inferometer.base.units import NS_PER_S
from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_STARTED_BY_US, ProcessTree, cpu_s


class ProcessUse:
    """Resource use of a process tree."""

    name = "process use"
    interval_s = 0.5

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._source = "/proc/PID/stat" if tree.folder.is_dir() else "psutil"
        self._before: tuple[int, float] | None = None
        self.reason = "" if tree.roots else NOT_STARTED_BY_US

    def read(self, at_ns: int) -> Sequence[Sample]:
        """RSS, threads and, from the second reading on, the CPU cores used since the last reading."""
        processes = self._tree.usages(at_ns)
        before, self._before = self._before, (at_ns, cpu_s(processes))
        alive = [usage for usage in processes if usage.rss_bytes > 0]  # a zombie has none
        if not alive:
            return []
        values = {
            quantities.RSS_BYTES: float(sum(usage.rss_bytes for usage in alive)),
            quantities.ENGINE_THREADS: float(sum(usage.threads for usage in alive)),
        }
        if before is not None and at_ns > before[0] and self._before[1] >= before[1]:
            values[quantities.ENGINE_CPU_CORES] = (self._before[1] - before[1]) * NS_PER_S / (at_ns - before[0])
        return [Sample(at_ns, self._source, quantity, value) for quantity, value in values.items()]

    def facts(self) -> Sequence[Fact]:
        return []

"""What do the engine's processes use of the machine? Resident memory, CPU and threads of the whole tree.

RSS counts a page that processes share in each of them. CPU is counted in ticks of 10 ms, so that over a tenth of a
second the cores of one process are known to a tenth; means over longer times are as exact as they are long.
"""

from collections.abc import Sequence

from inferometer.base.units import NS_PER_S
from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_OURS, ProcessTree, cpu_s


class ProcessUse:
    """Of a tree."""

    name = "process use"
    interval_s = 0.5

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._source = "/proc/PID/stat" if tree.folder.is_dir() else "psutil"
        self._before: tuple[int, float] | None = None
        self.reason = "" if tree.roots else NOT_OURS

    def read(self, at_ns: int) -> Sequence[Sample]:
        """`rss_bytes`, `engine_threads` and, from the second reading on, `engine_cpu_cores` since the one before."""
        living = self._tree.usages(at_ns)
        before, self._before = self._before, (at_ns, cpu_s(living))
        holding = [usage for usage in living if usage.rss_bytes > 0]  # a zombie has none
        if not holding:
            return []
        told = {
            quantities.RSS_BYTES: float(sum(usage.rss_bytes for usage in holding)),
            quantities.ENGINE_THREADS: float(sum(usage.threads for usage in holding)),
        }
        if before is not None and at_ns > before[0] and self._before[1] >= before[1]:
            told[quantities.ENGINE_CPU_CORES] = (self._before[1] - before[1]) * NS_PER_S / (at_ns - before[0])
        return [Sample(at_ns, self._source, quantity, value) for quantity, value in told.items()]

    def facts(self) -> Sequence[Fact]:
        return []

"""How much memory do the engine's processes hold? Their PSS, where the kernel tells it.

PSS counts a page that n processes share as 1/n in each, so that the sum over the process tree counts it once. A model
file that is mapped (mmap) counts as far as its pages are in memory. The kernel walks every mapped page for it, which
takes about 1.5 ms for each 100 MB in small pages: of a large engine it is read less often (see `sampler`).
"""

from collections.abc import Sequence

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_OURS, ProcessTree

_BYTES_PER_KIB = 1024


class ProcessMemory:
    """PSS of a tree; `reason` is set once it turns out that it cannot be read."""

    name = "process memory"
    interval_s = 0.1

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self.reason = "" if tree.roots else NOT_OURS

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample: `pss_bytes` of the whole tree; none where no process of it lives."""
        try:
            of_each = [self._pss_bytes(pid) for pid in self._tree.pids(at_ns)]
        except PermissionError:
            self.reason = "PSS of this engine may not be read: its processes are another user's"
            return []
        except NotImplementedError:
            self.reason = "this kernel tells no PSS (it has no smaps_rollup)"
            return []
        known = [pss_bytes for pss_bytes in of_each if pss_bytes is not None]
        return [Sample(at_ns, "smaps_rollup", quantities.PSS_BYTES, float(sum(known)))] if known else []

    def facts(self) -> Sequence[Fact]:
        return []

    def _pss_bytes(self, pid: int) -> int | None:
        """None where the process has ended. Raises NotImplementedError where this kernel has no smaps_rollup."""
        folder = self._tree.folder / str(pid)
        try:
            text = (folder / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if not self._tree.folder.is_dir() or (
                (folder / "stat").exists() and not (folder / "smaps_rollup").exists()
            ):
                raise NotImplementedError from None
            return None
        for line in text.splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _BYTES_PER_KIB
        return None  # a zombie has an empty one

"""Memory of the engine's processes: their PSS (proportional set size).

PSS counts a page that n processes share as 1/n in each, so the sum over the process tree counts each page once. Of a
mapped model file (mmap), the pages in memory count. The kernel walks every mapped page to compute PSS, about 1.5 ms for
each 100 MB in small pages; the PSS of a large engine is therefore read less often (see `sampler`).
"""

from collections.abc import Sequence

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_STARTED_BY_US, ProcessTree

_BYTES_PER_KIB = 1024


class ProcessMemory:
    """PSS of a process tree; `reason` is set when a reading shows that PSS is not available."""

    name = "process memory"
    interval_s = 5.0

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self.reason = "" if tree.roots else NOT_STARTED_BY_US

    def read(self, at_ns: int) -> Sequence[Sample]:
        """PSS, and RSS at the same moment, of the whole tree; none if no process of it is alive."""
        try:
            sizes = [self._sizes(pid) for pid in self._tree.pids(at_ns)]
        except PermissionError:
            self.reason = "we may not read the PSS of this engine: its processes belong to another user"
            return []
        except NotImplementedError:
            self.reason = "this kernel does not provide PSS (smaps_rollup)"
            return []
        known = [found for found in sizes if found is not None]
        if not known:
            return []
        pss_bytes, rss_bytes = (float(sum(found[place] for found in known)) for place in (0, 1))
        pss = Sample(at_ns, "smaps_rollup", quantities.PSS_BYTES, pss_bytes)
        return [pss, Sample(at_ns, "smaps_rollup", quantities.RSS_AT_PSS_BYTES, rss_bytes)] if rss_bytes else [pss]

    def facts(self) -> Sequence[Fact]:
        return []

    def _sizes(self, pid: int) -> tuple[int, int] | None:
        """PSS and RSS; None if the process has ended. Raises NotImplementedError if this kernel has no smaps_rollup."""
        folder = self._tree.folder / str(pid)
        try:
            text = (folder / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if not self._tree.folder.is_dir() or (
                (folder / "stat").exists() and not (folder / "smaps_rollup").exists()
            ):
                raise NotImplementedError from None
            return None
        known = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith(("Pss:", "Rss:"))}
        if "Pss:" not in known:
            return None  # a zombie has an empty one
        return int(known["Pss:"]) * _BYTES_PER_KIB, int(known.get("Rss:", 0)) * _BYTES_PER_KIB

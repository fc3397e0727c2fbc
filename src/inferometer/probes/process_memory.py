"""How much memory do the engine's processes hold? PSS where the kernel tells it, else RSS.

All numbers are sums over the process tree. PSS counts a page that n processes share as 1/n in each, so that the sum
counts it once. A model file that is mapped (mmap) counts as far as its pages are in memory.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from inferometer.record import Sample

BYTES_PER_KIB = 1024


class ProcessMemory:
    """Memory of `roots` and all that descends from them. Falls back to RSS for good once PSS cannot be read."""

    name = "process memory"

    def __init__(self, roots: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._roots = tuple(roots)
        self._proc = proc
        self._has_pss = True
        self.reason = "" if self._roots else "the server was not started by us: its processes are not known"

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample: `pss_bytes` or `rss_bytes` of the whole tree; none where no process of it lives."""
        pids = tree_pids(self._roots)
        if self._has_pss:
            try:
                return _sample(at_ns, "smaps_rollup", "pss_bytes", [self._pss_bytes(pid) for pid in pids])
            except (PermissionError, NotImplementedError):
                self._has_pss = False
        return _sample(at_ns, "psutil", "rss_bytes", [_rss_bytes(pid) for pid in pids])

    def _pss_bytes(self, pid: int) -> int | None:
        """None where the process has ended. Raises NotImplementedError where this kernel has no smaps_rollup."""
        folder = self._proc / str(pid)
        try:
            text = (folder / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if folder.is_dir() and (folder / "stat").exists() and not (folder / "smaps_rollup").exists():
                raise NotImplementedError("no smaps_rollup") from None
            if not self._proc.is_dir():
                raise NotImplementedError("no /proc") from None
            return None
        for line in text.splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * BYTES_PER_KIB
        return None  # a zombie has an empty one


def tree_pids(roots: Iterable[int]) -> list[int]:
    """The living processes among `roots` and their descendants, each once."""
    import psutil

    found: dict[int, None] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            found |= dict.fromkeys([root, *(child.pid for child in process.children(recursive=True))])
        except psutil.NoSuchProcess:
            continue
    return list(found)


def _rss_bytes(pid: int) -> int | None:
    """None where the process has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss) or None  # a zombie has 0
    except psutil.NoSuchProcess:
        return None


def _sample(at_ns: int, source: str, quantity: str, of_each: list[int | None]) -> list[Sample]:
    known = [value for value in of_each if value is not None]
    return [Sample(at_ns, source, quantity, float(sum(known)))] if known else []

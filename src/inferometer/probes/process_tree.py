"""The process tree of an engine and the resources that it uses, cheap enough for several readings per second.

Linux states the parent of a process, but not every kernel states its children. /proc is therefore scanned for new
processes every two seconds if the machine has started any, and only new entries are opened. A child is found up to
two seconds after its start; its earlier use is counted then, or with its parent if it ended before.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SCAN_EVERY_NS = 2_000_000_000
SAME_ROUND_NS = 10_000_000
"""Probes that read a tree within this time share one reading: 2% of the interval of the CPU readings."""
NOT_STARTED_BY_US = "Inferometer did not start the server, so its processes are unknown"
"""The reason why a tree without roots has no readings."""


class ProcessUsage(NamedTuple):
    """What a process has used so far. `cpu_s` includes its children that ended and were waited for."""

    pid: int
    cpu_s: float
    rss_bytes: int
    threads: int
    parent: int
    session: int
    started: float


class ProcessTree:
    """`roots`, their descendants, and the processes in their sessions. An engine that we start begins a session, so an
    orphan whose parent has ended still belongs to the tree. Several probes share one tree; it is not thread-safe.

    `apart_from`: a tree whose processes do not belong to this one; both share the scan of /proc.
    """

    def __init__(
        self, roots: Iterable[int], proc: Path = Path("/proc"), apart_from: "ProcessTree | None" = None
    ) -> None:
        self.roots = tuple(dict.fromkeys(roots))
        self.folder = proc
        self._proc = proc if (proc / "stat").exists() else None  # None: use psutil
        self._apart_from = apart_from
        self._members: dict[int, float] = {}  # pid → start time: a pid may be reused
        self._unrelated: set[int] = set()
        self._listed: set[int] = set()
        self._scanned_ns: int | None = None
        self._newest = ""  # pid on the machine at the last scan
        self._usages: list[ProcessUsage] = []
        self._read_ns: int | None = None

    def usages(self, at_ns: int) -> list[ProcessUsage]:
        """The usage of each process in the tree that still exists. A zombie holds no memory, but its CPU time
        counts."""
        if self._read_ns is None or at_ns - self._read_ns >= SAME_ROUND_NS:
            self._usages, self._read_ns = self._read(at_ns), at_ns
        return self._usages

    def _read(self, at_ns: int) -> list[ProcessUsage]:
        if self._scanned_ns is None or at_ns - self._scanned_ns >= SCAN_EVERY_NS:
            self._scanned_ns = at_ns
            newest = _newest_pid(self._proc)
            if not newest or newest != self._newest:
                self._newest = newest
                self._scan(at_ns)
        found = {pid: usage_of(pid, self._proc) for pid in self._members}
        living = [usage for pid, usage in found.items() if usage is not None and usage.started == self._members[pid]]
        self._members = {usage.pid: usage.started for usage in living}
        return living

    def pids(self, at_ns: int) -> list[int]:
        """The processes of the tree that still exist."""
        return [usage.pid for usage in self.usages(at_ns)]

    def _scan(self, at_ns: int) -> None:
        others: dict[int, float] = {}
        if self._apart_from is not None:
            self._apart_from.usages(at_ns)
            others = self._apart_from._members
        if self._proc is None:
            found = (usage_of(pid, None) for pid in _tree(self.roots) if pid not in others)
            self._members |= {usage.pid: usage.started for usage in found if usage is not None}
            return
        pids = self._listed = self._pids_of_the_machine(self._proc)
        self._unrelated &= pids
        new = [usage_of(pid, self._proc) for pid in pids - self._unrelated - self._members.keys() - others.keys()]
        waiting = {usage.pid: usage for usage in new if usage is not None}
        while ours := [usage for usage in waiting.values() if self._belongs(usage)]:
            for usage in ours:
                self._members[usage.pid] = usage.started
                del waiting[usage.pid]
        self._unrelated |= waiting.keys()

    def _pids_of_the_machine(self, proc: Path) -> set[int]:
        """All pids; the list of the other tree, which is scanned at the same times, if there is one."""
        if self._apart_from is not None and self._apart_from._listed:
            return self._apart_from._listed
        return {int(name) for name in os.listdir(proc) if name.isdecimal()}

    def _belongs(self, usage: ProcessUsage) -> bool:
        return usage.pid in self.roots or usage.parent in self._members or usage.session in self.roots


def usage_of(pid: int, proc: Path | None) -> ProcessUsage | None:
    """None if the process does not exist or has ended. `proc` None: by psutil, for systems without /proc."""
    if proc is None:
        return _usage_by_psutil(pid)
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # skip the name, which may contain blanks and brackets
    return ProcessUsage(
        pid,
        cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        threads=int(fields[17]),
        parent=int(fields[1]),
        session=int(fields[3]),
        started=float(fields[19]),
    )


def _newest_pid(proc: Path | None) -> str:
    """The pid or thread id that the kernel gave out last; "" if unknown."""
    try:
        with open(f"{proc}/loadavg", encoding="ascii") as file:
            return file.read().split()[-1]
    except (OSError, IndexError):
        return ""


def cpu_s(usages: Iterable[ProcessUsage]) -> float:
    """CPU time of all of them together."""
    return sum(usage.cpu_s for usage in usages)


_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _usage_by_psutil(pid: int) -> ProcessUsage | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            used_s = times.user + times.system + times.children_user + times.children_system
            rss_bytes, threads = process.memory_info().rss, process.num_threads()
            return ProcessUsage(pid, used_s, rss_bytes, threads, process.ppid(), 0, process.create_time())
    except psutil.Error:
        return None


def _tree(roots: Iterable[int]) -> set[int]:
    import psutil

    found: set[int] = set()
    for root in roots:
        try:
            found |= {root, *(child.pid for child in psutil.Process(root).children(recursive=True))}
        except psutil.Error:
            continue
    return found

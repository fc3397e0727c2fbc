"""Which processes descend from these, and what have they used? Cheap enough to be asked ten times a second.

Linux tells who a process's parent is, not who its children are (some kernels do; not all are built so). All of /proc is
therefore looked through for new processes once a second only, and only what has come since is opened. A child is known
up to a second after its birth; what it used before is counted when it is found, or with its parent if it ended.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

LOOK_EVERY_NS = 1_000_000_000
NOT_OURS = "the server was not started by us: its processes are not known"
"""Why there is nothing to read of a tree without roots."""


class ProcessUsage(NamedTuple):
    """What a process has used by now. `cpu_s`: with that of its children who ended and were waited for."""

    pid: int
    cpu_s: float
    rss_bytes: int
    threads: int
    parent: int
    session: int
    started: float


class ProcessTree:
    """`roots`, what descends from them, and what has the session of one: an orphan of an engine that we started, which
    begins a session of its own, is in the tree though its parent is gone. One tree serves several probes: not several
    threads.
    """

    def __init__(self, roots: Iterable[int], proc: Path = Path("/proc")) -> None:
        self.roots = tuple(dict.fromkeys(roots))
        self.folder = proc
        self._proc = proc if (proc / "stat").exists() else None  # by psutil where there is none
        self._members: dict[int, float] = {}  # pid → when it started: the same pid later is another process
        self._strangers: set[int] = set()
        self._looked_ns: int | None = None

    def usages(self, at_ns: int) -> list[ProcessUsage]:
        """Of each living process of the tree; zombies, which hold nothing, are left out but for the CPU they used."""
        if self._looked_ns is None or at_ns - self._looked_ns >= LOOK_EVERY_NS:
            self._looked_ns = at_ns
            self._look()
        found = {pid: usage_of(pid, self._proc) for pid in self._members}
        living = [usage for pid, usage in found.items() if usage is not None and usage.started == self._members[pid]]
        self._members = {usage.pid: usage.started for usage in living}
        return living

    def pids(self, at_ns: int) -> list[int]:
        """The living processes of the tree."""
        return [usage.pid for usage in self.usages(at_ns)]

    def _look(self) -> None:
        if self._proc is None:
            self._members |= {usage.pid: usage.started for pid in _tree(self.roots) if (usage := usage_of(pid, None))}
            return
        pids = {int(name) for name in os.listdir(self._proc) if name.isdecimal()}
        self._strangers &= pids
        new = [usage_of(pid, self._proc) for pid in pids - self._strangers - self._members.keys()]
        waiting = {usage.pid: usage for usage in new if usage is not None}
        while ours := [usage for usage in waiting.values() if self._belongs(usage)]:
            for usage in ours:
                self._members[usage.pid] = usage.started
                del waiting[usage.pid]
        self._strangers |= waiting.keys()

    def _belongs(self, usage: ProcessUsage) -> bool:
        return usage.pid in self.roots or usage.parent in self._members or usage.session in self.roots


def usage_of(pid: int, proc: Path | None) -> ProcessUsage | None:
    """None where there is no such process, or no more. `proc` None: by psutil, for systems without /proc."""
    if proc is None:
        return _usage_by_psutil(pid)
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # a name may hold blanks and brackets: from behind it
    return ProcessUsage(
        pid,
        cpu_s=sum(map(int, fields[11:15])) / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        threads=int(fields[17]),
        parent=int(fields[1]),
        session=int(fields[3]),
        started=float(fields[19]),
    )


def cpu_s(usages: Iterable[ProcessUsage]) -> float:
    """Of all of them together."""
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

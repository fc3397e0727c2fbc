"""CPU and memory of the whole machine, and the CPU that other processes use.

Read once a second: the kernel counts CPU time in ticks of 10 ms, so over 0.1 s a core's share is known only to a
tenth. In a container, /proc/stat usually describes the host; then the readings cover the host, whose other processes
slow the engine too. If the counters are not plausible (in some sandboxes they stand still), the probe reports a reason
instead of readings.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from inferometer.base.units import NS_PER_S, bytes_text
from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.cgroup import limits, throttled_s
from inferometer.probes.process_tree import NOT_STARTED_BY_US, ProcessTree, cpu_s

KIB = 1024
_LEAST_SHARE = 0.5  # least share of elapsed time times cores that the kernel's counters must cover


class CpuTimes(NamedTuple):
    """Seconds since boot, summed over cores. `idle_s` includes waiting for disks; `stolen_s`: taken by the
    hypervisor."""

    cores: int
    idle_s: float
    stolen_s: float
    all_s: float


class _Reading(NamedTuple):
    at_ns: int
    times: CpuTimes
    ours_s: float


class MachineLoad:
    """`engine`: its process tree. A server that we did not start has no roots; then the CPU of others cannot be
    separated from the engine's. Our own tree is this process and its descendants.
    """

    name = "machine load"
    interval_s = 1.0

    def __init__(self, engine: ProcessTree, cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        proc = engine.folder
        self._proc = proc
        self._trees = (engine, ProcessTree([os.getpid()], proc, apart_from=engine)) if engine.roots else ()
        self._before: _Reading | None = None
        self._limits = limits(proc, cgroups)
        times = cpu_times(proc)
        self.reason = "" if times is not None else f"this system has no {proc}/stat"
        self._cores = times.cores if times is not None else 0
        self._unavailable = ""

    def read(self, at_ns: int) -> Sequence[Sample]:
        """Used memory, and from the second reading on the mean CPU since the last reading: busy, stolen (if any) and of
        other processes."""
        return [*self._cpu(at_ns), *self._memory(at_ns), *self._throttled(at_ns)]

    def facts(self) -> Sequence[Fact]:
        facts = [Fact(quantities.MACHINE_LOAD_OF, f"the {self._cores} cores in {self._proc}/stat", "the probe")]
        if self._limits.cpu_cores is not None:
            facts.append(Fact(quantities.CPU_LIMIT_CORES, f"{self._limits.cpu_cores:g}", "our control group"))
        if self._limits.memory_bytes is not None:
            facts.append(Fact(quantities.MEMORY_LIMIT, bytes_text(self._limits.memory_bytes), "our control group"))
        if self._unavailable:
            facts.append(Fact(quantities.absent_fact(quantities.CPU_CORES_BUSY), self._unavailable, "the probe"))
        elif not self._trees:
            facts.append(Fact(quantities.absent_fact(quantities.OTHER_CPU_CORES), NOT_STARTED_BY_US, "the probe"))
        return facts

    def _cpu(self, at_ns: int) -> Iterator[Sample]:
        times = cpu_times(self._proc)
        if times is None:
            return
        ours_s = sum(cpu_s(tree.usages(at_ns)) for tree in self._trees)
        before, self._before = self._before, _Reading(at_ns, times, ours_s)
        if before is None or at_ns <= before.at_ns:
            return
        passed_s = (at_ns - before.at_ns) / NS_PER_S
        if times.all_s - before.times.all_s < _LEAST_SHARE * passed_s * times.cores:
            self._unavailable = f"the counters of {self._proc}/stat lag behind the clock, as in some sandboxes"
            return
        stolen = (times.stolen_s - before.times.stolen_s) / passed_s
        idle = (times.idle_s - before.times.idle_s) / passed_s
        busy = max(times.cores - idle - stolen, 0.0)
        yield Sample(at_ns, "/proc/stat", quantities.CPU_CORES_BUSY, busy)
        if stolen > 0:
            yield Sample(at_ns, "/proc/stat", quantities.CPU_CORES_STOLEN, stolen)
        if self._trees and ours_s >= before.ours_s:  # less: one of our processes ended, and its CPU time is unknown
            others = busy - (ours_s - before.ours_s) / passed_s
            yield Sample(at_ns, "/proc/stat", quantities.OTHER_CPU_CORES, max(others, 0.0))

    def _memory(self, at_ns: int) -> Iterator[Sample]:
        used_bytes = memory_used_bytes(self._proc)
        if used_bytes is not None:
            yield Sample(at_ns, "/proc/meminfo", quantities.MEMORY_USED_BYTES, float(used_bytes))

    def _throttled(self, at_ns: int) -> Iterator[Sample]:
        """The counter of throttled time, if a CPU limit is set that could slow the engine."""
        stat = self._limits.throttled
        held_s = None if stat is None else throttled_s(stat)
        if held_s is not None:
            yield Sample(at_ns, "cpu.stat", quantities.CGROUP_THROTTLED_S, held_s)


def cpu_times(proc: Path = Path("/proc")) -> CpuTimes | None:
    """CPU times of the whole machine; None if the file does not exist."""
    try:
        text = (proc / "stat").read_text()
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    ticks = [int(word) for word in lines[0][1:9]]  # user nice system idle iowait irq softirq steal
    seconds = [count / os.sysconf("SC_CLK_TCK") for count in ticks]
    return CpuTimes(len(lines) - 1, idle_s=seconds[3] + seconds[4], stolen_s=seconds[7], all_s=sum(seconds))


def memory_used_bytes(proc: Path = Path("/proc")) -> int | None:
    """Total less available memory: what other programs cannot get without swapping. None if the kernel does not state
    it."""
    try:
        with (proc / "meminfo").open() as file:
            sizes = {name: int(kib) * KIB for name, kib, *_ in (line.split() for line in islice(file, 3))}
    except (OSError, ValueError):
        return None
    if not {"MemTotal:", "MemAvailable:"} <= sizes.keys():
        return None
    return sizes["MemTotal:"] - sizes["MemAvailable:"]

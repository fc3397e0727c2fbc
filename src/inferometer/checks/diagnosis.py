"""What has this machine, and what is missing? One diagnosis a question, each with the command that mends it.

Nothing is changed and no model is loaded; the programs found are asked for their version only.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from inferometer.engines import visible_devices
from inferometer.engines.base import Machine
from inferometer.engines.catalog import descriptions
from inferometer.engines.visible_devices import Seen
from inferometer.load import kernel_stamps
from inferometer.probes.machine_facts import machine_facts

MIB = 1024**2


class Diagnosis(msgspec.Struct, frozen=True):
    """`has`: there and usable; `part`: there, with less than there could be; `none`: not there. `mend`: a command, or
    what to do, "" where nothing is to be done or only other hardware would help."""

    group: str
    name: str
    state: Literal["has", "part", "none"]
    said: str
    mend: str = ""


class System(NamedTuple):
    """Where things are looked for: the real places, or a test's."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    which: Callable[[str], str | None] = shutil.which
    nvidia: Callable[[], Seen] = visible_devices.nvidia_seen


def examine(system: System | None = None) -> Iterator[Diagnosis]:
    """The diagnoses, group by group, each as soon as it is known: a GPU build takes seconds to say its version."""
    system = system or System()
    yield from _machine()
    yield from _engines(system)
    yield from _gpus(system)
    yield _process_memory(system)
    yield _ptrace(system)
    yield from _power(system)
    yield _kernel_stamps()
    yield from _cpu(system)


def _machine() -> Iterator[Diagnosis]:
    facts = {fact.name: fact.value for fact in machine_facts()}
    yield Diagnosis("machine", "system", "has", f"{facts['os']}, {facts['python']}, inferometer {facts['inferometer']}")
    cores = f"{facts.get('cpu_cores_physical', '?')} cores ({facts.get('cpu_cores_usable', '?')} usable)"
    yield Diagnosis("machine", "CPU", "has", f"{facts.get('cpu', 'unknown')}, {cores}, {facts['memory']} of memory")


def _engines(system: System) -> Iterator[Diagnosis]:
    """Each engine's own check, those of installed packages included."""
    machine = Machine(system.which, system.nvidia().count, _amd_seen(system).count)
    for engine in descriptions():
        if engine.inspect is not None:
            found = engine.inspect(machine)
            yield Diagnosis("engines", engine.name, found.state, found.said, found.mend)


def _gpus(system: System) -> Iterator[Diagnosis]:
    facts = {fact.name: fact.value for fact in machine_facts()}
    seen = system.nvidia()
    if seen.count:
        names = "; ".join(facts.get(f"gpu_{i}", "?") for i in range(seen.count))
        yield Diagnosis("GPUs", "NVIDIA", "has", f"{seen.count}: {names}; driver {facts.get('gpu_driver', '?')}")
    elif _has_vendor(system, "0x10de"):
        said = f"a card, and no driver that answers: {seen.driver or seen.reason}"
        mend = "sudo ubuntu-drivers install (or your distribution's way); nvidia-smi must answer then"
        yield Diagnosis("GPUs", "NVIDIA", "part", said, mend)
    else:
        yield Diagnosis("GPUs", "NVIDIA", "none", seen.driver or seen.reason or "NVML knows none")
    cards = list(_amd_cards(system))
    amd = _amd_seen(system)
    if cards and amd.count:
        yield Diagnosis("GPUs", "AMD", "has", f"{amd.count} for ROCm; {'; '.join(cards)}")
    elif cards:
        mend = "sudo usermod -aG render,video $USER, log in again, and load amdgpu (sudo modprobe amdgpu)"
        said = f"{'; '.join(cards)}; not usable for ROCm: {amd.driver or amd.reason}"
        yield Diagnosis("GPUs", "AMD", "part", said, mend)
    else:
        yield Diagnosis("GPUs", "AMD", "none", "amdgpu knows no card")


def _amd_seen(system: System) -> Seen:
    return visible_devices.amd_seen(system.sys / "class/kfd/kfd/topology/nodes")


def _has_vendor(system: System, vendor: str) -> bool:
    return any(_text(path) == vendor for path in (system.sys / "bus/pci/devices").glob("*/vendor"))


def _amd_cards(system: System) -> Iterator[str]:
    """Cards with memory of their own, as amdgpu shows them: name and memory."""
    for total in sorted((system.sys / "class/drm").glob("card*/device/mem_info_vram_total")):
        card = total.parent.parent.name
        size = _text(total)
        yield f"{card}, {int(size) // MIB} MiB" if size.isdecimal() else card


def _process_memory(system: System) -> Diagnosis:
    """Whether PSS of our own children can be read: on what the same user runs it needs no more."""
    own = system.proc / "self/smaps_rollup"
    try:
        has_pss = "Pss:" in own.read_text()
    except OSError as error:
        said = f"{own}: {error.strerror}; RSS is read instead, which counts shared pages in full"
        return Diagnosis("permissions", "memory of engines", "part", said, "Linux 4.14 or newer has it")
    said = "PSS of our own processes (smaps_rollup)" if has_pss else f"{own} has no Pss line; RSS is read instead"
    return Diagnosis("permissions", "memory of engines", "has" if has_pss else "part", said)


def _ptrace(system: System) -> Diagnosis:
    """Memory of a server that another user started (`external` with pid: or container:) needs ptrace's permission."""
    if os.geteuid() == 0:
        return Diagnosis("permissions", "memory of others", "has", "we are root: any process's PSS can be read")
    scope = _text(system.proc / "sys/kernel/yama/ptrace_scope")
    if scope in ("", "0", "1"):
        said = "PSS of this user's processes; those of another user (a container's, say) are not readable"
        return Diagnosis("permissions", "memory of others", "part", said, "run it as that user, or with sudo")
    said = f"kernel.yama.ptrace_scope is {scope}: not even this user's other processes can be read"
    return Diagnosis("permissions", "memory of others", "part", said, "sudo sysctl kernel.yama.ptrace_scope=1")


def _power(system: System) -> Iterator[Diagnosis]:
    zones = sorted((system.sys / "class/powercap").glob("intel-rapl:*/energy_uj"))
    readable = [zone for zone in zones if _text(zone).isdecimal()]
    if readable:
        yield Diagnosis("power", "CPU (RAPL)", "has", f"{len(readable)} of {len(zones)} counters can be read")
    elif zones:
        mend = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next start)"
        yield Diagnosis("power", "CPU (RAPL)", "none", "counters are there, for root alone", mend)
    else:
        said = "no counters: a virtual machine, a container without /sys, or a CPU without RAPL"
        yield Diagnosis("power", "CPU (RAPL)", "none", said)
    sensors = sorted((system.sys / "class/hwmon").glob("hwmon*/power1_*"))
    named = sorted({_text(path.parent / "name") for path in sensors if path.name in ("power1_average", "power1_input")})
    if named:
        yield Diagnosis("power", "sensors (hwmon)", "has", ", ".join(named))
    else:
        yield Diagnosis("power", "sensors (hwmon)", "none", "no sensor of power; GPUs of NVIDIA are read through NVML")


def _kernel_stamps() -> Diagnosis:
    reason = kernel_stamps.why_not()
    if os.environ.get("INFEROMETER_KERNEL_STAMPS") == "0":
        mend = "unset INFEROMETER_KERNEL_STAMPS"
        return Diagnosis("clock", "kernel time stamps", "part", "switched off by INFEROMETER_KERNEL_STAMPS=0", mend)
    if reason:
        said = f"{reason}; our own clock is used, whose lag the load shows in"
        return Diagnosis("clock", "kernel time stamps", "part", said, "run it on Linux itself, not under an emulation")
    return Diagnosis("clock", "kernel time stamps", "has", "arrivals are stamped by the kernel (SO_TIMESTAMPING)")


def _cpu(system: System) -> Iterator[Diagnosis]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable < 3:
        said = f"{usable} usable: the engine and the client share them, so that one slows the other"
        yield Diagnosis("cores", "count", "part", said, "keep one free of the engine: threads: in the arm (-t)")
    else:
        yield Diagnosis("cores", "count", "has", f"{usable} usable")
    governors = {_text(path) for path in (system.sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not governors:
        yield Diagnosis("cores", "governor", "none", "no cpufreq (a virtual machine?): the clock is not ours to set")
    elif governors == {"performance"}:
        yield Diagnosis("cores", "governor", "has", "performance")
    else:
        mend = "sudo cpupower frequency-set -g performance"
        yield Diagnosis("cores", "governor", "part", f"{', '.join(sorted(governors))}: clocks follow the load", mend)


def _text(path: Path) -> str:
    """A small file's text; "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

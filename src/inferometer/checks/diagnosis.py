"""Diagnoses of this machine: what it has, what is missing, and the command that fixes each gap.

Nothing is changed and no model is loaded; programs are only run to print their version and devices.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from inferometer.core import quantities
from inferometer.engines import visible_devices
from inferometer.engines.base import Machine
from inferometer.engines.catalog import descriptions
from inferometer.engines.visible_devices import Seen
from inferometer.load import kernel_stamps
from inferometer.probes.machine_facts import machine_facts
from inferometer.quality.sandbox import sandbox_state

MIB = 1024**2


class Diagnosis(msgspec.Struct, frozen=True):
    """One result. `has`: present and usable; `part`: present with limits; `none`: missing. `detail`: the evidence.
    `fix`: the command or action that helps; "" if nothing needs fixing or only other hardware would help."""

    group: str
    name: str
    state: Literal["has", "part", "none"]
    detail: str
    fix: str = ""


class System(NamedTuple):
    """Where to look: the real paths and programs, or those of a test."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    which: Callable[[str], str | None] = shutil.which
    nvidia: Callable[[], Seen] = visible_devices.nvidia_seen


def examine(system: System | None = None) -> Iterator[Diagnosis]:
    """Yield the diagnoses group by group, each as soon as it is known: a GPU build needs seconds for its version."""
    system = system or System()
    yield from _machine()
    yield from _engines(system)
    yield from _gpus(system)
    yield _sandbox()
    yield _process_memory(system)
    yield _ptrace(system)
    yield from _power(system)
    yield _kernel_stamps()
    yield from _cpu(system)


def _machine() -> Iterator[Diagnosis]:
    facts = {fact.name: fact.value for fact in machine_facts()}
    yield Diagnosis(
        "machine",
        "system",
        "has",
        f"{facts[quantities.OS]}, {facts[quantities.PYTHON]}, inferometer {facts[quantities.INFEROMETER]}",
    )
    cores = (
        f"{facts.get(quantities.CPU_CORES_PHYSICAL, '?')} cores ({facts.get(quantities.CPU_CORES_USABLE, '?')} usable)"
    )
    yield Diagnosis(
        "machine",
        "CPU",
        "has",
        f"{facts.get(quantities.CPU, 'unknown')}, {cores}, {facts[quantities.MEMORY]} of memory",
    )


def _engines(system: System) -> Iterator[Diagnosis]:
    """Each engine's own check, including the engines of installed packages."""
    machine = Machine(system.which, system.nvidia().count, _amd_seen(system).count)
    for engine in descriptions():
        if engine.inspect is not None:
            found = engine.inspect(machine)
            yield Diagnosis("engines", engine.name, found.state, found.detail, found.fix)


def _gpus(system: System) -> Iterator[Diagnosis]:
    facts = {fact.name: fact.value for fact in machine_facts()}
    seen = system.nvidia()
    if seen.count:
        names = "; ".join(facts.get(quantities.gpu_fact(i), "?") for i in range(seen.count))
        yield Diagnosis(
            "GPUs", "NVIDIA", "has", f"{seen.count}: {names}; driver {facts.get(quantities.GPU_DRIVER, '?')}"
        )
    elif _has_vendor(system, "0x10de"):
        detail = f"a card without a working driver: {seen.driver or seen.reason}"
        fix = "sudo ubuntu-drivers install (or the command of your distribution); then nvidia-smi must work"
        yield Diagnosis("GPUs", "NVIDIA", "part", detail, fix)
    else:
        yield Diagnosis("GPUs", "NVIDIA", "none", seen.driver or seen.reason or "NVML finds no GPU")
    cards = list(_amd_cards(system))
    amd = _amd_seen(system)
    if cards and amd.count:
        yield Diagnosis("GPUs", "AMD", "has", f"{amd.count} for ROCm; {'; '.join(cards)}")
    elif cards:
        fix = "sudo usermod -aG render,video $USER, log in again, and load amdgpu (sudo modprobe amdgpu)"
        detail = f"{'; '.join(cards)}; not usable for ROCm: {amd.driver or amd.reason}"
        yield Diagnosis("GPUs", "AMD", "part", detail, fix)
    else:
        yield Diagnosis("GPUs", "AMD", "none", "amdgpu finds no card")


def _amd_seen(system: System) -> Seen:
    return visible_devices.amd_seen(system.sys / "class/kfd/kfd/topology/nodes")


def _has_vendor(system: System, vendor: str) -> bool:
    return any(_text(path) == vendor for path in (system.sys / "bus/pci/devices").glob("*/vendor"))


def _amd_cards(system: System) -> Iterator[str]:
    """Cards with dedicated memory, as amdgpu shows them: name and memory."""
    for total in sorted((system.sys / "class/drm").glob("card*/device/mem_info_vram_total")):
        card = total.parent.parent.name
        size = _text(total)
        yield f"{card}, {int(size) // MIB} MiB" if size.isdecimal() else card


def _sandbox() -> Diagnosis:
    """Whether answers that are programs can be checked."""
    found, reason = sandbox_state()
    if found is not None:
        return Diagnosis("permissions", "sandbox", "has", f"{found.name}: answers can be checked (quality)")
    problem, _, mend = reason.partition(": ")
    return Diagnosis("permissions", "sandbox", "none", f"{problem}; answers are not checked", mend)


def _process_memory(system: System) -> Diagnosis:
    """Whether the PSS of our own child processes can be read."""
    own = system.proc / "self/smaps_rollup"
    try:
        has_pss = "Pss:" in own.read_text()
    except OSError as error:
        detail = f"{own}: {error.strerror}; RSS is used instead, which counts shared pages in full"
        return Diagnosis("permissions", "memory of engines", "part", detail, "use Linux 4.14 or newer")
    detail = "PSS of our own processes (smaps_rollup)" if has_pss else f"{own} has no Pss line; RSS is used instead"
    return Diagnosis("permissions", "memory of engines", "has" if has_pss else "part", detail)


def _ptrace(system: System) -> Diagnosis:
    """Whether memory of other processes can be read: a server that another user started needs ptrace permission."""
    if os.geteuid() == 0:
        return Diagnosis(
            "permissions", "memory of others", "has", "running as root: the PSS of any process can be read"
        )
    scope = _text(system.proc / "sys/kernel/yama/ptrace_scope")
    if scope in ("", "0", "1"):
        detail = "PSS of this user's processes only, not of other users' (a container's, say)"
        return Diagnosis(
            "permissions", "memory of others", "part", detail, "run inferometer as that user, or with sudo"
        )
    detail = f"kernel.yama.ptrace_scope is {scope}: the memory of this user's other processes cannot be read"
    return Diagnosis("permissions", "memory of others", "part", detail, "sudo sysctl kernel.yama.ptrace_scope=1")


def _power(system: System) -> Iterator[Diagnosis]:
    zones = sorted((system.sys / "class/powercap").glob("intel-rapl:*/energy_uj"))
    readable = [zone for zone in zones if _text(zone).isdecimal()]
    if readable:
        yield Diagnosis("power", "CPU (RAPL)", "has", f"{len(readable)} of {len(zones)} counters can be read")
    elif zones:
        fix = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next reboot)"
        yield Diagnosis("power", "CPU (RAPL)", "none", "counters exist but only root can read them", fix)
    else:
        detail = "no counters: a virtual machine, a container without /sys, or a CPU without RAPL"
        yield Diagnosis("power", "CPU (RAPL)", "none", detail)
    sensors = sorted((system.sys / "class/hwmon").glob("hwmon*/power1_*"))
    named = sorted({_text(path.parent / "name") for path in sensors if path.name in ("power1_average", "power1_input")})
    if named:
        yield Diagnosis("power", "sensors (hwmon)", "has", ", ".join(named))
    else:
        yield Diagnosis("power", "sensors (hwmon)", "none", "no power sensor; NVIDIA GPUs are read through NVML")


def _kernel_stamps() -> Diagnosis:
    reason = kernel_stamps.unavailable_reason()
    if os.environ.get("INFEROMETER_KERNEL_STAMPS") == "0":
        fix = "unset INFEROMETER_KERNEL_STAMPS"
        return Diagnosis("clock", "kernel time stamps", "part", "switched off by INFEROMETER_KERNEL_STAMPS=0", fix)
    if reason:
        detail = f"{reason}; the client's own clock is used, so its load adds to the latencies"
        return Diagnosis("clock", "kernel time stamps", "part", detail, "run on native Linux, not in an emulation")
    return Diagnosis("clock", "kernel time stamps", "has", "arrivals are stamped by the kernel (SO_TIMESTAMPING)")


def _cpu(system: System) -> Iterator[Diagnosis]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable < 3:
        detail = f"{usable} usable: engine and client share them and slow each other"
        yield Diagnosis("cores", "count", "part", detail, "leave one core to the client: set threads: in the arm (-t)")
    else:
        yield Diagnosis("cores", "count", "has", f"{usable} usable")
    governors = {_text(path) for path in (system.sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not governors:
        yield Diagnosis("cores", "governor", "none", "no cpufreq (probably a virtual machine): the clock cannot be set")
    elif governors == {"performance"}:
        yield Diagnosis("cores", "governor", "has", "performance")
    else:
        fix = "sudo cpupower frequency-set -g performance"
        yield Diagnosis("cores", "governor", "part", f"{', '.join(sorted(governors))}: the clock follows the load", fix)


def _text(path: Path) -> str:
    """The text of a small file; "" if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""Facts about this machine, each with its source. An unknown fact states the reason or is left out."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from inferometer.base.units import bytes_text
from inferometer.base.version import version
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.probes import nvidia


def machine_facts() -> tuple[Fact, ...]:
    """Operating system, CPU, memory, GPUs, Python and Inferometer's version; not the host name."""
    return (
        Fact(quantities.OS, _platform(), "platform"),
        *_cpu_facts(),
        *_memory_facts(),
        *_gpu_facts(),
        Fact(quantities.PYTHON, f"{platform.python_implementation()} {platform.python_version()}", "platform"),
        Fact(quantities.INFEROMETER, version(), "the installed package"),
    )


def _platform() -> str:
    """platform.platform(), on Linux without the processor's kind: `uname` is started for it, and hardly ever knows."""
    if sys.platform != "linux":
        return platform.platform()
    system = os.uname()
    libc = "".join(platform.libc_ver())
    return "-".join((system.sysname, system.release, system.machine, *(("with", libc) if libc else ())))


def _cpu_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[Fact]:
    import psutil

    facts: list[Fact] = []
    try:
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts += [Fact(quantities.CPU, name, str(cpuinfo)) for name in names[:1]]
    except OSError:
        if processor := platform.processor() or platform.machine():
            facts.append(Fact(quantities.CPU, processor, "platform"))
    counts = {
        quantities.CPU_CORES_PHYSICAL: psutil.cpu_count(logical=False),
        quantities.CPU_CORES_LOGICAL: psutil.cpu_count(logical=True),
    }
    facts += [Fact(name, str(count), "psutil") for name, count in counts.items() if count is not None]
    if hasattr(os, "sched_getaffinity"):
        facts.append(Fact(quantities.CPU_CORES_USABLE, str(len(os.sched_getaffinity(0))), "sched_getaffinity"))
    return facts


def _memory_facts() -> list[Fact]:
    import psutil

    total = int(psutil.virtual_memory().total)
    return [Fact(quantities.MEMORY, bytes_text(total), "psutil"), Fact(quantities.MEMORY_BYTES, str(total), "psutil")]


def _gpu_facts(nvml: Any = None) -> list[Fact]:
    """One fact per GPU, and the driver; or why there is no GPU. `nvml`: pynvml (it ships no types) or a fake."""
    if nvml is None:
        if nvidia.is_absent():
            return [Fact(quantities.GPUS, f"none found by NVML: {nvidia.ABSENT}", "NVML")]
        try:
            import pynvml as nvml
        except ImportError:
            return [Fact(quantities.GPUS, "unknown: nvidia-ml-py is not installed", "NVML")]
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
        facts = [
            Fact(quantities.GPUS, str(count), "NVML"),
            Fact(quantities.GPU_DRIVER, str(nvml.nvmlSystemGetDriverVersion()), "NVML"),
        ]
        for i in range(count):
            handle = nvml.nvmlDeviceGetHandleByIndex(i)
            size = _memory_words(nvml, handle)
            facts.append(Fact(quantities.gpu_fact(i), f"{nvml.nvmlDeviceGetName(handle)}, {size}", "NVML"))
    except nvml.NVMLError as error:
        return [Fact(quantities.GPUS, f"none found by NVML: {error}", "NVML")]
    return facts


def _memory_words(nvml: Any, handle: Any) -> str:
    try:
        return bytes_text(int(nvml.nvmlDeviceGetMemoryInfo(handle).total))
    except nvml.NVMLError:
        return "unified memory: its size is not reported"

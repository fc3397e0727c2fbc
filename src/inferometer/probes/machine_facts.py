"""What is this machine? Each fact with its source; what cannot be known says so or is left out."""

import os
import platform
from pathlib import Path
from typing import Any

from inferometer.base.units import bytes_text
from inferometer.base.version import version
from inferometer.core.record import Fact


def machine_facts() -> tuple[Fact, ...]:
    """Operating system, CPU, memory, GPUs, Python and our own version. The host's name is none of them."""
    return (
        Fact("os", platform.platform(), "platform"),
        *_cpu_facts(),
        *_memory_facts(),
        *_gpu_facts(),
        Fact("python", f"{platform.python_implementation()} {platform.python_version()}", "platform"),
        Fact("inferometer", version(), "the installed package"),
    )


def _cpu_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[Fact]:
    import psutil

    facts: list[Fact] = []
    try:
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts += [Fact("cpu", name, str(cpuinfo)) for name in names[:1]]
    except OSError:
        if processor := platform.processor() or platform.machine():
            facts.append(Fact("cpu", processor, "platform"))
    counts = {
        "cpu_cores_physical": psutil.cpu_count(logical=False),
        "cpu_cores_logical": psutil.cpu_count(logical=True),
    }
    facts += [Fact(name, str(count), "psutil") for name, count in counts.items() if count is not None]
    if hasattr(os, "sched_getaffinity"):
        facts.append(Fact("cpu_cores_usable", str(len(os.sched_getaffinity(0))), "sched_getaffinity"))
    return facts


def _memory_facts() -> list[Fact]:
    import psutil

    total = int(psutil.virtual_memory().total)
    return [Fact("memory", bytes_text(total), "psutil"), Fact("memory_bytes", str(total), "psutil")]


def _gpu_facts(nvml: Any = None) -> list[Fact]:
    """A fact a GPU, and the driver; or why there is none. `nvml` is pynvml (it ships no types) or its stand-in."""
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            return [Fact("gpus", "unknown: nvidia-ml-py is not installed", "NVML")]
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
        facts = [Fact("gpus", str(count), "NVML"), Fact("gpu_driver", str(nvml.nvmlSystemGetDriverVersion()), "NVML")]
        for i in range(count):
            handle = nvml.nvmlDeviceGetHandleByIndex(i)
            total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
            facts.append(Fact(f"gpu_{i}", f"{nvml.nvmlDeviceGetName(handle)}, {bytes_text(total)}", "NVML"))
    except nvml.NVMLError as error:
        return [Fact("gpus", f"none that NVML knows: {error}", "NVML")]
    return facts

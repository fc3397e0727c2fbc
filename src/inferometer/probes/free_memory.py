"""Free memory of the host and of each NVIDIA GPU."""

from pathlib import Path
from typing import Any

import msgspec

from inferometer.probes.cgroup import limits
from inferometer.probes.nvidia import open_nvml

HOST = "the host's memory"


class FreeMemory(msgspec.Struct, frozen=True):
    """`is_exclusive`: a GPU in a compute mode that lets one process use it at a time."""

    free_bytes: int
    is_exclusive: bool = False


def free_memory(
    nvml: Any = None, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> dict[str, FreeMemory]:
    """By place: the host, as far as our control group may use it, and each GPU. What cannot be read is left out.
    `nvml`: pynvml (untyped) or a fake."""
    found: dict[str, FreeMemory] = {}
    available = _available_bytes(proc)
    if available is not None:
        limit = limits(proc, cgroups).memory_bytes
        found[HOST] = FreeMemory(available if limit is None else min(available, limit))
    nvml, devices, _ = open_nvml(nvml)
    for device in devices:
        try:
            free_bytes = int(nvml.nvmlDeviceGetMemoryInfo(device.handle).free)
        except nvml.NVMLError:  # a device with unified memory: the host's counts
            continue
        found[device.name] = FreeMemory(free_bytes, _is_exclusive(nvml, device.handle))
    return found


def _is_exclusive(nvml: Any, handle: Any) -> bool:
    try:
        return nvml.nvmlDeviceGetComputeMode(handle) == nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    except nvml.NVMLError:  # not every device reports a mode
        return False


def _available_bytes(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None

"""How much GPU memory does the engine hold? What NVML says of its processes, else how far its devices have grown.

In a container NVML often hides other processes or names them by the host's pids. Then the device's used memory minus
what it was before the engine started stands in; anything else that the device did meanwhile is in it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from inferometer.probes.process_memory import tree_pids
from inferometer.record import Sample

QUANTITY = "gpu_memory_bytes"
LEAST_DELTA_BYTES = 64 * 1024**2
"""Growth below this is not taken for the engine's: any CUDA context is larger."""


class NvidiaMemory:
    """GPU memory of `roots` and their descendants, by device.

    `before`: what `device_used_bytes` said before the engine started; None: unknown, so that there is no falling back.
    `nvml` is the pynvml module (it ships no types), or what stands in for it.
    """

    name = "nvidia memory"

    def __init__(self, roots: Iterable[int], before: Sequence[int] | None = None, nvml: Any = None) -> None:
        self._roots = tuple(roots)
        self._before = before
        self._nvml, self.reason = opened(nvml)
        self._devices = _devices(self._nvml) if self._nvml is not None else []
        if not self.reason and not self._devices:
            self.reason = "NVML knows no device here"
        if not self.reason and not self._roots:
            self.reason = "the server was not started by us: its processes are not known"

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample a process and device; or one a device, of source `nvml device delta`."""
        if self.reason:
            return []
        pids = set(tree_pids(self._roots))
        by_device = [self._used_by_pid(handle) for handle, _ in self._devices]
        samples = [
            Sample(at_ns, "nvml", QUANTITY, float(used), pid, name)
            for (_, name), used_by_pid in zip(self._devices, by_device, strict=True)
            for pid, used in used_by_pid.items()
            if pid in pids and used is not None
        ]
        if samples or self._before is None or self._sees_us(by_device, pids):
            return samples
        grown = [used - was for used, was in zip(_used_bytes(self._nvml, self._devices), self._before, strict=True)]
        return [
            Sample(at_ns, "nvml device delta", QUANTITY, float(delta), None, name)
            for (_, name), delta in zip(self._devices, grown, strict=True)
            if delta >= LEAST_DELTA_BYTES
        ]

    def _used_by_pid(self, handle: Any) -> dict[int, int | None]:
        """Used bytes by pid; None where NVML hides them. One in both lists has the same number in each."""
        processes = [
            *self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
            *self._nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle),
        ]
        return {int(process.pid): process.usedGpuMemory for process in processes}

    def _sees_us(self, by_device: list[dict[int, int | None]], pids: set[int]) -> bool:
        """True where NVML names processes of our own pid namespace, so that one it doesn't name uses no GPU."""
        import psutil

        named = {pid for used_by_pid in by_device for pid in used_by_pid}
        return bool(named) and named.isdisjoint(pids) and all(psutil.pid_exists(pid) for pid in named)


def device_used_bytes(nvml: Any = None) -> list[int] | None:
    """Used memory of each device now, in NVML's order; None where there is no NVML."""
    found, _ = opened(nvml)
    return None if found is None else _used_bytes(found, _devices(found))


def opened(nvml: Any) -> tuple[Any, str]:
    """NVML ready to be asked, and ""; or None and the reason why there is none."""
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            return None, "nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"NVML is not there: {error}"
    return nvml, ""


def _devices(nvml: Any) -> list[tuple[Any, str]]:
    """Each device's handle, and its name with its number: `GPU 0 NVIDIA H200`."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return [(handle, f"GPU {i} {nvml.nvmlDeviceGetName(handle)}") for i, handle in enumerate(handles)]


def _used_bytes(nvml: Any, devices: list[tuple[Any, str]]) -> list[int]:
    return [int(nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle, _ in devices]

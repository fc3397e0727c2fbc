"""How much GPU memory does the engine hold? What NVML says of its processes, else how far its devices have grown.

In a container NVML often hides other processes or names them by the host's pids. Then the device's used memory minus
what it was before the engine started stands in; anything else that the device did meanwhile is in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_OURS, ProcessTree

LEAST_DELTA_BYTES = 64 * 1024**2
"""Growth below this is not taken for the engine's: any CUDA context is larger."""


class NvidiaDevice(NamedTuple):
    """`handle` is NVML's; `name` has its number: `GPU 0 NVIDIA H200`."""

    handle: Any
    name: str


class NvidiaMemory:
    """GPU memory of a tree of processes, by device.

    `before`: what `device_used_bytes` said before the engine started; None: unknown, so that there is no falling back.
    `nvml` is the pynvml module (it ships no types), or what stands in for it.
    """

    name = "nvidia memory"
    interval_s = 0.1

    def __init__(self, tree: ProcessTree, before: Sequence[int] | None = None, nvml: Any = None) -> None:
        self._tree = tree
        self._before = before
        self._nvml, self._devices, self.reason = opened(nvml)
        self.in_use: dict[str, None] = {}
        """Names of the devices on which the engine was seen to hold memory."""
        if not self.reason and not tree.roots:
            self.reason = NOT_OURS

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample a process and device; or one a device, of source `nvml device delta`."""
        pids = set(self._tree.pids(at_ns))
        by_device = [self._used_by_pid(device.handle) for device in self._devices]
        samples = [
            Sample(at_ns, "nvml", quantities.GPU_MEMORY_BYTES, float(used), pid, device.name)
            for device, used_by_pid in zip(self._devices, by_device, strict=True)
            for pid, used in used_by_pid.items()
            if pid in pids and used is not None
        ]
        if not samples and self._before is not None and not self._sees_us(by_device, pids):
            grown = [now - was for now, was in zip(_used_bytes(self._nvml, self._devices), self._before, strict=True)]
            samples = [
                Sample(at_ns, "nvml device delta", quantities.GPU_MEMORY_BYTES, float(delta), None, device.name)
                for device, delta in zip(self._devices, grown, strict=True)
                if delta >= LEAST_DELTA_BYTES
            ]
        self.in_use |= {sample.device: None for sample in samples if sample.device is not None}
        return samples

    def facts(self) -> Sequence[Fact]:
        return [Fact(quantities.GPUS_IN_USE, ", ".join(self.in_use), "NVML")] if self.in_use else []

    def _used_by_pid(self, handle: Any) -> dict[int, int | None]:
        """Used bytes by pid; None where NVML hides them. One in both lists has the same number in each."""
        processes = [
            *self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle),
            *self._nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle),
        ]
        return {int(process.pid): process.usedGpuMemory for process in processes}

    def _sees_us(self, by_device: list[dict[int, int | None]], pids: set[int]) -> bool:
        """True where NVML names processes of our own pid namespace, so that one it doesn't name uses no GPU."""
        named = {pid for used_by_pid in by_device for pid in used_by_pid}
        return named.isdisjoint(pids) and pids_are_ours(named)


def device_used_bytes(nvml: Any = None) -> list[int] | None:
    """Used memory of each device now, in NVML's order; None where there is no NVML."""
    nvml, devices, _ = opened(nvml)
    return None if nvml is None else _used_bytes(nvml, devices)


def pids_are_ours(named: Iterable[int]) -> bool:
    """Whether pids that NVML names are of our own pid namespace: each exists here. False for none."""
    import psutil

    named = tuple(named)
    return bool(named) and all(psutil.pid_exists(pid) for pid in named)


def opened(nvml: Any = None) -> tuple[Any, list[NvidiaDevice], str]:
    """NVML ready to be asked, its devices, and ""; where there is none, the reason why."""
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            return None, [], "nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        devices = [
            NvidiaDevice(handle, f"GPU {i} {nvml.nvmlDeviceGetName(handle)}") for i, handle in enumerate(handles)
        ]
    except nvml.NVMLError as error:
        return None, [], f"NVML is not there: {error}"
    return nvml, devices, "" if devices else "NVML knows no device here"


def visible_devices(devices: Sequence[NvidiaDevice], env: Mapping[str, str], nvml: Any) -> list[NvidiaDevice]:
    """Those of `devices` that CUDA_VISIBLE_DEVICES lets a process see; all where that cannot be told.

    Numbers there are CUDA's, fastest card first, unless CUDA_DEVICE_ORDER is PCI_BUS_ID: they are NVML's only then, or
    where all cards are alike.
    """
    asked = env.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return list(devices)
    models = {device.name.split(" ", 2)[2] for device in devices}
    same_order = len(models) == 1 or env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    found: list[NvidiaDevice] = []
    for word in filter(None, asked.replace(" ", "").split(",")):
        if word.isdecimal() and same_order and int(word) < len(devices):
            found.append(devices[int(word)])
        elif word.startswith("GPU-"):
            found += [device for device in devices if str(nvml.nvmlDeviceGetUUID(device.handle)).startswith(word)]
        else:
            return list(devices)
    return found


def _used_bytes(nvml: Any, devices: Sequence[NvidiaDevice]) -> list[int]:
    return [int(nvml.nvmlDeviceGetMemoryInfo(device.handle).used) for device in devices]

"""GPU memory of the engine on NVIDIA devices: NVML's value per process, or else the growth of the device's used memory.

In a container, NVML often hides processes or lists them by the host's pids. Then the probe reports the device's used
memory minus its value before the engine started; that includes the growth of other processes.
"""

import ctypes
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import NOT_STARTED_BY_US, ProcessTree

ABSENT = "NVML Shared Library Not Found"
"""What pynvml says where there is no driver."""

LEAST_DELTA_BYTES = 64 * 1024**2
"""Smaller growth is not attributed to the engine: every CUDA context is larger."""


_PROCESS_LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3")


class NvidiaDevice(NamedTuple):
    """`handle`: NVML's; `name`: with its number, as `GPU 0 NVIDIA H200`."""

    handle: Any
    name: str


class NvidiaMemory:
    """GPU memory of a tree of processes, by device.

    `before`: the result of `device_used_bytes` before the engine started; None: unknown, so growth is not reported.
    `nvml`: the pynvml module (it ships no types) or a fake.
    """

    name = "nvidia memory"
    interval_s = 0.5

    def __init__(self, tree: ProcessTree, before: Sequence[int] | None = None, nvml: Any = None) -> None:
        self._tree = tree
        self._before = before
        self._nvml, self._devices, self.reason = open_nvml(nvml)
        self._lists = _PROCESS_LISTS
        self.in_use: dict[str, None] = {}
        """Names of the devices on which the engine has held memory, in order of appearance."""
        if not self.reason and not tree.roots:
            self.reason = NOT_STARTED_BY_US

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample per process and device; or one per device, with the source `nvml device delta`."""
        pids = set(self._tree.pids(at_ns))
        by_device = [self._used_by_pid(device.handle, pids) for device in self._devices]
        samples = [
            Sample(at_ns, "nvml", quantities.GPU_MEMORY_BYTES, float(used), pid, device.name)
            for device, used_by_pid in zip(self._devices, by_device, strict=True)
            for pid, used in used_by_pid.items()
            if pid in pids and used is not None
        ]
        if not samples and self._before is not None and not self._lists_our_namespace(by_device, pids):
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

    def _used_by_pid(self, handle: Any, ours: set[int]) -> dict[int, int | None]:
        """Used bytes by pid; None if NVML hides them. A process in both lists has the same value in each. Once a list
        has named a process of ours, only that list is read: each takes half a millisecond of CPU."""
        found: dict[int, int | None] = {}
        for name in self._lists:
            listed = {int(process.pid): process.usedGpuMemory for process in getattr(self._nvml, name)(handle)}
            found |= listed
            if not ours.isdisjoint(listed):
                self._lists = (name,)
                break
        return found

    def _lists_our_namespace(self, by_device: list[dict[int, int | None]], pids: set[int]) -> bool:
        """Whether NVML lists processes of our pid namespace, and not the engine: then the engine uses no GPU."""
        named = {pid for used_by_pid in by_device for pid in used_by_pid}
        return named.isdisjoint(pids) and in_our_pid_namespace(named)


def device_used_bytes(nvml: Any = None) -> list[int] | None:
    """Current used memory of each device, in NVML's order; None without NVML, or where a device with unified memory
    (GB10) does not report it."""
    nvml, devices, _ = open_nvml(nvml)
    if nvml is None:
        return None
    try:
        return _used_bytes(nvml, devices)
    except nvml.NVMLError:
        return None


def in_our_pid_namespace(named: Iterable[int]) -> bool:
    """Whether the pids that NVML lists belong to our pid namespace: each exists here. False for an empty list."""
    import psutil

    named = tuple(named)
    return bool(named) and all(psutil.pid_exists(pid) for pid in named)


def open_nvml(nvml: Any = None) -> tuple[Any, list[NvidiaDevice], str]:
    """NVML, initialised; its devices; and "", or the reason why there are none."""
    if nvml is None:
        if is_absent():
            return None, [], f"NVML is not available: {ABSENT}"
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
        return None, [], f"NVML is not available: {error}"
    return nvml, devices, "" if devices else "NVML finds no device"


def is_absent() -> bool:
    """Whether NVML cannot be loaded here. Importing pynvml to find this out takes 10 ms."""
    if sys.platform != "linux":
        return False
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return True
    return False


def visible_devices(devices: Sequence[NvidiaDevice], env: Mapping[str, str], nvml: Any) -> list[NvidiaDevice]:
    """The devices that CUDA_VISIBLE_DEVICES makes visible to a process; all devices if it cannot be interpreted.

    Its numbers are CUDA's (fastest card first). They equal NVML's only if CUDA_DEVICE_ORDER is PCI_BUS_ID, or if all
    cards are the same model.
    """
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(devices)
    models = {device.name.split(" ", 2)[2] for device in devices}
    same_order = len(models) == 1 or env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    found: list[NvidiaDevice] = []
    for word in filter(None, visible.replace(" ", "").split(",")):
        if word.isdecimal() and same_order and int(word) < len(devices):
            found.append(devices[int(word)])
        elif word.startswith("GPU-"):
            found += [device for device in devices if str(nvml.nvmlDeviceGetUUID(device.handle)).startswith(word)]
        else:
            return list(devices)
    return found


def _used_bytes(nvml: Any, devices: Sequence[NvidiaDevice]) -> list[int]:
    return [int(nvml.nvmlDeviceGetMemoryInfo(device.handle).used) for device in devices]

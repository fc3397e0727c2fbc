"""NVML cannot run on a machine without a GPU: what it answers is scripted here, in the form of the pynvml module."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from inferometer.probes.nvidia import NvidiaMemory, device_used_bytes

ME = os.getpid()
INIT = 1  # a process of every machine, and not of our tree
NOBODY = 2**22 + 1  # above any pid
GIB = 1024**3


class ScriptedNvml:
    """Devices as {"used": bytes, "compute": {pid: bytes or None}, "graphics": {…}}."""

    class NVMLError(Exception):
        pass

    def __init__(self, *devices: dict[str, Any], missing: bool = False) -> None:
        self.devices = devices
        self.missing = missing

    def nvmlInit(self) -> None:
        if self.missing:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, i: int) -> int:
        return i

    def nvmlDeviceGetName(self, i: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, i: int) -> Any:
        return SimpleNamespace(used=self.devices[i]["used"], total=140 * GIB)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, i: int) -> list[Any]:
        return [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.devices[i].get("compute", {}).items()]

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, i: int) -> list[Any]:
        return [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.devices[i].get("graphics", {}).items()]


def readings(*devices: dict[str, Any], before: list[int] | None = None) -> list[tuple[Any, ...]]:
    samples = NvidiaMemory([ME], before, ScriptedNvml(*devices)).read(5)
    assert all(sample.at_ns == 5 and sample.quantity == "gpu_memory_bytes" for sample in samples)
    return [(sample.source, sample.pid, sample.device, sample.value) for sample in samples]


def test_each_process_of_the_tree_is_told_by_device():
    first = {"used": 30 * GIB, "compute": {ME: 20 * GIB, INIT: 5 * GIB}}
    second = {"used": 9 * GIB, "compute": {ME: 8 * GIB}}
    assert readings(first, second) == [
        ("nvml", ME, "GPU 0 NVIDIA H200", 20.0 * GIB),
        ("nvml", ME, "GPU 1 NVIDIA H200", 8.0 * GIB),
    ]


def test_a_process_that_computes_and_draws_counts_once():
    device = {"used": GIB, "compute": {ME: GIB}, "graphics": {ME: GIB}}
    assert readings(device) == [("nvml", ME, "GPU 0 NVIDIA H200", 1.0 * GIB)]


@pytest.mark.parametrize("hidden", [{}, {ME: None}, {NOBODY: 20 * GIB}])
def test_where_nvml_hides_our_processes_the_devices_growth_stands_in(hidden: dict[int, int | None]):
    first, second = {"used": 22 * GIB, "compute": hidden}, {"used": GIB}
    assert readings(first, second, before=[2 * GIB, GIB]) == [
        ("nvml device delta", None, "GPU 0 NVIDIA H200", 20.0 * GIB)
    ]


def test_what_was_on_the_device_before_must_be_known_for_that():
    assert readings({"used": 22 * GIB}) == []


def test_an_engine_that_uses_no_gpu_is_not_charged_with_what_others_take():
    assert readings({"used": 22 * GIB, "compute": {INIT: 20 * GIB}}, before=[2 * GIB]) == []


def test_without_a_gpu_there_is_a_reason_and_no_reading():
    probe = NvidiaMemory([ME], nvml=ScriptedNvml(missing=True))
    assert probe.reason == "NVML is not there: NVML Shared Library Not Found"
    assert probe.read(0) == []
    assert NvidiaMemory([ME], nvml=ScriptedNvml()).reason == "NVML knows no device here"
    assert "not started by us" in NvidiaMemory([], nvml=ScriptedNvml({"used": 1})).reason


def test_what_the_devices_hold_now():
    assert device_used_bytes(ScriptedNvml({"used": 3}, {"used": 4})) == [3, 4]
    assert device_used_bytes(ScriptedNvml(missing=True)) is None

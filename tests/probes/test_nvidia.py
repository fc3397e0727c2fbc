"""NVML cannot run on a machine without a GPU: what it answers is scripted here, in the form of the pynvml module."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from inferometer.probes.free_memory import free_memory
from inferometer.probes.nvidia import NvidiaMemory, device_used_bytes, open_nvml, visible_devices
from inferometer.probes.nvidia_sensors import nvidia_probes
from inferometer.probes.process_tree import ProcessTree

ME = os.getpid()
INIT = 1  # a process of every machine, and not of our tree
NOBODY = 2**22 + 1  # above any pid
GIB = 1024**3


class ScriptedNvml:
    """Devices as {"used": bytes, "compute": {pid: bytes or None}, "graphics": {…}}, and by the name of a function what
    it gives: `{"nvmlDeviceGetPowerUsage": 250_000}`; what is not named the card does not support.
    """

    NVML_SUCCESS = 0
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NOT_FOUND = 6
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_FI_DEV_MEMORY_TEMP, NVML_FI_DEV_POWER_INSTANT = 82, 186

    class NVMLError(Exception):
        def __init__(self, value: int | str) -> None:
            words: dict[int | str, str] = {3: "Not Supported", 6: "Not Found"}
            super().__init__(words.get(value, value))
            self.value = value

    def __init__(self, *devices: dict[str, Any], missing: bool = False) -> None:
        self.devices = devices
        self.missing = missing
        self.asked: list[tuple[Any, ...]] = []

    def nvmlInit(self) -> None:
        if self.missing:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, i: int) -> int:
        return i

    def nvmlDeviceGetName(self, i: int) -> str:
        return self.devices[i].get("name", "NVIDIA H200")

    def nvmlDeviceGetUUID(self, i: int) -> str:
        return f"GPU-{i}{i}{i}{i}-beef"

    def nvmlDeviceGetMemoryInfo(self, i: int) -> Any:
        if self.devices[i]["used"] is None:
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(used=self.devices[i]["used"], total=140 * GIB)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, i: int) -> list[Any]:
        self.asked.append(("compute", i))
        return [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.devices[i].get("compute", {}).items()]

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, i: int) -> list[Any]:
        self.asked.append(("graphics", i))
        return [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.devices[i].get("graphics", {}).items()]

    def nvmlDeviceGetUtilizationRates(self, i: int) -> Any:
        return SimpleNamespace(gpu=self.given(i, "nvmlDeviceGetUtilizationRates"), memory=1)

    def nvmlDeviceGetPowerUsage(self, i: int) -> int:
        return self.given(i, "nvmlDeviceGetPowerUsage")

    def nvmlDeviceGetTotalEnergyConsumption(self, i: int) -> int:
        return self.given(i, "nvmlDeviceGetTotalEnergyConsumption")

    def nvmlDeviceGetEnforcedPowerLimit(self, i: int) -> int:
        return self.given(i, "nvmlDeviceGetEnforcedPowerLimit")

    def nvmlDeviceGetClockInfo(self, i: int, clock: int) -> int:
        return self.given(i, "nvmlDeviceGetClockInfo")[clock]

    def nvmlDeviceGetTemperatureV(self, i: int, sensor: int) -> int:
        return self.given(i, "nvmlDeviceGetTemperatureV")

    def nvmlDeviceGetTemperature(self, i: int, sensor: int) -> int:
        return self.given(i, "nvmlDeviceGetTemperature")

    def nvmlDeviceGetCurrentClocksEventReasons(self, i: int) -> int:
        return self.given(i, "nvmlDeviceGetCurrentClocksEventReasons")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, i: int) -> int:
        return self.given(i, "nvmlDeviceGetCurrentClocksThrottleReasons")

    def nvmlDeviceGetFieldValues(self, i: int, fields: list[int]) -> list[Any]:
        """A field that a card lacks is no error of the call: its own `nvmlReturn` says so."""
        return [self.field(self.devices[i].get("fields", {}).get(number)) for number in fields]

    def field(self, value: int | None) -> Any:
        returned = self.NVML_ERROR_NOT_SUPPORTED if value is None else self.NVML_SUCCESS
        return SimpleNamespace(nvmlReturn=returned, value=SimpleNamespace(uiVal=value or 0))

    def nvmlDeviceGetProcessUtilization(self, i: int, since_us: int) -> list[Any]:
        loads = [load for load in self.given(i, "loads") if load[1] > since_us]
        if not loads:
            raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)
        return [SimpleNamespace(pid=pid, timeStamp=at_us, smUtil=percent) for pid, at_us, percent in loads]

    def given(self, i: int, name: str) -> Any:
        self.asked.append((i, name))
        if name not in self.devices[i]:
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return self.devices[i][name]


def readings(*devices: dict[str, Any], before: list[int] | None = None) -> list[tuple[Any, ...]]:
    samples = NvidiaMemory(ProcessTree([ME]), before, ScriptedNvml(*devices)).read(5)
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


@pytest.mark.parametrize("kind", ["compute", "graphics"])
def test_only_the_list_that_names_the_engine_is_read_again(kind: str):
    nvml = ScriptedNvml({"used": 30 * GIB})
    probe = NvidiaMemory(ProcessTree([ME]), nvml=nvml)
    assert (list(probe.read(1)), nvml.asked) == ([], [("compute", 0), ("graphics", 0)])  # the engine is starting
    nvml.devices[0][kind] = {ME: 20 * GIB}
    for at_ns in (2, 3):
        nvml.asked.clear()
        assert [sample.value for sample in probe.read(at_ns)] == [20 * GIB]
    assert nvml.asked == [(kind, 0)]


def test_without_a_gpu_there_is_a_reason():
    probe = NvidiaMemory(ProcessTree([ME]), nvml=ScriptedNvml(missing=True))
    assert probe.reason == "NVML is not available: NVML Shared Library Not Found"
    assert NvidiaMemory(ProcessTree([ME]), nvml=ScriptedNvml()).reason == "NVML finds no device"
    assert "did not start the server" in NvidiaMemory(ProcessTree([]), nvml=ScriptedNvml({"used": 1})).reason


def test_what_the_devices_hold_now():
    assert device_used_bytes(ScriptedNvml({"used": 3}, {"used": 4})) == [3, 4]
    assert device_used_bytes(ScriptedNvml(missing=True)) is None


def test_a_device_with_unified_memory_stops_nothing(tmp_path):
    """A GB10 does not report its memory, and a process's memory is None."""
    nvml = ScriptedNvml({"used": None, "compute": {ME: None}})
    assert device_used_bytes(nvml) is None
    assert free_memory(nvml, proc=tmp_path, cgroups=tmp_path) == {}
    probe = NvidiaMemory(ProcessTree([ME]), device_used_bytes(nvml), nvml)
    assert (list(probe.read(1)), probe.reason) == ([], "")


H200 = {
    "used": 22 * GIB,
    "compute": {ME: 20 * GIB},
    "nvmlDeviceGetUtilizationRates": 97,
    "nvmlDeviceGetPowerUsage": 600_000,
    "nvmlDeviceGetTotalEnergyConsumption": 123_456,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetClockInfo": {1: 1980, 2: 3201},
    "nvmlDeviceGetTemperatureV": 41,
    "nvmlDeviceGetCurrentClocksEventReasons": 4,
    "fields": {82: 52, 186: 650_500},
    "loads": [(ME, 1000, 90), (INIT, 1000, 7)],
}


def probes(*devices: dict[str, Any], env: dict[str, str] | None = None) -> dict[str, Any]:
    """By their names."""
    sampled, counting = nvidia_probes(ProcessTree([ME]), None, env, ScriptedNvml(*devices))
    return {probe.name: probe for probe in (*sampled, *counting)}


def told(probe: Any, at_ns: int = 0) -> dict[tuple[str, str], float]:
    samples = probe.read(at_ns)
    assert all(sample.at_ns == at_ns and sample.source == "nvml" and sample.pid is None for sample in samples)
    return {(str(sample.device)[:5], sample.quantity): sample.value for sample in samples}


def test_a_devices_sensors_are_read_in_our_units():
    by_name = probes(H200)
    assert told(by_name["nvidia sensors"]) == {
        ("GPU 0", "gpu_utilization_percent"): 97.0,
        ("GPU 0", "power_w"): 650.5,
    }
    assert told(by_name["nvidia clocks"]) == {
        ("GPU 0", "gpu_memory_used_bytes"): 22.0 * GIB,
        ("GPU 0", "sm_clock_mhz"): 1980.0,
        ("GPU 0", "memory_clock_mhz"): 3201.0,
        ("GPU 0", "throttle_reasons"): 4.0,
    }
    assert told(by_name["nvidia temperatures"]) == {
        ("GPU 0", "gpu_temperature_c"): 41.0,
        ("GPU 0", "memory_temperature_c"): 52.0,
        ("GPU 0", "power_limit_w"): 700.0,
    }
    assert told(by_name["nvidia energy"]) == {("GPU 0", "energy_j"): 123.456}
    assert [fact for probe in by_name.values() for fact in probe.facts()] == []


def test_what_others_make_a_device_do_is_told_since_the_reading_before():
    others = probes(H200)["nvidia others"]
    assert told(others) == {("GPU 0", "other_gpu_percent"): 7.0}
    assert told(others) == {("GPU 0", "other_gpu_percent"): 0.0}


def test_the_devices_that_the_engine_was_seen_on_are_read_and_before_that_all():
    by_name = probes(H200 | {"compute": {}}, H200)
    assert {device for device, _ in told(by_name["nvidia sensors"])} == {"GPU 0", "GPU 1"}
    memory = by_name["nvidia memory"]
    memory.read(0)
    assert {device for device, _ in told(by_name["nvidia sensors"])} == {"GPU 1"}
    assert [(fact.name, fact.value) for fact in memory.facts()] == [("gpus_in_use", "GPU 1 NVIDIA H200")]


def test_what_a_card_does_not_support_is_a_reason_and_is_not_asked_again():
    old = {
        "used": GIB,
        "nvmlDeviceGetUtilizationRates": 50,
        "nvmlDeviceGetPowerUsage": 180_000,
        "nvmlDeviceGetTemperature": 70,
        "nvmlDeviceGetClockInfo": {1: 1303, 2: 3615},
        "nvmlDeviceGetCurrentClocksThrottleReasons": 1,
    }
    by_name = probes(old)
    sensors, temperatures, energy = (by_name[f"nvidia {name}"] for name in ("sensors", "temperatures", "energy"))
    assert told(sensors)["GPU 0", "power_w"] == 180.0
    assert told(by_name["nvidia clocks"])["GPU 0", "throttle_reasons"] == 1.0
    assert told(temperatures) == {("GPU 0", "gpu_temperature_c"): 70.0}
    assert told(energy) == told(by_name["nvidia others"]) == {}
    assert {fact.name: fact.value for probe in by_name.values() for fact in probe.facts()} == {
        "no_memory_temperature_c": "GPU 0 NVIDIA H200: Not Supported",
        "no_power_limit_w": "GPU 0 NVIDIA H200: Not Supported",
        "no_energy_j": "GPU 0 NVIDIA H200: Not Supported",
        "no_other_gpu_percent": "GPU 0 NVIDIA H200: Not Supported",
    }
    energy._nvml.asked.clear()
    assert told(energy) == told(by_name["nvidia others"]) == {}
    assert energy._nvml.asked == []


def test_where_nvml_names_others_by_another_namespaces_pids_their_share_is_unknown():
    others = probes(H200 | {"loads": [(NOBODY, 1000, 90)]})["nvidia others"]
    assert told(others) == {}
    assert "the pids of another namespace" in others.facts()[0].value


def test_of_an_engine_that_we_did_not_start_nobody_can_be_told_from_it():
    (_, sensors, _, _, others), _ = nvidia_probes(ProcessTree([]), nvml=ScriptedNvml(H200))
    assert told(sensors)["GPU 0", "power_w"] == 650.5
    assert told(others) == {}
    assert "did not start the server" in others.facts()[0].value


def test_without_a_gpu_one_probe_says_so_and_without_a_visible_one_each():
    (only,), _ = nvidia_probes(ProcessTree([ME]), nvml=ScriptedNvml(missing=True))
    assert "NVML is not available" in only.reason
    by_name = probes(H200, env={"CUDA_VISIBLE_DEVICES": ""})
    assert by_name["nvidia sensors"].reason == "CUDA_VISIBLE_DEVICES hides every device from the engine"


@pytest.mark.parametrize(
    ("env", "numbers"),
    [
        ({}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1111"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-3"}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_what_cuda_visible_devices_lets_the_engine_see(env: dict[str, str], numbers: list[int]):
    nvml, devices, _ = open_nvml(ScriptedNvml(H200, H200, H200))
    assert [device.handle for device in visible_devices(devices, env, nvml)] == numbers


def test_cudas_numbers_are_nvmls_only_where_the_order_is_known():
    nvml, devices, _ = open_nvml(ScriptedNvml(H200 | {"name": "Tesla P40"}, H200))
    assert len(visible_devices(devices, {"CUDA_VISIBLE_DEVICES": "0"}, nvml)) == 2
    ordered = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [device.name for device in visible_devices(devices, ordered, nvml)] == ["GPU 0 Tesla P40"]

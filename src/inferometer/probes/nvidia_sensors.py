"""NVML's sensors of each NVIDIA device that the engine uses: load, power, clocks, temperatures, throttling, energy.

If a card lacks a sensor, the reason is recorded and the other sensors continue. The interval of each sensor follows its
cost: on an H100 with driver 580 most readings took 10 to 160 µs of CPU, the energy counter 3 ms and the load of other
processes 2 ms.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.base import Probe
from inferometer.probes.nvidia import NvidiaDevice, NvidiaMemory, in_our_pid_namespace, open_nvml, visible_devices
from inferometer.probes.process_tree import NOT_STARTED_BY_US, ProcessTree

_MW_PER_W = 1000
_MJ_PER_J = 1000

_Read = Callable[[Any, Any], float]  # arguments: the pynvml module (it ships no types) and a device's handle


class Sensor(NamedTuple):
    """`readers`: alternatives; the first that works is kept, because drivers and cards differ."""

    quantity: str
    readers: tuple[_Read, ...]


def nvidia_probes(
    tree: ProcessTree, before: Sequence[int] | None = None, env: Mapping[str, str] | None = None, nvml: Any = None
) -> tuple[list[Probe], list[Probe]]:
    """The sampled probes, and the probes of counters. Without NVML or a device: one probe that states the reason.

    `before`: as in `NvidiaMemory`. `env`: the engine's environment; its CUDA_VISIBLE_DEVICES selects the devices until
    the engine holds memory on one.
    """
    memory = NvidiaMemory(tree, before, nvml)
    nvml, devices, reason = open_nvml(nvml)
    if reason:
        return [memory], []
    used = DevicesInUse(memory, visible_devices(devices, env or {}, nvml))
    sampled: list[Probe] = [
        memory,
        NvidiaSensors("nvidia sensors", 0.2, SENSORS, used, nvml),
        NvidiaSensors("nvidia clocks", 1.0, CLOCKS, used, nvml),
        NvidiaSensors("nvidia temperatures", 2.0, TEMPERATURES, used, nvml),
        OtherGpuLoad(tree, used, nvml),
    ]
    return sampled, [NvidiaSensors("nvidia energy", 5.0, ENERGY, used, nvml)]


class DevicesInUse(NamedTuple):
    """The devices on which `memory` has found the engine; until then, all devices visible to the engine."""

    memory: NvidiaMemory
    visible: list[NvidiaDevice]

    def now(self) -> list[NvidiaDevice]:
        return [device for device in self.visible if device.name in self.memory.in_use] or self.visible

    @property
    def reason(self) -> str:
        return "" if self.visible else "CUDA_VISIBLE_DEVICES hides every device from the engine"


class NvidiaSensors:
    """Sensors of each device in use that share an interval."""

    def __init__(
        self, name: str, interval_s: float, sensors: Sequence[Sensor], devices: DevicesInUse, nvml: Any
    ) -> None:
        self.name = name
        self.interval_s = interval_s
        self.reason = devices.reason
        self._sensors = sensors
        self._devices = devices
        self._nvml = nvml
        self._readers = {(s.quantity, device.name): list(s.readers) for s in sensors for device in devices.visible}
        self._unavailable: dict[str, str] = {}

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample per sensor and device."""
        return [
            Sample(at_ns, "nvml", sensor.quantity, value, None, device.name)
            for device in self._devices.now()
            for sensor in self._sensors
            if (value := self._value(sensor, device)) is not None
        ]

    def facts(self) -> Sequence[Fact]:
        return [Fact(quantities.absent_fact(quantity), why, "NVML") for quantity, why in self._unavailable.items()]

    def _value(self, sensor: Sensor, device: NvidiaDevice) -> float | None:
        """None if no reader works; a reader that failed is not tried again."""
        readers = self._readers[sensor.quantity, device.name]
        while readers:
            try:
                return readers[0](self._nvml, device.handle)
            except (self._nvml.NVMLError, AttributeError) as error:  # AttributeError: an older nvidia-ml-py
                del readers[0]
                if not readers:
                    self._unavailable[sensor.quantity] = f"{device.name}: {error}"
        return None


class OtherGpuLoad:
    """The load of the SMs that processes other than the engine's cause."""

    name = "nvidia others"
    interval_s = 5.0

    def __init__(self, tree: ProcessTree, devices: DevicesInUse, nvml: Any) -> None:
        self.reason = devices.reason
        self._tree = tree
        self._devices = devices
        self._nvml = nvml
        self._seen_us: dict[str, int] = {}  # by device: the time of the last of NVML's own samples that was read
        self._unavailable = "" if tree.roots else NOT_STARTED_BY_US

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample per device, for the time since the last reading."""
        if self._unavailable:
            return []
        pids = set(self._tree.pids(at_ns))
        return [
            Sample(at_ns, "nvml", quantities.OTHER_GPU_PERCENT, percent, None, device.name)
            for device in self._devices.now()
            if (percent := self._percent(device, pids)) is not None
        ]

    def facts(self) -> Sequence[Fact]:
        return (
            [Fact(quantities.absent_fact(quantities.OTHER_GPU_PERCENT), self._unavailable, "NVML")]
            if self._unavailable
            else []
        )

    def _percent(self, device: NvidiaDevice, pids: set[int]) -> float | None:
        """None if unknown."""
        since_us = self._seen_us.get(device.name, 0)
        try:
            loads = self._nvml.nvmlDeviceGetProcessUtilization(device.handle, since_us)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND:
                return 0.0  # no process was active
            self._unavailable = f"{device.name}: {error}"
            return None
        self._seen_us[device.name] = max([int(load.timeStamp) for load in loads], default=since_us)
        by_pid = {int(load.pid): int(load.smUtil) for load in loads if int(load.smUtil) <= 100}  # above 100: invalid
        others = by_pid.keys() - pids
        if others and others == by_pid.keys() and not in_our_pid_namespace(others):
            self._unavailable = f"{device.name}: NVML lists processes by the pids of another namespace"
            return None
        return float(sum(by_pid[pid] for pid in others))


def _call(function: str, *constants: str, part: str = "", per: float = 1) -> _Read:
    """Calls this function of NVML with constants, given by name; returns `part` of the result, divided by `per`."""

    def read(nvml: Any, handle: Any) -> float:
        answer = getattr(nvml, function)(handle, *(getattr(nvml, constant) for constant in constants))
        return float(getattr(answer, part) if part else answer) / per

    return read


def _field(constant: str, per: float = 1) -> _Read:
    """Reads the field of this name. Both fields in this module are unsigned ints."""

    def read(nvml: Any, handle: Any) -> float:
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [getattr(nvml, constant)])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal) / per

    return read


SENSORS = (
    Sensor(quantities.GPU_UTILIZATION_PERCENT, (_call("nvmlDeviceGetUtilizationRates", part="gpu"),)),
    Sensor(
        quantities.POWER_W,
        (
            _field("NVML_FI_DEV_POWER_INSTANT", per=_MW_PER_W),
            _call("nvmlDeviceGetPowerUsage", per=_MW_PER_W),  # a mean over the last second on most cards since 2020
        ),
    ),
)
"""Sensors that change within a step of the engine. Other sensors are read less often, because each reading costs."""
CLOCKS = (
    Sensor(quantities.GPU_MEMORY_USED_BYTES, (_call("nvmlDeviceGetMemoryInfo", part="used"),)),
    Sensor(quantities.SM_CLOCK_MHZ, (_call("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),)),
    Sensor(quantities.MEMORY_CLOCK_MHZ, (_call("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),)),
    Sensor(
        quantities.THROTTLE_REASONS,
        (_call("nvmlDeviceGetCurrentClocksEventReasons"), _call("nvmlDeviceGetCurrentClocksThrottleReasons")),
    ),
)
TEMPERATURES = (
    Sensor(
        quantities.GPU_TEMPERATURE_C,
        (
            _call("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU"),
            _call("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        ),
    ),
    Sensor(quantities.MEMORY_TEMPERATURE_C, (_field("NVML_FI_DEV_MEMORY_TEMP"),)),
    Sensor(quantities.POWER_LIMIT_W, (_call("nvmlDeviceGetEnforcedPowerLimit", per=_MW_PER_W),)),
)
ENERGY = (Sensor(quantities.ENERGY_J, (_call("nvmlDeviceGetTotalEnergyConsumption", per=_MJ_PER_J),)),)
"""Counts since the driver was loaded, so it is read at the start and end of a plan."""

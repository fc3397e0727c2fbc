"""How hard do the engine's NVIDIA devices work, and what holds them back? NVML's sensors of each device it uses.

What a card does not have is a reason, and the others go on. How often each is read goes by what it costs: on an H100
with driver 580 most took 10 to 160 µs of CPU, the counter of energy 3 ms and the load of other processes 2 ms.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.base import Probe
from inferometer.probes.nvidia import NvidiaDevice, NvidiaMemory, opened, pids_are_ours, visible_devices
from inferometer.probes.process_tree import NOT_OURS, ProcessTree

_MW_PER_W = 1000
_MJ_PER_J = 1000

_Read = Callable[[Any, Any], float]  # of the module (it ships no types) and a device's handle


class Sensor(NamedTuple):
    """`ways` to read it, the first that works being kept: drivers and cards differ."""

    quantity: str
    ways: tuple[_Read, ...]


def nvidia_probes(
    tree: ProcessTree, before: Sequence[int] | None = None, env: Mapping[str, str] | None = None, nvml: Any = None
) -> tuple[list[Probe], list[Probe]]:
    """What NVML is sampled for, and what it counts; where there is no NVML or no device, one probe that says so.

    `before` as in `NvidiaMemory`; `env` is what the engine sees: CUDA_VISIBLE_DEVICES counts until it is seen itself.
    """
    memory = NvidiaMemory(tree, before, nvml)
    nvml, devices, reason = opened(nvml)
    if reason:
        return [memory], []
    used = DevicesInUse(memory, visible_devices(devices, env or {}, nvml))
    sampled: list[Probe] = [
        memory,
        NvidiaSensors("nvidia sensors", 0.1, SENSORS, used, nvml),
        NvidiaSensors("nvidia clocks", 0.5, CLOCKS, used, nvml),
        NvidiaSensors("nvidia temperatures", 1.0, TEMPERATURES, used, nvml),
        NvidiaOthers(tree, used, nvml),
    ]
    return sampled, [NvidiaSensors("nvidia energy", 5.0, ENERGY, used, nvml)]


class DevicesInUse(NamedTuple):
    """The devices that `memory` sees the engine on; until it is seen, all that it may see."""

    memory: NvidiaMemory
    visible: list[NvidiaDevice]

    def now(self) -> list[NvidiaDevice]:
        return [device for device in self.visible if device.name in self.memory.in_use] or self.visible

    @property
    def reason(self) -> str:
        return "" if self.visible else "CUDA_VISIBLE_DEVICES lets the engine see no device"


class NvidiaSensors:
    """Some sensors of each device in use."""

    def __init__(
        self, name: str, interval_s: float, sensors: Sequence[Sensor], devices: DevicesInUse, nvml: Any
    ) -> None:
        self.name = name
        self.interval_s = interval_s
        self.reason = devices.reason
        self._sensors = sensors
        self._devices = devices
        self._nvml = nvml
        self._ways = {(s.quantity, device.name): list(s.ways) for s in sensors for device in devices.visible}
        self._untold: dict[str, str] = {}

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample a sensor and device."""
        return [
            Sample(at_ns, "nvml", sensor.quantity, value, None, device.name)
            for device in self._devices.now()
            for sensor in self._sensors
            if (value := self._value(sensor, device)) is not None
        ]

    def facts(self) -> Sequence[Fact]:
        return [Fact(quantities.absent_fact(quantity), why, "NVML") for quantity, why in self._untold.items()]

    def _value(self, sensor: Sensor, device: NvidiaDevice) -> float | None:
        """None where no way to read it works; each that failed is tried no more."""
        ways = self._ways[sensor.quantity, device.name]
        while ways:
            try:
                return ways[0](self._nvml, device.handle)
            except (self._nvml.NVMLError, AttributeError) as error:  # the latter: an older nvidia-ml-py
                del ways[0]
                if not ways:
                    self._untold[sensor.quantity] = f"{device.name}: {error}"
        return None


class NvidiaOthers:
    """What other processes than the engine's make the devices do: `other_gpu_percent`, by the load of the SMs."""

    name = "nvidia others"
    interval_s = 2.0

    def __init__(self, tree: ProcessTree, devices: DevicesInUse, nvml: Any) -> None:
        self.reason = devices.reason
        self._tree = tree
        self._devices = devices
        self._nvml = nvml
        self._seen_us: dict[str, int] = {}  # by device: the last of NVML's own samples that was read
        self._untold = "" if tree.roots else NOT_OURS

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample a device: since the one before."""
        if self._untold:
            return []
        pids = set(self._tree.pids(at_ns))
        return [
            Sample(at_ns, "nvml", quantities.OTHER_GPU_PERCENT, percent, None, device.name)
            for device in self._devices.now()
            if (percent := self._percent(device, pids)) is not None
        ]

    def facts(self) -> Sequence[Fact]:
        return (
            [Fact(quantities.absent_fact(quantities.OTHER_GPU_PERCENT), self._untold, "NVML")] if self._untold else []
        )

    def _percent(self, device: NvidiaDevice, pids: set[int]) -> float | None:
        """None where it is unknown."""
        since_us = self._seen_us.get(device.name, 0)
        try:
            loads = self._nvml.nvmlDeviceGetProcessUtilization(device.handle, since_us)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND:
                return 0.0  # nobody did anything since
            self._untold = f"{device.name}: {error}"
            return None
        self._seen_us[device.name] = max([int(load.timeStamp) for load in loads], default=since_us)
        by_pid = {int(load.pid): int(load.smUtil) for load in loads if int(load.smUtil) <= 100}  # more is no reading
        others = by_pid.keys() - pids
        if others and others == by_pid.keys() and not pids_are_ours(others):
            self._untold = f"{device.name}: NVML names processes by another pid namespace's numbers"
            return None
        return float(sum(by_pid[pid] for pid in others))


def _asked(function: str, *constants: str, part: str = "", per: float = 1) -> _Read:
    """Asks this function of NVML's, with constants by their names; `part` of the answer, divided by `per`."""

    def read(nvml: Any, handle: Any) -> float:
        answer = getattr(nvml, function)(handle, *(getattr(nvml, constant) for constant in constants))
        return float(getattr(answer, part) if part else answer) / per

    return read


def _field(constant: str, per: float = 1) -> _Read:
    """Reads the field of this name; both that are read here are unsigned ints."""

    def read(nvml: Any, handle: Any) -> float:
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [getattr(nvml, constant)])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal) / per

    return read


SENSORS = (
    Sensor(quantities.GPU_UTILIZATION_PERCENT, (_asked("nvmlDeviceGetUtilizationRates", part="gpu"),)),
    Sensor(
        quantities.POWER_W,
        (
            _field("NVML_FI_DEV_POWER_INSTANT", per=_MW_PER_W),
            _asked("nvmlDeviceGetPowerUsage", per=_MW_PER_W),  # a mean over the last second, on most cards since 2020
        ),
    ),
)
"""What changes within a step of the engine; the rest is asked more rarely, since each question costs."""
CLOCKS = (
    Sensor(quantities.GPU_MEMORY_USED_BYTES, (_asked("nvmlDeviceGetMemoryInfo", part="used"),)),
    Sensor(quantities.SM_CLOCK_MHZ, (_asked("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),)),
    Sensor(quantities.MEMORY_CLOCK_MHZ, (_asked("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),)),
    Sensor(
        quantities.THROTTLE_REASONS,
        (_asked("nvmlDeviceGetCurrentClocksEventReasons"), _asked("nvmlDeviceGetCurrentClocksThrottleReasons")),
    ),
)
TEMPERATURES = (
    Sensor(
        quantities.GPU_TEMPERATURE_C,
        (
            _asked("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU"),
            _asked("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        ),
    ),
    Sensor(quantities.MEMORY_TEMPERATURE_C, (_field("NVML_FI_DEV_MEMORY_TEMP"),)),
    Sensor(quantities.POWER_LIMIT_W, (_asked("nvmlDeviceGetEnforcedPowerLimit", per=_MW_PER_W),)),
)
ENERGY = (Sensor(quantities.ENERGY_J, (_asked("nvmlDeviceGetTotalEnergyConsumption", per=_MJ_PER_J),)),)
"""Counted since the driver was loaded: what matters is where a plan begins and ends, and there it is read."""

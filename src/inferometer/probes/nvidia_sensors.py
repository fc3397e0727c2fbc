"""How hard do the engine's NVIDIA devices work, and what holds them back? NVML's sensors of each device it uses.

What a card does not have is a reason, and the others go on. Power, clocks, load and why the clocks are held down are
read ten times a second; temperatures, the limit and the load of other processes, which change slowly, once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from inferometer.probes.nvidia import Device, NvidiaMemory, opened, pids_are_ours, visible_devices
from inferometer.probes.process_tree import ProcessTree
from inferometer.record import Fact, Sample
from inferometer.units import NS_PER_S

SLOW_EVERY_NS = NS_PER_S
_MW_PER_W = 1000
_MJ_PER_J = 1000

_Read = Callable[[Any, Any], float]  # of the module (it ships no types) and a device's handle


class Sensor(NamedTuple):
    """`ways` to read it, the first that works being kept: drivers and cards differ."""

    quantity: str
    ways: tuple[_Read, ...]
    slow: bool = False


class NvidiaSensors:
    """The sensors of the devices that `memory` sees the engine on; of all that `env` lets it see, until it is seen.

    `tree`: the engine's processes; without roots where they are not known, and then what others do is not told.
    """

    name = "nvidia sensors"
    interval_s = 0.1

    def __init__(
        self, tree: ProcessTree, memory: NvidiaMemory, env: Mapping[str, str] | None = None, nvml: Any = None
    ) -> None:
        self._memory = memory
        self._tree = tree
        self._nvml, devices, self.reason = opened(nvml)
        self._devices = visible_devices(devices, env or {}, self._nvml) if devices else []
        if not self.reason and not self._devices:
            self.reason = "CUDA_VISIBLE_DEVICES lets the engine see no device"
        self._ways = {
            (sensor.quantity, device.name): list(sensor.ways) for sensor in SENSORS for device in self._devices
        }
        self._untold: dict[str, str] = {}
        self._slow_ns: int | None = None
        self._seen_us: dict[str, int] = {}  # by device: the last sample of processes' loads that was read

    def read(self, at_ns: int) -> Sequence[Sample]:
        """One sample a sensor and device."""
        is_slow_due = self._slow_ns is None or at_ns - self._slow_ns >= SLOW_EVERY_NS
        if is_slow_due:
            self._slow_ns = at_ns
        in_use = [device for device in self._devices if device.name in self._memory.in_use] or self._devices
        sensors = [sensor for sensor in SENSORS if is_slow_due or not sensor.slow]
        found = [(sensor.quantity, self._value(sensor, device), device) for device in in_use for sensor in sensors]
        if is_slow_due and self._tree.roots:
            pids = set(self._tree.pids(at_ns))
            found += [("other_gpu_percent", self._others_percent(device, pids), device) for device in in_use]
        return [
            Sample(at_ns, "nvml", quantity, value, None, device.name)
            for quantity, value, device in found
            if value is not None
        ]

    def facts(self) -> Sequence[Fact]:
        return [Fact(f"no_{quantity}", why, "NVML") for quantity, why in self._untold.items()]

    def _value(self, sensor: Sensor, device: Device) -> float | None:
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

    def _others_percent(self, device: Device, pids: set[int]) -> float | None:
        """The SM load of processes that are not the engine's, since it was asked before; None where that is unknown."""
        if "other_gpu_percent" in self._untold:
            return None
        try:
            loads = self._nvml.nvmlDeviceGetProcessUtilization(device.handle, self._seen_us.get(device.name, 0))
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND:
                return 0.0  # nobody did anything since
            self._untold["other_gpu_percent"] = f"{device.name}: {error}"
            return None
        self._seen_us[device.name] = max([int(load.timeStamp) for load in loads], default=0)
        by_pid = {int(load.pid): int(load.smUtil) for load in loads if int(load.smUtil) <= 100}  # more is no reading
        others = by_pid.keys() - pids
        if others and others == by_pid.keys() and not pids_are_ours(others):
            self._untold["other_gpu_percent"] = (
                f"{device.name}: NVML names processes by another pid namespace's numbers"
            )
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
    Sensor("gpu_memory_used_bytes", (_asked("nvmlDeviceGetMemoryInfo", part="used"),)),
    Sensor("gpu_utilization_percent", (_asked("nvmlDeviceGetUtilizationRates", part="gpu"),)),
    Sensor(
        "power_w",
        (
            _field("NVML_FI_DEV_POWER_INSTANT", per=_MW_PER_W),
            _asked("nvmlDeviceGetPowerUsage", per=_MW_PER_W),  # a mean over the last second, on most cards since 2020
        ),
    ),
    Sensor("energy_j", (_asked("nvmlDeviceGetTotalEnergyConsumption", per=_MJ_PER_J),)),
    Sensor("sm_clock_mhz", (_asked("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),)),
    Sensor("memory_clock_mhz", (_asked("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),)),
    Sensor(
        "throttle_reasons",
        (_asked("nvmlDeviceGetCurrentClocksEventReasons"), _asked("nvmlDeviceGetCurrentClocksThrottleReasons")),
    ),
    Sensor(
        "gpu_temperature_c",
        (
            _asked("nvmlDeviceGetTemperatureV", "NVML_TEMPERATURE_GPU"),
            _asked("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        ),
        slow=True,
    ),
    Sensor("memory_temperature_c", (_field("NVML_FI_DEV_MEMORY_TEMP"),), slow=True),
    Sensor("power_limit_w", (_asked("nvmlDeviceGetEnforcedPowerLimit", per=_MW_PER_W),), slow=True),
)

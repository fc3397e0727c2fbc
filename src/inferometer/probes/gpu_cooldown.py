"""Cooldown between trials: temperatures and clocks of the GPUs, compared with those before the first trial."""

from collections.abc import Sequence
from typing import Any

import msgspec

from inferometer.core.spec import Settle
from inferometer.probes.nvidia import open_nvml


class GpuState(msgspec.Struct, frozen=True):
    """A GPU's temperature in °C and SM clock in MHz; None if unknown."""

    temperature_c: float | None
    clock_mhz: float | None


def gpu_states(nvml: Any = None) -> list[GpuState]:
    """The state of each GPU in NVML's order; empty without NVML. `nvml`: pynvml (untyped) or a fake."""
    nvml, devices, _ = open_nvml(nvml)
    return [
        GpuState(
            _reading(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            _reading(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        )
        for handle in (device.handle for device in devices)
    ]


def remaining_wait(settle: Settle, waited_s: float, before: Sequence[GpuState], now: Sequence[GpuState]) -> str | None:
    """The reason to wait longer, in words; None if the next trial may begin."""
    if waited_s < settle.seconds:
        return f"{settle.seconds:g} s of pause"
    if waited_s >= settle.at_most_s:
        return None
    for number, (then, state) in enumerate(zip(before, now, strict=False)):
        warmer = _minus(state.temperature_c, then.temperature_c)
        if settle.temperature_c is not None and warmer is not None and warmer > settle.temperature_c:
            return f"GPU {number} to cool: {state.temperature_c:g} °C, {then.temperature_c:g} °C at the start"
        slower = _minus(then.clock_mhz, state.clock_mhz)
        if (
            settle.clock_percent is not None
            and slower is not None
            and then.clock_mhz
            and 100 * slower / then.clock_mhz > settle.clock_percent
        ):
            return f"GPU {number} to clock up: {state.clock_mhz:g} MHz, {then.clock_mhz:g} MHz at the start"
    return None


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _reading(nvml: Any, function: Any, *arguments: Any) -> float | None:
    try:
        return float(function(*arguments))
    except nvml.NVMLError:
        return None

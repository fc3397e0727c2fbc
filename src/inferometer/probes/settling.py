"""Has the machine come to rest? How warm the GPUs are and how fast they clock, before a trial and now."""

from collections.abc import Sequence
from typing import Any

import msgspec

from inferometer.core.spec import Settle
from inferometer.probes.nvidia import opened


class GpuState(msgspec.Struct, frozen=True):
    """A GPU's temperature in °C and SM clock in MHz; None where it does not tell."""

    temperature_c: float | None
    clock_mhz: float | None


def gpu_states(nvml: Any = None) -> list[GpuState]:
    """Of each GPU in NVML's order; empty where there is no NVML. `nvml` is pynvml (untyped) or its stand-in."""
    nvml, devices, _ = opened(nvml)
    return [
        GpuState(
            _asked(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            _asked(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        )
        for handle in (device.handle for device in devices)
    ]


def waits_for(settling: Settle, waited_s: float, before: Sequence[GpuState], now: Sequence[GpuState]) -> str | None:
    """What is still waited for, in words; None when the next trial may begin."""
    if waited_s < settling.seconds:
        return f"{settling.seconds:g} s of rest"
    if waited_s >= settling.at_most_s:
        return None
    for number, (then, state) in enumerate(zip(before, now, strict=False)):
        warmer = _minus(state.temperature_c, then.temperature_c)
        if settling.temperature_c is not None and warmer is not None and warmer > settling.temperature_c:
            return f"GPU {number} to cool: {state.temperature_c:g} °C, {then.temperature_c:g} °C at the start"
        slower = _minus(then.clock_mhz, state.clock_mhz)
        if (
            settling.clock_percent is not None
            and slower is not None
            and then.clock_mhz
            and 100 * slower / then.clock_mhz > settling.clock_percent
        ):
            return f"GPU {number} to clock up: {state.clock_mhz:g} MHz, {then.clock_mhz:g} MHz at the start"
    return None


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _asked(nvml: Any, question: Any, *arguments: Any) -> float | None:
    try:
        return float(question(*arguments))
    except nvml.NVMLError:
        return None

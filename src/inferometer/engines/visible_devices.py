"""GPUs that an arm names in CUDA_VISIBLE_DEVICES and similar variables, checked against the drivers.

A number that does not exist hides every GPU: the engine would go on on the CPU, or fail far from the cause.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from inferometer.base.errors import RequestWrong

CUDA, HIP = "CUDA_VISIBLE_DEVICES", ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
VISIBLE = (CUDA, *HIP)


class Seen(msgspec.Struct, frozen=True):
    """The GPUs that a driver knows. `reason`: why that cannot be said, so that nothing is refused by it; "": it can."""

    count: int
    uuids: tuple[str, ...] = ()
    reason: str = ""
    driver: str = ""


def require_visible(env: Mapping[str, str]) -> None:
    """Raises RequestWrong for a device in the arm's environment that is not there. Linux only."""
    if sys.platform != "linux" or not any(name in env for name in VISIBLE):
        return
    nvidia, amd = nvidia_seen(), amd_seen()
    for name in VISIBLE:
        said = problem(name, env.get(name, ""), nvidia, amd)
        if said:
            raise RequestWrong(f"env: {said}\ninferometer doctor says what this machine has.")


def problem(name: str, value: str, nvidia: Seen, amd: Seen) -> str:
    """What is wrong with the variable's value; "" where nothing is known to be. `""` and -1 hide all GPUs: on purpose.

    ROCm reads CUDA_VISIBLE_DEVICES as HIP's, so that a number is good if either driver has it.
    """
    drivers = (nvidia, amd) if name == CUDA else (amd,)
    if any(seen.reason for seen in drivers):
        return ""
    count = max(seen.count for seen in drivers)
    names = [part.strip() for part in value.split(",") if part.strip()]
    for device in names:
        if device == "-1":
            return ""  # what follows it is not looked at, by CUDA either
        if device.isdecimal():
            known = int(device) < count
        elif device.startswith("GPU-") and drivers[0].uuids:
            known = any(uuid.startswith(device) for uuid in drivers[0].uuids)
        else:
            known = count > 0
        if not known:
            numbers = "GPU 0 only" if count == 1 else f"GPUs 0 to {count - 1}"
            there = f"the driver knows {numbers}" if count else f"there is none: {_absent(drivers)}"
            return f"{name}={value} names GPU {device}, and {there}."
    return ""


def _absent(drivers: tuple[Seen, ...]) -> str:
    return "; ".join(seen.driver for seen in drivers if seen.driver) or "no driver knows one"


def nvidia_seen(nvml: Any = None, dev: Path = Path("/dev")) -> Seen:
    """By NVML. `nvml`: pynvml, which ships no types, or its stand-in. A Jetson has CUDA and may have no NVML."""
    if nvml is None:
        try:
            import pynvml as nvml
        except ImportError:
            return Seen(0, reason="nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return Seen(len(handles), tuple(str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles))
    except nvml.NVMLError as error:
        if any((dev / name).exists() for name in ("nvidia0", "nvhost-ctrl-gpu", "nvhost-gpu", "dxg")):
            return Seen(0, reason=f"NVML: {error}")
        return Seen(0, driver=f"NVIDIA's driver is absent (NVML: {error})")


def amd_seen(topology: Path = Path("/sys/class/kfd/kfd/topology/nodes")) -> Seen:
    """By the kernel's compute driver: every GPU that ROCm can use is a node with SIMDs."""
    try:
        nodes = [(node / "properties").read_text() for node in topology.iterdir()]
    except FileNotFoundError:
        return Seen(0, driver=f"AMD's compute driver is absent (no {topology.parents[2]})")
    except OSError as error:
        return Seen(0, reason=f"{topology}: {error.strerror}")
    gpus = [text for text in nodes if any(_has_simds(line) for line in text.splitlines())]
    return Seen(len(gpus), driver="" if gpus else "AMD's compute driver knows no GPU")


def _has_simds(line: str) -> bool:
    name, _, value = line.partition(" ")
    return name == "simd_count" and value.strip() not in ("", "0")

"""Device conflicts: arms of a parallel study that would share a device, found in the spec before anything starts."""

from collections.abc import Mapping
from itertools import combinations

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm

_VARIABLES = {"CUDA_VISIBLE_DEVICES": "CUDA", "HIP_VISIBLE_DEVICES": "ROCm", "ROCR_VISIBLE_DEVICES": "ROCm"}
_DEVICE_FLAGS = ("--device", "-dev")


def require_separate_devices(arms: Mapping[str, Arm]) -> None:
    """Raises RequestWrong where two arms would share a device, or an arm does not name its device."""
    devices = {name: devices_of(arm) for name, arm in arms.items()}
    for name, own in devices.items():
        if not own:
            raise RequestWrong(
                f"parallel: true runs the arms at the same time, and arm {name} does not say on which device. Give "
                "each arm its own device, as `env: {CUDA_VISIBLE_DEVICES: 0}` (HIP_VISIBLE_DEVICES for ROCm; -1 for "
                "the CPU alone), or remove parallel."
            )
    for (one, its), (other, others) in combinations(devices.items(), 2):
        for device in sorted(its & others):
            raise RequestWrong(
                f"parallel: true runs the arms at the same time, and arms {one} and {other} would share {device}: "
                "each would slow the other down. Give each arm a separate device, or remove parallel."
            )


def devices_of(arm: Arm) -> set[str]:
    """The devices that an arm names; the address of a server that is already running; empty where the arm names none.

    Environment variables decide which devices the engine sees. Without them, llama.cpp's --device decides.
    """
    if arm.url:
        return {arm.url}
    found: set[str] = set()
    for variable, family in _VARIABLES.items():
        if variable in arm.env:
            names = [name.strip() for name in arm.env[variable].split(",") if name.strip()]
            hidden = not names or names[0] == "-1"
            found |= {"the CPU"} if hidden else {f"{family} device {name}" for name in names}
    if found:
        return found
    words = arm.args if isinstance(arm.command, str) else (*arm.args, *arm.command)
    for place, word in enumerate(words[:-1]):
        if word in _DEVICE_FLAGS:
            found |= {f"device {name.strip()}" for name in words[place + 1].split(",") if name.strip()}
    return found

"""Does each arm of a parallel study run on devices of its own? By what its spec says, before anything is started."""

from collections.abc import Mapping
from itertools import combinations

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm

_VARIABLES = {"CUDA_VISIBLE_DEVICES": "CUDA", "HIP_VISIBLE_DEVICES": "ROCm", "ROCR_VISIBLE_DEVICES": "ROCm"}
_DEVICE_FLAGS = ("--device", "-dev")


def require_apart(arms: Mapping[str, Arm]) -> None:
    """Raises RequestWrong where two arms would share a device, or nothing says that they do not."""
    used = {name: devices_of(arm) for name, arm in arms.items()}
    for name, devices in used.items():
        if not devices:
            raise RequestWrong(
                f"parallel: true runs the arms at once, and arm {name} does not say on which device. Give each arm its "
                "own, as `env: {CUDA_VISIBLE_DEVICES: 0}` (HIP_VISIBLE_DEVICES for ROCm; -1 for the CPU alone), or "
                "leave parallel out."
            )
    for (one, its), (other, others) in combinations(used.items(), 2):
        for device in sorted(its & others):
            raise RequestWrong(
                f"parallel: true runs the arms at once, and arms {one} and {other} would share {device}: each would "
                "measure the other. Give each a device of its own, or leave parallel out."
            )


def devices_of(arm: Arm) -> set[str]:
    """The devices that an arm names, an address where it is a server that runs; empty where it names none.

    The environment's variables say what is there, a --device of llama.cpp's what is taken of it.
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

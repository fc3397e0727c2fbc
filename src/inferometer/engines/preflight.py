"""What does an engine say of itself before it serves? Which GPUs it sees, and how it wants flash attention spelled."""

import re
import subprocess
import sys

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engines.command_line import program
from inferometer.engines.llama_server import ADVICE, _ask

_LISTED = re.compile(r"^\s+(\w+?\d+): (.+?)(?: \(\d+ MiB, \d+ MiB free\))?\s*$", re.MULTILINE)
_FLASH_ATTN_TAKES_VALUE = re.compile(r"--flash-attn +(?:\[|\{|<|[A-Z]{2,}\b)")
"""`-fa,   --flash-attn [on|off|auto]`, or `FA`, where older help goes on with what the switch does."""

_ASK_WHEEL = (
    "import json, xllamacpp as x; kinds = x.ggml_backend_dev_type; "
    "gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU); "
    "print(json.dumps([(d['name'], d['description']) for d in x.get_device_info() if d['type'] in gpus]))"
)


class Gpus(msgspec.Struct, frozen=True):
    """What the engine says. `backend`: `CUDA`, `ROCm`, `Vulkan`, …, by commas; `CPU` where there is no GPU."""

    backend: str
    names: tuple[str, ...] = ()


def gpus_of(arm: Arm) -> Gpus | None:
    """The GPUs of an engine that we start; None where it does not say: another's server, a build without the flag."""
    if arm.engine == "embedded":
        return _of_wheel()
    if arm.engine != "llama-server":
        return None
    return listed(_ask(program(arm, "llama-server", ADVICE), "--list-devices", arm))


def flash_attn_flags(arm: Arm, word: str) -> list[str]:
    """`-fa on`; for a llama-server before late 2025, which has a switch without a value, `-fa` or nothing.

    Raises RequestWrong for `auto` where there is only the switch.
    """
    if arm.engine != "llama-server" or _FLASH_ATTN_TAKES_VALUE.search(
        _ask(program(arm, "llama-server", ADVICE), "--help", arm)
    ):
        return ["-fa", word]
    if word == "auto":
        raise RequestWrong(f"-fa auto: {arm.binary} knows only on and off; give -fa 0 or -fa 1.")
    return ["-fa"] if word == "on" else []


def listed(text: str) -> Gpus | None:
    """What `--list-devices` prints: `CUDA0: NVIDIA H200 (143771 MiB, 143189 MiB free)`, a line each."""
    _, mark, lines = text.partition("Available devices:")
    return _gpus(_LISTED.findall(lines)) if mark else None


def _of_wheel() -> Gpus | None:
    """Asked in a process of its own: what a driver takes for it must not stay in ours."""
    command = [sys.executable, "-P", "-c", _ASK_WHEEL]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        return _gpus(msgspec.json.decode(done.stdout.splitlines()[-1], type=list[tuple[str, str]]))
    except (OSError, subprocess.SubprocessError, IndexError, msgspec.DecodeError):
        return None  # a wheel before get_device_info: it does not say


def _gpus(found: list[tuple[str, str]]) -> Gpus:
    backends = list(dict.fromkeys(name.rstrip("0123456789") for name, _ in found))
    return Gpus(",".join(backends) or "CPU", tuple(description for _, description in found))

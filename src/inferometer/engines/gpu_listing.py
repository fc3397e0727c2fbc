"""GPUs that a llama.cpp engine lists before it serves: read from `--list-devices`, or from the xllamacpp wheel."""

import re
import subprocess
import sys

import msgspec

from inferometer.engines.base import Gpus

_LISTED = re.compile(r"^\s+(\w+?\d+): (.+?)(?: \(\d+ MiB, \d+ MiB free\))?\s*$", re.MULTILINE)
_ASK_WHEEL = (
    "import json, xllamacpp as x; kinds = x.ggml_backend_dev_type; "
    "gpus = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU); "
    "print(json.dumps([(d['name'], d['description']) for d in x.get_device_info() if d['type'] in gpus]))"
)


def listed(text: str) -> Gpus | None:
    """GPUs in the output of `--list-devices` (`CUDA0: NVIDIA H200 (143771 MiB, 143189 MiB free)`, one per line).

    None if the text is not such a list: the build has no such flag.
    """
    _, mark, lines = text.partition("Available devices:")
    return _gpus(_LISTED.findall(lines)) if mark else None


def gpus_of_wheel() -> Gpus | None:
    """GPUs that xllamacpp sees; None if the wheel is too old to list them. Runs in a separate process: the memory that
    a driver takes for the list must not stay in ours."""
    command = [sys.executable, "-P", "-c", _ASK_WHEEL]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        return _gpus(msgspec.json.decode(done.stdout.splitlines()[-1], type=list[tuple[str, str]]))
    except (OSError, subprocess.SubprocessError, IndexError, msgspec.DecodeError):
        return None


def _gpus(found: list[tuple[str, str]]) -> Gpus:
    backends = list(dict.fromkeys(name.rstrip("0123456789") for name, _ in found))
    return Gpus(",".join(backends) or "CPU", tuple(description for _, description in found))

"""Check for free disk space and memory, made before a stand-in file is written."""

import shutil
from pathlib import Path

import psutil

from inferometer.base.errors import RequestWrong
from inferometer.base.units import bytes_text

_HEAD_BYTES = 32 * 2**20
"""Upper bound for metadata and vocabulary."""


def require_room(path: Path, size: int, *, force: bool) -> None:
    """Raises RequestWrong if the file exists, or is larger than the free disk space or than all memory of this machine
    including its GPUs. `force` skips the checks for an existing file and for memory.
    """
    if path.is_dir():
        raise RequestWrong(f"{path} is a folder: name a file in it, such as {path / 'standin.gguf'}.")
    if path.exists() and not force:
        raise RequestWrong(f"{path} exists already; nothing was written. Name another file, or add --force.")
    folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    free = shutil.disk_usage(folder).free + (path.stat().st_size if path.exists() else 0)
    needed = size + _HEAD_BYTES
    if needed > free:
        raise RequestWrong(
            f"{path} would take {bytes_text(size)}, and the disk of {folder} has {bytes_text(free)} free; nothing was "
            "written. Free some space, name a file on another disk, or choose a smaller shape or quantisation."
        )
    memory = memory_bytes()
    if size > memory and not force:
        raise RequestWrong(
            f"{path} would take {bytes_text(size)}, and this machine has {bytes_text(memory)} of memory, its GPUs' "
            "included: no engine could hold the model; nothing was written. Choose a smaller shape or quantisation, or "
            "add --force if the file is for another machine."
        )


def memory_bytes() -> int:
    """Memory of the machine and of its NVIDIA GPUs together."""
    return psutil.virtual_memory().total + _gpu_bytes()


def _gpu_bytes() -> int:
    """Memory of the GPUs that NVML finds; 0 without any."""
    try:
        import pynvml
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return sum(int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
    except pynvml.NVMLError:
        return 0

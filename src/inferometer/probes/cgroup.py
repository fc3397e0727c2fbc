"""CPU and memory limits of the control group of this process (a container or a service).

Reads both versions of cgroups. In a container, the group's folder is often not visible under its own name; then the
root of the mounted hierarchy belongs to the container.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

_NO_LIMIT_BYTES = 2**60  # version 1 writes the highest possible number of pages


class Limits(msgspec.Struct, frozen=True):
    """The tightest limits of our group and its parents; None: no limit. `throttled`: the file that counts the time for
    which the CPU limit stopped us; None without such a limit.
    """

    cpu_cores: float | None = None
    memory_bytes: int | None = None
    throttled: Path | None = None


def limits(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> Limits:
    """The limits of this process."""
    cores: dict[float, Path] = {}
    memory: list[int] = []
    for folder in _folders(proc, root):
        quota = _cores(folder)
        if quota is not None:
            cores[quota] = folder / "cpu.stat"
        memory += _bytes(folder)
    tightest = min(cores, default=None)
    return Limits(tightest, min(memory, default=None), None if tightest is None else cores[tightest])


def throttled_s(stat: Path) -> float | None:
    """How long the CPU limit stopped the group's processes, summed over cores; None if the file cannot be read."""
    try:
        words = stat.read_text().split()
    except OSError:
        return None
    counters = dict(zip(words[::2], words[1::2], strict=False))
    if "throttled_usec" in counters:
        return int(counters["throttled_usec"]) / 1e6
    return int(counters["throttled_time"]) / 1e9 if "throttled_time" in counters else None


def _folders(proc: Path, root: Path) -> Iterator[Path]:
    """The folders of our group and its parents, for every controller that limits CPU or memory."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = set(controllers.split(","))
        if controllers == "":
            mounts = [root, root / "unified"]
        elif names & {"cpu", "memory"}:
            mounts = [root / controllers, root / ("cpu" if "cpu" in names else "memory")]
        else:
            continue
        for mount in mounts:
            folder = mount / path.strip("/")
            folder = folder if folder.is_dir() else mount
            while folder.is_dir():
                yield folder
                if folder == mount:
                    break
                folder = folder.parent


def _cores(folder: Path) -> float | None:
    both = _text(folder / "cpu.max")  # version 2: `max 100000` or `200000 100000`
    words = both.split() if both else [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    quota, period = words
    if quota is None or period is None or quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def _bytes(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name)
        if text is not None and text != "max" and int(text) < _NO_LIMIT_BYTES:
            yield int(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None

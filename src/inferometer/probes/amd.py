"""How hard do the AMD devices work, and how much of their memory does the engine hold? From sysfs, hwmon and fdinfo.

Files of the amdgpu driver, readable for every user; no library is needed. What the engine holds is told by the kernel's
list of its open files (fdinfo, since Linux 5.14), which the engine's own user may read. Names as in the kernel's
documentation: gpu/amdgpu/thermal.rst, gpu/amdgpu/driver-misc.rst, gpu/drm-usage-stats.rst.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from inferometer.base.units import NS_PER_S
from inferometer.core import quantities
from inferometer.core.record import Fact, Sample
from inferometer.probes.process_tree import ProcessTree

AMD = "0x1002"
LEAST_IN_USE_BYTES = 64 * 1024**2
"""Below this a process has only looked at a device: libraries open every one there is."""

_LOOK_EVERY_NS = NS_PER_S
_UNIT_BYTES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_VRAM_KEYS = ("drm-resident-vram", "drm-memory-vram", "drm-total-vram")
"""What lies in VRAM now: the key of today, its older name, and what may be swapped out too where there is no other."""


class AmdDevice(NamedTuple):
    """`address` is its PCI address, by which fdinfo names it; `files`: by quantity the file, and what to divide by."""

    name: str
    address: str
    files: dict[str, tuple[Path, float]]


class AmdClient(NamedTuple):
    """Something that holds memory of a device. Several open files, also of several processes, may be one client."""

    address: str
    client_id: str
    vram_bytes: int


class AmdDevices:
    """The devices that the engine holds memory of; all, until it holds any, and where its processes are not known."""

    name = "amd devices"
    interval_s = 0.1

    def __init__(self, tree: ProcessTree, sys: Path = Path("/sys")) -> None:
        self._tree = tree
        self._devices = devices(sys)
        self.reason = "" if self._devices else f"no card of {sys}/class/drm is an AMD one"
        self._in_use: set[str] = set()
        self._looked_ns: int | None = None
        self._files: dict[int, list[Path]] = {}
        self._untold = {
            quantity: f"{device.name}: the driver has no file for it"
            for device in self._devices
            for quantity in QUANTITIES - device.files.keys()
        }

    def read(self, at_ns: int) -> Sequence[Sample]:
        """Of each device its sensors; of each process and device `gpu_memory_bytes`."""
        held = list(self._held(at_ns))
        in_use = [device for device in self._devices if device.address in self._in_use] or self._devices
        return [*held, *(sample for device in in_use for sample in self._sensors(device, at_ns))]

    def facts(self) -> Sequence[Fact]:
        names = ", ".join(device.name for device in self._devices if device.address in self._in_use)
        facts = [Fact(quantities.AMD_GPUS_IN_USE, names, "fdinfo")] if names else []
        return [
            *facts,
            *(Fact(quantities.absent_fact(quantity), why, "sysfs") for quantity, why in self._untold.items()),
        ]

    def _sensors(self, device: AmdDevice, at_ns: int) -> Iterator[Sample]:
        for quantity, (path, per) in device.files.items():
            try:
                value = int(path.read_text()) / per
            except (OSError, ValueError) as error:  # a card that sleeps answers some with EPERM or EBUSY
                self._untold[quantity] = f"{device.name}: {path.name}: {error}"
                continue
            source = "hwmon" if "hwmon" in path.parts else "sysfs"
            yield Sample(at_ns, source, quantity, value, None, device.name)

    def _held(self, at_ns: int) -> Iterator[Sample]:
        pids = self._tree.pids(at_ns)
        if self._looked_ns is None or at_ns - self._looked_ns >= _LOOK_EVERY_NS or not self._files.keys() >= set(pids):
            self._looked_ns = at_ns
            self._files = {pid: list(_drm_files(self._tree.folder / str(pid) / "fdinfo")) for pid in pids}
        names = {device.address: device.name for device in self._devices}
        seen: set[tuple[str, str]] = set()
        for pid in pids:
            by_device: dict[str, int] = {}
            for client in filter(None, map(_client_in, self._files.get(pid, []))):
                if (client.address, client.client_id) not in seen and client.address in names:
                    seen.add((client.address, client.client_id))
                    by_device[client.address] = by_device.get(client.address, 0) + client.vram_bytes
            for address, vram_bytes in by_device.items():
                if vram_bytes >= LEAST_IN_USE_BYTES:
                    self._in_use.add(address)
                yield Sample(at_ns, "fdinfo", quantities.GPU_MEMORY_BYTES, float(vram_bytes), pid, names[address])


def devices(sys: Path = Path("/sys")) -> list[AmdDevice]:
    """The AMD cards, in the order of their numbers."""
    cards = [path for path in (sys / "class" / "drm").glob("card*") if re.fullmatch(r"card\d+", path.name)]
    found: list[AmdDevice] = []
    for card in sorted(cards, key=lambda path: int(path.name[4:])):
        folder = card / "device"
        if _text(folder / "vendor") == AMD:
            number = card.name[4:]
            words = _text(folder / "product_name") or f"AMD {(_text(folder / 'device') or '').removeprefix('0x')}"
            slot = re.search(r"^PCI_SLOT_NAME=(\S+)", _text(folder / "uevent") or "", re.MULTILINE)
            files = {quantity: (path, per) for quantity, path, per in _files(folder) if path.exists()}
            found.append(AmdDevice(f"GPU {number} {words}", slot[1] if slot else "", files))
    return found


def client(text: str) -> AmdClient | None:
    """What one file of fdinfo says of amdgpu; None where it is of no such device, or tells no memory."""
    told = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    if told.get("drm-driver") != "amdgpu":
        return None
    words = next((told[key].split() for key in _VRAM_KEYS if key in told), None)
    if not words:
        return None
    unit = words[1] if len(words) > 1 else ""
    return AmdClient(told.get("drm-pdev", ""), told.get("drm-client-id", ""), int(words[0]) * _UNIT_BYTES[unit])


def _files(folder: Path) -> Iterator[tuple[str, Path, float]]:
    """Quantity, file, and what to divide by; the first that exists of several is given."""
    yield quantities.GPU_MEMORY_USED_BYTES, folder / "mem_info_vram_used", 1
    yield quantities.GPU_UTILIZATION_PERCENT, folder / "gpu_busy_percent", 1
    for hwmon in sorted((folder / "hwmon").glob("hwmon*"))[:1]:
        average, instant = hwmon / "power1_average", hwmon / "power1_input"
        yield quantities.POWER_W, average if average.exists() else instant, 1e6
        yield quantities.POWER_LIMIT_W, hwmon / "power1_cap", 1e6
        labels = {
            _text(path): path.with_name(path.name.replace("_label", "_input")) for path in hwmon.glob("temp*_label")
        }
        edge = labels.get("edge") or labels.get("junction") or hwmon / "temp1_input"  # old chips have one, unnamed
        yield quantities.GPU_TEMPERATURE_C, edge, 1000
        if "mem" in labels:
            yield quantities.MEMORY_TEMPERATURE_C, labels["mem"], 1000
        yield quantities.SM_CLOCK_MHZ, hwmon / "freq1_input", 1e6
        yield quantities.MEMORY_CLOCK_MHZ, hwmon / "freq2_input", 1e6


QUANTITIES = frozenset(
    {
        quantities.GPU_MEMORY_USED_BYTES,
        quantities.GPU_UTILIZATION_PERCENT,
        quantities.POWER_W,
        quantities.POWER_LIMIT_W,
        quantities.GPU_TEMPERATURE_C,
        quantities.MEMORY_TEMPERATURE_C,
        quantities.SM_CLOCK_MHZ,
        quantities.MEMORY_CLOCK_MHZ,
    }
)
"""What a card with all its files tells of itself."""


def _drm_files(folder: Path) -> Iterator[Path]:
    """Those of a process's open files that are an amdgpu device's; none where they may not be read."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if "drm-driver" in (_text(path) or ""):
            yield path


def _client_in(path: Path) -> AmdClient | None:
    text = _text(path)
    return None if text is None else client(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

"""AMD devices: sensors and the engine's GPU memory, from sysfs, hwmon and fdinfo.

These files of the amdgpu driver need no library. Every user may read the sensors. The kernel's list of a process's open
files (fdinfo, since Linux 5.14) states the memory that the engine holds; the engine's own user may read it. Names
follow the kernel's documentation: gpu/amdgpu/thermal.rst, gpu/amdgpu/driver-misc.rst, gpu/drm-usage-stats.rst.
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
"""A process that holds less does not use the device: libraries open every device."""

_SCAN_EVERY_NS = NS_PER_S
_UNIT_BYTES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_VRAM_KEYS = ("drm-resident-vram", "drm-memory-vram", "drm-total-vram")
"""Keys of the memory in VRAM: the current key, its older name, and one that includes swapped memory."""


class AmdDevice(NamedTuple):
    """`address`: its PCI address, as in fdinfo; `files`: for each quantity the file and the divisor of its value."""

    name: str
    address: str
    files: dict[str, tuple[Path, float]]


class AmdClient(NamedTuple):
    """A holder of device memory. Several open files, even of several processes, may belong to one client."""

    address: str
    client_id: str
    vram_bytes: int


class AmdDevices:
    """The devices on which the engine holds memory; all devices until it holds any, or if its processes are unknown."""

    name = "amd devices"
    interval_s = 0.2

    def __init__(self, tree: ProcessTree, sys: Path = Path("/sys")) -> None:
        self._tree = tree
        self._devices = devices(sys)
        self.reason = "" if self._devices else f"{sys}/class/drm lists no AMD card"
        self._in_use: set[str] = set()
        self._scanned_ns: int | None = None
        self._files: dict[int, list[Path]] = {}
        self._unavailable = {
            quantity: f"{device.name}: the driver provides no file for it"
            for device in self._devices
            for quantity in QUANTITIES - device.files.keys()
        }

    def read(self, at_ns: int) -> Sequence[Sample]:
        """The sensors of each device, and the GPU memory of each process on each device."""
        memory = list(self._memory(at_ns))
        in_use = [device for device in self._devices if device.address in self._in_use] or self._devices
        return [*memory, *(sample for device in in_use for sample in self._sensors(device, at_ns))]

    def facts(self) -> Sequence[Fact]:
        names = ", ".join(device.name for device in self._devices if device.address in self._in_use)
        facts = [Fact(quantities.AMD_GPUS_IN_USE, names, "fdinfo")] if names else []
        return [
            *facts,
            *(Fact(quantities.absent_fact(quantity), why, "sysfs") for quantity, why in self._unavailable.items()),
        ]

    def _sensors(self, device: AmdDevice, at_ns: int) -> Iterator[Sample]:
        for quantity, (path, per) in device.files.items():
            try:
                value = int(path.read_text()) / per
            except (OSError, ValueError) as error:  # a suspended card returns EPERM or EBUSY for some files
                self._unavailable[quantity] = f"{device.name}: {path.name}: {error}"
                continue
            source = "hwmon" if "hwmon" in path.parts else "sysfs"
            yield Sample(at_ns, source, quantity, value, None, device.name)

    def _memory(self, at_ns: int) -> Iterator[Sample]:
        pids = self._tree.pids(at_ns)
        if (
            self._scanned_ns is None
            or at_ns - self._scanned_ns >= _SCAN_EVERY_NS
            or not self._files.keys() >= set(pids)
        ):
            self._scanned_ns = at_ns
            self._files = {pid: list(_drm_files(self._tree.folder / str(pid) / "fdinfo")) for pid in pids}
        names = {device.address: device.name for device in self._devices}
        seen: set[tuple[str, str]] = set()
        for pid in pids:
            by_device: dict[str, int] = {}
            for client in filter(None, map(_read_client, self._files.get(pid, []))):
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


def parse_fdinfo(text: str) -> AmdClient | None:
    """The client in one fdinfo file; None if the file belongs to another driver or states no memory."""
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    if fields.get("drm-driver") != "amdgpu":
        return None
    words = next((fields[key].split() for key in _VRAM_KEYS if key in fields), None)
    if not words:
        return None
    unit = words[1] if len(words) > 1 else ""
    return AmdClient(fields.get("drm-pdev", ""), fields.get("drm-client-id", ""), int(words[0]) * _UNIT_BYTES[unit])


def _files(folder: Path) -> Iterator[tuple[str, Path, float]]:
    """Quantity, file and divisor. Of alternative files, the first that exists."""
    yield quantities.GPU_MEMORY_USED_BYTES, folder / "mem_info_vram_used", 1
    yield quantities.GPU_UTILIZATION_PERCENT, folder / "gpu_busy_percent", 1
    for hwmon in sorted((folder / "hwmon").glob("hwmon*"))[:1]:
        average, instant = hwmon / "power1_average", hwmon / "power1_input"
        yield quantities.POWER_W, average if average.exists() else instant, 1e6
        yield quantities.POWER_LIMIT_W, hwmon / "power1_cap", 1e6
        labels = {
            _text(path): path.with_name(path.name.replace("_label", "_input")) for path in hwmon.glob("temp*_label")
        }
        edge = labels.get("edge") or labels.get("junction") or hwmon / "temp1_input"  # old chips: one unnamed sensor
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
"""The quantities of a card that has every file."""


def _drm_files(folder: Path) -> Iterator[Path]:
    """The open files of a process that belong to a GPU driver; none if we may not read them."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if "drm-driver" in (_text(path) or ""):
            yield path


def _read_client(path: Path) -> AmdClient | None:
    text = _text(path)
    return None if text is None else parse_fdinfo(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

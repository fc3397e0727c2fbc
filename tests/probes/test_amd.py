"""No such card is at hand: recorded/w7900 was written after the kernel's documentation (recorded/README.md)."""

import shutil
from pathlib import Path

import pytest

from inferometer.probes.amd import AmdClient, AmdDevices, parse_fdinfo
from inferometer.probes.process_tree import ProcessTree

GPU = "GPU 1 AMD Radeon PRO W7900"
MIB = 1024**2


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    shutil.copytree(Path(__file__).parent / "recorded" / "w7900", tmp_path / "w7900")
    return tmp_path / "w7900"


def probe(machine: Path, *roots: int) -> AmdDevices:
    return AmdDevices(ProcessTree(roots, machine / "proc"), machine / "sys")


def test_the_cards_sensors_are_read_in_our_units(machine: Path):
    samples = probe(machine).read(5)
    assert {(sample.at_ns, sample.device, sample.pid) for sample in samples} == {(5, GPU, None)}
    assert {sample.quantity: (sample.value, sample.source) for sample in samples} == {
        "gpu_memory_used_bytes": (20 * 1024 * MIB, "sysfs"),
        "gpu_utilization_percent": (97.0, "sysfs"),
        "power_w": (241.0, "hwmon"),
        "power_limit_w": (241.0, "hwmon"),
        "gpu_temperature_c": (61.0, "hwmon"),
        "memory_temperature_c": (74.0, "hwmon"),
        "sm_clock_mhz": (1760.0, "hwmon"),
        "memory_clock_mhz": (1124.0, "hwmon"),
    }


def test_a_client_counts_once_however_many_files_and_processes_share_it(machine: Path):
    held = [sample for sample in probe(machine, 4242).read(0) if sample.quantity == "gpu_memory_bytes"]
    assert [(s.source, s.pid, s.device, s.value) for s in held] == [("fdinfo", 4242, GPU, 20001.0 * MIB)]


def test_the_devices_that_the_engine_holds_memory_of_are_the_ones_read(machine: Path):
    other = machine / "sys" / "class" / "drm" / "card2"
    shutil.copytree(machine / "sys" / "class" / "drm" / "card1", other)
    (other / "device" / "uevent").write_text("PCI_SLOT_NAME=0000:83:00.0\n")
    (other / "device" / "product_name").unlink()
    assert {sample.device for sample in probe(machine).read(0)} == {GPU, "GPU 2 AMD 7448"}
    of_engine = probe(machine, 4242)
    assert {sample.device for sample in of_engine.read(0)} == {GPU}
    assert ("amd_gpus_in_use", GPU) in {(fact.name, fact.value) for fact in of_engine.facts()}


@pytest.mark.parametrize(
    ("lines", "vram_bytes"),
    [
        ("drm-memory-vram:\t3 KiB", 3 * 1024),
        ("drm-total-vram: 5 MiB\ndrm-memory-vram:\t4096 KiB", 4 * MIB),
        ("drm-memory-vram: 9 MiB\ndrm-resident-vram: 8 MiB", 8 * MIB),
        ("drm-total-vram:\t7", 7),
    ],
)
def test_old_and_new_keys_tell_what_lies_in_vram(lines: str, vram_bytes: int):
    head = "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t4\ndrm-pdev:\t0000:03:00.0\n"
    assert parse_fdinfo(head + lines) == AmdClient("0000:03:00.0", "4", vram_bytes)


def test_an_open_file_of_something_else_is_no_parse_fdinfo():
    assert parse_fdinfo("pos:\t0\nflags:\t02\n") is None
    assert parse_fdinfo("drm-driver:\ti915\ndrm-client-id:\t4\ndrm-memory-vram:\t4 KiB\n") is None
    assert parse_fdinfo("drm-driver:\tamdgpu\ndrm-client-id:\t4\n") is None


def test_power_is_read_under_either_of_its_names(machine: Path):
    hwmon = machine / "sys" / "class" / "drm" / "card1" / "device" / "hwmon" / "hwmon4"
    (hwmon / "power1_average").rename(hwmon / "power1_input")
    assert ("power_w", 241.0) in {(sample.quantity, sample.value) for sample in probe(machine).read(0)}


def test_what_a_card_does_not_tell_is_a_reason_and_the_rest_goes_on(machine: Path):
    device = machine / "sys" / "class" / "drm" / "card1" / "device"
    (device / "gpu_busy_percent").unlink()
    (device / "hwmon" / "hwmon4" / "temp3_label").unlink()
    (device / "hwmon" / "hwmon4" / "freq2_input").write_text("")
    sensors = probe(machine)
    quantities = {sample.quantity for sample in sensors.read(0)}
    assert quantities >= {"power_w", "gpu_temperature_c", "gpu_memory_used_bytes", "sm_clock_mhz"}
    missing = {"gpu_utilization_percent", "memory_temperature_c", "memory_clock_mhz"}
    assert quantities.isdisjoint(missing)
    assert {fact.name for fact in sensors.facts()} == {f"no_{quantity}" for quantity in missing}


def test_without_such_a_card_there_is_a_reason(tmp_path: Path):
    assert AmdDevices(ProcessTree([1], tmp_path), tmp_path).reason == f"{tmp_path}/class/drm lists no AMD card"

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferometer.engines.visible_devices import Seen, amd_seen, nvidia_seen, problem

NONE = Seen(0, driver="NVIDIA's driver is absent (NVML: not found)")
NO_AMD = Seen(0, driver="AMD's compute driver is absent")
ONE = Seen(1, ("GPU-1234-ab",))
TWO_AMD = Seen(2)
UNKNOWN = Seen(0, reason="NVML: in a bad mood")


@pytest.mark.parametrize(
    ("name", "value", "nvidia", "amd", "message"),
    [
        ("CUDA_VISIBLE_DEVICES", "0", ONE, NO_AMD, ""),
        ("CUDA_VISIBLE_DEVICES", "GPU-1234", ONE, NO_AMD, ""),
        ("CUDA_VISIBLE_DEVICES", "", NONE, NO_AMD, ""),
        ("CUDA_VISIBLE_DEVICES", "-1", NONE, NO_AMD, ""),
        ("CUDA_VISIBLE_DEVICES", "1", ONE, NO_AMD, "names GPU 1, and the driver knows GPU 0 only."),
        ("CUDA_VISIBLE_DEVICES", "0, 3", ONE, NO_AMD, "names GPU 3, and"),
        ("CUDA_VISIBLE_DEVICES", "GPU-77", ONE, NO_AMD, "names GPU GPU-77, and"),
        ("CUDA_VISIBLE_DEVICES", "0", NONE, NO_AMD, "none: NVIDIA's driver is absent (NVML: not found); AMD's"),
        ("CUDA_VISIBLE_DEVICES", "1", NONE, TWO_AMD, ""),  # ROCm reads it too
        ("CUDA_VISIBLE_DEVICES", "9", UNKNOWN, NO_AMD, ""),
        ("HIP_VISIBLE_DEVICES", "1", NONE, TWO_AMD, ""),
        ("HIP_VISIBLE_DEVICES", "2", NONE, TWO_AMD, "names GPU 2, and the driver knows GPUs 0 to 1."),
        ("ROCR_VISIBLE_DEVICES", "0", ONE, NO_AMD, "there is none: AMD's compute driver is absent"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there_is_named(name: str, value: str, nvidia: Seen, amd: Seen, message: str):
    said = problem(name, value, nvidia, amd)
    assert message in said
    assert bool(said) == bool(message)


class NVMLError(Exception):
    pass


def fake_nvml(uuids: list[str], error: str = "") -> Any:
    def init() -> None:
        if error:
            raise NVMLError(error)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlDeviceGetCount=lambda: len(uuids),
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetUUID=lambda handle: uuids[handle],
    )


def test_nvidias_devices_are_those_that_nvml_knows(tmp_path: Path):
    assert nvidia_seen(fake_nvml(["GPU-a", "GPU-b"]), tmp_path) == Seen(2, ("GPU-a", "GPU-b"))
    absent = nvidia_seen(fake_nvml([], "Driver Not Loaded"), tmp_path)
    assert (absent.count, absent.reason) == (0, "")
    assert "Driver Not Loaded" in absent.driver


def test_a_gpu_without_nvml_is_not_denied(tmp_path: Path):
    (tmp_path / "nvhost-gpu").touch()  # a Jetson's
    assert nvidia_seen(fake_nvml([], "Not Found"), tmp_path).reason == "NVML: Not Found"


def test_amds_devices_are_the_nodes_with_simds(tmp_path: Path):
    for name, simds in (("0", 0), ("1", 96), ("2", 8)):
        (tmp_path / "kfd" / name).mkdir(parents=True)
        (tmp_path / "kfd" / name / "properties").write_text(f"cpu_cores_count 16\nsimd_count {simds}\nmax_waves 32\n")
    assert amd_seen(tmp_path / "kfd") == Seen(2)
    assert "absent" in amd_seen(Path("/no/class/kfd/kfd/topology/nodes")).driver

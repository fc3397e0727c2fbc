import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferometer.checks.diagnosis import Diagnosis, System, examine
from inferometer.cli import app
from inferometer.engines.visible_devices import Seen

ABSENT = Seen(0, driver="NVIDIA's driver is absent (NVML: Not Found)")


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder: Path, nvidia: Seen = ABSENT, programs: dict[str, str] | None = None) -> dict[str, Diagnosis]:
    """The diagnoses by name, of a machine whose /proc and /sys are in `folder`."""
    system = System(folder / "proc", folder / "sys", (programs or {}).get, lambda: nvidia)
    return {diagnosis.name: diagnosis for diagnosis in examine(system)}


def llama_server(folder: Path, devices: str) -> str:
    binary = folder / "llama-server"
    binary.write_text(f"""#!{sys.executable}
import sys
print("version: 77 (abc)" if sys.argv[1] == "--version" else "Available devices:\\n" + {devices!r})
""")
    binary.chmod(0o755)
    return str(binary)


def test_a_bare_machine_is_told_what_to_do(tmp_path: Path):
    diagnoses = found(tmp_path)
    states = {name: diagnosis.state for name, diagnosis in diagnoses.items()}
    assert states["embedded"] == "has"
    for name in ("llama-server", "vllm", "sglang", "NVIDIA", "AMD", "CPU (RAPL)", "sensors (hwmon)", "governor"):
        assert states[name] == "none"
    assert diagnoses["llama-server"].mend.startswith("cmake -B build && cmake --build build")
    assert diagnoses["vllm"].mend.startswith("pip install vllm")
    assert diagnoses["memory of engines"].state == "part"
    assert "RSS is used instead" in diagnoses["memory of engines"].said


def test_what_is_there_is_named(tmp_path: Path):
    put(
        tmp_path,
        {
            "proc/self/smaps_rollup": "Rss: 9 kB\nPss: 7 kB\n",
            "sys/class/powercap/intel-rapl:0/energy_uj": "123\n",
            "sys/class/hwmon/hwmon3/name": "amdgpu\n",
            "sys/class/hwmon/hwmon3/power1_average": "20000000\n",
            "sys/class/drm/card0/device/mem_info_vram_total": f"{48 * 1024**3}\n",
            "sys/class/kfd/kfd/topology/nodes/1/properties": "simd_count 192\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        },
    )
    diagnoses = found(tmp_path)
    for name in ("memory of engines", "CPU (RAPL)", "sensors (hwmon)", "AMD", "governor"):
        assert (name, diagnoses[name].state, diagnoses[name].mend) == (name, "has", "")
    assert diagnoses["sensors (hwmon)"].said == "amdgpu"
    assert diagnoses["AMD"].said == "1 for ROCm; card0, 49152 MiB"
    assert "-DGGML_HIP=ON" in diagnoses["llama-server"].mend


def test_what_is_half_there_comes_with_the_command_that_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(
        tmp_path,
        {
            "proc/sys/kernel/yama/ptrace_scope": "2\n",
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "sys/class/powercap/intel-rapl:0/energy_uj": "",  # as unreadable to us as to another user's program
            "sys/class/drm/card0/device/mem_info_vram_total": "1024\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        },
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("INFEROMETER_KERNEL_STAMPS", "0")
    mends = {name: diagnosis.mend for name, diagnosis in found(tmp_path).items()}
    assert mends["memory of others"] == "sudo sysctl kernel.yama.ptrace_scope=1"
    assert "nvidia-smi must work" in mends["NVIDIA"]
    assert mends["CPU (RAPL)"].startswith("sudo chmod a+r /sys/class/powercap")
    assert mends["AMD"].startswith("sudo usermod -aG render,video")
    assert mends["governor"] == "sudo cpupower frequency-set -g performance"
    assert mends["kernel time stamps"] == "unset INFEROMETER_KERNEL_STAMPS"


@pytest.mark.parametrize(
    ("devices", "state", "said"),
    [
        ("  CUDA0: NVIDIA H200 (143771 MiB, 143000 MiB free)", "has", "devices: CUDA0: NVIDIA H200"),
        ("  (none)", "part", "devices: no GPU"),
    ],
)
def test_a_build_for_a_cpu_beside_a_gpu_is_half_of_it(devices: str, state: str, said: str, tmp_path: Path):
    binary = llama_server(tmp_path, devices)
    diagnosis = found(tmp_path, Seen(1, ("GPU-1",)), {"llama-server": binary})["llama-server"]
    assert diagnosis.state == state
    assert f"{binary}: version: 77 (abc); {said}" in diagnosis.said
    assert ("-DGGML_CUDA=ON" in diagnosis.mend) == (state == "part")


def test_the_command_prints_each_diagnosis_and_ends_well():
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 0
    assert "embedded:" in shown.stdout
    listed = CliRunner().invoke(app, ["doctor", "--json"])
    diagnoses = json.loads(listed.stdout)["diagnoses"]
    assert {"group", "name", "state", "said", "mend"} == set(diagnoses[0])
    assert {diagnosis["name"] for diagnosis in diagnoses} >= {"embedded", "NVIDIA", "kernel time stamps"}

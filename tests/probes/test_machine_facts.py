import platform
import socket
from pathlib import Path
from types import SimpleNamespace

from inferometer.probes.machine_facts import _cpu_facts, _gpu_facts, machine_facts


def test_a_machine_is_known_by_facts_with_sources():
    facts = machine_facts()
    names = [fact.name for fact in facts]
    assert {"os", "cpu", "cpu_cores_logical", "memory_bytes", "gpus", "python", "inferometer"} <= set(names)
    assert len(names) == len(set(names))
    assert all(fact.value and fact.source for fact in facts)


def test_the_hosts_name_is_no_fact(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "secret-host")
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    assert "secret-host" not in str(machine_facts())


def test_without_cpuinfo_the_processor_is_still_named(tmp_path: Path):
    assert "cpu" in {fact.name for fact in _cpu_facts(tmp_path / "none")}


class ScriptedNvml:
    """NVML cannot run here without a GPU: its answers are scripted, in the form of the pynvml module."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlSystemGetDriverVersion(self):
        return "580.1"

    def nvmlDeviceGetHandleByIndex(self, i):
        return i

    def nvmlDeviceGetMemoryInfo(self, i):
        return SimpleNamespace(total=141 * 1024**3)

    def nvmlDeviceGetName(self, i):
        return "NVIDIA H200"


def test_gpus_are_told_with_their_memory_and_driver():
    facts = {fact.name: fact.value for fact in _gpu_facts(ScriptedNvml())}
    assert facts == {"gpus": "1", "gpu_driver": "580.1", "gpu_0": "NVIDIA H200, 141.00 GiB"}


def test_no_gpu_is_told_with_the_reason():
    class Missing(ScriptedNvml):
        def nvmlInit(self):
            raise self.NVMLError("NVML Shared Library Not Found")

    (fact,) = _gpu_facts(Missing())
    assert fact.value == "none found by NVML: NVML Shared Library Not Found"

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inferometer.probes.machine_load import MachineLoad, memory_used_bytes
from inferometer.probes.process_tree import ProcessTree, usage_of

S = 1_000_000_000
ME = os.getpid()
ENGINE = 2**22 + 1  # above any pid
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nBuffers: 1 kB\n"
SPIN = "print('spinning', flush=True)\nwhile True: pass"


def used_s(pid: int) -> float:
    usage = usage_of(pid, Path("/proc"))
    assert usage is not None
    return usage.cpu_s


def readings(load: MachineLoad, at_ns: int) -> dict[str, float]:
    return {sample.quantity: round(sample.value, 6) for sample in load.read(at_ns)}


@pytest.fixture
def machine(proc, tmp_path: Path):
    """Two cores; our process and an engine that it did not start; 400 KiB of 1000 are free."""
    proc.file("meminfo", MEMINFO)
    proc.process(1, 0)
    proc.process(ME, 1)
    proc.process(ENGINE, 1)
    proc.cpus(user=1000, idle=1000)
    return proc


def test_others_are_what_is_busy_less_the_engines_tree_and_ours(machine, tmp_path: Path):
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    assert readings(load, 0) == {"memory_used_bytes": 600 * 1024}
    machine.cpus(user=1160, idle=1040)  # in one second: 1.6 of 2 cores busy
    machine.process(ENGINE, 1, ticks=90)
    machine.process(ME, 1, ticks=20)
    assert readings(load, S) == {
        "cpu_cores_busy": 1.6,
        "other_cpu_cores": 0.5,
        "memory_used_bytes": 600 * 1024,
    }


def test_what_the_hypervisor_took_is_neither_busy_nor_others(machine, tmp_path: Path):
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    load.read(0)
    machine.cpus(user=1100, idle=1020, iowait=30, steal=50)
    told = readings(load, S)
    assert (told["cpu_cores_busy"], told["cpu_cores_stolen"], told["other_cpu_cores"]) == (1.0, 0.5, 1.0)


def test_each_reading_is_the_mean_since_the_one_before(machine, tmp_path: Path):
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    load.read(0)
    machine.cpus(user=1100, idle=1000)
    assert readings(load, S // 2)["cpu_cores_busy"] == 2.0
    machine.cpus(user=1100, idle=1100)
    assert readings(load, S)["cpu_cores_busy"] == 0.0


def test_of_a_server_whose_processes_are_unknown_others_cannot_be_told(machine, tmp_path: Path):
    load = MachineLoad(ProcessTree([], machine.root), tmp_path / "cgroup")
    load.read(0)
    machine.cpus(user=1100, idle=1100)
    assert "other_cpu_cores" not in readings(load, S)
    assert "did not start the server" in {fact.name: fact.value for fact in load.facts()}["no_other_cpu_cores"]


def test_when_a_process_of_ours_is_gone_untold_the_reading_is_left_out(machine, tmp_path: Path):
    machine.process(ENGINE + 1, ENGINE, ticks=500)
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    load.read(0)
    machine.end(ENGINE + 1)
    machine.cpus(user=1100, idle=1100)
    told = readings(load, S)
    assert "cpu_cores_busy" in told
    assert "other_cpu_cores" not in told


def test_counters_that_stand_still_are_a_reason(machine, tmp_path: Path):
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    load.read(0)
    assert set(readings(load, S)) == {"memory_used_bytes"}
    assert "lag behind the clock" in {fact.name: fact.value for fact in load.facts()}["no_cpu_cores_busy"]


def test_without_proc_there_is_a_reason(tmp_path: Path):
    load = MachineLoad(ProcessTree([ENGINE], tmp_path / "none"), tmp_path / "cgroup")
    assert load.reason == f"this system has no {tmp_path}/none/stat"
    assert load.read(0) == []


def test_a_limit_of_our_control_group_is_told_with_how_it_held_us_back(machine, tmp_path: Path):
    group = tmp_path / "cgroup" / "box"
    group.mkdir(parents=True)
    machine.file("self/cgroup", "0::/box\n")
    (group / "cpu.max").write_text("150000 100000\n")
    (group / "cpu.stat").write_text("usage_usec 5\nnr_throttled 2\nthrottled_usec 2500000\n")
    (group / "memory.max").write_text("1073741824\n")
    load = MachineLoad(ProcessTree([ENGINE], machine.root), tmp_path / "cgroup")
    assert readings(load, 0)["cgroup_throttled_s"] == 2.5
    facts = {fact.name: fact.value for fact in load.facts()}
    assert (facts["cpu_limit_cores"], facts["memory_limit"]) == ("1.5", "1.00 GiB")


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")
def test_a_child_of_ours_that_spins_is_none_of_the_others():
    """Really. Whatever else runs here while the test does, the child's own core is not in it."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            load = MachineLoad(ProcessTree([child.pid]))
            began_ns, began_s = time.monotonic_ns(), used_s(child.pid)
            load.read(began_ns)
            while used_s(child.pid) - began_s < 0.5:
                pass
            told = readings(load, time.monotonic_ns())
        finally:
            child.kill()
    assert told["cpu_cores_busy"] > 0.3
    assert told["other_cpu_cores"] < told["cpu_cores_busy"] - 0.2


def test_used_memory_is_what_is_not_available(machine):
    assert memory_used_bytes(machine.root) == 600 * 1024
    machine.file("meminfo", "MemTotal: 5 kB\n")
    assert memory_used_bytes(machine.root) is None

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from inferometer.probes.process_memory import ProcessMemory
from inferometer.probes.process_tree import ProcessTree
from inferometer.probes.process_use import ProcessUse

HOLD = "x = bytearray(b'1' * 2**25); print('ready', flush=True); input()"  # 32 MiB
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate(b"go")
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel does not provide PSS")
def test_the_whole_tree_is_counted():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        of_both, rss = ProcessMemory(ProcessTree([parent.pid])).read(7)
        of_child, _ = ProcessMemory(ProcessTree([child])).read(7)
        parent.communicate("go")
    assert (of_both.at_ns, of_both.source, of_both.quantity) == (7, "smaps_rollup", "pss_bytes")
    assert (rss.at_ns, rss.quantity) == (7, "rss_at_pss_bytes")
    assert rss.value >= of_both.value
    assert (of_both.pid, of_both.device) == (None, None)
    assert of_child.value > 32 * 2**20
    assert of_both.value > of_child.value


def test_where_the_kernel_tells_no_pss_there_is_a_reason(proc):
    proc.process(20, 1)
    probe = ProcessMemory(ProcessTree([20], proc.root))
    assert probe.read(0) == []
    assert probe.reason == "this kernel does not provide PSS (smaps_rollup)"


def test_where_there_is_no_proc_there_is_a_reason_for_pss_and_psutil_tells_the_rest(tmp_path: Path):
    probe = ProcessMemory(ProcessTree([os.getpid()], tmp_path / "none"))
    assert probe.read(0) == []
    assert "does not provide PSS" in probe.reason
    told = {sample.quantity: sample for sample in ProcessUse(ProcessTree([os.getpid()], tmp_path / "none")).read(0)}
    assert told["rss_bytes"].value > 2**20
    assert told["rss_bytes"].source == "psutil"


def test_memory_cpu_and_threads_of_the_whole_tree(proc):
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    proc.process(20, 1, ticks=100)
    proc.process(21, 20, ticks=50)
    probe = ProcessUse(ProcessTree([20], proc.root))
    assert {s.quantity: s.value for s in probe.read(0)} == {"rss_bytes": 20 * page_bytes, "engine_threads": 8}
    proc.process(20, 1, ticks=110)
    proc.process(21, 20, ticks=55)
    told = {s.quantity: s.value for s in probe.read(100_000_000)}
    assert told == {
        "rss_bytes": 20 * page_bytes,
        "engine_threads": 8,
        "engine_cpu_cores": pytest.approx(1.5),  # 15 ticks of 10 ms in 0.1 s
    }


def test_a_process_that_has_ended_is_no_reading():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert ProcessMemory(ProcessTree([ended.pid])).read(0) == []
        assert ProcessUse(ProcessTree([ended.pid])).read(0) == []
    assert ProcessMemory(ProcessTree([ended.pid])).read(0) == []


def test_without_processes_there_is_a_reason():
    assert "did not start the server" in ProcessMemory(ProcessTree([])).reason
    assert "did not start the server" in ProcessUse(ProcessTree([])).reason
    assert ProcessMemory(ProcessTree([os.getpid()])).reason == ProcessUse(ProcessTree([os.getpid()])).reason == ""

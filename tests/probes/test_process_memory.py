import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from inferometer.probes.process_memory import ProcessMemory, tree_pids

HOLD = "x = bytearray(b'1' * 2**25); print('ready', flush=True); input()"  # 32 MiB
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate(b"go")
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this kernel tells no PSS")
def test_the_whole_tree_is_counted():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert set(tree_pids([parent.pid])) == {parent.pid, child}
        (of_both,) = ProcessMemory([parent.pid]).read(7)
        (of_child,) = ProcessMemory([child]).read(7)
        parent.communicate("go")
    assert (of_both.at_ns, of_both.source, of_both.quantity) == (7, "smaps_rollup", "pss_bytes")
    assert (of_both.pid, of_both.device) == (None, None)
    assert of_child.value > 32 * 2**20
    assert of_both.value > of_child.value


def test_a_process_named_twice_counts_once():
    me = os.getpid()
    assert tree_pids([me, me]) == tree_pids([me])


def test_where_the_kernel_tells_no_pss_it_is_rss(tmp_path: Path):
    (tmp_path / str(os.getpid())).mkdir()
    (tmp_path / str(os.getpid()) / "stat").write_text("")
    probe = ProcessMemory([os.getpid()], proc=tmp_path)
    (sample,) = probe.read(0)
    assert (sample.source, sample.quantity) == ("psutil", "rss_bytes")
    assert sample.value > 2**20


def test_where_there_is_no_proc_it_is_rss(tmp_path: Path):
    (sample,) = ProcessMemory([os.getpid()], proc=tmp_path / "none").read(0)
    assert sample.quantity == "rss_bytes"


def test_a_process_that_has_ended_is_no_reading():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert ProcessMemory([ended.pid]).read(0) == []
    assert ProcessMemory([ended.pid]).read(0) == []


def test_without_processes_there_is_a_reason():
    assert "not started by us" in ProcessMemory([]).reason
    assert ProcessMemory([os.getpid()]).reason == ""

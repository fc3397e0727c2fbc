import os
import subprocess
import sys
from pathlib import Path

from inferometer.probes.process_tree import SAME_ROUND_NS, SCAN_EVERY_NS, ProcessTree, cpu_s, usage_of

LATER = SCAN_EVERY_NS
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"go")
"""


def test_a_real_child_is_in_the_tree_and_an_uncle_is_not():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert set(ProcessTree([parent.pid]).pids(0)) == {parent.pid, child}
        parent.communicate("go")
    assert ProcessTree([parent.pid]).pids(0) == []


def test_a_process_named_twice_is_counted_once():
    assert ProcessTree([os.getpid(), os.getpid()]).pids(0).count(os.getpid()) == 1


def test_grandchildren_are_found_whatever_their_numbers(proc):
    proc.process(1, 0)
    proc.process(20, 1)
    proc.process(5, 20)  # numbers begin again at some time
    proc.process(3, 5)
    proc.process(30, 1)
    assert sorted(ProcessTree([20], proc.root).pids(0)) == [3, 5, 20]


def test_an_orphan_of_the_roots_session_stays_in_the_tree(proc):
    proc.process(20, 1, session=20)
    proc.process(21, 1, session=20)
    proc.process(22, 1, session=9)
    assert sorted(ProcessTree([20], proc.root).pids(0)) == [20, 21]


def test_a_new_child_is_found_by_the_next_scan(proc):
    proc.process(20, 1)
    tree = ProcessTree([20], proc.root)
    assert tree.pids(0) == [20]
    proc.process(21, 20)
    assert tree.pids(LATER - SAME_ROUND_NS) == [20]
    assert sorted(tree.pids(LATER)) == [20, 21]


def test_no_scan_while_the_machine_starts_no_process(proc):
    proc.file("loadavg", "0.1 0.1 0.1 1/90 20\n")
    proc.process(20, 1)
    tree = ProcessTree([20], proc.root)
    assert tree.pids(0) == [20]
    proc.process(21, 20)
    assert tree.pids(LATER) == [20]
    proc.file("loadavg", "0.1 0.1 0.1 1/91 21\n")
    assert sorted(tree.pids(2 * LATER)) == [20, 21]


def test_a_member_that_ended_is_none_even_where_its_number_is_used_again(proc):
    proc.process(20, 1)
    proc.process(21, 20)
    tree = ProcessTree([20], proc.root)
    assert sorted(tree.pids(0)) == [20, 21]
    proc.process(21, 1, started=8)
    assert tree.pids(SAME_ROUND_NS) == [20]
    assert tree.pids(LATER) == [20]


def test_what_a_process_has_used(proc):
    proc.process(20, 1, ticks=150, of_children=50, name="a (b) c")
    usage = usage_of(20, proc.root)
    assert usage is not None
    assert (usage.cpu_s, usage.threads, usage.parent) == (2.0, 4, 1)
    assert usage.rss_bytes == 10 * os.sysconf("SC_PAGE_SIZE")


def test_cpu_is_not_lost_when_a_child_ends_and_is_waited_for(proc):
    proc.process(20, 1, ticks=100)
    proc.process(21, 20, ticks=50)
    tree = ProcessTree([20], proc.root)
    assert cpu_s(tree.usages(0)) == 1.5
    proc.end(21)
    proc.process(20, 1, ticks=110, of_children=60)
    assert cpu_s(tree.usages(SAME_ROUND_NS)) == 1.7


def test_a_tree_apart_from_another_leaves_out_its_processes_though_they_are_our_children(proc):
    proc.process(20, 1)
    proc.process(21, 20)
    proc.process(30, 20, session=30)
    proc.process(31, 30, session=30)
    engine = ProcessTree([30], proc.root)
    ours = ProcessTree([20], proc.root, apart_from=engine)
    assert sorted(ours.pids(0)) == [20, 21]
    assert sorted(engine.pids(0)) == [30, 31]
    proc.process(32, 31)
    proc.process(22, 21)
    assert sorted(ours.pids(LATER)) == [20, 21, 22]
    assert sorted(engine.pids(LATER)) == [30, 31, 32]


def test_probes_of_one_round_share_a_reading(proc):
    proc.process(20, 1, ticks=100)
    tree = ProcessTree([20], proc.root)
    assert cpu_s(tree.usages(0)) == 1.0
    proc.process(20, 1, ticks=200)
    assert cpu_s(tree.usages(SAME_ROUND_NS - 1)) == 1.0
    assert cpu_s(tree.usages(SAME_ROUND_NS)) == 2.0


def test_where_there_is_no_proc_psutil_tells(tmp_path: Path):
    tree = ProcessTree([os.getpid()], tmp_path / "none")
    (me,) = (usage for usage in tree.usages(0) if usage.pid == os.getpid())
    assert me.rss_bytes > 2**20
    assert me.threads >= 1
    assert ProcessTree([2**22 + 1], tmp_path / "none").usages(0) == []

"""An engine whose program was killed: nothing of it is left, wherever it went."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inferometer.engines.process_group import is_alive
from inferometer.engines.watchdog import watching

PROGRAM = """
import os, subprocess, sys
from inferometer.engines.watchdog import Watchdog
watchdog = Watchdog()
engine = subprocess.Popen(sys.argv[1:], env={**os.environ, **watchdog.env}, start_new_session=True)
if os.environ["TELLS"] == "1":
    watchdog.watch(engine.pid)
print(engine.pid, flush=True)
sys.stdin.read()
"""

ENGINE = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
pids = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
pids.append(subprocess.Popen(sleep, env={}).pid)
with open(os.environ["PIDS"] + ".new", "w") as file:
    file.write(" ".join(map(str, pids)))
os.rename(os.environ["PIDS"] + ".new", os.environ["PIDS"])
if os.environ["STUBBORN"] == "1":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="without /proc only the engine's own group is known")
@pytest.mark.parametrize(("tells", "stubborn"), [("1", "0"), ("0", "0"), ("1", "1")])
def test_nothing_is_left_of_an_engine_whose_program_was_killed(tmp_path: Path, tells: str, stubborn: str):
    """With children in a session of their own and one without our environment; also where the program died before it
    could tell which process the engine is (then the one child is missed that shows no mark), and where the engine
    will not hear of SIGTERM."""
    pids_file = tmp_path / "pids"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, sys.executable, "-c", ENGINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TELLS": tells, "STUBBORN": stubborn, "PIDS": str(pids_file)},
    )
    assert program.stdout is not None and program.stdin is not None
    engine = int(program.stdout.readline())
    while not pids_file.exists():
        time.sleep(0.01)
    child, far_child, unmarked = map(int, pids_file.read_text().split())
    pids = [engine, child, far_child, *([unmarked] if tells == "1" else [])]
    assert all(map(is_alive, pids))
    program.kill()
    program.wait()
    program.stdout.close()
    program.stdin.close()
    until_s = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < until_s:
        time.sleep(0.01)
    left = [pid for pid in pids if is_alive(pid)]
    if tells == "0":
        os.kill(unmarked, signal.SIGKILL)
    assert left == []


def test_a_watchdog_leaves_alone_what_is_said_to_be_over():
    with watching() as watchdog:
        process = subprocess.Popen(["sleep", "600"], env={**os.environ, **watchdog.env}, start_new_session=True)
        watchdog.watch(process.pid)
        watchdog.over()
    assert process.poll() is None
    process.kill()
    process.wait()


def test_what_was_never_said_to_be_over_is_ended_by_its_mark():
    """As where an interrupt falls between an engine's birth and our knowing of it."""
    with watching() as watchdog:
        process = subprocess.Popen(["sleep", "600"], env={**os.environ, **watchdog.env}, start_new_session=True)
    assert process.wait(timeout=30) == -signal.SIGTERM


def test_a_watchdog_that_was_killed_does_not_disturb():
    with watching() as watchdog:
        watchdog._process.kill()
        watchdog._process.wait()
        watchdog.watch(1)

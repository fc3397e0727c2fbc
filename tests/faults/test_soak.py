"""Long load: benchmarks/soak.py, for seconds with `make faults` and for minutes with `make soak`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.long
def test_twenty_seconds_of_load_leave_memory_and_descriptors_as_they_were(tell: Callable[..., None]):
    words = [sys.executable, str(SOAK), "--seconds", "20", "--streams", "40", "--settle", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("held\n")
    assert "requests: 80 = 80 ok + 0 failed + 0 cancelled + 0 lost; findings: " in done.stdout
    tell("20 s of load", tried=80, lost=0, seen="memory and descriptors flat, every request accounted for")

"""How time and memory grow with the number of requests (`make scale`): each command on generated studies of n, 2n and
4n requests, as CPU seconds and peak memory of its process. A step of more than 2.2 times is marked: it is not linear.

    python benchmarks/scale.py [--requests 5000] [--tokens 100] [--picture docs/explanation/growth.svg]

`bench` is its work after the last answer: the summary, the block and the findings, from records in memory.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from growth_picture import growth_picture
from large_study import write

LIMIT = 2.2
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "bench": lambda folder: [sys.executable, __file__, "--block", str(folder)],
    "compare": lambda folder: [sys.executable, "-m", "inferometer", "compare", str(folder)],
    "report": lambda folder: [sys.executable, "-m", "inferometer", "report", str(folder)],
    "export": lambda folder: [
        *(sys.executable, "-m", "inferometer", "export", str(folder)),
        *("--to", "csv", "--table", "requests"),
    ],
}


def used(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak memory, MB, of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise SystemExit(f"{' '.join(command)} failed: {said.decode()}")
    cpu_s = float(said) if "--block" in command else usage.ru_utime + usage.ru_stime
    return cpu_s, usage.ru_maxrss / 1e3


def print_block(folder: Path) -> None:
    """What `bench` does after the last answer; prints its CPU seconds."""
    from inferometer.exports.serving import block_of
    from inferometer.results.read import read_study
    from inferometer.results.study_comparison import findings_of

    study = read_study(folder)
    before = time.process_time()
    block_of(study, study.trials[0], "inferometer")
    findings_of(study, "inferometer")
    print(time.process_time() - before, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--picture", type=Path, help="also write the figures as an SVG file")
    parser.add_argument("--block", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.block:
        print_block(options.block)
        return
    counts = [options.requests * factor for factor in (1, 2, 4)]
    print("| command | " + " | ".join(f"{count:,} requests" for count in counts) + " | steps (time, memory) |")
    print("| --- | --- | --- | --- | --- |")
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            write(Path(temporary) / str(count), count, options.tokens, 200, {"baseline": 1.0, "other": 1.05})
        for name, command in COMMANDS.items():
            found[name] = [used(command(Path(temporary) / str(count))) for count in counts]
            shown = " | ".join(f"{s:.2f} s, {mb:.0f} MB" for s, mb in found[name])
            print(f"| {name} | {shown} | {_steps(found[name])} |", flush=True)
    if options.picture:
        title = f"Growth with requests, {options.tokens} tokens each, two arms"
        options.picture.write_text(growth_picture(counts, found, LIMIT, title), encoding="utf-8")


def _steps(found: list[tuple[float, float]]) -> str:
    """The growth of both figures with each doubling."""
    steps = [(after[0] / before[0], after[1] / before[1]) for before, after in itertools.pairwise(found)]
    mark = " **not linear**" if any(ratio > LIMIT for step in steps for ratio in step) else ""
    return "; ".join(f"{cpu:.2f}, {memory:.2f}" for cpu, memory in steps) + mark


if __name__ == "__main__":
    main()

"""Long load on the real program: memory flat after the first minute, no descriptor leaked, every request accounted for.
The paced server runs on loopback; the program is observed from outside once a second.

    python benchmarks/soak.py [--seconds 1200] [--streams 2000] [--settle 60]

Each answer is of 100 tokens, one each 100 ms: about ten seconds. Exits with 1 if one of the three fails.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from inferometer.results.read import read_study
from inferometer.testing.paced_server import PacedServer

TOKENS, GAP_MS, FIRST_MS = 100, 100.0, 100.0
MEMORY_BOUND = 0.05


def write_data_set(path: Path, count: int) -> None:
    turns = [
        {
            "conversations": [
                {"from": "human", "value": f"question {n} of a long run"},
                {"from": "gpt", "value": "a b c d e f"},
            ]
        }
        for n in range(count)
    ]
    path.write_text(json.dumps(turns), encoding="utf-8")


class Look(NamedTuple):
    at_s: float
    memory_bytes: int
    descriptors: int


def watch(process: subprocess.Popen[str]) -> list[Look]:
    """Memory and descriptors of the program and its workers together, each second until it ends."""
    found: list[Look] = []
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            everyone = [root, *root.children(recursive=True)]
            memory, descriptors = sum(one.memory_info().rss for one in everyone), sum(one.num_fds() for one in everyone)
            found.append(Look(time.monotonic(), memory, descriptors))
        except psutil.Error:  # one of them has just ended
            pass
        time.sleep(1.0)
    return found


def under_load(looks: list[Look], streams: int, sending_s: float, settle_s: float) -> list[Look]:
    """Those from `settle_s` after all connections stood to the last sending: after it streams only end."""
    began_s = next((look.at_s for look in looks if look.descriptors >= streams), 0.0)
    return [look for look in looks if began_s + settle_s <= look.at_s <= began_s + sending_s]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--settle", type=float, default=60)
    args = parser.parse_args()
    each_s = (FIRST_MS + TOKENS * GAP_MS) / 1e3
    rounds = max(2, math.ceil(args.seconds / each_s))
    with tempfile.TemporaryDirectory() as folder, PacedServer() as server:
        data = Path(folder) / "prompts.json"
        write_data_set(data, args.streams * rounds)
        extra = json.dumps({"paced": {"first_ms": FIRST_MS, "gap_ms": GAP_MS}})
        command = [
            *(sys.executable, "-m", "inferometer", "bench", "--backend", "openai-chat", "--base-url", server.url),
            *("--dataset-path", str(data), "--num-prompts", str(args.streams * rounds), "--skip-tokenizer-init"),
            *("--sharegpt-output-len", str(TOKENS), "--max-concurrency", str(args.streams), "--extra-body", extra),
            *("--out", f"{folder}/study", "--disable-tqdm", "--first-token-timeout", "60", "--timeout", "600"),
        ]
        began_s = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        looks = watch(process)
        said, _ = process.communicate()
        print(f"{args.streams} streams, {args.streams * rounds} requests, {time.monotonic() - began_s:.0f} s")
        if process.returncode not in (0, 3):
            sys.exit(f"the program ended with exit code {process.returncode}:\n{said[-2000:]}")
        (trial,) = read_study(Path(folder) / "study").trials
    sent_ns = [record.sent_ns for record in trial.records if record.measured and record.sent_ns is not None]
    looks = under_load(looks, args.streams, (max(sent_ns) - min(sent_ns)) / 1e9, args.settle)
    if len(looks) < 3:
        sys.exit(f"it was looked at {len(looks)} times under load: too short a run for --settle {args.settle:g}")
    memory, descriptors = [look.memory_bytes for look in looks], [look.descriptors for look in looks]
    middle = (max(memory) + min(memory)) / 2
    spread = (max(memory) - middle) / middle
    account = next(fact.value for fact in trial.facts if fact.name == "requests_accounted")
    findings = sorted({finding.code for finding in trial.findings if finding.severity != "note"})
    said = f"{min(memory) / 1e6:.0f} to {max(memory) / 1e6:.0f} MB (±{spread:.1%})"
    print(f"memory after {args.settle:g} s, at {len(looks)} looks: {said}")
    print(f"descriptors: {min(descriptors)} to {max(descriptors)}")
    print(f"requests: {account}; findings: {', '.join(findings) or 'none'}")
    held = spread <= MEMORY_BOUND and max(descriptors) - min(descriptors) <= 2 and "unaccounted" not in findings
    held = held and account.startswith(f"{args.streams * rounds} = {args.streams * rounds} ok")
    print("held" if held else "NOT held")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()

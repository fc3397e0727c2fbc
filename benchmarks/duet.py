"""Wrong verdicts and half-widths with interleaved requests (`order: requests`) and with whole trials (`order: trials`):
two equal engines on a real small model, next to processes that keep the machine busy for a while and then rest. And how
often a scripted server that is 3% slower is found.

    python benchmarks/duet.py [--model FILE] [--studies 40] [--rounds 4] [--prompts 8] [--tokens 40] [--neighbours 1]
"""

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Order, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.results.comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.testing.scripted_server import ScriptedServer, inference_server

SLOWER = 1.03
GAP_S = 0.01
ORDERS: tuple[Order, ...] = ("requests", "trials")

NEIGHBOUR = """
import random, sys, time
rng = random.Random(int(sys.argv[1]))
while True:
    until = time.monotonic() + rng.uniform(1, 20)
    while time.monotonic() < until:
        pass
    time.sleep(rng.uniform(1, 20))
"""


class Outcome(msgspec.Struct, frozen=True):
    """What one study said about output token throughput. `half_percent`: half the width of the interval."""

    verdict: str
    percent: float
    half_percent: float
    took_s: float


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that are busy for 1 to 20 s, and then rest for as long."""
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(seed)]) for seed in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def outcome(spec: Spec, seed: int) -> Outcome:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        for _ in run_study(msgspec.structs.replace(spec, seed=seed), study):
            pass
        row = comparison_of([study], "inferometer").primary_row
    assert row is not None
    found = row.against("a", "b")
    low, high = found.low_percent, found.high_percent
    half = float("nan") if low is None or high is None else (high - low) / 2
    return Outcome(found.verdict, found.percent or 0.0, half, time.monotonic() - began_s)


def report(what: str, outcomes: list[Outcome]) -> None:
    called = [one for one in outcomes if one.verdict in ("faster", "slower")]
    halves = statistics.median(one.half_percent for one in outcomes)
    differences = ", ".join(f"{one.percent:+.2f} ±{one.half_percent:.2f}" for one in outcomes)
    print(
        f"{what}: a difference in {len(called)} of {len(outcomes)} studies, median half-width {halves:.2f}%, "
        f"{statistics.median(one.took_s for one in outcomes):.0f} s a study ({differences})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="standin:demo", help="a GGUF file, or a stand-in")
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--neighbours", type=int, default=1)
    asked = parser.parse_args()
    common = Spec(
        arms={name: Arm("embedded", model=asked.model, threads=1) for name in "ab"},
        workload=Builtin(num_prompts=asked.prompts, max_tokens=asked.tokens),
        schedule=Closed(1),
        trials=asked.rounds,
    )
    seeds = random.Random(1).sample(range(10_000), asked.studies)
    equal: dict[Order, list[Outcome]] = {order: [] for order in ORDERS}
    with neighbours(asked.neighbours):
        for seed in seeds:  # the orders in turn, so that both meet the same machine
            for order in ORDERS:
                equal[order].append(outcome(msgspec.structs.replace(common, order=order), seed))
    for order in ORDERS:
        report(f"two equal engines, order: {order}", equal[order])
    slow: dict[Order, list[Outcome]] = {order: [] for order in ORDERS}
    for seed in seeds:
        with (
            ScriptedServer(inference_server(asked.tokens, 0.0, GAP_S)) as a,
            ScriptedServer(inference_server(asked.tokens, 0.0, GAP_S * SLOWER)) as b,
        ):
            arms = {name: Arm("external", url=one.url, model="m") for name, one in (("a", a), ("b", b))}
            for order in ORDERS:
                spec = msgspec.structs.replace(common, arms=arms, order=order, tokenizer="none")
                slow[order].append(outcome(spec, seed))
    for order in ORDERS:
        report(f"a server that is 3% slower, order: {order}", slow[order])


if __name__ == "__main__":
    main()

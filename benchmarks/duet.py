"""Wrong verdicts and half-widths with interleaved requests (`order: requests`) and with whole trials (`order: trials`):
two equal engines on a real small model, next to a process that keeps a core busy. And how often a scripted server that
is 3% slower is found. Requests are short and many: a step of the machine's speed then disturbs a small part of a round.

    python benchmarks/duet.py --model FILE                                 40 studies of each kind, one after another
    python benchmarks/duet.py --model FILE --studies 5 --seed 3 --cores 4,5 --seconds 500 --out 3.json
    python benchmarks/duet.py --merge 1.json 2.json 3.json                 the table

`tools/duet_many.sh` runs several such parts side by side, each on its own two cores.
"""

import argparse
import contextlib
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Order, Spec
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.study.progress import EngineReady
from inferometer.testing.scripted_server import (
    Received,
    ScriptedServer,
    Step,
    chat_stream,
    inference_server,
)
from inferometer.workloads.prompt_list import PromptList

SLOWER = 1.03
FIRST_S = 0.05
GAP_S = 0.01
SCRIPTED_TOKENS = 40
"""Output tokens of the scripted server's requests."""
KINDS = ("equal", "trials", "slow")
TITLES = {
    "equal": "equal engines, order: requests",
    "trials": "equal engines, order: trials",
    "slow": "3% slower server, order: requests",
}
VERBS = ("Explain", "Describe", "Compare", "Summarise", "List")
ACTIONS = ("sorting", "hashing", "caching", "paging", "locking", "tracing")
NOUNS = (
    *("queues", "trees", "graphs", "threads", "sockets", "files", "tables", "compilers", "stacks", "heaps"),
    *("streams", "signals", "buffers", "indexes", "parsers", "printers", "routers", "sensors", "timers", "kernels"),
)
SHOWN = ("faster", "slower")

NEIGHBOUR = """
import random, sys, time
rng, longest_s = random.Random(int(sys.argv[1])), float(sys.argv[2])
while True:
    until = time.monotonic() + rng.uniform(longest_s / 20, longest_s)
    while not longest_s or time.monotonic() < until:
        pass
    time.sleep(rng.uniform(longest_s / 20, longest_s))
"""


class Outcome(msgspec.Struct, frozen=True):
    """What one study of a kind showed about output token throughput. `verdict`: for these starts, if the study has one
    start per arm. `half_percent`: half the width of the interval, None without one. `findings`: codes of warnings.
    `rounds_sd_percent`: of the logarithm of the ratio of both arms' times, from round to round. `medians_sd_percent`:
    the same of the median of the prompts' ratios, which a few disturbed requests do not move. `pairs_sd_percent`: from
    prompt to prompt within a round, by the middle 68%: what the machine changes between two requests in turn."""

    kind: str
    seed: int
    verdict: str
    percent: float | None
    half_percent: float | None
    took_s: float
    findings: tuple[str, ...] = ()
    rounds_sd_percent: float | None = None
    medians_sd_percent: float | None = None
    pairs_sd_percent: float | None = None


class Part(msgspec.Struct, frozen=True):
    """The outcomes of one process. `settings`: the size of its studies, in words."""

    settings: str
    outcomes: tuple[Outcome, ...]


# --- one study ------------------------------------------------------------------------------------


@contextlib.contextmanager
def neighbours(count: int, seed: int, longest_s: float) -> Iterator[None]:
    """Processes that are busy for up to `longest_s`, and then rest for as long (0: never rest); on the cores of this
    process."""
    command = [sys.executable, "-c", NEIGHBOUR]
    running = [subprocess.Popen([*command, str(100 * seed + place), str(longest_s)]) for place in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def serve(gap_s: float) -> None:
    """A scripted server until standard input closes; its address is the first line of the output."""
    plain = inference_server(SCRIPTED_TOKENS, FIRST_S * gap_s / GAP_S, gap_s)

    def answer(request: Received) -> Iterable[Step]:
        if not request.body.get("stream"):
            return plain(request)
        own = zlib.crc32(str(request.body.get("messages")).encode())  # each prompt has its own answer
        wanted = min(int(request.body.get("max_tokens") or SCRIPTED_TOKENS), SCRIPTED_TOKENS)
        return chat_stream([f" w{own}-{place}" for place in range(wanted)], FIRST_S * gap_s / GAP_S, gap_s)

    with ScriptedServer(answer) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def scripted(gap_s: float) -> Iterator[str]:
    """The address of a scripted server in a separate process."""
    command = [sys.executable, __file__, "--serve", str(gap_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def study(kind: str, seed: int, asked: argparse.Namespace) -> Outcome:
    """One study of a kind."""
    order: Order = "trials" if kind == "trials" else "requests"
    tokens = SCRIPTED_TOKENS if kind == "slow" else asked.tokens
    with contextlib.ExitStack() as stack:
        if kind == "slow":
            gaps = {"a": GAP_S, "b": GAP_S * SLOWER}
            urls = {name: stack.enter_context(scripted(gap_s)) for name, gap_s in gaps.items()}
            arms = {name: Arm("external", url=url, model="scripted") for name, url in urls.items()}
        else:
            arms = {name: Arm("embedded", model=asked.model, threads=1) for name in "ab"}
        spec = Spec(
            arms=arms,
            workload=PromptList(prompts(asked.prompts, seed), max_tokens=tokens),
            schedule=Closed(1),
            trials=asked.rounds,
            order=order,
            seed=seed,
            tokenizer="none" if kind == "slow" else "server",
        )
        return outcome(kind, spec, asked)


def prompts(count: int, seed: int) -> tuple[str, ...]:
    """Short prompts, so that a study is short: most of a request's time is that of its answer."""
    rng = random.Random(seed)
    words = [f"{rng.choice(VERBS)} {a} and {b} in {rng.randint(3, 99)} words." for a in ACTIONS for b in NOUNS]
    return tuple(rng.sample(words, count))


def pin_engines(core: int) -> None:
    """Let the engines that run share one core: only one works at a time, and two cores of a virtual machine can differ
    by 40% for seconds, which would be a difference of the arms."""
    pinned = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"embedded_server" in (process / "cmdline").read_bytes():
                for thread in os.listdir(process / "task"):
                    os.sched_setaffinity(int(thread), {core})
                    pinned += 1
    if not pinned:
        raise RuntimeError(f"no engine was found that could be moved to core {core}")


def outcome(kind: str, spec: Spec, asked: argparse.Namespace) -> Outcome:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "study"
        for progress in run_study(spec, made):
            if isinstance(progress, EngineReady) and asked.engine_core is not None and kind != "slow":
                pin_engines(asked.engine_core)
        took_s = time.monotonic() - began_s
        comparison = comparison_of([made], "inferometer")
        spread = deviations(made)
    row = comparison.primary_row
    codes = {f"{one.severity}: {one.code}" for one in comparison.findings if one.severity != "note"}
    if row is None:
        return Outcome(kind, spec.seed, "no value", None, None, took_s, tuple(sorted(codes)))
    found = row.against("a", "b")
    low, high = found.low_percent, found.high_percent
    half = None if low is None or high is None else (high - low) / 2
    verdict = found.starts_verdict or found.verdict
    findings = tuple(sorted(codes))
    return Outcome(kind, spec.seed, verdict, found.percent, half, took_s, findings, *spread)


def deviations(folder: Path) -> tuple[float | None, float | None, float | None]:
    """`rounds_sd_percent`, `medians_sd_percent` and `pairs_sd_percent` of an Outcome."""
    times: dict[tuple[str, int], dict[str, int]] = {}
    for trial in read_study(folder).trials:
        records = [record for record in trial.records if record.measured and record.ok and record.sent_ns is not None]
        times[trial.arm, trial.number] = {one.request_id: one.done_ns - (one.sent_ns or 0) for one in records}
    rounds: list[float] = []
    medians: list[float] = []
    pairs: list[float] = []
    for number in sorted({number for _, number in times}):
        a, b = times.get(("a", number), {}), times.get(("b", number), {})
        both = [prompt for prompt in a if prompt in b]
        if len(both) > 1:
            ratios = [math.log(b[prompt] / a[prompt]) for prompt in both]
            rounds.append(math.log(sum(b[prompt] for prompt in both) / sum(a[prompt] for prompt in both)))
            medians.append(statistics.median(ratios))
            pairs += [one - medians[-1] for one in ratios]
    if len(rounds) < 2:
        return None, None, None
    percentiles = statistics.quantiles(pairs, n=100)
    return 100 * statistics.stdev(rounds), 100 * statistics.stdev(medians), 50 * (percentiles[83] - percentiles[15])


# --- many studies ---------------------------------------------------------------------------------


def run(asked: argparse.Namespace) -> Part:
    """The studies that were asked for, kind by kind in turn, so that all kinds meet the same machine. Stops in time."""
    kinds = [asked.only] if asked.only else KINDS
    settings = (
        f"{asked.rounds} rounds of {asked.prompts} prompts of {asked.tokens} tokens; "
        f"{'' if asked.engine_core is None else 'engines on one core; '}{asked.neighbours} neighbour(s), "
        + (f"busy and at rest for up to {asked.burst_s:g} s" if asked.burst_s else "always busy")
    )
    done: list[Outcome] = []
    began_s = time.monotonic()
    with neighbours(asked.neighbours, asked.seed, asked.burst_s):
        for number in range(asked.studies):
            for kind in kinds:
                longest_s = max((one.took_s for one in done), default=0.0)
                if asked.seconds and time.monotonic() - began_s + 1.2 * longest_s > asked.seconds:
                    return Part(settings, tuple(done))
                done.append(study(kind, 1000 * asked.seed + number, asked))
                print(line(done[-1]), file=sys.stderr, flush=True)
                if asked.out:
                    write(asked.out, Part(settings, tuple(done)))
    return Part(settings, tuple(done))


def line(found: Outcome) -> str:
    size = "" if found.percent is None else f" {found.percent:+.2f} ±{found.half_percent or float('nan'):.2f}%"
    return f"{found.kind} {found.seed}: {found.verdict}{size}, {found.took_s:.0f} s {' '.join(found.findings)}".rstrip()


def write(path: Path, part: Part) -> None:
    """Whole, or not at all: the process may be ended at any time."""
    part_path = path.with_suffix(".part")
    part_path.write_bytes(msgspec.json.encode(part) + b"\n")
    os.replace(part_path, path)


def table(parts: Sequence[Part]) -> Iterator[str]:
    """The results of all parts in a Markdown table."""
    yield from (f"{settings}\n" for settings in sorted({part.settings for part in parts}))
    head = ("kind", "studies", "a difference shown", "no verdict", "median half-width", "SD of the difference")
    yield f"| {' | '.join((*head, 'SD of rounds', 'SD of their medians', 'SD of pairs', 's a study'))} |"
    yield "|:---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        found = [one for part in parts for one in part.outcomes if one.kind == kind]
        if found:
            yield row_of(kind, found)
    codes = [code for part in parts for one in part.outcomes for code in one.findings]
    for code in sorted(set(codes)):
        yield f"\n{code} in {codes.count(code)} studies"


def row_of(kind: str, found: Sequence[Outcome]) -> str:
    halves = [one.half_percent for one in found if one.half_percent is not None]
    percents = [one.percent for one in found if one.percent is not None]
    cells = (
        TITLES[kind],
        str(len(found)),
        str(sum(one.verdict == "slower" if kind == "slow" else one.verdict in SHOWN for one in found)),
        str(len(found) - len(halves)),
        median_text(halves),
        f"{statistics.stdev(percents):.2f}%" if len(percents) > 1 else "-",
        median_text(one.rounds_sd_percent for one in found),
        median_text(one.medians_sd_percent for one in found),
        median_text(one.pairs_sd_percent for one in found),
        f"{statistics.median(one.took_s for one in found):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def median_text(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.2f}%" if known else "-"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="standin:demo", help="a GGUF file, or a stand-in")
    parser.add_argument("--studies", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="each part of a run needs another one")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=90)
    parser.add_argument("--tokens", type=int, default=2, help="most output tokens of a request")
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--burst-s", type=float, default=0.0, help="longest work and rest of a neighbour; 0: no rest")
    parser.add_argument("--cores", help="for everything that this process starts, for example 0,1")
    parser.add_argument("--engine-core", type=int, help="for the engines of all arms")
    parser.add_argument("--seconds", type=float, help="start no study that would end later")
    parser.add_argument("--out", type=Path, help="a JSON file for --merge")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="one part per line")
    parser.add_argument("--serve", type=float, metavar="GAP_S", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.serve is not None:
        serve(asked.serve)
        return
    if asked.merge:
        lines = [line for path in asked.merge for line in path.read_bytes().splitlines()]
        parts = [msgspec.json.decode(line, type=Part) for line in lines]
    else:
        if asked.cores:
            os.sched_setaffinity(0, {int(core) for core in asked.cores.split(",")})
        parts = [run(asked)]
    print("\n".join(table(parts)))


if __name__ == "__main__":
    main()

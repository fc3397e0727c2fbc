"""Accuracy and cost of the client, compared with a minimal client in C (`make bench`).

Each load is played through `inferometer bench`, as a user would, on one core against the truth server on another,
between two runs of the floor client. CPU per token is the difference between a run and one of twice as many requests,
so that start-up and what does not grow with the load stay out; it counts the program and its load worker together. On
virtual machines the speed of a core varies by a fifth from second to second, so that each load is played in three
rounds: a figure is their median, with the range.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inferometer.load import compiled

TTFT_MS, ITL_MS, TOKENS = 20.0, 10.0, 100
PROMPT_CHARS = 200
LONG_PROMPT_CHARS = 200_000  # about 50,000 tokens
_INSTRUMENTS = Path(__file__).resolve().parent / "instruments"
_BENCH = [sys.executable, "-m", "inferometer", "bench"]
_PRINTED = ("Median TTFT (ms)", "P99 TTFT (ms)", "P99 ITL (ms)", "Output token throughput (tok/s)")
ROUNDS = 3


@dataclass(frozen=True)
class Ran:
    """The figures that a run reported, and its cost measured from outside."""

    ttft_p50: float
    ttft_p99: float
    itl_p99: float
    tokens_per_s: float
    cpu_s: float
    rss_bytes: int
    coalesced: float
    server_late_us: float


@dataclass(frozen=True)
class Floor:
    ttft_p50: float
    ttft_p99: float
    itl_p99: float
    tokens_per_s: float
    cpu_us: float
    server_late_us: float


class Bench:
    def __init__(self, folder: Path, client_core: int, server_core: int) -> None:
        self._folder = folder
        self._client = ["taskset", "-c", str(client_core)]
        self._server = ["taskset", "-c", str(server_core)]
        for name in ("truth_server", "floor_client"):
            source = _INSTRUMENTS / f"{name}.c"
            subprocess.run(["cc", "-O2", "-w", "-o", str(folder / name), str(source)], check=True)

    @contextlib.contextmanager
    def _truth(self) -> Iterator[tuple[int, list[float]]]:
        """A fresh server; afterwards the list holds how late it was on average, µs."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        late: list[float] = []
        command = [str(self._folder / "truth_server"), str(port), str(int(TTFT_MS * 1000)), str(int(ITL_MS * 1000))]
        server = subprocess.Popen([*self._server, *command], stderr=subprocess.PIPE, text=True)
        try:
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
            yield port, late
        finally:
            server.terminate()
            said = server.communicate()[1]
            late += [float(found) for found in re.findall(r"mean_late_us=([\d.]+)", said)]

    def floor(self, streams: int, requests: int) -> Floor:
        with self._truth() as (port, late):
            command = [str(self._folder / "floor_client"), str(port), str(streams), str(requests), str(TOKENS)]
            said = subprocess.run([*self._client, *command], capture_output=True, text=True, check=True).stdout
        ttft_p50, ttft_p99, _, itl_p99 = map(float, re.findall(r"p(?:50|99) ([\d.]+)", said))
        (rate,), (cpu,) = re.findall(r"tok/s (\d+)", said), re.findall(r"cpu_us/tok ([\d.]+)", said)
        return Floor(ttft_p50, ttft_p99, itl_p99, float(rate), float(cpu), late[0])

    def ours(self, streams: int, requests: int, prompt_chars: int = PROMPT_CHARS) -> Ran:
        dataset = self._folder / f"prompts-{requests}-{prompt_chars}.json"
        if not dataset.exists():
            dataset.write_text(json.dumps([_conversation(i, prompt_chars) for i in range(requests)]))
        with self._truth() as (port, late), tempfile.TemporaryDirectory(dir=self._folder) as place:
            command = [
                *(*_BENCH, "--backend", "openai-chat", "--base-url", f"http://127.0.0.1:{port}", "--model", "mock"),
                *("--dataset-path", str(dataset), "--num-prompts", str(requests), "--max-concurrency", str(streams)),
                *("--skip-tokenizer-init", "--sharegpt-output-len", str(TOKENS), "--num-warmups", "0"),
                *("--disable-tqdm", "--out", "study"),
            ]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            rss, printed = _run_watched([*self._client, *command], Path(place))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = dict(re.findall(r"^(.+?): +([\d.]+) *$", printed, re.MULTILINE))
            coalesced = _coalesced(Path(place) / "study")
        if result["Successful requests"] != str(requests):
            raise SystemExit(f"only {result['Successful requests']} of {requests} requests succeeded")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Ran(
            *(float(result[name]) for name in _PRINTED),
            cpu_s=cpu,
            rss_bytes=rss,
            coalesced=coalesced,
            server_late_us=late[0],
        )

    def start_up_s(self) -> float:
        """From the command to the first measured request, median of five. One start before them writes the bytecode,
        which an installation has."""
        self._one_start_s()
        return statistics.median(self._one_start_s() for _ in range(5))

    def _one_start_s(self) -> float:
        from inferometer.testing.scripted_server import ScriptedServer, inference_server

        arrived: list[float] = []
        answer = inference_server(tokens=1)

        def stamped(request):
            if request.body.get("stream"):
                arrived.append(time.monotonic())
            return answer(request)

        with ScriptedServer(stamped) as server, tempfile.TemporaryDirectory(dir=self._folder) as place:
            command = [
                *(*_BENCH, "--backend", "openai-chat", "--base-url", server.url, "--num-prompts", "1"),
                *("--num-warmups", "0", "--skip-tokenizer-init", "--disable-tqdm", "--out", "study"),
            ]
            env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            began = time.monotonic()
            subprocess.run([*self._client, *command], cwd=place, env=env, capture_output=True, check=True)
        return arrived[-1] - began  # those before it ask whether the server is ready


def _conversation(number: int, chars: int) -> dict:
    """A unique prompt of this many characters, about four per token."""
    prompt = f"{number:06d} " + "word" * ((chars - 7) // 4)
    return {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "fine"}]}


def _run_watched(command: list[str], place: Path) -> tuple[int, str]:
    """Runs it; the peak of its process tree's RSS, bytes, looked at ten times a second, and what it printed.

    The difference of two runs does not depend on what the processes share. Nothing more expensive is read, because that
    takes the core from the server: PSS or a search of all processes delayed its answers by 10 ms.
    """
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(_rss_bytes, _tree(process.pid))))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, said = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{said}")
    return peak, printed


def _tree(pid: int) -> list[int]:
    """The process and its descendants; those that have ended may be missing."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return [pid, *(found for child in children for found in _tree(child))]
    return []


def _rss_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _coalesced(study: Path) -> float:
    """Share of events whose own arrival is not known."""
    from inferometer.results.read import read_study

    facts = {fact.name: fact.value for fact in read_study(study).trials[0].facts}
    return int(facts["load_coalesced"]) / int(facts["load_events"])


def _row(name: str, wanted: str, measured: str, holds: bool | None) -> str:
    return f"| {name} | {wanted} | {measured} | {'' if holds is None else 'yes' if holds else '**no**'} |"


@dataclass(frozen=True)
class Round:
    """Two runs between two floor runs; `tokens`: by how many the longer run has more."""

    floors: tuple[Floor, Floor]
    short: Ran
    long: Ran
    tokens: int

    @property
    def cpu_us(self) -> float:
        return (self.long.cpu_s - self.short.cpu_s) / self.tokens * 1e6

    @property
    def floor_cpu_us(self) -> float:
        return statistics.mean(floor.cpu_us for floor in self.floors)


def _round(bench: Bench, streams: int) -> Round:
    requests = streams * 5
    before = bench.floor(streams, requests)
    short, long = bench.ours(streams, requests), bench.ours(streams, 2 * requests)
    return Round((before, bench.floor(streams, requests)), short, long, requests * TOKENS)


def _rate_rows(bench: Bench, streams: int, rate_limit: float, cpu_limit: float | None) -> list[str]:
    """One load: accuracy and rate of the longer runs, CPU and memory from both."""
    rounds = [_round(bench, streams) for _ in range(ROUNDS)]
    floors = [floor for one in rounds for floor in one.floors]
    cpu_us, floor_us = (statistics.median(getattr(one, name) for one in rounds) for name in ("cpu_us", "floor_cpu_us"))
    ratios = sorted(one.cpu_us / one.floor_cpu_us for one in rounds)
    ideal = streams * TOKENS / (TTFT_MS + (TOKENS - 1) * ITL_MS) * 1000
    share, floor_share = (
        statistics.median(ran.tokens_per_s for ran in runs) / ideal for runs in ([one.long for one in rounds], floors)
    )
    growth = statistics.median((one.long.rss_bytes - one.short.rss_bytes) / one.tokens for one in rounds)
    late = max(ran.server_late_us for ran in (*floors, *(ran for one in rounds for ran in (one.short, one.long))))
    coalesced = max(one.long.coalesced for one in rounds)
    ratio = ratios[len(ratios) // 2]
    cpu = f"{cpu_us:.1f} µs (floor: {floor_us:.1f} µs): {ratio:.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    wanted_cpu = "CPU per token" if cpu_limit is None else f"CPU per token ≤ {cpu_limit:g} × the floor"
    wanted_rate = f"rate ≥ {rate_limit:.1%} of {ideal:,.0f} tok/s, or the floor's"
    return [
        _time_row(f"{streams} streams × 100 tok/s", "TTFT median", 0.1, rounds, "ttft_p50"),
        _time_row("", "TTFT P99", 1.0, rounds, "ttft_p99"),
        _time_row("", "ITL P99", 1.0, rounds, "itl_p99"),
        _row("", wanted_rate, f"{share:.1%} (floor: {floor_share:.1%})", share >= min(rate_limit, floor_share)),
        _row("", wanted_cpu, cpu, None if cpu_limit is None else ratio <= cpu_limit),
        _row("", "memory ≤ 120 bytes a token", f"{growth:+.0f} bytes", growth <= 120),
        _row("", "", f"coalesced at most {coalesced:.1%}; server late by at most {late:.0f} µs on average", None),
    ]  # fmt: skip


def _time_row(load: str, name: str, limit_ms: float, rounds: list[Round], field: str) -> str:
    """A latency: the median of the rounds, and whether it exceeds that of the floor by at most the limit."""
    ours_ms = sorted(getattr(one.long, field) for one in rounds)
    floor_ms = sorted(statistics.mean(getattr(floor, field) for floor in one.floors) for one in rounds)
    ours, floor = (statistics.median(found) for found in (ours_ms, floor_ms))
    measured = f"{ours:.2f} ms, {ours_ms[0]:.2f} to {ours_ms[-1]:.2f} (floor: {floor:.2f}, to {floor_ms[-1]:.2f})"
    return _row(load, f"{name} at most {limit_ms:g} ms above the floor's", measured, ours <= floor + limit_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client-core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--server-core", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=["100", "400", "1000", "long", "start"], action="append")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("this needs two cores: one for the server, one for the client")
    chosen = options.only or ["100", "400", "1000", "long", "start"]
    now = datetime.datetime.now(datetime.UTC)
    lines = [
        f"Measured {now:%Y-%m-%d %H:%M} UTC; {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.2f}. "
        f"Load path: {'with' if compiled.receive else 'without'} its compiled part.",
        "",
        "| load | must hold | measured | holds |",
        "| --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.client_core, options.server_core)
        limits = {"100": (0.985, None), "400": (0.985, 2.0), "1000": (0.97, 1.8)}
        for name, (rate_limit, cpu_limit) in limits.items():
            if name in chosen:
                lines += _rate_rows(bench, int(name), rate_limit, cpu_limit)
        if "long" in chosen:
            plain, long = bench.ours(64, 256), bench.ours(64, 256, LONG_PROMPT_CHARS)
            share = long.tokens_per_s / plain.tokens_per_s
            measured = f"{long.tokens_per_s:,.0f} against {plain.tokens_per_s:,.0f} tok/s = {share:.1%}"
            lines.append(
                _row("prompts of 50,000 tokens, 64 streams", "no loss of rate beyond sending the bytes", measured, None)
            )
        if "start" in chosen:
            start_s = bench.start_up_s()
            lines.append(
                _row("start-up", "first request after ≤ 0.4 s", f"{start_s:.2f} s (median of 5)", start_s <= 0.4)
            )
    table = "\n".join(lines) + "\n"
    print(table)
    if options.out:
        options.out.write_text(table)


if __name__ == "__main__":
    main()

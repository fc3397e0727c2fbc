"""The rate of several load workers compared with one, and whether their times stay as accurate.

    python benchmarks/workers.py --cores 0-39 [--workers 1,16,2,4,8] [--seconds 4]
    python benchmarks/workers.py --cores 0-15 --shared --streams 300

`inferometer bench` plays closed loops of paced answers against truth servers that share one port. One core for each
worker, up to two for the main process, the rest for the servers. First the load of one worker is found: streams are
added until it delivers less than 97% of what the servers offer. Then every row offers that load to each of its workers.

`--shared` is for a machine with too few cores for that: each worker has a core, which the servers and the main process
use too. It shows whether more workers carry more load, not the most that they can carry.
"""

import argparse
import contextlib
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

TTFT_MS, ITL_MS, TOKENS = 20.0, 5.0, 400
_ANSWER_S = (TTFT_MS + (TOKENS - 1) * ITL_MS) / 1000
_IDEAL_PER_STREAM = TOKENS / _ANSWER_S
_FIRST_STREAMS, _MORE, _DELIVERED = 500, 1.3, 0.97
_SERVER_SOURCE = Path(__file__).resolve().parent / "instruments" / "truth_server.c"


@dataclass(frozen=True)
class Row:
    """One run. Times are errors against the servers' schedule, CPU is in seconds per second of the load."""

    workers: int
    streams: int
    tokens_per_s: float
    ttft_p50_error_ms: float
    ttft_p99_error_ms: float
    itl_p99_error_ms: float
    main_cpu: float
    worker_cpu: float
    after_last_answer_s: float
    server_late_us: float

    @property
    def delivered(self) -> float:
        return self.tokens_per_s / (self.streams * _IDEAL_PER_STREAM)


class Watched:
    """Pins the load workers of a running `bench`, and keeps the CPU seconds that its processes used."""

    def __init__(self, command: Sequence[str], place: Path, main_cores: Sequence[int], cores: Sequence[int]) -> None:
        self._free = list(cores)
        self.worker_cpu_s: dict[int, float] = {}
        self.main_cpu_s = self.workers_ended_s = 0.0
        self._process = psutil.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._process.pid, main_cores)
        while self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self._look()
            time.sleep(0.02)
        self.after_last_answer_s = time.monotonic() - self.workers_ended_s
        if self._process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{self._process.stderr.read()}")

    def _look(self) -> None:
        times = self._process.cpu_times()
        self.main_cpu_s = times.user + times.system
        for child in self._process.children():
            if child.pid not in self.worker_cpu_s:
                if "inferometer.load.worker" not in child.cmdline():
                    continue
                child.cpu_affinity([self._free.pop(0)])
            times = child.cpu_times()
            self.worker_cpu_s[child.pid] = times.user + times.system
            self.workers_ended_s = time.monotonic()


class Bench:
    def __init__(self, folder: Path, cores: Sequence[int], most_workers: int, *, shared: bool) -> None:
        self._folder = folder
        mains = 2 if len(cores) >= most_workers + 4 else 1
        self._main, self._workers = cores[:mains], cores[mains : mains + most_workers]
        self._servers = [[core] for core in cores[mains + most_workers :]]
        if shared:
            self._main, self._workers = cores, [cores[number % len(cores)] for number in range(most_workers)]
            self._servers = [list(cores)] * max(1, most_workers // 2)
        self._servers_per_worker = len(self._servers) / most_workers
        if not self._servers:
            raise SystemExit(
                f"{most_workers} workers need {most_workers + 2} cores, not {len(cores)}: or give --shared"
            )
        subprocess.run(["cc", "-O2", "-w", "-o", str(folder / "truth_server"), str(_SERVER_SOURCE)], check=True)

    def row(self, workers: int, streams: int, answers: int) -> Row:
        """`streams` closed loops of `answers` answers each, by this many workers."""
        requests = streams * answers
        dataset = self._folder / f"prompts-{requests}.json"
        dataset.write_text(json.dumps([_conversation(number) for number in range(requests)]))
        with self._truth(workers) as (port, late), tempfile.TemporaryDirectory(dir=self._folder) as place:
            command = [
                *(sys.executable, "-m", "inferometer", "bench", "--backend", "openai-chat", "--model", "mock"),
                *("--base-url", f"http://127.0.0.1:{port}", "--dataset-path", str(dataset), "--workers", str(workers)),
                *("--num-prompts", str(requests), "--max-concurrency", str(streams), "--skip-tokenizer-init"),
                *("--sharegpt-output-len", str(TOKENS), "--num-warmups", "0", "--disable-tqdm", "--out", "study"),
                *("--save-result", "--result-filename", "r.json"),
            ]
            ran = Watched(command, Path(place), self._main, self._workers)
            result = json.loads((Path(place) / "r.json").read_text())
        dataset.unlink()
        if result["completed"] != requests:
            raise SystemExit(f"only {result['completed']} of {requests} requests succeeded")
        return Row(
            workers,
            streams,
            result["output_throughput"],
            result["median_ttft_ms"] - TTFT_MS,
            result["p99_ttft_ms"] - TTFT_MS,
            result["p99_itl_ms"] - ITL_MS,
            ran.main_cpu_s / result["duration"],
            sum(ran.worker_cpu_s.values()) / result["duration"] / workers,
            ran.after_last_answer_s,
            statistics.mean(late),
        )

    @contextlib.contextmanager
    def _truth(self, workers: int) -> Iterator[tuple[int, list[float]]]:
        """Fresh servers behind one port; afterwards the list holds how late each was on average, µs."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        late: list[float] = []
        command = [str(self._folder / "truth_server"), str(port), str(int(TTFT_MS * 1000)), str(int(ITL_MS * 1000))]
        cores = self._servers[: math.ceil(workers * self._servers_per_worker)]
        servers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in cores]
        for server, its_cores in zip(servers, cores, strict=True):
            os.sched_setaffinity(server.pid, its_cores)
        try:
            while len(_listening(port)) < len(servers):
                time.sleep(0.01)
            yield port, late
        finally:
            for server in servers:
                server.terminate()
            said = "".join(server.communicate()[1] for server in servers)
            late += [float(found) for found in re.findall(r"mean_late_us=([\d.]+)", said)]


def _listening(port: int) -> list[str]:
    """The listening sockets of this IPv4 port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [fields[9] for fields in lines if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port]


def _conversation(number: int) -> dict:
    """A unique prompt of 200 characters."""
    prompt = f"{number:07d} " + "word" * 48
    return {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "fine"}]}


def load_of_one(bench: Bench, say) -> int:
    """The most streams of which one worker delivers what the servers offer."""
    streams, held = _FIRST_STREAMS, 0
    while True:
        row = bench.row(1, streams, 1)
        say(f"search: {streams} streams: {row.delivered:.1%} delivered, worker CPU {row.worker_cpu:.0%}")
        if row.delivered < _DELIVERED or row.worker_cpu > _DELIVERED:
            return held or streams
        held, streams = streams, round(streams * _MORE)


def table_line(row: Row, one: Row) -> str:
    errors = f"{row.ttft_p50_error_ms:+.2f} / {row.ttft_p99_error_ms:+.2f} | {row.itl_p99_error_ms:+.2f}"
    return (
        f"| {row.workers} | {row.streams:,} | {row.tokens_per_s:,.0f} ({row.delivered:.1%}) | "
        f"{row.tokens_per_s / one.tokens_per_s:.2f} | {errors} | {row.worker_cpu:.0%} | {row.main_cpu:.0%} | "
        f"{row.after_last_answer_s:.1f} s | {row.server_late_us:.0f} µs |"
    )


def _cores(text: str) -> list[int]:
    """`0-3,8` as numbers."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [core for end in ends for core in range(end[0], end[-1] + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=_cores, default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--workers", type=_cores, default=[1, 16, 2, 4, 8], help="in this order; the first is the unit")
    parser.add_argument("--seconds", type=float, default=4, help="of each run; rounded to whole answers")
    parser.add_argument("--streams", type=int, help="of each worker, instead of the search")
    parser.add_argument("--shared", action="store_true", help="servers and main process on the workers' cores")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    began = time.monotonic()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        if options.out:
            options.out.write_text("\n".join(lines) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.cores, max(options.workers), shared=options.shared)
        streams = options.streams or load_of_one(bench, say)
        say("\n| workers | streams | tokens/s (of offered) | × the first row | TTFT median / P99 error, ms | "
            "ITL P99 error, ms | CPU per worker | main CPU | after the last answer | servers late |")  # fmt: skip
        say("|" + " --- |" * 10)
        one = None
        for workers in options.workers:
            try:
                row = bench.row(workers, streams * workers, max(1, round(options.seconds / _ANSWER_S)))
            except SystemExit as error:
                say(f"{workers} workers: {error}")
                continue
            one = one or row
            say(table_line(row, one))
    say(f"\n{len(options.cores)} cores, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

"""Other benchmark clients, measured against a server whose timing is known.

Example: `python benchmarks/peers/run.py --load 400x100 --peers vllm,sglang --out table.md`
"""

import argparse
import contextlib
import datetime
import importlib
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from place import InstallError, Load, Place, Reported, write_tokenizer

PEERS = "vllm,vllm-rust,sglang,aiperf,guidellm,evalscope,llama-benchy,inferometer"
_INSTRUMENTS = Path(__file__).resolve().parents[1] / "instruments"
_HEADER = """\
| tool | version | TTFT median / P99, ms (truth {ttft:.1f}) | ITL median / P99, ms (truth {itl:.1f}) \
| tok/s (of ideal) | CPU µs per token (× floor) | note |
| --- | --- | --- | --- | --- | --- | --- |"""


class RunError(Exception):
    """The tool failed; the message is one line."""


@dataclass(frozen=True)
class Ended:
    """One tool's row: its result, or `problem`. Wall and CPU time are seen from outside, start-up and all."""

    name: str
    version: str
    note: str
    problem: str | None = None
    reported: Reported | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0  # of a run of one request per stream
    server_said: str = ""


def main() -> int:
    options = _options()
    shared = Place(env=options.env_dir / "instruments", hub=options.env_dir / "hub")
    write_tokenizer(shared)
    for source in ("truth_server", "floor_client"):
        _compile(_INSTRUMENTS / f"{source}.c", Path(shared.bin(source)))

    peers = {name: importlib.import_module(name.replace("-", "_")) for name in ["floor", *options.peers]}
    places = {name: replace(shared, env=options.env_dir / getattr(peer, "ENV", name)) for name, peer in peers.items()}
    places["floor"] = shared
    problems = {name: _install(name, peer, places[name]) for name, peer in peers.items()}
    if options.install_only:
        return int(any(problems.values()))

    busy = os.getloadavg()[0]
    rounds: list[list[Ended]] = []
    for _ in range(options.rounds):
        rounds.append([])
        for name in ["floor", *options.peers, "floor"]:
            print(f"{name}: {problems[name] or 'measuring'}", file=sys.stderr)
            rounds[-1].append(_row(name, peers[name], places[name], problems[name], options))
    ended = [_middle(rows, options.load) for rows in zip(*rounds, strict=True)]
    report = (
        f"{_table(ended, options)}\n\n{options.load.streams} streams, {options.load.requests} requests of "
        f"{options.tokens} tokens; {_machine()}; load average {busy:.1f} before, {os.getloadavg()[0]:.1f} after."
    )
    print(report)
    if options.out:
        options.out.write_text(f"{report}\n")
    return 0


def _options() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="400x100", help="STREAMSxRATE, tokens per second of each stream")
    parser.add_argument("--peers", default=PEERS, help="by commas, in this order (default: all)")
    parser.add_argument("--env-dir", default=cache / "inferometer-peers", type=Path)
    parser.add_argument("--out", type=Path, help="also write the table there")
    parser.add_argument("--server", type=Path, help="a truth server that is compiled already")
    parser.add_argument("--ttft-ms", default=20.0, type=float)
    parser.add_argument("--tokens", default=100, type=int, help="of each answer")
    parser.add_argument("--requests-per-stream", default=3, type=int)
    parser.add_argument("--rounds", default=1, type=int, help="of all tools; shows the one of median CPU per token")
    parser.add_argument("--timeout-s", default=600.0, type=float, help="for one run of one tool")
    parser.add_argument("--install-only", action="store_true")
    options = parser.parse_args()
    parts = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", options.load)
    if not parts:
        parser.error(f"--load {options.load}: wanted STREAMSxRATE, such as 400x100")
    if options.requests_per_stream < 2:
        parser.error("--requests-per-stream must be 2 or more: one per stream is taken away as the cost of starting")
    options.peers = [name for name in options.peers.split(",") if name]
    if unknown := set(options.peers) - set(PEERS.split(",")):
        parser.error(f"--peers: no {', '.join(sorted(unknown))}; there are {PEERS}")
    cores = sorted(os.sched_getaffinity(0)) if shutil.which("taskset") else []
    if len(cores) < 2:
        parser.error("wanted: Linux, taskset, and two cores, one for the client and one for the server")
    options.client_core, options.server_core = str(cores[0]), str(cores[-1])
    options.env_dir = options.env_dir.resolve()
    options.server = (options.server or options.env_dir / "instruments" / "bin" / "truth_server").resolve()
    options.itl_ms = 1e3 / int(parts[2])
    streams = int(parts[1])
    options.load = Load(streams, streams * options.requests_per_stream, options.tokens)
    return options


def _compile(source: Path, binary: Path) -> None:
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-w", "-o", str(binary), str(source)], check=True)


def _install(name: str, peer: ModuleType, place: Place) -> str | None:
    """None when it is there; else what went wrong."""
    mark = place.env / "installed.txt"
    if mark.exists() and mark.read_text() == peer.VERSION:
        return None
    print(f"{name}: installing {peer.VERSION} into {place.env}", file=sys.stderr)
    try:
        peer.install(place)
    except (InstallError, OSError) as error:
        return f"not installed: {error}"
    mark.write_text(peer.VERSION)
    return None


def _row(name: str, peer: ModuleType, place: Place, problem: str | None, options: argparse.Namespace) -> Ended:
    found = place.version_of(peer.PACKAGE) if peer.PACKAGE and not problem else None
    pinned = found in (None, peer.VERSION) or peer.VERSION == "this tree"
    row = Ended(name, found or peer.VERSION, peer.NOTE if pinned else f"{peer.NOTE}; {peer.VERSION} was not to be had")
    if problem:
        return replace(row, problem=problem)
    load = options.load
    try:
        runs = [_play(row, peer, place, part, options) for part in (replace(load, requests=load.streams), load)]
    except RunError as error:
        return replace(row, problem=f"did not run: {error}".replace(str(options.env_dir), "…"))
    except (OSError, LookupError, ValueError, TypeError, StopIteration) as error:  # a file or a key that is not there
        problem = f"no result found: {type(error).__name__}: {error}"
        return replace(row, problem=problem.replace(str(options.env_dir), "…"))
    return replace(runs[1], start_cpu_s=runs[0].cpu_s)


def _play(row: Ended, peer: ModuleType, place: Place, load: Load, options: argparse.Namespace) -> Ended:
    place = replace(place, results=options.env_dir / "runs" / f"{row.name}-{load.streams}-{load.requests}")
    shutil.rmtree(place.results, ignore_errors=True)
    place.results.mkdir(parents=True)
    with _truth_server(options, place.results) as url, (place.results / "output.log").open("w") as log:
        command = ["taskset", "-c", options.client_core, *peer.command(place, load, url)]
        before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        client = subprocess.Popen(
            command, cwd=place.results, env=_environment(place), start_new_session=True, **streams
        )
        try:
            code = client.wait(options.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"not done after {options.timeout_s:g} s: {_last_line(place.results)}") from error
        finally:
            # A tool that was stopped, or that left workers behind, must not keep running during the next one.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(client.pid, signal.SIGKILL)
            client.wait()
        wall_s, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RunError(f"exit {code}: {_last_line(place.results)}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = (place.results / "server.log").read_text()
    return replace(row, reported=peer.parse(place.results), wall_s=wall_s, cpu_s=cpu_s, server_said=said)


@contextlib.contextmanager
def _truth_server(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """A new server for each run, so that leftovers of one tool do not affect the next."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    timing = [f"{ms * 1e3:.0f}" for ms in (options.ttft_ms, options.itl_ms)]
    command = ["taskset", "-c", options.server_core, str(options.server), str(port), *timing, str(options.tokens)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def _environment(place: Place) -> dict[str, str]:
    """No hub, no telemetry, no proxy between the client and the server, and nothing of the caller's Python."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in dropped and "proxy" not in name.lower()}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place.hub), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **offline, "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}


def _last_line(results: Path) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", (results / "output.log").read_text(errors="replace"))
    lines = [line.strip() for line in plain.splitlines() if re.search(r"\w", line)]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["it printed nothing"])[-1][:160]


def _cost_us(row: Ended, load: Load) -> float:
    """CPU per token of the full run beyond that of one request per stream."""
    return (row.cpu_s - row.start_cpu_s) / ((load.requests - load.streams) * load.tokens) * 1e6


def _middle(rows: tuple[Ended, ...], load: Load) -> Ended:
    """Of one tool's rows, one a round, that of the median CPU per token; the range stands in its note."""
    good = sorted((row for row in rows if row.reported), key=lambda row: _cost_us(row, load))
    if len(rows) == 1 or not good:
        return rows[0]
    middle, failed = good[(len(good) - 1) // 2], len(rows) - len(good)
    note = f"CPU per token {_cost_us(good[0], load):.1f} to {_cost_us(good[-1], load):.1f} in {len(good)} rounds"
    return replace(middle, note=f"{middle.note}; {note}" + (f", {failed} failed" if failed else ""))


def _table(ended: list[Ended], options: argparse.Namespace) -> str:
    """The ideal rate is below `streams` / ITL: each stream waits for the first token of every request."""
    answer_ms = options.ttft_ms + (options.tokens - 1) * options.itl_ms
    ideal_per_s = options.load.streams * options.tokens * 1e3 / answer_ms
    floors_us = [_cost_us(row, options.load) for row in ended if row.name == "floor" and row.reported]
    lines = [_HEADER.format(ttft=options.ttft_ms, itl=options.itl_ms)]
    for row in ended:
        said, notes = row.reported, [row.note]
        if said is None:
            lines.append(f"| {row.name} | {row.version} | – | – | – | – | {str(row.problem).replace('|', '/')} |")
            continue
        if said.requests not in (None, options.load.requests):
            notes.append(f"**{said.requests} of {options.load.requests} requests**")
        notes.append(
            f"{row.wall_s:.1f} s in all, CPU {row.cpu_s:.1f} s ({row.start_cpu_s:.1f} with one request per stream)"
        )
        for mean, most in re.findall(r"mean_late_us=(\S+) max_late_us=(\S+)", row.server_said):
            notes.append(f"server late {float(mean) / 1e3:.2f} ms, at most {float(most) / 1e3:.1f}")
        cost_us = _cost_us(row, options.load)
        cost = f"{cost_us:.1f}" + (f" ({cost_us * len(floors_us) / sum(floors_us):.1f})" if floors_us else "")
        if row.cpu_s < 1.03 * row.start_cpu_s:
            cost = "–"
            notes.append("too few tokens to tell their cost from that of starting")
        cells = [
            f"{said.ttft_p50:.1f} / {said.ttft_p99:.1f}",
            "–" if said.itl_p50 is None or said.itl_p99 is None else f"{said.itl_p50:.1f} / {said.itl_p99:.1f}",
            f"{said.tokens_per_s:,.0f} ({said.tokens_per_s / ideal_per_s:.1%})",
            cost,
        ]
        lines.append(f"| {' | '.join([row.name, row.version, *cells, '; '.join(notes)])} |")
    return "\n".join(lines)


def _machine() -> str:
    cpu = platform.machine()
    with contextlib.suppress(OSError, IndexError):
        cpu = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[0]
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} × {cpu}, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    sys.exit(main())

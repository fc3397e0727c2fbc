"""Bytes that a token costs between the machines of a Ray cluster: two nodes on this one, in a separate network.

Example: `unshare -n sh -c 'ip link set lo up && python benchmarks/ray_wire.py'` (as root). The same load is played by
two local workers and by two nodes, and then twice that load, so that the costs of starting stay out. What the loopback
carried more with Ray, less what the idle cluster sends in the same time, is what its messages and the answers added.
Nothing else may use this network.
"""

import argparse
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ray.cluster_utils import Cluster

from inferometer.load import compiled

_SOURCE = Path(__file__).resolve().parent / "instruments" / "truth_server.c"
_IDLE_S = 5.0


def received_bytes() -> int:
    """Bytes that the loopback has carried."""
    (found,) = re.findall(r"lo:\s*(\d+)", Path("/proc/net/dev").read_text())
    return int(found)


def played_bytes(place: Path, port: int, requests: int, options: argparse.Namespace, *more: str) -> tuple[int, float]:
    """Plays the load; bytes over the loopback, and the seconds that it took."""
    command = [
        *(sys.executable, "-m", "inferometer", "bench", "--backend", "openai-chat", "--model", "mock"),
        *("--base-url", f"http://127.0.0.1:{port}", "--dataset-path", "prompts.json", "--num-prompts", str(requests)),
        *("--max-concurrency", str(options.streams), "--workers", "2", "--skip-tokenizer-init", "--num-warmups", "0"),
        *("--sharegpt-output-len", str(options.tokens), "--disable-tqdm", "--save-result"),
        *("--result-filename", "r.json", "--out", f"study-{time.monotonic_ns()}"),
    ]
    before, began_s = received_bytes(), time.monotonic()
    done = subprocess.run([*command, *more], cwd=place, capture_output=True, text=True, check=False)
    after, took_s = received_bytes(), time.monotonic() - began_s
    if done.returncode or json.loads((place / "r.json").read_text())["completed"] != requests:
        raise SystemExit(f"{' '.join([*command, *more])} failed:\n{done.stderr}")
    return after - before, took_s


def measured(place: Path, options: argparse.Namespace) -> str:
    loads = [options.streams * options.rounds, 2 * options.streams * options.rounds]
    asked = [{"from": "human", "value": "word " * 50}, {"from": "gpt", "value": "fine"}]
    (place / "prompts.json").write_text(json.dumps([{"conversations": asked}] * loads[1]))
    subprocess.run(["cc", "-O2", "-w", "-o", str(place / "truth_server"), str(_SOURCE)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([str(place / "truth_server"), str(port), "20000", "10000"], stderr=subprocess.DEVNULL)
    try:
        local = [played_bytes(place, port, requests, options)[0] for requests in loads]
        with two_nodes() as address:
            before = received_bytes()
            time.sleep(_IDLE_S)
            idle_per_s = (received_bytes() - before) / _IDLE_S
            ray = [played_bytes(place, port, requests, options, "--ray", address) for requests in loads]
    finally:
        server.terminate()
    counts = [total - idle_per_s * took_s for total, took_s in ray]
    tokens = (loads[1] - loads[0]) * options.tokens
    streams = (local[1] - local[0]) / tokens
    return (
        f"{loads[0]} and {loads[1]} requests of {options.tokens} tokens, {'with' if compiled.pack else 'without'} "
        f"the compiled part: {(counts[1] - counts[0]) / tokens - streams:.1f} bytes a token between the nodes; the "
        f"server's streams take {streams:.0f}. Idle cluster: {idle_per_s / 1000:.0f} kB/s."
    )


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster."""
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=100, help="of each answer")
    parser.add_argument("--rounds", type=int, default=10, help="requests for each stream")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(measured(Path(folder), options))


if __name__ == "__main__":
    main()

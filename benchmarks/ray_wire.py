"""Bytes that a token costs between the machines of a Ray cluster: two nodes on this one, in a network of their own.

Example: `unshare -n sh -c 'ip link set lo up && python benchmarks/ray_wire.py'` (as root). The same load is played by
two local workers and by two nodes. The difference of the loopback's counter, less what the idle cluster sends in the
same time, is what Ray and the answers added. Nothing else may use this network.
"""

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
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
    requests = options.streams * options.rounds
    asked = [{"from": "human", "value": "word " * 50}, {"from": "gpt", "value": "fine"}]
    (place / "prompts.json").write_text(json.dumps([{"conversations": asked}] * requests))
    subprocess.run(["cc", "-O2", "-w", "-o", str(place / "truth_server"), str(_SOURCE)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([str(place / "truth_server"), str(port), "20000", "10000"], stderr=subprocess.DEVNULL)
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    try:
        local, _ = played_bytes(place, port, requests, options)
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            before = received_bytes()
            time.sleep(_IDLE_S)
            idle_per_s = (received_bytes() - before) / _IDLE_S
            ours, took_s = played_bytes(place, port, requests, options, "--ray", cluster.address)
        finally:
            cluster.shutdown()
    finally:
        server.terminate()
    added = (ours - local - idle_per_s * took_s) / (requests * options.tokens)
    stream = local / (requests * options.tokens)
    return (
        f"{requests} requests of {options.tokens} tokens, {'with' if compiled.pack else 'without'} the compiled part: "
        f"{added:.1f} bytes a token between the nodes; the server's streams take {stream:.0f}. "
        f"The idle cluster: {idle_per_s / 1000:.0f} kB/s."
    )


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

"""What `--ray` sends over the network for each token: a cluster of two nodes, and the load on the one that is not ours.

    python benchmarks/ray_bytes.py [--streams 50] [--answers 20]

Counts the worker's messages, and what Ray's processes sent over TCP meanwhile. Needs Linux, a C compiler, `ss` and the
extra `ray`.
"""

import argparse
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import play
from inferometer.load.compiled import pack
from inferometer.load.packing import unpacked
from inferometer.load.ray_workers import Cluster, connected
from inferometer.load.wire import Exchange, decode_from_worker

TOKENS = 100
_SERVER_SOURCE = Path(__file__).resolve().parent / "instruments" / "truth_server.c"
_NOT_RAY = ("inferometer.load.worker", "truth_server")


def sent_by_ray() -> dict[str, int]:
    """Bytes sent so far through each TCP connection of Ray's processes and ours, by its addresses."""
    ours = {process.pid: process for process in psutil.Process().children(recursive=True)}
    shown = subprocess.run(["ss", "-tinpH"], capture_output=True, text=True, check=True).stdout
    found: dict[str, int] = {}
    for address, pid, numbers in re.findall(r"^(\S.*?) +users:.*?pid=(\d+).*\n\s+(.*)$", shown, re.MULTILINE):
        process = ours.get(int(pid), psutil.Process())
        if any(word in " ".join(process.cmdline()) for word in _NOT_RAY):
            continue
        if int(pid) in ours or int(pid) == process.pid:
            sent = re.search(r"bytes_sent:(\d+)", numbers)
            found[" ".join(address.split()[-2:])] = int(sent[1]) if sent else 0
    return found


def measure(cluster: Cluster, plan: Plan, endpoint: Endpoint) -> str:
    """Plays the plan on the cluster and counts."""
    packed: list[int] = []
    plain: list[int] = []
    pool = cluster.worker_pool(1)
    (worker,) = pool.workers
    listen = worker.listen

    def counting(deliver, ended) -> None:
        def count(payload: bytes) -> None:
            packed.append(len(payload))
            message = decode_from_worker(payload)
            if isinstance(message, Exchange):
                read = unpacked(message)
                plain.append(len(read.raw) + len(read.lengths) + len(read.read_ns) + len(read.kernel))
            deliver(payload)

        listen(count, ended)

    worker.listen = counting
    with pool:
        before, began = None, time.monotonic_ns()
        for event in play(plan, endpoint, Sampling(), began, pool):
            before = before or sent_by_ray()
            if isinstance(event, RequestRecord):
                assert event.ok, event
        after = sent_by_ray()
    wire = sum(sent - (before or {}).get(connection, 0) for connection, sent in after.items())
    asked = len(plan.items) * TOKENS
    return (
        f"{len(plan.items):,} requests of {TOKENS} tokens on another node, load path "
        f"{'with' if pack else 'without'} its compiled part: {sum(packed) / asked:.1f} bytes a token in the messages "
        f"(as read: {sum(plain) / asked:.0f}), {wire / asked:.1f} bytes a token sent over TCP by Ray in both directions"
    )


def main() -> None:
    from ray.cluster_utils import Cluster as TestCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--answers", type=int, default=20, help="of each stream")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    nodes = TestCluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False},
    )
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/truth_server"
        subprocess.run(["cc", "-O2", "-w", "-o", program, str(_SERVER_SOURCE)], check=True)
        server = subprocess.Popen([program, str(port), "20000", "10000"], stderr=subprocess.DEVNULL)
        try:
            other = nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
            prompt = "word " * 40
            items = [
                PlanItem(i, user_request(f"r{i}", f"{i} {prompt}", max_tokens=TOKENS), None)
                for i in range(options.streams * options.answers)
            ]
            endpoint = Endpoint(f"http://127.0.0.1:{port}", "/v1/chat/completions", "openai-chat", "mock")
            with connected(nodes.address) as cluster:
                away = Cluster(tuple(node for node in cluster.nodes if node.id == other.node_id))
                print(measure(away, Plan(tuple(items), options.streams, seed=1), endpoint))
        finally:
            server.terminate()
            nodes.shutdown()


if __name__ == "__main__":
    main()

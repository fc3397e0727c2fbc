"""Load workers on other machines: starting, messaging and ending them through Ray.

An actor of a Ray cluster starts the same worker process on its node and relays its messages. Needs the extra
`inferometer[ray]`.
"""

import contextlib
import os
import queue
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgspec

from inferometer.base.errors import LoadFailed, RequestWrong
from inferometer.base.version import version
from inferometer.load.local_workers import LocalWorker
from inferometer.load.worker_pool import WorkerPool

_CONNECT_S = 4.0
_START_S = 60.0
_FETCH_WAIT_S = 2.0
_FETCH_BYTES = 16 << 20
_PAUSE_S = 0.1  # messages of this time come in one answer: each call costs about a kilobyte and CPU on both sides
_COMPRESSION = 1  # the fastest; higher levels save little of packed answers
_CLOSE_S = 10.0
_THREADS = {"to": 1, "from": 1}  # in the actor: waiting for the worker's messages must not block messages to it
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # a Ray head speaks gRPC
_HTTP2_SETTINGS = b"\x04"


class Node(msgspec.Struct, frozen=True):
    """A machine of the cluster. `host`: its address in Ray's node table."""

    id: str
    host: str
    is_here: bool


class Cluster:
    """A Ray cluster that this process is connected to. `nodes`: all nodes that are alive and offer a CPU."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes

    @property
    def is_all_here(self) -> bool:
        """Whether every node is this host, so that 127.0.0.1 means the same machine on all."""
        return all(node.is_here for node in self.nodes)

    def worker_pool(self, workers: int) -> WorkerPool:
        """A pool of `workers` workers, distributed over the nodes in turn. Returns before they have started."""
        return WorkerPool([RayWorker(self.nodes[number % len(self.nodes)]) for number in range(workers)])


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connection to the cluster at `address` (HOST:PORT of its head), until the block ends. Raises RequestWrong."""
    ray = _ray()
    _require_cluster(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    _silence(ray)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, SystemExit) as error:  # Ray exits if the head does not answer
        raise _unreachable(address, str(error)) from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's handler would exit without ending our processes
        yield Cluster(_nodes(ray, address))
    finally:
        ray.shutdown()


class RayWorker:
    """A worker process on `node`. `ended` is called in any case, also if the node is lost."""

    same_clock = False  # even where the node is this host: one rule for all

    def __init__(self, node: Node) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._node = node
        remote: Any = ray.remote  # an actor's methods are made at run time
        actor = remote(concurrency_groups=_THREADS)(_Relay)
        self._actor = actor.options(
            num_cpus=0,  # so that a cluster whose CPUs the engine uses still accepts it
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote()
        self._last_sent: Any = None  # the previous call, so that Ray keeps the order
        self._thread: threading.Thread | None = None
        self._stopped = False

    def listen(self, deliver: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        """Call `deliver` with each payload, and `ended` once after the last, in another thread, from now on."""
        from ray.exceptions import RayError

        def fetch() -> None:
            try:
                how = self._fetch(deliver)
            except RayError as error:
                how = f"was lost: {_reason(error)}"
            ended(f"on {self._node.host} {how}")

        self._thread = threading.Thread(target=fetch, daemon=True)
        self._thread.start()

    def send(self, frame: bytes) -> None:
        """Returns at once; `ended` reports a worker that is gone."""
        self._last_sent = self._actor.send.options(concurrency_group="to").remote(frame, self._last_sent)

    def stop(self) -> None:
        """Ask the worker to cancel its requests and to send what it has."""
        if not self._stopped:
            self._stopped = True
            self._last_sent = self._actor.stop.options(concurrency_group="to").remote(self._last_sent)

    def close(self) -> None:
        """End the actor; the worker process then sees the end of its input and ends too."""
        import ray

        ray.kill(self._actor)
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _fetch(self, deliver: Callable[[bytes], None]) -> str:
        """Deliver until the worker has ended; returns how it ended."""
        import ray

        get: Any = ray.get  # its types do not cover what an actor's methods return
        theirs = get(self._actor.version.options(concurrency_group="from").remote(), timeout=_START_S)
        if theirs != version():
            return f"runs inferometer {theirs}, but this machine runs {version()}: install the same on every node"
        while True:
            fetched = decompressed(get(self._actor.fetch.options(concurrency_group="from").remote()))
            for payload in fetched.payloads:
                deliver(payload)
            if fetched.ending:
                return fetched.ending
            time.sleep(_PAUSE_S)


class _Relay:
    """The actor, on its node: a worker process there, and the messages not yet fetched."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # Ray starts its processes at niceness 15; only root may undo that
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        self._worker = LocalWorker()
        self._messages: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
        self._worker.listen(self._messages.put, self._messages.put)

    def version(self) -> str:
        return version()

    def send(self, frame: bytes, after: object) -> None:
        """`after` is the previous call: Ray waits for it."""
        with contextlib.suppress(LoadFailed):  # the worker's end is reported by `fetch`
            self._worker.send(frame)

    def stop(self, after: object) -> None:
        self._worker.stop()

    def fetch(self) -> bytes:
        """What has arrived, as `compressed`. Waits briefly for the first message."""
        payloads: list[bytes] = []
        wait_s = _FETCH_WAIT_S
        size = 0
        with contextlib.suppress(queue.Empty):
            while size < _FETCH_BYTES:
                message = self._messages.get(wait_s > 0, wait_s)
                if isinstance(message, str):
                    return compressed(Fetched(payloads, message))
                payloads.append(message)
                size += len(message)
                wait_s = 0
        return compressed(Fetched(payloads))


class Fetched(msgspec.Struct, frozen=True, array_like=True):
    """Payloads in order. `ending`: how the worker ended, after its last payload; "" while it runs."""

    payloads: list[bytes]
    ending: str = ""


_decode = msgspec.msgpack.Decoder(Fetched).decode


def compressed(fetched: Fetched) -> bytes:
    """One block for the network: the answers of one server resemble each other."""
    return zlib.compress(msgspec.msgpack.encode(fetched), _COMPRESSION)


def decompressed(block: bytes) -> Fetched:
    """The inverse of `compressed`."""
    return _decode(zlib.decompress(block))


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise RequestWrong("--ray needs Ray, which is not installed: pip install 'inferometer[ray]'") from error
    return ray


def _silence(ray: ModuleType) -> None:
    """Stop Ray from printing other nodes' events to our standard output, where reports go. Ray has no switch for it."""

    def nothing(*_: object, **__: object) -> None:
        pass

    setattr(ray._private.worker, "print_to_stdstream", nothing)  # noqa: B010 # not a public name


def _require_cluster(address: str) -> None:
    """Raises RequestWrong if no cluster answers: `ray.init` itself would wait for 80 s and then end the program."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise RequestWrong(
            f"--ray {address}: Ray Client is not supported. Make this machine a node of the cluster "
            "(ray start --address=HEAD:6379) and give --ray HEAD:6379."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise RequestWrong(f"--ray must be HOST:PORT of the cluster's head, or auto, not {address!r}.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(_HTTP2_HELLO)
            answer = connection.recv(9)
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    if answer[3:4] != _HTTP2_SETTINGS:
        raise _unreachable(address, "the server there is not Ray")


def _unreachable(address: str, reason: str) -> RequestWrong:
    return RequestWrong(
        f"no Ray cluster can be reached at {address}: {reason}\n"
        "Start one with `ray start --head`, make this machine and each load machine a node of it with "
        "`ray start --address=HEAD:6379`, and give --ray HEAD:6379."
    )


def _nodes(ray: ModuleType, address: str) -> tuple[Node, ...]:
    known: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # Ray's own table, without types
    our_id: str = ray.get_runtime_context().get_node_id()
    our_hosts = {node["NodeManagerAddress"] for node in known if node["NodeID"] == our_id}
    nodes = [
        Node(node["NodeID"], node["NodeManagerAddress"], node["NodeManagerAddress"] in our_hosts)
        for node in known
        if node["Resources"].get("CPU", 0) > 0
    ]
    if not nodes:
        raise RequestWrong(f"the Ray cluster at {address} has no node with a CPU; start one with --num-cpus=1.")
    return tuple(sorted(nodes, key=lambda node: (node.host, node.id)))


def _reason(error: Exception) -> str:
    """Ray's message of many lines, as one line."""
    text = str(error)
    if "No module named 'inferometer'" in text:
        return "inferometer is not installed there; install the same version on every node"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else type(error).__name__

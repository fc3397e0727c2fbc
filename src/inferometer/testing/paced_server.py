"""A server whose tokens contain their sending time: the truth for testing a client's time stamps.

`python -m inferometer.testing.paced_server` prints its port, answers each POST with a chat stream on an exact schedule,
and ends when its standard input closes; its last line is then a `PacedStats` as JSON. Each request states its schedule:
`max_tokens`, and `"paced": {"first_ms": 20, "gap_ms": 10}`. The text of a token is the monotonic clock just before its
send(). So the client's error on the same host is known exactly, even if the server itself is late.

One loop sends each token with one send() and formats only the clock: 12 to 25 µs of a core per token, mostly in the
kernel. For higher rates use `benchmarks/instruments/truth_server.c`, the same server in C without sending times.
"""

import contextlib
import gc
import heapq
import os
import resource
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Annotated, Self

import msgspec
import numpy as np

from inferometer.base.errors import LoadFailed
from inferometer.load.polling import READ, WRITE, WRITE_BITS, poller
from inferometer.testing.scripted_server import STREAM_END, STREAM_HEAD, chunk, delta, event, whole

_BIN_NS = 10_000
_BINS = 100_000
_BURST = 64  # tokens sent between two looks at the sockets
_IDLE_NS = 1_000_000_000
_READ_BYTES = 65_536
_MARK = "0" * 19


class PacedStats(msgspec.Struct, frozen=True):
    """The server's own statistics.

    `lateness_…`: lateness of tokens against the schedule; None before the first token. `blocked`: sends that found the
    socket full because the client had not read. `cpu_share`: share of a core, from the first request to the last token.
    `waited_share`: share of that time in which the server waited for a core; None if the system does not report it.
    """

    tokens: int
    lateness_median_ms: float | None
    lateness_p99_ms: float | None
    lateness_max_ms: float | None
    blocked: int
    cpu_share: float
    waited_share: float | None


def server_sent_ns(text: str) -> int:
    """Sending time of this token, ns of the monotonic clock. Raises ValueError for a text from another source."""
    if not text.startswith(" t") or len(text) != 2 + len(_MARK):
        raise ValueError(f"{text!r} is not a token of the paced server")
    return int(text[2:])


class PacedServer:
    """The server in a separate process while the block lasts. `stop` ends it and returns its stats."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "inferometer.testing.paced_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only the program, which then closes our input
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        first = self._output.readline()
        if not first.strip().isdigit():
            self.close()
            raise LoadFailed(f"the paced server ended with exit code {self._process.returncode} before it listened")
        self.url = f"http://127.0.0.1:{int(first)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> PacedStats:
        """End the server and return its stats. Raises LoadFailed if it died before."""
        self._input.close()
        last = self._output.readline()
        self.close()
        if not last:
            raise LoadFailed(f"the paced server ended with exit code {self._process.returncode} before it was asked to")
        return msgspec.json.decode(last, type=PacedStats)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


# --- in the server's process ----------------------------------------------------------------------


class _Pace(msgspec.Struct, frozen=True):
    first_ms: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    gap_ms: Annotated[float, msgspec.Meta(ge=0)] = 10.0


class _Body(msgspec.Struct, frozen=True):
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 100
    paced: _Pace = _Pace()
    stream: bool = True


_decode_body = msgspec.json.Decoder(_Body).decode
_TOKEN = chunk(event(delta(f" t{_MARK}"))).replace(b"%", b"%%").replace(_MARK.encode(), b"%019d")


_ONE_TOKEN = '{"model": "paced", "choices": [{"index": 0, "message": {"role": "assistant", "content": " t"}}]}'


def _tail(tokens: int) -> bytes:
    """Bytes after the last token: finish, usage, [DONE], the end of the body."""
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    last: dict[str, object] = {"model": "paced", "choices": [], "usage": usage}
    return chunk(event(delta(finish="length"))) + chunk(event(last)) + chunk(event("[DONE]")) + STREAM_END


class _Connection:
    __slots__ = ("fd", "gap_ns", "head", "left", "number", "received", "sock", "tail", "unsent")

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number
        self.received = bytearray()
        self.unsent = b""
        self.left = 0  # tokens of the stream under way
        self.gap_ns = 0
        self.head = b""  # what goes before the next token
        self.tail = b""


class _Server:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poller = poller()
        self._poller.register(self._listener.fileno(), READ)
        self._poller.register(0, READ)
        self._connections: dict[int, _Connection] = {}
        self._accepted = 0
        self._due: list[tuple[int, int, _Connection]] = []  # a heap: when, the connection's number, the connection
        self._bins = [0] * (_BINS + 1)
        self._worst_ns = 0
        self._blocked = 0
        self._began_ns = self._ended_ns = 0
        self._cpu_began_ns = self._cpu_ended_ns = 0
        self._waited_began_ns = _waited_ns()

    def serve(self) -> None:
        """Until the standard input closes."""
        due, wait = self._due, self._poller.wait
        while True:
            for fd, mask in wait(due[0][0] - time.monotonic_ns() if due else _IDLE_NS):
                connection = self._connections.get(fd)
                if connection is not None:
                    if mask & WRITE_BITS and connection.unsent:
                        self._flush(connection)
                    if mask & ~WRITE_BITS and fd in self._connections:
                        self._receive(connection)
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == 0 and not os.read(0, _READ_BYTES):
                    return
            if due:
                self._send_due()

    def stats(self) -> PacedStats:
        counts = np.cumsum(self._bins)
        tokens = int(counts[-1])

        def percentile_ms(share: float) -> float | None:
            """The upper edge of the bin that holds it."""
            return float((np.searchsorted(counts, share * tokens) + 1) * _BIN_NS / 1e6) if tokens else None

        span_ns = max(1, self._ended_ns - self._began_ns)
        waited_ns = _waited_ns()
        return PacedStats(
            tokens=tokens,
            lateness_median_ms=percentile_ms(0.5),
            lateness_p99_ms=percentile_ms(0.99),
            lateness_max_ms=self._worst_ns / 1e6 if tokens else None,
            blocked=self._blocked,
            cpu_share=(self._cpu_ended_ns - self._cpu_began_ns) / span_ns,
            waited_share=None if waited_ns is None else (waited_ns - (self._waited_began_ns or 0)) / span_ns,
        )

    def _send_due(self) -> None:
        """Sends what is due by now; the rest of a long burst after the next look at the sockets."""
        due, bins = self._due, self._bins
        monotonic_ns = time.monotonic_ns
        for _ in range(_BURST):
            if not due:
                break
            due_ns, number, connection = due[0]
            late_ns = monotonic_ns() - due_ns
            if late_ns < 0:
                break
            if not connection.left:  # its client went away
                heapq.heappop(due)
                continue
            bins[min(late_ns // _BIN_NS, _BINS)] += 1
            self._worst_ns = max(late_ns, self._worst_ns)
            connection.left -= 1
            if connection.left:
                heapq.heapreplace(due, (due_ns + connection.gap_ns, number, connection))
                if connection.head:
                    self._send(connection, connection.head + _TOKEN % monotonic_ns())
                    connection.head = b""
                else:
                    self._send(connection, _TOKEN % monotonic_ns())
            else:
                heapq.heappop(due)
                self._send(connection, connection.head + _TOKEN % monotonic_ns() + connection.tail)
                self._ended_ns, self._cpu_ended_ns = monotonic_ns(), time.process_time_ns()
                self._answer(connection)  # the next request may have come already

    def _send(self, connection: _Connection, data: bytes) -> None:
        """What the socket does not take waits, with the time in it at which it should have gone: a client that does not
        read is late, not the server."""
        sent = 0
        if not connection.unsent:
            try:
                sent = connection.sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(connection)
                return
            if sent == len(data):
                return
            self._poller.modify(connection.fd, READ | WRITE)
        self._blocked += 1
        connection.unsent += data[sent:]

    def _flush(self, connection: _Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if not connection.unsent:
            self._poller.modify(connection.fd, READ)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._accepted += 1
                self._connections[sock.fileno()] = _Connection(sock, self._accepted)
                self._poller.register(sock.fileno(), READ)

    def _drop(self, connection: _Connection) -> None:
        connection.left = 0
        if self._connections.pop(connection.fd, None) is not None:
            self._poller.unregister(connection.fd)
            connection.sock.close()

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        if not connection.left:
            self._answer(connection)

    def _answer(self, connection: _Connection) -> None:
        """Begin to answer the first received request, if it is complete."""
        head_end = connection.received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        first, *lines = bytes(connection.received[:head_end]).split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        length = next((int(value) for name, _, value in fields if name.lower() == b"content-length"), 0)
        end = head_end + 4 + length
        if len(connection.received) < end:
            return
        content = bytes(connection.received[head_end + 4 : end])
        del connection.received[:end]
        if not first.startswith(b"POST "):
            self._send(connection, whole(200, '{"object": "list", "data": [{"id": "paced", "object": "model"}]}').data)
            return
        try:
            body = _decode_body(content)
        except msgspec.DecodeError as error:
            self._send(connection, whole(400, msgspec.json.encode({"error": {"message": str(error)}}).decode()).data)
            return
        if not body.stream:  # the request for one token before the load
            self._send(connection, whole(200, _ONE_TOKEN).data)
            return
        now = time.monotonic_ns()
        if not self._began_ns:
            self._began_ns, self._cpu_began_ns = now, time.process_time_ns()
            self._waited_began_ns = _waited_ns()
        connection.left = body.max_tokens
        connection.gap_ns = round(body.paced.gap_ms * 1e6)
        connection.head, connection.tail = STREAM_HEAD, _tail(body.max_tokens)
        heapq.heappush(self._due, (now + round(body.paced.first_ms * 1e6), connection.number, connection))


def _waited_ns() -> int | None:
    """Time for which this process was ready but had no core, by Linux's scheduler; None if it is not reported."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # macOS reports "unlimited" but has a limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = _Server()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    gc.disable()
    server.serve()
    sys.stdout.write(msgspec.json.encode(server.stats()).decode() + "\n")


if __name__ == "__main__":
    main()

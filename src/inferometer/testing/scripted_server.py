"""A real HTTP server that answers by a script: which bytes, when, and how the connection ends.

It replaces an inference server in tests that must know the truth. Its pacing is not exact: for high rates use a
compiled server.
"""

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec


class Send(msgspec.Struct, frozen=True):
    """Bytes to send unchanged."""

    data: bytes


class Wait(msgspec.Struct, frozen=True):
    """A pause before the next step of the answer."""

    seconds: float


class Close(msgspec.Struct, frozen=True):
    """Close the connection; `reset` with an RST, as a crashed server does."""

    reset: bool = False


Step = Send | Wait | Close


class Received(msgspec.Struct, frozen=True):
    """A received request: `body` decoded from JSON, {} if it had none."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


def is_probe(request: Received) -> bool:
    """Whether a request is the one for the first token, or the probe of the prefix cache."""
    text = str(request.body.get("messages") or request.body.get("prompt"))
    return request.body.get("max_tokens") == 1 and ("Say one word." in text or "One word:" in text)


ScriptedAnswer = Callable[[Received], Iterable[Step]]


class ScriptedServer:
    """Listens and answers each request by `answer`; keeps every request in `received`.

    It listens on `port` (0: a free one) of `host` (`::1` for IPv6), or on the Unix socket `unix_path`; with `tls`, a
    server-side context, it speaks TLS. Without `reads_body` it answers after a request's head, and `body` is {}.
    """

    def __init__(
        self,
        answer: ScriptedAnswer,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unix_path: str | None = None,
        tls: ssl.SSLContext | None = None,
        reads_body: bool = True,
    ) -> None:
        self._answer = answer
        self._host = host
        self._unix_path = unix_path
        self._tls = tls
        self._reads_body = reads_body
        if unix_path is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=512)
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(unix_path)
            self._listener.listen(512)
            self.port = 0
        self.received: list[Received] = []
        self._connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        if self._unix_path is not None:
            return f"unix://{self._unix_path}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def load_requests(self) -> list[Received]:
        """The streamed requests of the load: warm-ups and measured ones, without the probes before and after."""
        return [one for one in self.received if one.body.get("stream") and not is_probe(one)]

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._unix_path is not None:
            os.unlink(self._unix_path)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                if self._unix_path is None:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:  # the handshake comes with the first read, in the connection's own thread
                    connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection, len(self._connections) - 1), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        reader = connection.makefile("rb")
        with contextlib.suppress(OSError, ValueError):
            while (request := _read_request(reader, number, self._reads_body)) is not None:
                self.received.append(request)
                for step in self._answer(request):
                    match step:
                        case Send(data):
                            connection.sendall(data)
                        case Wait(seconds):
                            time.sleep(seconds)
                        case Close(reset):
                            if reset:
                                linger_0 = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0)
                            reader.close()
                            connection.close()
                            return


def _read_request(reader: Any, number: int, reads_body: bool) -> Received | None:
    first = reader.readline()
    if not first:
        return None
    method, path, _ = first.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    data = reader.read(int(headers.get("content-length", "0"))) if reads_body else b""
    return Received(method, path, headers, json.loads(data) if data else {}, number)


# --- answers --------------------------------------------------------------------------------------

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: object) -> bytes:
    """One server-sent event: a JSON value, or text unchanged."""
    return b"data: " + (value.encode() if isinstance(value, str) else json.dumps(value).encode()) + b"\n\n"


def whole(status: int, body: str, content_type: str = "application/json") -> Send:
    """A complete answer in one piece, not a stream."""
    data = body.encode()
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    return Send(head.encode() + data)


def delta(content: str | None = None, finish: str | None = None, role: str | None = None) -> dict[str, Any]:
    """A chunk of /v1/chat/completions."""
    inner = {name: value for name, value in (("role", role), ("content", content)) if value is not None}
    return {"model": "scripted", "choices": [{"index": 0, "delta": inner, "finish_reason": finish}]}


def chat_stream(
    tokens: Iterable[str],
    first_s: float = 0.0,
    gap_s: float = 0.0,
    extra: dict[str, Any] | None = None,
    finish: str = "stop",
    *,
    on_schedule: bool = False,
    prompt_tokens: int = 7,
) -> Iterator[Step]:
    """An answer as llama-server streams it: role, a chunk a token, finish, usage (with `extra`, as timings), [DONE].

    `on_schedule`: token n is due `first_s` + n · `gap_s` after the answer began, so that what a send takes makes no
    later one late; else `gap_s` is the least gap.
    """
    began_s = time.monotonic()
    yield Wait(first_s)
    yield Send(STREAM_HEAD + chunk(event(delta(role="assistant"))))
    count = 0
    for count, token in enumerate(tokens, start=1):
        if count > 1:
            due_s = began_s + first_s + (count - 1) * gap_s
            yield Wait(max(0.0, due_s - time.monotonic()) if on_schedule else gap_s)
        yield Send(chunk(event(delta(token))))
    yield Send(chunk(event(delta(finish=finish))))
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}
    yield Send(chunk(event({"model": "scripted", "choices": [], "usage": usage, **(extra or {})})))
    yield Send(chunk(event("[DONE]")) + STREAM_END)


def inference_server(
    tokens: int = 5, first_s: float = 0.0, gap_s: float = 0.0, *, on_schedule: bool = False
) -> ScriptedAnswer:
    """Answers like a small inference server: /health, /v1/models, streamed and whole chat and completions. Times as in
    `chat_stream`."""

    def answer(request: Received) -> Iterable[Step]:
        if request.method == "GET":
            if request.path == "/v1/models":
                return [whole(200, '{"object": "list", "data": [{"id": "scripted", "object": "model"}]}')]
            return [whole(200, '{"status": "ok"}')] if request.path == "/health" else [whole(404, "{}")]
        wanted = min(int(request.body.get("max_tokens") or tokens), tokens)
        words = [f" w{i}" for i in range(wanted)]
        prompt_tokens = max(7, len(json.dumps(request.body.get("messages") or "")) // 4)  # 4 characters a token
        if request.path == "/v1/chat/completions" and not request.body.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": wanted}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            return [whole(200, json.dumps({"model": "scripted", "choices": [choice], "usage": usage}))]
        if request.path == "/v1/chat/completions":
            return chat_stream(words, first_s, gap_s, on_schedule=on_schedule, prompt_tokens=prompt_tokens)
        return [whole(404, '{"error": {"message": "File Not Found", "code": 404}}')]

    return answer

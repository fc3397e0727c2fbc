"""What does a server say when it is asked? Small HTTP questions by any way there is to it; none in the timed path."""

import functools
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, cast

import msgspec

from inferometer.base.text import sanitize
from inferometer.base.units import NS_PER_S, bytes_text
from inferometer.net.target import Target, Tcp, Unix, target_of, tunnel_refusal
from inferometer.net.tls import handshake_failure, tls_context

_SHOWN_CHARACTERS = 200
MOST_BODY_BYTES = 16 * 1024**2
"""Of an answer to a small question: a list of models, a page of metrics. http.client itself bounds what comes before
the body: 100 headers of 64 KiB."""
MOST_PATIENCE = 4
"""An answer may take so many times the patience for one wait: a server that sends a byte now and then never ends."""


class Server(msgspec.Struct, frozen=True):
    """A server to ask. `headers` go with every question; they may hold secrets, as the target may."""

    target: Target
    headers: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """`text` for a message or a fact: without what is secret in the headers and the proxy's address."""
        return self.target.redactor(self.headers).redact(text)


class HttpAnswer(msgspec.Struct, frozen=True):
    """What came back. `shown` is an excerpt for an error message: an error object's own message, else the first
    characters; `content_type`, `server` and `location` are headers, "" where there were none. These four are harmless
    to print, and hold no secret of ours, even where the server repeats it.
    """

    status: int
    body: bytes
    shown: str
    content_type: str = ""
    server: str = ""
    location: str = ""

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none. It is the server's own: any JSON."""
        return _json(self.body)


class HttpAnswerTooLarge(http.client.HTTPException):
    """A server says more than an answer to a small question can be."""


class Unreachable(ConnectionError):
    """The way is there, but TLS or the proxy's tunnel failed. The message says where, why, and what to try."""


def server_at(base_url: str, headers: Mapping[str, str], verify: bool = True, ca_file: str | None = None) -> Server:
    """The server of a base URL, by way of the proxy that the environment names for it.

    Raises RequestWrong where the URL, the proxy's variable or the CA file cannot be used; nothing is sent.
    """
    target = target_of(base_url, os.environ, verify=verify, ca_file=ca_file)
    if target.tls is not None:
        _context(target.tls)
    return Server(target, dict(headers))


def ask(server: Server, path: str, *, body: dict[str, Any] | None = None, timeout_s: float) -> HttpAnswer:
    """GET, or POST where there is a `body`. Raises OSError (Unreachable, refused, timeout) or HTTPException."""
    with closing(Conversation(server, timeout_s)) as conversation:
        return conversation.ask(path, body)


def ask_json(server: Server, path: str, timeout_s: float = 5.0) -> Any:
    """The JSON at `path`; None where there is none. Any JSON: it is the server's own."""
    try:
        answer = ask(server, path, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    return answer.json if answer.status == http.HTTPStatus.OK else None


class Conversation:
    """One question after another over a connection that is kept. Not for several threads."""

    def __init__(self, server: Server, timeout_s: float) -> None:
        """Connects with the first question. `timeout_s`: for each wait on the socket."""
        self._server = server
        self._timeout_s = timeout_s
        self._connection = _Connection(server.target, timeout_s)
        self._answered = False

    def ask(self, path: str, body: dict[str, Any] | None = None) -> HttpAnswer:
        """As the function `ask`. A question that breaks off on a kept connection is asked once more, on a new one."""
        try:
            return self._ask(path, body)
        except (http.client.HTTPException, ConnectionError):
            if not self._answered:
                raise
            self._answered = False
            return self._ask(path, body)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, path: str, body: dict[str, Any] | None) -> HttpAnswer:
        target = self._server.target
        content = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(
                "GET" if body is None else "POST", target.request_target(path), content, self._headers(content)
            )
            response = self._connection.getresponse()
            data = self._body(response)
        except BaseException:
            self._connection.close()  # in the middle of an answer it can carry no other
            raise
        self._answered = True
        header = response.headers.get
        return HttpAnswer(
            response.status,
            data,
            shown=self._harmless(_said(data, header("Content-Encoding", ""))),
            content_type=self._harmless(header("Content-Type", "")),
            server=self._harmless(header("Server", "")),
            location=self._harmless(header("Location", "")),
        )

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """All of it, as it came: nothing is decompressed. Raises AnswerTooLarge, and TimeoutError for one that trickles
        in without an end."""
        pieces: list[bytes] = []
        size = 0
        until_ns = time.monotonic_ns() + int(MOST_PATIENCE * self._timeout_s * NS_PER_S)
        while piece := response.read1(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BODY_BYTES:
                raise HttpAnswerTooLarge(f"the answer is larger than {bytes_text(MOST_BODY_BYTES)}")
            if time.monotonic_ns() > until_ns:
                raise TimeoutError(f"the answer has not ended after {MOST_PATIENCE * self._timeout_s:g} s")
        return b"".join((*pieces, response.read()))  # nothing more; it ends the answer, and says if some is missing

    def _harmless(self, text: str) -> str:
        return sanitize(self._server.hide(text[: 10 * _SHOWN_CHARACTERS]), _SHOWN_CHARACTERS)

    def _headers(self, content: bytes | None) -> dict[str, str]:
        """Ours, the proxy's and the caller's; a later one replaces an earlier one, however its name is written."""
        target = self._server.target
        ours = {"Host": target.host_header, "User-Agent": "inferometer", "Accept": "application/json"}
        if content is not None:
            ours["Content-Type"] = "application/json"
        given = {**target.headers, **self._server.headers}
        names = {name.lower() for name in given}
        return {name: value for name, value in ours.items() if name.lower() not in names} | given


class _Connection(http.client.HTTPConnection):
    """http.client's, over a socket of the target's own kind: where it goes and `Host` are the target's business."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._target = target

    def connect(self) -> None:
        self.sock = _connected(self._target, cast("float", self.timeout))


def _connected(target: Target, timeout_s: float) -> socket.socket:
    sock = _plain_socket(target.connect_to, timeout_s)
    try:
        if target.connect_request:
            _open_tunnel(sock, target)
        if target.tls is None:
            return sock
        return _context(target.tls).wrap_socket(sock, server_hostname=target.tls.server_name)
    except ssl.SSLError as error:
        sock.close()
        raise Unreachable(handshake_failure(target.shown, error)) from error
    except BaseException:
        sock.close()
        raise


def _plain_socket(to: Tcp | Unix, timeout_s: float) -> socket.socket:
    if isinstance(to, Tcp):
        sock = socket.create_connection((to.host, to.port), timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(to.path)
    except BaseException:
        sock.close()
        raise
    return sock


# Reading the system's certificates takes milliseconds, and a server is asked several questions.
_context = functools.cache(tls_context)


def _open_tunnel(sock: socket.socket, target: Target) -> None:
    """Has the proxy open a tunnel. Reads not a byte of the tunnel itself: TLS begins on our side."""
    sock.sendall(target.connect_request)
    with closing(http.client.HTTPResponse(sock, method="CONNECT")) as response:
        try:
            response.begin()
        except http.client.HTTPException as error:
            raise Unreachable(f"the proxy {target.shown_proxy} answers no HTTP: {type(error).__name__}") from error
        if not http.HTTPStatus.OK <= response.status < http.HTTPStatus.MULTIPLE_CHOICES:
            status = sanitize(target.redactor({}).redact(f"{response.status} {response.reason}".strip()))
            raise Unreachable(tunnel_refusal(target.shown, target.shown_proxy, status))


def _json(data: bytes) -> Any:
    """Any JSON, None where it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _said(data: bytes, encoding: str) -> str:
    """An error object's own message, else the body as one line."""
    if encoding.strip().lower() not in ("", "identity"):
        return f"a body encoded as {encoding}, though none was asked for"
    answer = _json(data)
    if isinstance(answer, dict):
        error = cast("dict[str, Any]", answer).get("error", cast("dict[str, Any]", answer))
        message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
        if isinstance(message, str) and message:
            return message
    return " ".join(data[: 10 * _SHOWN_CHARACTERS].decode(errors="replace").split()) or "an empty body"

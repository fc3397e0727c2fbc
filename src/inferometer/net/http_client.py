"""HTTP client for small requests to a server: over TLS, proxies and Unix sockets. Not used in the timed path."""

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

from inferometer.base.error_message import error_message, is_error_body, json_of
from inferometer.base.text import sanitize
from inferometer.base.units import NS_PER_S, bytes_text
from inferometer.net.target import Target, Tcp, Unix, target_of, tunnel_refusal
from inferometer.net.tls import handshake_failure, tls_context

_SHOWN_CHARACTERS = 200
MOST_BODY_BYTES = 16 * 1024**2
"""The largest answer, such as a list of models or a page of metrics. http.client itself limits the headers: 100 of
64 KiB."""
MAX_WAITS_PER_ANSWER = 4
"""A whole answer may take this many times the timeout of one wait: a server that sends single bytes never ends."""


class Server(msgspec.Struct, frozen=True):
    """A server that receives requests. `headers` are sent with each; they may hold secrets, as may the target."""

    target: Target
    headers: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """`text` for a message or a fact, without the secrets of the headers and of the proxy's address."""
        return self.target.redactor(self.headers).redact(text)


class HttpAnswer(msgspec.Struct, frozen=True):
    """A server's answer. `shown`: an excerpt for an error message, taken from an error object's message, else from the
    start of the body. `content_type`, `server` and `location`: headers, "" if absent. These four are safe to print and
    hold none of our secrets, even if the server repeats them.
    """

    status: int
    body: bytes
    shown: str
    content_type: str = ""
    server: str = ""
    location: str = ""

    @property
    def json(self) -> Any:
        """The body as JSON, of any shape; None if it is not JSON."""
        return json_of(self.body)


class HttpAnswerTooLarge(http.client.HTTPException):
    """An answer is larger than MOST_BODY_BYTES."""


class Unreachable(ConnectionError):
    """A connection was made, but TLS or the proxy's tunnel failed. The message states where, why, and what to try."""


def server_at(base_url: str, headers: Mapping[str, str], verify: bool = True, ca_file: str | None = None) -> Server:
    """The server at a base URL, through the proxy that the environment names for it.

    Raises RequestWrong if the URL, the proxy variable or the CA file cannot be used. Sends nothing.
    """
    target = target_of(base_url, os.environ, verify=verify, ca_file=ca_file)
    if target.tls is not None:
        _context(target.tls)
    return Server(target, dict(headers))


def ask(server: Server, path: str, *, body: dict[str, Any] | None = None, timeout_s: float) -> HttpAnswer:
    """GET, or POST with a `body`. Raises OSError (Unreachable, refused, timeout) or HTTPException."""
    with closing(HttpSession(server, timeout_s)) as session:
        return session.ask(path, body)


def ask_json(server: Server, path: str, timeout_s: float = 5.0) -> Any:
    """The JSON at `path`, of any shape; None if the server does not answer with JSON."""
    try:
        answer = ask(server, path, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    return answer.json if answer.status == http.HTTPStatus.OK else None


class HttpSession:
    """Requests one after another over a persistent connection. Not thread-safe."""

    def __init__(self, server: Server, timeout_s: float) -> None:
        """Connects with the first request. `timeout_s`: for each wait on the socket."""
        self._server = server
        self._timeout_s = timeout_s
        self._connection = _Connection(server.target, timeout_s)
        self._answered = False

    def ask(self, path: str, body: dict[str, Any] | None = None) -> HttpAnswer:
        """As the function `ask`. If a reused connection breaks, the request is repeated once on a new connection."""
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
            self._connection.close()  # a connection with an unread answer cannot be reused
            raise
        self._answered = True
        header = response.headers.get
        return HttpAnswer(
            response.status,
            data,
            shown=self._safe(_excerpt(data, header("Content-Encoding", ""))),
            content_type=self._safe(header("Content-Type", "")),
            server=self._safe(header("Server", "")),
            location=self._safe(header("Location", "")),
        )

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """The whole body, not decompressed. Raises HttpAnswerTooLarge, and TimeoutError if the body does not end."""
        pieces: list[bytes] = []
        size = 0
        until_ns = time.monotonic_ns() + int(MAX_WAITS_PER_ANSWER * self._timeout_s * NS_PER_S)
        while piece := response.read1(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BODY_BYTES:
                raise HttpAnswerTooLarge(f"the answer is larger than {bytes_text(MOST_BODY_BYTES)}")
            if time.monotonic_ns() > until_ns:
                raise TimeoutError(f"the answer has not ended after {MAX_WAITS_PER_ANSWER * self._timeout_s:g} s")
        return b"".join((*pieces, response.read()))  # reads no bytes; ends the answer, and raises if some are missing

    def _safe(self, text: str) -> str:
        return sanitize(self._server.hide(text[: 10 * _SHOWN_CHARACTERS]), _SHOWN_CHARACTERS)

    def _headers(self, content: bytes | None) -> dict[str, str]:
        """Our headers, the proxy's and the caller's. A later one replaces an earlier one; case does not matter."""
        target = self._server.target
        kinds = "application/json, text/event-stream"
        ours = {"Host": target.host_header, "User-Agent": "inferometer", "Accept": kinds}
        if content is not None:
            ours["Content-Type"] = "application/json"
        given = {**target.headers, **self._server.headers}
        names = {name.lower() for name in given}
        return {name: value for name, value in ours.items() if name.lower() not in names} | given


class _Connection(http.client.HTTPConnection):
    """http.client's connection over the target's kind of socket. The target determines the address and `Host`."""

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


# Reading the system's certificates takes milliseconds, and a server receives several requests.
_context = functools.cache(tls_context)


def _open_tunnel(sock: socket.socket, target: Target) -> None:
    """Makes the proxy open a tunnel. Reads no byte of the tunnel itself: TLS starts on our side."""
    sock.sendall(target.connect_request)
    with closing(http.client.HTTPResponse(sock, method="CONNECT")) as response:
        try:
            response.begin()
        except http.client.HTTPException as error:
            raise Unreachable(
                f"the proxy {target.shown_proxy} does not answer with HTTP: {type(error).__name__}"
            ) from error
        if not http.HTTPStatus.OK <= response.status < http.HTTPStatus.MULTIPLE_CHOICES:
            status = sanitize(target.redactor({}).redact(f"{response.status} {response.reason}".strip()))
            raise Unreachable(tunnel_refusal(target.shown, target.shown_proxy, status))


def _excerpt(data: bytes, encoding: str) -> str:
    """An error object's own message, else the body as one line."""
    if encoding.strip().lower() not in ("", "identity"):
        return f"a body encoded as {encoding}, which was not requested"
    shown = error_message(data) if is_error_body(json_of(data)) else ""
    return shown or " ".join(data[: 10 * _SHOWN_CHARACTERS].decode(errors="replace").split()) or "an empty body"

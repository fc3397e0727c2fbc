"""Channels between the socket's bytes and HTTP: TLS, and the tunnel of a proxy before it. No socket is used here.

The worker reads the socket, stamps, and hands over the ciphertext; it sends the bytes that the channel returns. So a
stamp marks when the bytes arrived, not when they were decrypted. Plain HTTP has no channel: its bytes are unchanged.
"""

from typing import TYPE_CHECKING, Protocol, cast

from inferometer.base.lazy import lazy_module
from inferometer.base.text import sanitize
from inferometer.net.target import Target, tunnel_refusal
from inferometer.net.tls import handshake_failure, tls_context, tls_reason

if TYPE_CHECKING:
    import ssl
else:
    ssl = lazy_module("ssl")  # plain HTTP does without it: a load worker starts 7 ms sooner

_RECORD_BYTES = 16_384  # the maximum plaintext of a TLS record
_PROXY_HEAD_BYTES = 65_536


class ChannelFailed(Exception):
    """The connection cannot be used; the message goes into the request's record. `pending_out` may hold an alert."""


class Channel(Protocol):
    """Converts one connection's ciphertext to plaintext and back.

    Requests may be sent once `ready`. `closed`: the server has announced that it sends no more (like the end of the
    socket). `waiting_for` names what the connection waits for until it is `ready`, "" afterwards: for the message if
    the socket closes or the time limit expires before that.
    """

    @property
    def ready(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    @property
    def waiting_for(self) -> str: ...

    def start(self) -> bytes:
        """The bytes to send once the socket is connected."""
        ...

    def receive(self, data: bytes | memoryview) -> bytes:
        """The plaintext in `data` from the socket; b"" if it completes none, as in a handshake or on an idle connection
        (TLS 1.3 sends tickets). The bytes of `pending_out` must be sent afterwards. Raises ChannelFailed."""
        ...

    def send(self, plaintext: bytes) -> bytes:
        """The bytes to send for a request of any size, complete. Only once `ready`."""
        ...

    def pending_out(self) -> bytes:
        """The channel's own bytes to send: handshake, alerts, key updates; usually b""."""
        ...


class Channels:
    """Opens the channels of one target. One per worker: reading the system's certificates takes milliseconds."""

    def __init__(self, target: Target) -> None:
        """Raises RequestWrong if the CA file cannot be used."""
        self._target = target
        self._context = None if target.tls is None else tls_context(target.tls)

    def open(self) -> Channel | None:
        """A channel for a new connection; None for plain HTTP."""
        target = self._target
        if self._context is None or target.tls is None:
            return None
        inner = TlsChannel(self._context, target.tls.server_name, target.shown)
        if not target.connect_request:
            return inner
        return TunnelChannel(target.connect_request, inner, target.shown, target.shown_proxy)


class TlsChannel:
    """TLS over bytes in memory."""

    # Shared by all connections: a new buffer for each read would be allocated at full size and shrunk.
    _plaintext = memoryview(bytearray(_RECORD_BYTES))

    def __init__(self, context: "ssl.SSLContext", server_name: str, shown: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._shown = shown
        self.ready = False
        self.closed = False

    @property
    def waiting_for(self) -> str:
        return "" if self.ready else "the TLS handshake"

    def start(self) -> bytes:
        self._continue_handshake()
        return self._outgoing.read()

    def receive(self, data: bytes | memoryview) -> bytes:
        self._incoming.write(data)
        if not self.ready:
            self._continue_handshake()
            if not self.ready:
                return b""
        first = b""
        more: list[bytes] = []
        try:
            while not self.closed and (self._incoming.pending or self._tls.pending()):
                count = cast("int", self._tls.read(_RECORD_BYTES, self._plaintext))  # with a buffer: a count
                if count == 0:
                    self.closed = True
                elif first:
                    more.append(bytes(self._plaintext[:count]))
                else:
                    first = bytes(self._plaintext[:count])
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            raise ChannelFailed(f"{self._shown}: TLS failed: {tls_reason(error)}") from error
        return b"".join((first, *more)) if more else first

    def send(self, plaintext: bytes) -> bytes:
        self._tls.write(plaintext)
        return self._outgoing.read()

    def pending_out(self) -> bytes:
        return self._outgoing.read()

    def _continue_handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise ChannelFailed(handshake_failure(self._shown, error)) from error
        self.ready = True


class TunnelChannel:
    """Asks a proxy for a tunnel (CONNECT); `inner` handles the bytes that the tunnel carries."""

    def __init__(self, connect_request: bytes, inner: TlsChannel, shown: str, shown_proxy: str) -> None:
        self._connect_request = connect_request
        self._inner = inner
        self._shown = shown
        self._shown_proxy = shown_proxy
        self._head = b""
        self._open = False
        self._from_inner = b""

    @property
    def ready(self) -> bool:
        return self._inner.ready

    @property
    def closed(self) -> bool:
        return self._inner.closed

    @property
    def waiting_for(self) -> str:
        return self._inner.waiting_for if self._open else f"the tunnel of the proxy {self._shown_proxy}"

    def start(self) -> bytes:
        return self._connect_request

    def receive(self, data: bytes | memoryview) -> bytes:
        if self._open:
            return self._inner.receive(data)
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end and b"HTTP/1.".startswith(head[:7]):
            if len(head) > _PROXY_HEAD_BYTES:
                raise ChannelFailed(f"the proxy {self._shown_proxy} answers CONNECT with headers that do not end")
            return b""
        self._check(head.partition(b"\r\n")[0])
        self._head = b""
        self._open = True
        self._from_inner = self._inner.start()
        return self._inner.receive(rest) if rest else b""

    def send(self, plaintext: bytes) -> bytes:
        return self._inner.send(plaintext)

    def pending_out(self) -> bytes:
        out, self._from_inner = self._from_inner + self._inner.pending_out(), b""
        return out

    def _check(self, status_line: bytes) -> None:
        """Raises ChannelFailed unless the proxy has opened the tunnel."""
        answer = sanitize(status_line.decode("latin-1"), 200)
        version, _, status = answer.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ChannelFailed(f"the proxy {self._shown_proxy} does not answer in HTTP: {answer}")
        if status.startswith("2"):
            return
        raise ChannelFailed(tunnel_refusal(self._shown, self._shown_proxy, status))

"""What lies between the socket's bytes and HTTP's? TLS, and a proxy's tunnel before it; no socket is touched here.

The driver reads the socket, stamps, and hands the ciphertext over; it sends what it is given back. So a stamp says when
the bytes arrived, not when they were deciphered. Plain HTTP has no channel: its bytes go as they are.
"""

import ssl
from typing import Protocol, cast

from inferometer.base.text import sanitize
from inferometer.net.target import Target, tunnel_refusal
from inferometer.net.tls import handshake_failure, tls_context, tls_reason

_RECORD_BYTES = 16_384  # the most plaintext that a TLS record holds
_PROXY_HEAD_BYTES = 65_536


class ChannelFailed(Exception):
    """The connection cannot be used; the message is for the request's record. `pending_out` may hold a last alert."""


class Channel(Protocol):
    """One connection's way from ciphertext to plaintext and back.

    Requests may be sent once `ready`. `closed`: the server has said that it sends no more (as the end of the socket
    does). `waiting_for` names what the connection is not `ready` for, "" afterwards: for the message where the socket
    ends or the time is over before.
    """

    @property
    def ready(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    @property
    def waiting_for(self) -> str: ...

    def start(self) -> bytes:
        """What to send once the socket is connected."""
        ...

    def receive(self, data: bytes | memoryview) -> bytes:
        """The plaintext in what the socket brought; b"" where it holds none yet, as in a handshake and on an idle
        connection (TLS 1.3 sends tickets). Afterwards what `pending_out` gives must be sent. Raises ChannelFailed."""
        ...

    def send(self, plaintext: bytes) -> bytes:
        """What to send for a request; all of it, whatever its size. Only once `ready`."""
        ...

    def pending_out(self) -> bytes:
        """What the channel itself has to send: handshake, alerts, key updates; mostly b""."""
        ...


class Channels:
    """Opens the channels of one target. Made once per worker: reading the system's certificates takes milliseconds."""

    def __init__(self, target: Target) -> None:
        """Raises RequestWrong where the CA file cannot be used."""
        self._target = target
        self._context = None if target.tls is None else tls_context(target.tls)

    def open(self) -> Channel | None:
        """A channel for a new connection; None where the bytes go as they are."""
        target = self._target
        if self._context is None or target.tls is None:
            return None
        inner = TlsChannel(self._context, target.tls.server_name, target.shown)
        if not target.connect_request:
            return inner
        return TunnelChannel(target.connect_request, inner, target.shown, target.shown_proxy)


class TlsChannel:
    """TLS over bytes in memory."""

    # One for all: a buffer of its own for each read would be allocated at full size and shrunk.
    _plaintext = memoryview(bytearray(_RECORD_BYTES))

    def __init__(self, context: ssl.SSLContext, server_name: str, shown: str) -> None:
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
        self._shake_hands()
        return self._outgoing.read()

    def receive(self, data: bytes | memoryview) -> bytes:
        self._incoming.write(data)
        if not self.ready:
            self._shake_hands()
            if not self.ready:
                return b""
        first = b""
        more: list[bytes] = []
        try:
            while not self.closed and (self._incoming.pending or self._tls.pending()):
                count = cast("int", self._tls.read(_RECORD_BYTES, self._plaintext))  # a count, as there is a buffer
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
            raise ChannelFailed(f"{self._shown}: TLS broke: {tls_reason(error)}") from error
        return b"".join((first, *more)) if more else first

    def send(self, plaintext: bytes) -> bytes:
        self._tls.write(plaintext)
        return self._outgoing.read()

    def pending_out(self) -> bytes:
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise ChannelFailed(handshake_failure(self._shown, error)) from error
        self.ready = True


class TunnelChannel:
    """A proxy is asked for a tunnel (CONNECT); what the tunnel carries is up to `inner`."""

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
                raise ChannelFailed(f"the proxy {self._shown_proxy} answers CONNECT with a head that does not end")
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
        said = sanitize(status_line.decode("latin-1"), 200)
        version, _, status = said.partition(" ")
        if not version.startswith("HTTP/1."):
            raise ChannelFailed(f"the proxy {self._shown_proxy} answers no HTTP: {said}")
        if status.startswith("2"):
            return
        raise ChannelFailed(tunnel_refusal(self._shown, self._shown_proxy, status))

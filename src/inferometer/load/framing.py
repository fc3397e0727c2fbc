"""What did the server answer, as HTTP? Status, headers and the body's pieces with the stamps of their reads; pure."""

from collections.abc import Iterable

import httptools
import msgspec


class Response(msgspec.Struct):
    """An HTTP response, whole or not. `pieces`: stamp (ns) and bytes of each part of the body, in order.

    `ended`: the framing says that all of it came; without a length or chunks only the connection's end can say so
    (`until_close`).
    """

    status: int | None = None
    headers: dict[str, str] = {}
    pieces: list[tuple[int, bytes]] = []
    ended: bool = False
    until_close: bool = False
    broken: str = ""

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class _Collector:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.stamp_ns = 0
        self.parser = httptools.HttpResponseParser(self)
        self.response = Response(headers={}, pieces=[])

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.response.status is None:  # after the status it is a trailer, or another answer's
            self.response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.response.status is not None:
            return
        status = self.parser.get_status_code()
        if status < 200:  # a word before the answer
            self.response.headers.clear()
        else:
            self.response.status = status

    def on_body(self, body: bytes) -> None:
        if not self.response.ended:
            self.response.pieces.append((self.stamp_ns, body))

    def on_message_complete(self) -> None:
        self.response.ended = self.response.status is not None


def response(reads: Iterable[tuple[int, bytes]]) -> Response:
    """The response in `reads` (stamp ns, bytes). What follows a complete response is left out."""
    collector = _Collector()
    found = collector.response
    try:
        for collector.stamp_ns, data in reads:
            collector.parser.feed_data(data)
            if found.ended:
                break
    except httptools.HttpParserError as error:
        if not found.ended:
            found.broken = str(error) or type(error).__name__
    framed = "content-length" in found.headers or "chunked" in found.headers.get("transfer-encoding", "").lower()
    found.until_close = found.status is not None and not framed
    return found

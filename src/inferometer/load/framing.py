"""HTTP responses parsed from stamped reads: status, headers, and the body's pieces with their stamps. Pure."""

from collections.abc import Iterable

import httptools
import msgspec


class Response(msgspec.Struct):
    """An HTTP response, complete or not. `pieces`: stamp (ns) and bytes of each part of the body, in order.

    `ended`: the framing shows that the response is complete. `until_close`: the response has neither a length nor
    chunks, so only the end of the connection shows that it is complete. `broken`: why it is not HTTP.
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
        if self.response.status is None:  # after the status, a header is a trailer or belongs to another answer
            self.response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.response.status is not None:
            return
        status = self.parser.get_status_code()
        if status < 200:  # an interim response before the answer
            self.response.headers.clear()
        else:
            self.response.status = status

    def on_body(self, body: bytes) -> None:
        if not self.response.ended:
            self.response.pieces.append((self.stamp_ns, body))

    def on_message_complete(self) -> None:
        self.response.ended = self.response.status is not None


def parse_response(reads: Iterable[tuple[int, bytes]]) -> Response:
    """The response in `reads` (stamp ns, bytes). Bytes after a complete response are ignored."""
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

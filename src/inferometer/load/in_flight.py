"""A request in flight: the bytes of its answer as they arrive, and where the answer ends. llhttp finds the end."""

import struct
from typing import cast

import httptools

from inferometer.load import compiled
from inferometer.load.compiled import Kept
from inferometer.load.timeouts import TokenWatch
from inferometer.load.wire import Exchange, WireOutcome, WireRequest

_LENGTH = struct.Struct("=I").pack
_STAMP = struct.Struct("=q")


class InFlight:
    """A request under way and what has come of it so far. llhttp calls the `on_…` methods."""

    __slots__ = (
        "connected_ns",
        "done_ns",
        "due_ns",
        "error",
        "fed",
        "finished",
        "in_chunks",
        "in_head",
        "keep_alive",
        "kernel",
        "lengths",
        "offset_ns",
        "outcome",
        "parser",
        "raw",
        "read_ns",
        "resent",
        "sent_ns",
        "steps",
        "tokens",
        "wire_request",
    )

    def __init__(self, wire_request: WireRequest, due_ns: int | None, steps: int) -> None:
        self.wire_request = wire_request
        self.due_ns = due_ns
        self.steps = steps  # of the wall clock: before the request was sent; after its end: while it was under way
        self.offset_ns = 0
        self.connected_ns: int | None = None
        self.sent_ns: int | None = None
        self.done_ns = 0
        self.outcome: WireOutcome = "cancelled"
        self.error = ""
        self.resent = 0
        self.finished = False
        self.in_chunks = False
        self.in_head = True
        self.keep_alive = False
        self.fed = 0
        self.parser: httptools.HttpResponseParser | None = None
        self.raw = bytearray()
        self.lengths = bytearray()
        self.read_ns = bytearray()
        self.kernel = bytearray()
        self.tokens = TokenWatch()

    @property
    def kept(self) -> Kept:
        """What was read so far, to be continued by `compiled.receive`."""
        return self.raw, self.lengths, self.read_ns, self.kernel

    @property
    def last_read_ns(self) -> int | None:
        """When the newest bytes were read; None before the first."""
        return _STAMP.unpack_from(self.read_ns, len(self.read_ns) - _STAMP.size)[0] if self.read_ns else None

    def add_read(self, data: bytes | memoryview, read_ns: int, stamp: bytes) -> None:
        """Keep the bytes of one read. `stamp`: the kernel's, b"" without kernel stamps."""
        self.raw += data
        self.lengths += _LENGTH(len(data))
        self.read_ns += _STAMP.pack(read_ns)
        self.kernel += stamp

    def find_end(self) -> None:
        """Set `finished` if the answer is complete. Raises HttpParserError."""
        if self.parser is None and compiled.is_whole_stream is not None and compiled.is_whole_stream(self.raw):
            self.finished = self.keep_alive = True
        else:
            self.feed()

    def feed(self) -> None:
        """Give the parser the bytes that it has not seen. Raises HttpParserError."""
        if self.parser is None:
            self.parser = httptools.HttpResponseParser(self)
        fed, self.fed = self.fed, len(self.raw)
        self.parser.feed_data(bytes(memoryview(self.raw)[fed:]))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"transfer-encoding":
            self.in_chunks = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        self.in_head = self._status < 200

    def on_message_complete(self) -> None:
        if self._status >= 200:  # 1xx (100 Continue) comes before the answer
            self.finished = True
            parser = cast("httptools.HttpResponseParser", self.parser)
            self.keep_alive = parser.should_keep_alive()  # llhttp knows this only during this callback

    @property
    def is_timeout(self) -> bool:
        """Whether the answer is a 408: the server gave up waiting for a request on this connection."""
        return self._status == 408

    @property
    def _status(self) -> int:
        """0 before the parser has seen anything."""
        return 0 if self.parser is None else self.parser.get_status_code()

    def again(self) -> "InFlight":
        """The same request to be sent once more. `sent_ns` stays: the user has waited since then."""
        new = InFlight(self.wire_request, self.due_ns, self.steps)
        new.sent_ns, new.resent = self.sent_ns, self.resent + 1
        return new

    def exchange(self) -> Exchange:
        """The request and its answer in the form that leaves the worker."""
        return Exchange(
            index=self.wire_request.index,
            outcome=self.outcome,
            due_ns=self.due_ns,
            connected_ns=self.connected_ns,
            sent_ns=self.sent_ns,
            done_ns=self.done_ns,
            raw=bytes(self.raw),
            lengths=bytes(self.lengths),
            read_ns=bytes(self.read_ns),
            kernel=bytes(self.kernel),
            wall_offset_ns=self.offset_ns,
            clock_stepped=self.steps > 0,
            resent=self.resent,
            error=self.error,
        )

"""Server-sent events parsed from stamped bytes, as the HTML standard defines the event stream. Pure.

Source: WHATWG HTML, section "Server-sent events". Lines end in LF, CRLF or CR; `:` begins a comment; `data:` lines of
one event are joined by LF; a blank line ends the event, which is ignored if it has no data. Beyond the standard, an
`error:` line counts as an event of that name with its text as data: some llama.cpp servers send errors this way. Lines
of no known field come together at the end under the name STRAY: proxies send error bodies this way. Two `data:` lines
that are a JSON object each, or [DONE], are two events also without a blank line between them.
"""

import itertools
from collections.abc import Iterable, Iterator

from inferometer.base.error_message import BOM
from inferometer.base.units import bytes_text

MAX_EVENT_BYTES = 8 * 1024**2
"""Limit for one event, and so for a line. A token with all the details that engines send is a few thousand bytes."""


STRAY = b"(stray)"
_STRAY_BYTES = 64 * 1024
_KNOWN_FIELDS = (b":", b"id", b"retry", b"data", b"event")


def looks_like_events(body: bytes) -> bool:
    """Whether a body begins as an event stream does, whatever its content type says."""
    begin = body[:4096].removeprefix(BOM).lstrip()
    return begin.startswith((b"data:", b"event:", b"id:", b"retry:", b":"))


class EventTooLarge(ValueError):
    """An event or a line is longer than MAX_EVENT_BYTES."""


def events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bytes]]:
    """Each event's stamp, name and data. The stamp is that of the piece that completed the event; the name is b"" if no
    `event:` line gave one.

    Many servers omit the last blank line, so an event that is open at the end is complete with the last stamp. Raises
    EventTooLarge after the events before.
    """
    parser = _Parser()
    stamp = 0
    for at_ns, piece in itertools.chain(pieces, ((None, b"\n\n"),)):
        stamp = stamp if at_ns is None else at_ns
        if parser.after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            parser.after_cr = False
        if not piece:
            continue
        if parser.is_between_events and piece.startswith(b"data: ") and piece.endswith(b"\n\n"):
            line = piece[6:-2]
            if line and b"\n" not in line and b"\r" not in line:  # the usual case: one event of one line
                yield stamp, b"", line
                parser.after_cr = False
                continue
        parser.stamp = stamp
        yield from parser.feed(piece)
    if parser.stray:
        yield stamp, STRAY, bytes(parser.stray)


class _Parser:
    """The event stream's state between two pieces: an unfinished line and an unfinished event."""

    def __init__(self) -> None:
        self.after_cr = False
        self.stray = bytearray()
        self.stamp = 0
        self._line_is_event = False  # no blank lines separate the events
        self._data_stamp = 0
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0  # of the unfinished event: its data and the other bytes of its lines
        self._line = bytearray()

    @property
    def is_between_events(self) -> bool:
        return not (self._line or self._data or self._name)

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """Stamp, name and data of each event that `piece` completes. Raises EventTooLarge."""
        self._line += piece
        self.after_cr = piece.endswith(b"\r")
        if b"\n" not in piece and b"\r" not in piece:  # searching all of a long line again would take quadratic time
            self._limit(self._size + len(self._line))
            return
        for line in self._whole_lines():
            line = line.removeprefix(BOM)  # at the start; some servers put one before each event
            self._size = self._size + len(line) + 1 if line else 0
            self._limit(self._size)
            if not line:
                yield from self._event(self.stamp)
            elif line.startswith(b"data:"):
                data = line[6:] if line[5:6] == b" " else line[5:]
                if self._data and _is_whole(self._data[-1]) and _begins(data):
                    self._line_is_event = True
                    yield from self._event(self._data_stamp)
                self._data.append(data)
                self._data_stamp = self.stamp
                if self._line_is_event and _is_whole(data):
                    yield from self._event(self.stamp)
            elif line.startswith(b"event:"):
                self._name = line[6:].removeprefix(b" ")
            elif line.startswith(b"error:"):
                self._name = b"error"
                self._data.append(line[6:].removeprefix(b" "))
            elif not line.startswith(_KNOWN_FIELDS) and len(self.stray) < _STRAY_BYTES:
                self.stray += line[:_STRAY_BYTES] + b"\n"

    def _event(self, stamp: int) -> Iterator[tuple[int, bytes, bytes]]:
        """The event whose lines have been read, if it has data."""
        if self._data and (joined := b"\n".join(self._data)):
            yield stamp, self._name, joined
        self._name, self._data, self._size = b"", [], 0

    def _whole_lines(self) -> list[bytes]:
        """The lines that are complete, without their ends; the rest is kept."""
        text = bytes(self._line)
        if b"\r" not in text:
            lines = text.split(b"\n")
            self._line = bytearray(lines.pop())
            return lines
        lines = text.splitlines(keepends=True)
        self._line = bytearray(b"" if lines[-1].endswith((b"\r", b"\n")) else lines.pop())
        return [line.rstrip(b"\r\n") for line in lines]

    @staticmethod
    def _limit(size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event is larger than {bytes_text(MAX_EVENT_BYTES)}")


def _is_whole(data: bytes) -> bool:
    """Whether a line may be a whole JSON object. If another one begins on the next line, it was: no JSON has `}` and
    `{` on two lines without a comma."""
    return data.rstrip().endswith(b"}") or data.startswith(b"[DONE]")


def _begins(data: bytes) -> bool:
    return data.lstrip().startswith((b"{", b"[DONE]"))

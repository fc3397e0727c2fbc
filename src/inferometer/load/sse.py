"""Which server-sent events did these bytes bring, and when? As the HTML standard's event stream says; pure.

Source: WHATWG HTML, section "Server-sent events". Lines end in LF, CRLF or CR; `:` begins a comment; `data:` lines of
one event are joined by LF; a blank line ends the event, which counts for nothing without data. Beyond the standard, an
`error:` line counts as an event of that name with its text as data: llama.cpp's servers have sent errors so.
"""

import itertools
from collections.abc import Iterable, Iterator

from inferometer.base.units import bytes_text

MOST_EVENT_BYTES = 8 * 1024**2
"""Of one event, and so of a line: a token with all that engines tell of it is some thousand bytes."""


class EventTooLarge(ValueError):
    """An event, or a line, that goes on past MOST_EVENT_BYTES."""


def events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bytes]]:
    """Each event's stamp, name and data. The stamp is of the piece that completed it; the name is b"" where no `event:`
    line gave one.

    Servers that forget the last blank line are common, so what stands there at the end is given with the last stamp.
    Raises EventTooLarge after the events before.
    """
    name = b""
    data: list[bytes] = []
    size = 0  # of the data, and of what else its lines take
    pending = bytearray()
    stamp = 0
    after_cr = False
    for at_ns, piece in itertools.chain(pieces, ((None, b"\n\n"),)):
        stamp = stamp if at_ns is None else at_ns
        if after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            after_cr = False
        if not piece:
            continue
        if not (pending or data or name) and piece.startswith(b"data: ") and piece.endswith(b"\n\n"):
            line = piece[6:-2]
            if line and b"\n" not in line and b"\r" not in line:  # the rule: one event of one line
                yield stamp, b"", line
                after_cr = False
                continue
        pending += piece
        after_cr = piece.endswith(b"\r")
        if b"\n" not in piece and b"\r" not in piece:  # to look through all of a long line again would take its square
            if size + len(pending) > MOST_EVENT_BYTES:
                raise EventTooLarge(f"an event is larger than {bytes_text(MOST_EVENT_BYTES)}")
            continue
        whole = bytes(pending)
        if b"\r" in whole:
            lines = whole.splitlines(keepends=True)
            pending = bytearray(b"" if lines[-1].endswith((b"\r", b"\n")) else lines.pop())
            lines = [line.rstrip(b"\r\n") for line in lines]
        else:
            lines = whole.split(b"\n")
            pending = bytearray(lines.pop())
        for line in lines:
            size = size + len(line) + 1 if line else 0
            if size > MOST_EVENT_BYTES:
                raise EventTooLarge(f"an event is larger than {bytes_text(MOST_EVENT_BYTES)}")
            if not line:
                if data and (joined := b"\n".join(data)):
                    yield stamp, name, joined
                name = b""
                data = []
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                name = line[6:].removeprefix(b" ")
            elif line.startswith(b"error:"):
                name = b"error"
                data.append(line[6:].removeprefix(b" "))

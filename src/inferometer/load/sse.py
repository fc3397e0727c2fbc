"""Which server-sent events did these bytes bring, and when? As the HTML standard's event stream says; pure.

Source: WHATWG HTML, section "Server-sent events". Lines end in LF, CRLF or CR; `:` begins a comment; `data:` lines of
one event are joined by LF; a blank line ends the event, which counts for nothing without data. Beyond the standard, an
`error:` line counts as an event of that name with its text as data: llama.cpp's servers have sent errors so.
"""

import itertools
from collections.abc import Iterable, Iterator


def events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bytes]]:
    """Each event's stamp, name and data. The stamp is of the piece that completed it; the name is b"" where no `event:`
    line gave one.

    Servers that forget the last blank line are common, so what stands there at the end is given with the last stamp.
    """
    name = b""
    data: list[bytes] = []
    pending = b""
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
        after_cr = pending.endswith(b"\r")
        lines = pending.splitlines(keepends=True) if b"\r" in pending else pending.split(b"\n")
        if b"\r" in pending:
            pending = b"" if lines[-1].endswith((b"\r", b"\n")) else lines.pop()
            lines = [line.rstrip(b"\r\n") for line in lines]
        else:
            pending = lines.pop()
        for line in lines:
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

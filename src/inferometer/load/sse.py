"""Which server-sent events did these bytes bring, and when? As the HTML standard's event stream says; pure.

Source: WHATWG HTML, section "Server-sent events". Lines end in LF, CRLF or CR; `:` begins a comment; `data:` lines of
one event are joined by LF; a blank line ends the event.
"""

from collections.abc import Iterable, Iterator


def events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Each event's data and the stamp of the piece that completed it; an unfinished event at the end counts too.

    Servers that forget the last blank line are common, so what stands there at the end is given with the last stamp.
    """
    data: list[bytes] = []
    pending = b""
    stamp = 0
    after_cr = False
    for stamp, piece in pieces:
        if after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            after_cr = False
        if not piece:
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
                if data:
                    yield stamp, b"\n".join(data)
                    data = []
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
    if pending.startswith(b"data:"):
        data.append(pending[6:] if pending[5:6] == b" " else pending[5:])
    if data:
        yield stamp, b"\n".join(data)

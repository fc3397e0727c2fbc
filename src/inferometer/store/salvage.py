"""How is a database read that was cut off? SQLite reads nothing of a file that is shorter than its header says."""

import sqlite3
import struct
from pathlib import Path

BROKEN = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged database raises: a message of SQLite's may repeat bytes of it that are no text."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def missing_bytes(path: Path) -> int:
    """How many of the bytes that the header counts are not there; 0 too for a file without such a header."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return 0
    (page_bytes,), (pages,) = struct.unpack_from(">H", header, 16), struct.unpack_from(">I", header, 28)
    return max(0, (65_536 if page_bytes == 1 else page_bytes) * pages - path.stat().st_size)


def filled_up(path: Path) -> sqlite3.Connection:
    """A copy in memory with empty pages for the missing ones: rows in the others can be read."""
    data = bytearray(path.read_bytes())
    data[18:20] = b"\1\1"  # no write-ahead log: it would be looked for beside a file
    data += bytes(missing_bytes(path))
    database = sqlite3.connect(":memory:")
    database.deserialize(bytes(data))
    return database

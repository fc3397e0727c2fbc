"""How is a database read whose writer was killed, or that was cut off afterwards?

What a killed writer left half done SQLite undoes when the database is opened next, but not where it is opened only to
be read. Of a file that is shorter than its header says it reads nothing.
"""

import contextlib
import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

BROKEN = (sqlite3.Error, UnicodeDecodeError, OverflowError, RecursionError, MemoryError)
"""What reading a damaged database raises: a message of SQLite's may repeat bytes of it that are no text, and SQLite
asks for as much memory as an altered byte says."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def opened(path: Path) -> sqlite3.Connection:
    """The database, to be read. Raises BROKEN."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        database.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        database.close()
        if not _beside(path, "-journal"):
            raise
        return _undone(path)
    return database


def _undone(path: Path) -> sqlite3.Connection:
    """A copy in memory, after SQLite has undone in a copy of the files what was half done."""
    copied = sqlite3.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-journal"):
            shutil.copyfile(path.with_name(name), Path(folder) / name)
        with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as database:
            database.backup(copied)
    return copied


def _beside(path: Path, suffix: str) -> bool:
    """Whether SQLite has a file beside the database that is not empty."""
    with contextlib.suppress(OSError):
        return path.with_name(path.name + suffix).stat().st_size > 0
    return False


def missing_bytes(path: Path) -> int:
    """How many of the bytes that the header counts are not there; 0 too for a file without such a header, and where
    SQLite has them in a file beside it."""
    if _beside(path, "-wal") or _beside(path, "-journal"):
        return 0
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

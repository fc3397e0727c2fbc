"""Reading of a database whose writer was killed, or whose file was truncated.

SQLite rolls back an unfinished write when the database is next opened for writing, but not when it is opened read-only.
It refuses to read a file that is shorter than its header states.
"""

import contextlib
import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

BROKEN = (sqlite3.Error, UnicodeDecodeError, OverflowError, RecursionError, MemoryError)
"""Raised when a damaged database is read. SQLite's messages may repeat bytes that are not text, and SQLite allocates as
much memory as a corrupted length states."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def opened(path: Path) -> sqlite3.Connection:
    """The database, opened read-only. Raises BROKEN."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        database.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        database.close()
        if not _has_companion(path, "-journal"):
            raise
        return _rolled_back_copy(path)
    return database


def _rolled_back_copy(path: Path) -> sqlite3.Connection:
    """A copy in memory, after SQLite has rolled back the unfinished write in a copy of the files."""
    copied = sqlite3.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-journal"):
            shutil.copyfile(path.with_name(name), Path(folder) / name)
        with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as database:
            database.backup(copied)
    return copied


def _has_companion(path: Path, suffix: str) -> bool:
    """Whether SQLite has a file with this suffix next to the database that is not empty."""
    with contextlib.suppress(OSError):
        return path.with_name(path.name + suffix).stat().st_size > 0
    return False


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks compared with its header; 0 also for a file without a valid header, and if SQLite
    keeps them in a separate file."""
    if _has_companion(path, "-wal") or _has_companion(path, "-journal"):
        return 0
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return 0
    (page_bytes,), (pages,) = struct.unpack_from(">H", header, 16), struct.unpack_from(">I", header, 28)
    return max(0, (65_536 if page_bytes == 1 else page_bytes) * pages - path.stat().st_size)


def filled_up(path: Path) -> sqlite3.Connection:
    """A copy in memory with empty pages in place of the missing ones, so that rows in the other pages can be read. A
    page of which a part is missing counts as missing: its rows would have zeros where the file ends."""
    data = bytearray(path.read_bytes())
    data[18:20] = b"\1\1"  # no write-ahead log: SQLite would search for its file
    (page_bytes,) = struct.unpack_from(">H", data, 16)
    size = len(data) + missing_bytes(path)
    del data[len(data) - len(data) % (65_536 if page_bytes == 1 else page_bytes) :]
    data += bytes(size - len(data))
    database = sqlite3.connect(":memory:")
    database.deserialize(bytes(data))
    return database

"""How does a study travel in one file? A zip of its folder, and the way back, which trusts nothing in it.

A zip may come from a stranger. Nothing is unpacked but study.yaml and study.db, under these names and into a folder of
our own, whatever the archive calls them; how large they are is checked before and while they are read; and a database
is refused that holds more than plain tables, as views and triggers run what their writer wrote.
"""

import contextlib
import re
import sqlite3
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from inferometer.base.errors import StudyUnreadable
from inferometer.base.units import bytes_text

ENDING = ".zip"

_NEEDED = ("study.yaml", "study.db")
_OTHERS = ("summary.md", "report.html")
_LOGS = "logs"
_MOST_BYTES = {"study.yaml": 4 * 1024**2, "study.db": 8 * 1024**3}
_MOST_ENTRIES = 10_000
_ALWAYS_BYTES = 64 * 1024**2
_MOST_TIMES = 100
"""So many times its compressed size a file may be, if it is larger than `_ALWAYS_BYTES`: text of models shrinks to a
fifth or so, and what shrinks to a hundredth was made to fill a disk."""
_BLOCK_BYTES = 1024**2
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError)
"""What `zipfile` raises of a damaged or encrypted archive: a name that is no UTF-8 is a ValueError, for one."""


def is_zip(path: Path) -> bool:
    """Whether a path given for a study names a zip of one."""
    return path.suffix.lower() == ENDING and path.is_file()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The study's folder: `path` itself, or a temporary one with what a zip holds of it, removed at the end.

    Raises StudyUnreadable for a zip that holds no study, or more than a study does.
    """
    if not path.exists():
        raise StudyUnreadable(f"there is no {path}: name the folder of a study, or a zip of one.")
    if not is_zip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="inferometer-") as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                for name, info in _members(path, archive).items():
                    with archive.open(info) as packed, (folder / name).open("wb") as plain:
                        _copy(path, info, packed, plain)  # pyright: ignore[reportArgumentType] # IO[bytes]
        except _BROKEN as error:
            raise StudyUnreadable(f"{path} is no zip that can be read: {error}. Export it again.") from error
        except OSError as error:
            raise StudyUnreadable(f"{path} cannot be unpacked into {folder}: {error.strerror or error}") from error
        _check_tables(path, folder / "study.db")
        yield folder


def write(folder: Path, target: Path) -> None:
    """The study in `folder` as a zip at `target`, below one folder of the study's name, so that `unzip` gives it back.

    The database as it stands, also while a study runs. Raises StudyUnreadable where there is none, or OSError.
    """
    if not (folder / "study.db").is_file():
        raise StudyUnreadable(f"{folder} is no study: there is no study.db in it.")
    name = folder.resolve().name or "study"
    logs = sorted(path for path in (folder / _LOGS).glob("*") if path.is_file())
    with (
        tempfile.TemporaryDirectory(prefix="inferometer-") as temporary,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        database = Path(temporary) / "study.db"
        _copy_database(folder / "study.db", database)
        archive.write(folder / "study.yaml", f"{name}/study.yaml")
        archive.write(database, f"{name}/study.db")
        for path in (*(folder / other for other in _OTHERS), *logs):
            if path.is_file():
                archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def _copy_database(source: Path, target: Path) -> None:
    """One plain file, with what a write-ahead log beside the source may still hold."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as before,
            contextlib.closing(sqlite3.connect(target)) as after,
        ):
            before.backup(after)
            after.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StudyUnreadable(f"{source} cannot be read: {error}") from error


# --- what is in a zip -----------------------------------------------------------------------------


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of `_NEEDED`, each checked. Raises StudyUnreadable for anything that no study has."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > _MOST_ENTRIES:
        raise StudyUnreadable(f"{path} holds {len(infos)} files, which no study does.")
    for info in infos:
        _check_name(path, info)
    homes = {str(PurePosixPath(info.filename).parent) for info in infos if _is_needed(info)}
    if len(homes) != 1:
        said = "no study.db and study.yaml" if not homes else f"several studies ({', '.join(sorted(homes))})"
        raise StudyUnreadable(f"{path} holds {said}; a study's zip is made by `inferometer export DIR -o FILE.zip`.")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = PurePosixPath(info.filename).name
        if _is_needed(info):
            if name in found:
                raise StudyUnreadable(f"{path} holds {info.filename} twice.")
            found[name] = info
    for name in _NEEDED:
        if name not in found:
            raise StudyUnreadable(f"{path} is no study: there is no {name} in it.")
        _check_size(path, found[name], _MOST_BYTES[name])
    return found


def _is_needed(info: zipfile.ZipInfo) -> bool:
    return PurePosixPath(info.filename).name in _NEEDED


_A_STUDYS = re.compile(rf"(?:[^/]+/)?(?:{'|'.join(map(re.escape, (*_NEEDED, *_OTHERS)))}|{_LOGS}/[^/]+)")
_A_SYSTEMS = re.compile(r"__MACOSX/.*|(?:.*/)?(?:\.DS_Store|Thumbs\.db|desktop\.ini)", re.DOTALL)
"""What file managers put into a zip beside what was meant; passed over."""


def _check_name(path: Path, info: zipfile.ZipInfo) -> None:
    """Raises StudyUnreadable for a name that leaves the folder, for a link, and for what no study has."""
    name = info.filename
    parts = name.replace("\\", "/").split("/")
    is_link = info.external_attr >> 28 == 0o12
    if parts[0] == "" or re.fullmatch("[A-Za-z]:", parts[0]) or ".." in parts or is_link:
        raise StudyUnreadable(f"{path} holds {name!r}, which would lie outside of its folder: it is no study's.")
    if not (_A_STUDYS.fullmatch(name) or _A_SYSTEMS.fullmatch(name)):
        raise StudyUnreadable(
            f"{path} holds {name!r}, which no study has. Make it anew with `inferometer export DIR -o FILE.zip`."
        )


def _check_size(path: Path, info: zipfile.ZipInfo, most_bytes: int) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise StudyUnreadable(f"{path}: {info.filename} is packed in another way than `inferometer export` does.")
    allowed = min(most_bytes, max(_ALWAYS_BYTES, _MOST_TIMES * info.compress_size))
    if info.file_size > allowed:
        raise StudyUnreadable(
            f"{path}: {info.filename} would be {bytes_text(info.file_size)} from {bytes_text(info.compress_size)}; "
            f"at most {bytes_text(allowed)} are unpacked. If it is yours, unzip it and name the folder."
        )


def _copy(path: Path, info: zipfile.ZipInfo, packed: BinaryIO, plain: BinaryIO) -> None:
    """Raises StudyUnreadable where more comes than the archive said."""
    left = info.file_size
    while block := packed.read(_BLOCK_BYTES):
        left -= len(block)
        if left < 0:
            raise StudyUnreadable(f"{path}: {info.filename} is larger than the archive says.")
        plain.write(block)


def _check_tables(path: Path, database: Path) -> None:
    """Raises StudyUnreadable for views, triggers, virtual tables and computed columns."""
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            active = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR rootpage = 0 "
                "UNION SELECT s.name FROM sqlite_schema s, pragma_table_xinfo(s.name) c "
                "WHERE s.type = 'table' AND c.hidden != 0"
            ).fetchall()
    except sqlite3.Error as error:
        raise StudyUnreadable(f"{path}: its study.db cannot be read: {error}") from error
    if active:
        raise StudyUnreadable(
            f"{path}: its study.db holds {active[0][0]!r}, which is no plain table: it is no study's."
        )

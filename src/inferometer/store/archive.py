"""Zip files of studies: writing one, and opening one without trusting its contents.

A zip may come from a stranger. Only study.yaml and study.db are unpacked, under these names and into a temporary
folder, whatever the archive calls them. Their sizes are checked before and while they are read. A database with more
than plain tables is rejected, because views and triggers run code that their author chose.
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
from inferometer.store.hidden_text import hidden_yaml, hide

ENDING = ".zip"

_NEEDED = ("study.yaml", "study.db")
_OTHERS = ("summary.md", "report.html")
_LOGS = "logs"
_MOST_BYTES = {"study.yaml": 4 * 1024**2, "study.db": 8 * 1024**3}
_MOST_ENTRIES = 10_000
_ALWAYS_BYTES = 64 * 1024**2
_MAX_COMPRESSION = 100
"""The most that a file larger than `_ALWAYS_BYTES` may expand. Text of models compresses to about a fifth; a file that
compresses to a hundredth was made to fill a disk."""
_BLOCK_BYTES = 1024**2
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError)
"""Raised by `zipfile` for a damaged or encrypted archive; a name that is not UTF-8 raises ValueError."""


def is_zip(path: Path) -> bool:
    """Whether the path of a study names a zip file."""
    return path.suffix.lower() == ENDING and path.is_file()


def has_study(path: Path) -> bool:
    """Whether the zip's index names one study's database, as `write` places it; False for a file that is not a zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [PurePosixPath(name) for name in archive.namelist() if name.endswith("study.db")]
            return len(found) == 1 and found[0].name == "study.db" and len(found[0].parts) <= 2
    except (OSError, *_BROKEN):
        return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The study's folder: `path` itself, or a temporary one with the contents of a zip, removed at the end.

    Raises StudyUnreadable for a zip without a study, or with files that no study has.
    """
    if not path.exists():
        raise StudyUnreadable(f"{path} does not exist: give the folder of a study, or its zip file.")
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
            raise StudyUnreadable(f"{path} is not a readable zip file: {error}. Export the study again.") from error
        except OSError as error:
            raise StudyUnreadable(f"{path} cannot be unpacked into {folder}: {error.strerror or error}") from error
        _check_tables(path, folder / "study.db")
        yield folder


def write(study: Path, target: Path, *, hide_text: bool = False) -> None:
    """Writes the study, a folder or a zip, to a zip at `target`, inside one folder of its name, as `unzip` expects.
    `hide_text`: no text of prompts and answers, and no file but the study's data.

    Copies the current state of the database, even while a study runs. Raises StudyUnreadable if there is no study, or
    OSError.
    """
    name = study.resolve().name or "study"
    with opened(study) as folder:
        _write(folder, name.removesuffix(ENDING) if is_zip(study) else name, target, hide_text=hide_text)


def _write(folder: Path, name: str, target: Path, *, hide_text: bool) -> None:
    if not (folder / "study.db").is_file():
        raise StudyUnreadable(f"{folder} is not a study: it has no study.db.")
    logs = sorted(path for path in (folder / _LOGS).glob("*") if path.is_file())
    with (
        tempfile.TemporaryDirectory(prefix="inferometer-") as temporary,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        database = Path(temporary) / "study.db"
        _copy_database(folder / "study.db", database)
        if hide_text:
            hide(database)
            archive.writestr(f"{name}/study.yaml", hidden_yaml((folder / "study.yaml").read_text("utf-8")))
            archive.write(database, f"{name}/study.db")
            return
        archive.write(folder / "study.yaml", f"{name}/study.yaml")
        archive.write(database, f"{name}/study.db")
        for path in (*(folder / other for other in _OTHERS), *logs):
            if path.is_file():
                archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def _copy_database(source: Path, target: Path) -> None:
    """One plain file that includes the contents of the source's write-ahead log."""
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
    """The entries of `_NEEDED`, each checked. Raises StudyUnreadable for files that no study has."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > _MOST_ENTRIES:
        raise StudyUnreadable(f"{path} holds {len(infos)} files, more than any study.")
    for info in infos:
        _check_name(path, info)
    homes = {str(PurePosixPath(info.filename).parent) for info in infos if _is_needed(info)}
    if len(homes) != 1:
        content = "no study.db and study.yaml" if not homes else f"several studies ({', '.join(sorted(homes))})"
        raise StudyUnreadable(f"{path} holds {content}. Create the zip with `inferometer export DIR -o FILE.zip`.")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = PurePosixPath(info.filename).name
        if _is_needed(info):
            if name in found:
                raise StudyUnreadable(f"{path} holds {info.filename} twice.")
            found[name] = info
    for name in _NEEDED:
        if name not in found:
            raise StudyUnreadable(f"{path} is not a study: it has no {name}.")
        _check_size(path, found[name], _MOST_BYTES[name])
    return found


def _is_needed(info: zipfile.ZipInfo) -> bool:
    return PurePosixPath(info.filename).name in _NEEDED


_STUDY_FILE = re.compile(rf"(?:[^/]+/)?(?:{'|'.join(map(re.escape, (*_NEEDED, *_OTHERS)))}|{_LOGS}/[^/]+)")
_FILE_MANAGER_FILE = re.compile(r"__MACOSX/.*|(?:.*/)?(?:\.DS_Store|Thumbs\.db|desktop\.ini)", re.DOTALL)
"""Files that file managers add to a zip; they are ignored."""


def _check_name(path: Path, info: zipfile.ZipInfo) -> None:
    """Raises StudyUnreadable for a name outside the folder, for a link, and for a file that no study has."""
    name = info.filename
    parts = name.replace("\\", "/").split("/")
    is_link = info.external_attr >> 28 == 0o12
    if parts[0] == "" or re.fullmatch("[A-Za-z]:", parts[0]) or ".." in parts or is_link:
        raise StudyUnreadable(
            f"{path} holds {name!r}, which would be written outside its folder: no study has such a file."
        )
    if not (_STUDY_FILE.fullmatch(name) or _FILE_MANAGER_FILE.fullmatch(name)):
        raise StudyUnreadable(
            f"{path} holds {name!r}, which no study has. Unzip a folder of several studies and name one of them; "
            "create the zip of one study again: `inferometer export DIR -o FILE.zip`."
        )


def _check_size(path: Path, info: zipfile.ZipInfo, most_bytes: int) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise StudyUnreadable(f"{path}: {info.filename} uses a compression that `inferometer export` does not use.")
    allowed = min(most_bytes, max(_ALWAYS_BYTES, _MAX_COMPRESSION * info.compress_size))
    if info.file_size > allowed:
        raise StudyUnreadable(
            f"{path}: {info.filename} would expand from {bytes_text(info.compress_size)} to "
            f"{bytes_text(info.file_size)}; the limit is {bytes_text(allowed)}. "
            "If you trust the file, unzip it and give the folder."
        )


def _copy(path: Path, info: zipfile.ZipInfo, packed: BinaryIO, plain: BinaryIO) -> None:
    """Raises StudyUnreadable if the file is larger than the archive states."""
    left = info.file_size
    while block := packed.read(_BLOCK_BYTES):
        left -= len(block)
        if left < 0:
            raise StudyUnreadable(f"{path}: {info.filename} is larger than the archive states.")
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
            f"{path}: its study.db holds {active[0][0]!r}, which is not a plain table: no study has one."
        )

"""Reading of the batches of one trial, as far as a damaged database allows."""

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from inferometer.base.errors import StudyUnreadable
from inferometer.base.text import sanitize
from inferometer.core.record_columns import RecordColumns
from inferometer.core.text_columns import TextSource
from inferometer.store.record_batches import NO_TEXT_COLUMNS, columns_of, joined_batches
from inferometer.store.salvage import BROKEN, opened

_MOST_TEXT_AT_ONCE = 16 * 1024**2
"""More text than this, in bytes, is read only when somebody looks at it."""
_MOST_MISSING = 2000
"""A search of rows by their ids ends after this many ids without a row."""
_DAMAGED = (*BROKEN, ValueError, TypeError, IndexError, msgspec.MsgspecError)


class _Text(NamedTuple):
    """Where the texts of a batch are, and what tells whether they are whole."""

    row_id: int
    size: int
    crc: int


class _Batch(NamedTuple):
    """`records`: without their texts."""

    records: RecordColumns
    text: _Text


def trial_records(
    database: sqlite3.Connection, path: Path | None, trial_id: int, lost: list[str]
) -> RecordColumns | None:
    """The records of all batches that are not damaged; `lost` gets a sentence about the others. None without a batch.
    `path`: the file, if it stays where it is, so that texts can be read from it later."""
    batches, damaged = _batches(database, trial_id, lost)
    places = [one.text for one in batches]
    if path is not None and sum(one.size for one in places) > _MOST_TEXT_AT_ONCE:
        texts: bytes | TextSource = TextSource(lambda: _texts_of_file(path, places))
    else:
        found = [(one, _sound_text(database, one.text)) for one in batches]
        damaged += [(int(one.records.numbers["index"].min()), len(one.records)) for one, text in found if text is None]
        batches = [one for one, text in found if text is not None]
        texts = b"".join(text for _, text in found if text is not None)
    if damaged:
        indices = ", ".join(str(index) for index, _ in damaged[:5]) + (", …" if len(damaged) > 5 else "")
        lost.append(f"{sum(count for _, count in damaged)} of its records (stored together with number {indices})")
    return joined_batches([one.records for one in batches], texts) if batches else None


def _batches(
    database: sqlite3.Connection, trial_id: int, lost: list[str]
) -> tuple[list[_Batch], list[tuple[int, int]]]:
    """The batches, without their texts; and the lowest index and the number of requests of each damaged one."""
    found: list[_Batch] = []
    damaged: list[tuple[int, int]] = []
    sql = f"SELECT id, idx, {NO_TEXT_COLUMNS} FROM batch WHERE trial_id = ? ORDER BY id"
    try:
        for row in database.execute(sql, (trial_id,)):
            _add(row, found, damaged)
    except BROKEN as error:
        lost.append(f"a part of its records ({sanitize(str(error))})")
        found, damaged = [], []
        for row in _rows_by_id(database, trial_id):
            _add(row, found, damaged)
    return found, damaged


def _add(row: Sequence[Any], found: list[_Batch], damaged: list[tuple[int, int]]) -> None:
    row_id, index, *columns = row
    try:
        records, crc = columns_of(tuple(columns))
        found.append(_Batch(records, _Text(row_id, int(records.texts.sizes.sum()), crc)))
    except _DAMAGED:
        count = columns[0]
        damaged.append((index if isinstance(index, int) else -1, count if isinstance(count, int) else 0))


def _rows_by_id(database: sqlite3.Connection, trial_id: int) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read, one by one: an unreadable page loses only its own rows."""
    sql = f"SELECT trial_id, id, idx, {NO_TEXT_COLUMNS} FROM batch WHERE id = ?"
    row_id = missing = 0
    while missing < _MOST_MISSING:
        row_id += 1
        row = None
        with contextlib.suppress(*BROKEN):
            row = database.execute(sql, (row_id,)).fetchone()
        missing = missing + 1 if row is None else 0
        if row is not None and row[0] == trial_id:
            yield row[1:]


def _sound_text(database: sqlite3.Connection, place: _Text) -> bytes | None:
    """The texts of a batch; None if they are damaged."""
    with contextlib.suppress(*BROKEN, TypeError):
        (text,) = database.execute("SELECT text FROM batch WHERE id = ?", (place.row_id,)).fetchone()
        if len(text) == place.size and zlib.crc32(text) == place.crc:
            return text
    return None


def _texts_of_file(path: Path, places: Sequence[_Text]) -> bytes:
    """Raises StudyUnreadable."""
    with contextlib.suppress(*BROKEN), contextlib.closing(opened(path)) as database:
        texts = [_sound_text(database, one) for one in places]
        if None not in texts:
            return b"".join(text for text in texts if text is not None)
    raise StudyUnreadable(
        f"the texts of the answers in {path} are damaged, or the file has changed since it was opened. Restore it from "
        "a copy, or try again if it is still being written."
    )

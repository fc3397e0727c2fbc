"""Conversion of older study formats to the current one. Each step changes a database in one transaction.

Format 3 has one row a request: these rows stay as they are, and what is added to such a study are batches.

Format 2 stored `event_chars` with four bytes per entry, which the current reader recognises by their width. Format 1
had two forms: first, one column held a record's events as zlib-compressed JSON [[at_ns, kind, text], …]; later there
were columns without `event_tokens`.
"""

import array
import sqlite3
import sys
import zlib
from collections.abc import Sequence

import msgspec

from inferometer.core.record import KINDS, EventKind

OLDEST = 1
_decode_events = msgspec.json.Decoder(list[tuple[int, EventKind, str]]).decode


def migrate(database: sqlite3.Connection, version: int) -> None:
    """Converts `database` from `version` (OLDEST or later) to the current format, completely or not at all. Raises
    sqlite3.Error, or ValueError if its contents do not match that version."""
    database.execute("BEGIN IMMEDIATE")
    try:
        if version <= 1:
            _to_2(database)
        database.execute("PRAGMA user_version = 4")
        database.commit()
    except BaseException:
        database.rollback()
        raise


def _to_2(database: sqlite3.Connection) -> None:
    columns = {row[1] for row in database.execute("PRAGMA table_info(record)")}
    for name, kind, default in (
        ("stamp_errors", "INTEGER", "0"),
        ("event_ns", "BLOB", "x''"),
        ("event_kind", "BLOB", "x''"),
        ("event_chars", "BLOB", "x''"),
        ("event_text", "TEXT", "''"),
        ("event_tokens", "BLOB", "x''"),
    ):
        if name not in columns:
            database.execute(f"ALTER TABLE record ADD COLUMN {name} {kind} NOT NULL DEFAULT {default}")
    if "events" not in columns:
        return
    keys = database.execute("SELECT trial_id, idx FROM record").fetchall()
    for trial_id, index in keys:
        (packed,) = database.execute(
            "SELECT events FROM record WHERE trial_id = ? AND idx = ?", (trial_id, index)
        ).fetchone()
        try:
            events = _decode_events(zlib.decompress(packed))
        except (zlib.error, msgspec.MsgspecError, TypeError) as error:
            raise ValueError(f"the events of request {index} are damaged: {error}") from error
        database.execute(
            "UPDATE record SET event_ns = ?, event_kind = ?, event_chars = ?, event_text = ? "
            "WHERE trial_id = ? AND idx = ?",
            (*_columns(events), trial_id, index),
        )
    database.execute("ALTER TABLE record DROP COLUMN events")


def _columns(events: Sequence[tuple[int, EventKind, str]]) -> tuple[bytes, bytes, bytes, str]:
    at_ns, chars = array.array("q", [event[0] for event in events]), array.array("I", [len(e[2]) for e in events])
    if sys.byteorder == "big":
        at_ns.byteswap()
        chars.byteswap()
    kinds = bytes(KINDS.index(event[1]) for event in events)
    return at_ns.tobytes(), kinds, chars.tobytes(), "".join(event[2] for event in events)

"""Schema and format version of a study's database.

meta      key, value                       JSON: plan, source of the requests, facts about the machine
trial     one row per trial                JSON: facts and findings
record    one row per request              event columns: little-endian arrays with one entry per event
                                           event_ns: i64; event_kind: u8 (index in record.KINDS);
                                           event_chars: u8, u16 or u32, as wide as the largest entry needs;
                                           event_text: all texts joined, event_chars code points each;
                                           event_tokens: u32, empty if no event carried a token count
                                           (older studies keep this table without row ids)
sample    one row per reading
answer_check   one row per checked answer
continuation   one row per answer of the fidelity pass; tokens: JSON of core.continuation.TokenChoice, by zlib
               a study of an earlier version may lack these two tables
"""

import contextlib
import sqlite3
from pathlib import Path

from inferometer.base.errors import StudyUnreadable
from inferometer.store import migrations
from inferometer.store.salvage import BROKEN, opened

DATABASE = "study.db"
FORMAT_VERSION = 3
_APPLICATION_ID = 0x496E666D  # "Infm": identifies the file type to `file` and other programs

_PAGE_BYTES = 8192
"""A table with row ids and large pages holds records of any length almost without gaps. Without row ids, a record of
more than a quarter of a page takes whole pages more: 2.2 times its size with 100 events in SQLite's 4,096 bytes."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trial (
    id INTEGER PRIMARY KEY, arm TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL,
    plan_started_ns INTEGER, draft_asked INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '',
    facts TEXT NOT NULL DEFAULT '[]', findings TEXT NOT NULL DEFAULT '[]', UNIQUE (arm, number));
CREATE TABLE record (
    trial_id INTEGER NOT NULL REFERENCES trial (id), idx INTEGER NOT NULL, request_id TEXT NOT NULL,
    measured INTEGER NOT NULL, outcome TEXT NOT NULL, due_ns INTEGER, sent_ns INTEGER, done_ns INTEGER NOT NULL,
    first_byte_ns INTEGER, connected_ns INTEGER, status INTEGER, finish_reason TEXT, model TEXT, error TEXT NOT NULL,
    coalesced INTEGER NOT NULL, stamp_errors INTEGER NOT NULL, resent INTEGER NOT NULL,
    prompt_tokens INTEGER, our_tokens INTEGER,
    usage TEXT, timings TEXT, event_ns BLOB NOT NULL, event_kind BLOB NOT NULL, event_chars BLOB NOT NULL,
    event_text TEXT NOT NULL, event_tokens BLOB NOT NULL, PRIMARY KEY (trial_id, idx));
CREATE TABLE sample (
    trial_id INTEGER NOT NULL REFERENCES trial (id), at_ns INTEGER NOT NULL, source TEXT NOT NULL,
    quantity TEXT NOT NULL, value REAL NOT NULL, pid INTEGER, device TEXT);
CREATE INDEX sample_of_trial ON sample (trial_id, at_ns);
"""

_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS answer_check (
    trial_id INTEGER NOT NULL REFERENCES trial (id), idx INTEGER NOT NULL, result TEXT NOT NULL, reason TEXT NOT NULL,
    base_passed INTEGER, PRIMARY KEY (trial_id, idx)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS continuation (
    arm TEXT NOT NULL, request_id TEXT NOT NULL, finish_reason TEXT NOT NULL, tokens BLOB NOT NULL,
    PRIMARY KEY (arm, request_id)) WITHOUT ROWID;
"""

FOREIGN_OBJECTS = """
SELECT type || ' ' || name FROM sqlite_master WHERE type IN ('view', 'trigger') OR sql LIKE 'CREATE VIRTUAL%'
"""
"""Finds objects that no study contains: a view or trigger could run anything, endlessly, when a table is used."""

TABLE_KEYS = (("answer_check", "trial_id"), ("record", "trial_id"), ("sample", "trial_id"), ("trial", "id"))
"""Each table with rows of trials, and its column of the trial's id."""


def opened_for_writing(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file; an older one keeps its own
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def create_tables(database: sqlite3.Connection) -> None:
    """All tables in one transaction."""
    database.executescript(
        f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION};"
        f"{_TABLES}{_LATER_TABLES}COMMIT;"
    )


def create_later_tables(database: sqlite3.Connection) -> None:
    """The tables that a study of an earlier version may lack."""
    database.executescript(_LATER_TABLES)


def format_version(path: Path) -> int:
    """Raises StudyUnreadable."""
    try:
        with contextlib.closing(opened(path)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
    except BROKEN as error:
        raise StudyUnreadable(f"{path} cannot be read: {error}") from error
    return version


def has_no_tables(path: Path) -> bool:
    """Whether nothing was ever committed to the database."""
    with contextlib.closing(opened(path)) as database:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return tables == 0


def require_known_version(folder: Path, version: int) -> None:
    """Raises StudyUnreadable for a format that this version cannot read."""
    if version > FORMAT_VERSION:
        raise StudyUnreadable(
            f"{folder} has format version {version}, written by a newer Inferometer; this one reads up to version "
            f"{FORMAT_VERSION}. Install a newer one (pip install -U inferometer)."
        )
    if version < migrations.OLDEST:
        raise StudyUnreadable(
            f"{folder / DATABASE} has format version {version}: it is not a study, or the run was interrupted while "
            "it created the study."
        )

"""Schema and format version of a study's database.

meta      key, value                       JSON: plan, source of the requests, facts about the machine
trial     one row per trial                JSON: facts and findings
batch     one row per batch of requests    what one commit stored: little-endian arrays (see store.record_batches)
                                           idx: the lowest index of its requests; crc: of all columns but text;
                                           scalars: the requests, by MessagePack; event_*: one entry per event,
                                           as wide as the largest one needs: ns since the event before it,
                                           kind (index in record.KINDS), code points, tokens (empty: none stated);
                                           text: all texts joined, UTF-8
record    one row per request              in studies up to format 3, in place of batches
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
FORMAT_VERSION = 4
OLDEST_OPEN = 3
"""Studies from this format on are read as they are; older ones are converted."""
_APPLICATION_ID = 0x496E666D  # "Infm": identifies the file type to `file` and other programs

_PAGE_BYTES = 8192
"""Large pages hold batches of any length almost without gaps."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trial (
    id INTEGER PRIMARY KEY, arm TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL,
    plan_started_ns INTEGER, draft_asked INTEGER NOT NULL, error TEXT NOT NULL DEFAULT '',
    facts TEXT NOT NULL DEFAULT '[]', findings TEXT NOT NULL DEFAULT '[]', UNIQUE (arm, number));
CREATE TABLE sample (
    trial_id INTEGER NOT NULL REFERENCES trial (id), at_ns INTEGER NOT NULL, source TEXT NOT NULL,
    quantity TEXT NOT NULL, value REAL NOT NULL, pid INTEGER, device TEXT);
CREATE INDEX sample_of_trial ON sample (trial_id, at_ns);
"""

_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY, trial_id INTEGER NOT NULL REFERENCES trial (id), idx INTEGER NOT NULL,
    requests INTEGER NOT NULL, crc INTEGER NOT NULL, scalars BLOB NOT NULL, event_ns BLOB NOT NULL,
    event_kind BLOB NOT NULL, event_chars BLOB NOT NULL, event_tokens BLOB NOT NULL, text BLOB NOT NULL);
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

TABLE_KEYS = (
    ("answer_check", "trial_id"),
    ("batch", "trial_id"),
    ("record", "trial_id"),
    ("sample", "trial_id"),
    ("trial", "id"),
)
"""Each table with rows of trials, and its column of the trial's id. Only older studies have a table `record`."""


def opened_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that several threads may share; with a write-ahead log, so that a reader never blocks the run."""
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


def table_names(database: sqlite3.Connection) -> set[str]:
    """The tables of any database."""
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


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

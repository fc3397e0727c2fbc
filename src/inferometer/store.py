"""Where does a study live? A folder: study.yaml (the resolved spec), study.db (SQLite), logs/, summary.md.

Everything is written as it happens: a finished request is committed within a second, so a crash leaves a study to read.

    meta      key, value                       plan, sampling source, machine facts: JSON
    trial     one row a trial                  facts and findings: JSON
    record    one row a request                event_ns: i64, event_kind: u8 (place in record.KINDS), event_chars: u32:
                                               arrays with an entry per event, little-endian; event_text: all texts
                                               in one, of so many code points each; event_tokens: u32, empty where no
                                               event told
    sample    one row a reading
"""

import array
import functools
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from inferometer.errors import RequestWrong, StudyUnreadable
from inferometer.plan import Plan
from inferometer.record import Event, Events, Fact, Finding, RequestRecord, Sample, ServerTimings, Trial, Usage
from inferometer.secrecy import shown_spec
from inferometer.spec import MOST_CHARACTERS, Spec, parse, to_yaml
from inferometer.untrusted import harmless

FORMAT_VERSION = 2
_APPLICATION_ID = 0x496E666D  # "Infm": what `file` and others may know a study by
_COMMIT_EVERY_S = 0.5

_SCHEMA = """
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
    event_text TEXT NOT NULL, event_tokens BLOB NOT NULL, PRIMARY KEY (trial_id, idx)) WITHOUT ROWID;
CREATE TABLE sample (
    trial_id INTEGER NOT NULL REFERENCES trial (id), at_ns INTEGER NOT NULL, source TEXT NOT NULL,
    quantity TEXT NOT NULL, value REAL NOT NULL, pid INTEGER, device TEXT);
CREATE INDEX sample_of_trial ON sample (trial_id, at_ns);
"""

_OTHER_OBJECTS = """
SELECT type || ' ' || name FROM sqlite_master WHERE type IN ('view', 'trigger') OR sql LIKE 'CREATE VIRTUAL%'
"""
"""What a study never holds: a view or a trigger may run anything, without an end, when a table is read or written."""

_SCALARS = (
    "request_id measured outcome due_ns sent_ns done_ns first_byte_ns connected_ns status finish_reason model error "
    "coalesced stamp_errors resent prompt_tokens our_tokens"
).split()
_EVENTS = "event_ns, event_kind, event_chars, event_text, event_tokens"
_DAMAGE = (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)
"""What reading a file of altered bytes raises: SQLite finds it (MemoryError: it asks for the size that an altered byte
says), or a value is not what the schema says."""
_encode = msgspec.json.encode
_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_turn(method: Callable[Concatenate["Store", _P], _T]) -> Callable[Concatenate["Store", _P], _T]:
    """One thread at a time."""

    @functools.wraps(method)
    def taken(self: "Store", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.turn:
            return method(self, *args, **kwargs)

    return taken


class Store:
    """One open study folder. Writing and `records` are for several threads, one at a time (`parallel`)."""

    def __init__(self, folder: Path, database: sqlite3.Connection, writes: bool) -> None:
        self.folder = folder
        self._database = database
        self._writes = writes
        self._last_commit_s = time.monotonic()
        self.turn = threading.RLock()

    @classmethod
    def create(cls, folder: Path, spec: Spec) -> "Store":
        """A new study in `folder`, which is made. What is secret in the spec is not kept. Raises RequestWrong where one
        is already, or none can be."""
        path = folder / "study.db"
        if path.exists():
            raise RequestWrong(f"{folder} holds a study already; choose another folder with --out, or remove that one.")
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            (folder / "study.yaml").write_text(to_yaml(shown_spec(spec)), encoding="utf-8")
            database = sqlite3.connect(path, check_same_thread=False)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(
                f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION};{_SCHEMA}"
            )
        except (OSError, sqlite3.Error) as error:
            raise RequestWrong(f"{folder} cannot hold a study: {error}") from error
        return cls(folder, database, writes=True)

    @classmethod
    def resume(cls, folder: Path, spec: Spec) -> "Store":
        """The study in `folder`, to go on with: trials that did not end well are removed, to be played again.

        A new one where there is none yet. Raises RequestWrong where the study there is of another spec.
        """
        if not (folder / "study.db").exists():
            return cls.create(folder, spec)
        cls.open(folder).close()
        if to_yaml(load_spec(folder / "study.yaml")) != to_yaml(shown_spec(spec)):
            raise RequestWrong(
                f"{folder} holds a study of another spec: its study.yaml is not what was asked for now. "
                "Ask for the same, or choose another folder with --out."
            )
        try:
            database = sqlite3.connect(folder / "study.db", check_same_thread=False)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            for table, key in (("record", "trial_id"), ("sample", "trial_id"), ("trial", "id")):
                database.execute(f"DELETE FROM {table} WHERE {key} NOT IN (SELECT id FROM trial WHERE state = 'done')")
            database.commit()
        except sqlite3.Error as error:
            raise RequestWrong(f"{folder} cannot be gone on with: {error}") from error
        return cls(folder, database, writes=True)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """An existing study, to read. Raises StudyUnreadable."""
        path = folder / "study.db"
        if not path.is_file():
            raise StudyUnreadable(f"{folder} is no study: there is no study.db in it.")
        try:
            database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            others = database.execute(_OTHER_OBJECTS).fetchall()
        except _DAMAGE as error:
            raise StudyUnreadable(f"{path} cannot be read: {harmless(str(error))}") from error
        if version != FORMAT_VERSION:
            raise StudyUnreadable(
                f"{folder} has format version {version}; this program reads version {FORMAT_VERSION}."
            )
        if others:
            database.close()
            raise StudyUnreadable(
                f"{path} holds more than a study does ({harmless(str(others[0][0]))}): another program wrote it."
            )
        return cls(folder, database, writes=False)

    def close(self) -> None:
        """Leaves one plain file behind, which can be read in a folder that cannot be written."""
        if self._writes:
            self._database.commit()
            self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.close()

    # --- writing ----------------------------------------------------------------------------------

    @_in_turn
    def set_meta(self, key: str, value: object) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _encode(value).decode()))
        self.commit()

    @_in_turn
    def begin_trial(self, arm: str, number: int, draft_asked: bool, started_at: str) -> int:
        cursor = self._database.execute(
            "INSERT INTO trial (arm, number, state, started_at, draft_asked) VALUES (?, ?, 'running', ?, ?)",
            (arm, number, started_at, draft_asked),
        )
        self.commit()
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    @_in_turn
    def set_plan_started(self, trial_id: int, at_ns: int) -> None:
        self._database.execute("UPDATE trial SET plan_started_ns = ? WHERE id = ?", (at_ns, trial_id))

    @_in_turn
    def add_record(self, trial_id: int, record: RequestRecord) -> None:
        values = [getattr(record, name) for name in _SCALARS]
        usage = None if record.usage is None else _encode(record.usage).decode()
        timings = None if record.timings is None else _encode(record.timings).decode()
        columns = _columns(record.events)
        marks = ", ".join("?" * (len(values) + 4 + len(columns)))
        self._database.execute(
            f"INSERT INTO record (trial_id, idx, {', '.join(_SCALARS)}, usage, timings, {_EVENTS}) VALUES ({marks})",
            (trial_id, record.index, *values, usage, timings, *columns),
        )
        self.commit_when_due()

    @_in_turn
    def add_samples(self, trial_id: int, samples: Iterable[Sample]) -> None:
        self._database.executemany(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(trial_id, s.at_ns, s.source, s.quantity, s.value, s.pid, s.device) for s in samples],
        )
        self.commit_when_due()

    @_in_turn
    def set_our_tokens(self, trial_id: int, counts: dict[int, int]) -> None:
        """Tokens of the outputs counted again, by record index."""
        self._database.executemany(
            "UPDATE record SET our_tokens = ? WHERE trial_id = ? AND idx = ?",
            [(count, trial_id, index) for index, count in counts.items()],
        )

    @_in_turn
    def end_trial(
        self, trial_id: int, state: str, error: str, facts: Iterable[Fact], findings: Iterable[Finding]
    ) -> None:
        self._database.execute(
            "UPDATE trial SET state = ?, error = ?, facts = ?, findings = ? WHERE id = ?",
            (state, error, _encode(list(facts)).decode(), _encode(list(findings)).decode(), trial_id),
        )
        self.commit()

    @_in_turn
    def commit(self) -> None:
        self._database.commit()
        self._last_commit_s = time.monotonic()

    @_in_turn
    def commit_when_due(self) -> None:
        """Commits what has waited for half a second; to be called now and then."""
        if time.monotonic() - self._last_commit_s > _COMMIT_EVERY_S:
            self.commit()

    # --- reading ----------------------------------------------------------------------------------

    def spec(self) -> Spec:
        return load_spec(self.folder / "study.yaml")

    def plan(self) -> Plan | None:
        """The plan that every trial played; None before the first trial."""
        return self._meta("plan", Plan)

    def notes(self) -> tuple[str, ...]:
        """What the workload had to say of itself."""
        return self._meta("notes", tuple[str, ...]) or ()

    def machine(self) -> tuple[Fact, ...]:
        """What the machine was."""
        return self._meta("machine", tuple[Fact, ...]) or ()

    def workload(self) -> dict[str, str]:
        """Where the requests came from: data set, its hash, tokenizer."""
        return self._meta("workload", dict[str, str]) or {}

    def stopped(self) -> str:
        """Why the study went no further, where it could have; "" else."""
        return self._meta("stopped", str) or ""

    def _meta(self, key: str, kind: type[_T]) -> _T | None:
        try:
            row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=kind)
        except _DAMAGE as error:
            said = harmless(str(error))
            raise StudyUnreadable(f"{self.folder / 'study.db'} is damaged: its {key}: {said}") from error

    def progress(self) -> tuple[str | None, dict[str, int]]:
        """When the first trial began (ISO 8601), and how many trials are in each state; read without the records.
        Raises StudyUnreadable."""
        try:
            (began,) = self._database.execute("SELECT min(started_at) FROM trial").fetchone()
            states = self._database.execute("SELECT state, count(*) FROM trial GROUP BY state ORDER BY state")
            return began, dict(states.fetchall())
        except sqlite3.Error as error:
            raise StudyUnreadable(f"{self.folder / 'study.db'} is damaged: {error}") from error

    def ended(self) -> set[tuple[str, int]]:
        """Arm and number of each trial that is over, well or badly."""
        return set(self._database.execute("SELECT arm, number FROM trial WHERE state != 'running'").fetchall())

    def trials(self) -> list[Trial]:
        """Every trial in the order in which they began, with all that is stored of it. Raises StudyUnreadable."""
        try:
            rows = self._database.execute(
                "SELECT id, arm, number, state, plan_started_ns, draft_asked, error, facts, findings, started_at "
                "FROM trial ORDER BY id"
            ).fetchall()
            return [
                Trial(
                    arm=arm,
                    number=number,
                    state=state,
                    plan_started_ns=plan_started_ns,
                    records=self.records(trial_id),
                    samples=self._samples(trial_id),
                    facts=msgspec.json.decode(facts, type=tuple[Fact, ...]),
                    findings=msgspec.json.decode(findings, type=tuple[Finding, ...]),
                    draft_asked=bool(draft_asked),
                    error=error,
                    started_at=began,
                )
                for trial_id, arm, number, state, plan_started_ns, draft_asked, error, facts, findings, began in rows
            ]
        except _DAMAGE as error:
            raise StudyUnreadable(f"{self.folder / 'study.db'} is damaged: {harmless(str(error))}") from error

    @_in_turn
    def records(self, trial_id: int) -> tuple[RequestRecord, ...]:
        """The records of one trial by index."""
        rows = self._database.execute(
            f"SELECT idx, {', '.join(_SCALARS)}, usage, timings, {_EVENTS} FROM record WHERE trial_id = ? ORDER BY idx",
            (trial_id,),
        )
        return tuple(_record(row) for row in rows)

    def _samples(self, trial_id: int) -> tuple[Sample, ...]:
        rows = self._database.execute(
            "SELECT at_ns, source, quantity, value, pid, device FROM sample WHERE trial_id = ? ORDER BY at_ns",
            (trial_id,),
        )
        return tuple(Sample(*row) for row in rows)


def load_spec(path: Path | str) -> Spec:
    """The study in a file. Raises RequestWrong where it cannot be read, SpecInvalid where it cannot be run."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestWrong(
            f"the study file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    return parse(text, str(path))


_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_timings = msgspec.json.Decoder(ServerTimings).decode


def _record(row: tuple[object, ...]) -> RequestRecord:
    index, *scalars, usage, timings, at_ns, kinds, chars, text, tokens = row
    fields = dict(zip(_SCALARS, scalars, strict=True))
    fields["measured"] = bool(fields["measured"])
    return RequestRecord(
        index=index,  # pyright: ignore[reportArgumentType] # SQLite gives what the schema says
        usage=None if usage is None else _decode_usage(usage),  # pyright: ignore[reportArgumentType]
        timings=None if timings is None else _decode_timings(timings),  # pyright: ignore[reportArgumentType]
        events=_events(at_ns, kinds, chars, text, tokens),  # pyright: ignore[reportArgumentType]
        **fields,  # pyright: ignore[reportArgumentType]
    )


def _columns(events: Sequence[Event]) -> tuple[bytes, bytes, bytes, str, bytes]:
    """The events as the columns of a record."""
    columns = events if isinstance(events, Events) else Events.of(events)
    chars, tokens = _little(columns.chars), _little(columns.tokens)
    return _little(columns.at_ns).tobytes(), columns.kinds, chars.tobytes(), columns.text, tokens.tobytes()


def _events(at_ns: bytes, kinds: bytes, chars: bytes, text: str, tokens: bytes) -> Events:
    """The events of a record's columns. Raises ValueError where they do not fit one another."""
    numbers = _little(array.array("I", chars)), text, _little(array.array("I", tokens))
    return Events(_little(array.array("q", at_ns)), kinds, *numbers)


def _little(values: "array.array[int]") -> "array.array[int]":
    """The array in little-endian order, from or to this machine's."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values

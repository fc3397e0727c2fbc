"""Where does a study live? A folder: study.yaml (the resolved spec), study.db (SQLite), logs/, summary.md.

Everything is written as it happens: a finished request is committed within a second, so a crash leaves a study to read.

    meta      key, value                       plan, sampling source, machine facts: JSON
    trial     one row a trial                  facts and findings: JSON
    record    one row a request                event_ns: i64, event_kind: u8 (place in record.KINDS), event_chars: u8,
                                               u16 or u32, as the greatest needs:
                                               arrays with an entry per event, little-endian; event_text: all texts
                                               in one, of so many code points each; event_tokens: u32, empty where no
                                               event told
    sample    one row a reading
"""

import contextlib
import functools
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import msgspec

from inferometer.base.errors import RequestWrong, StoreBroken, StudyUnreadable
from inferometer.base.text import sanitize
from inferometer.base.units import bytes_text
from inferometer.core.plan import Plan
from inferometer.core.record import Fact, Finding, RequestRecord, Sample, Trial
from inferometer.core.redaction import redacted_spec
from inferometer.core.spec import MOST_CHARACTERS, Spec, parse, to_yaml
from inferometer.store import migrations
from inferometer.store.folder_lock import FolderLock
from inferometer.store.record_rows import COLUMNS, FLOAT, INT, INT_OR_NONE, TEXT, TEXT_OR_NONE, fits, row_of, take
from inferometer.store.salvage import BROKEN, filled_up, missing_bytes, opened

FORMAT_VERSION = 3
_APPLICATION_ID = 0x496E666D  # "Infm": what `file` and others may know a study by
_COMMIT_EVERY_S = 0.5
_MOST_RECORDS = 1_000_000  # looked for one by one where a damaged file does not say how many there are

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
    """One open study folder. Writing and `records` are for several threads, one at a time (`parallel`). `damage`: what
    was found that cannot be read and belongs to no trial, a sentence each."""

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: FolderLock | None = None) -> None:
        """`lock`: of a study that is written; None: it is only read."""
        self.folder = folder
        self.damage: list[str] = []
        self._database = database
        self._lock = lock
        self._last_commit_s = time.monotonic()
        self.turn = threading.RLock()

    @classmethod
    def create(cls, folder: Path, spec: Spec) -> "Store":
        """A new study in `folder`, which is made. What is secret in the spec is not kept. Raises RequestWrong where one
        is already, or none can be."""
        lock = _lock(folder)
        try:
            if (folder / "study.db").exists():
                raise RequestWrong(
                    f"{folder} holds a study already; choose another folder with --out, or remove that one. "
                    "One that was cut off goes on with run --resume."
                )
            try:
                (folder / "study.yaml").write_text(to_yaml(redacted_spec(spec)), encoding="utf-8")
                database = _to_write(folder / "study.db")
                database.executescript(
                    f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION};"
                    f"{_SCHEMA}COMMIT;"
                )
            except (OSError, sqlite3.Error) as error:
                raise RequestWrong(f"{folder} cannot hold a study: {error}") from error
        except BaseException:
            lock.release()
            raise
        return cls(folder, database, lock)

    @classmethod
    def resume(cls, folder: Path, spec: Spec) -> "Store":
        """The study in `folder`, to go on with: trials that did not end well are removed, to be played again.

        A new one where there is none yet, or one that was cut off in the moment of its making. A study of an older
        format becomes one of today's. Raises RequestWrong where the study there is of another spec.
        """
        path = folder / "study.db"
        if not path.exists():
            return cls.create(folder, spec)
        lock = _lock(folder)
        try:
            version = _version(path)
            if version == 0 and _is_empty(path):
                for leftover in folder.glob("study.db*"):
                    leftover.unlink()
                lock.release()
                return cls.create(folder, spec)
            _require_known(folder, version)
            if to_yaml(stored_spec(folder / "study.yaml")) != to_yaml(redacted_spec(spec)):
                raise RequestWrong(
                    f"{folder} holds a study of another spec: its study.yaml is not what was asked for now. "
                    "Ask for the same, or choose another folder with --out."
                )
            try:
                database = _to_write(path)
                if version < FORMAT_VERSION:
                    migrations.migrate(database, version)
                (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
                if said != "ok":
                    raise RequestWrong(
                        f"{path} is damaged, and cannot be gone on with: {said}\n"
                        "What can be read of it: inferometer compare. Run the study anew with another --out."
                    )
                for table, key in (("record", "trial_id"), ("sample", "trial_id"), ("trial", "id")):
                    database.execute(
                        f"DELETE FROM {table} WHERE {key} NOT IN (SELECT id FROM trial WHERE state = 'done')"
                    )
                database.commit()
            except (sqlite3.Error, ValueError) as error:
                raise RequestWrong(f"{folder} cannot be gone on with: {error}") from error
        except BaseException:
            lock.release()
            raise
        return cls(folder, database, lock)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """An existing study, to read; one of an older format is read as one of today's, and its file left as it is.
        Raises StudyUnreadable."""
        path = folder / "study.db"
        if not path.is_file():
            raise StudyUnreadable(f"{folder} is no study: there is no study.db in it.")
        try:
            missing = missing_bytes(path)
            database = filled_up(path) if missing else opened(path)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            others = database.execute(_OTHER_OBJECTS).fetchall()
        except (OSError, *BROKEN) as error:
            raise StudyUnreadable(f"{path} cannot be read: {sanitize(str(error))}") from error
        if others:
            database.close()
            raise StudyUnreadable(
                f"{path} holds more than a study does ({sanitize(str(others[0][0]))}): another program wrote it."
            )
        _require_known(folder, version)
        try:
            if version < FORMAT_VERSION:
                old, database = database, sqlite3.connect(":memory:")
                with contextlib.closing(old):
                    old.backup(database)
                migrations.migrate(database, version)
        except (sqlite3.Error, ValueError) as error:
            raise StudyUnreadable(f"{path} cannot be read: {error}") from error
        store = cls(folder, database)
        if missing:
            store._damaged(f"study.db is cut off: {missing} bytes are missing at its end")
        return store

    def close(self) -> None:
        """Leaves one plain file behind, which can be read in a folder that cannot be written."""
        if self._lock is None:
            self._database.close()
            return
        try:
            with contextlib.suppress(sqlite3.Error):  # a full disk was told of before; what is committed stays so
                self._database.commit()
                self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.close()
        finally:
            self._lock.release()

    # --- writing ----------------------------------------------------------------------------------

    @_in_turn
    def set_meta(self, key: str, value: object) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _encode(value).decode()))
        self.commit()

    @_in_turn
    def begin_trial(self, arm: str, number: int, draft_asked: bool, started_at: str) -> int:
        cursor = self._write(
            "INSERT INTO trial (arm, number, state, started_at, draft_asked) VALUES (?, ?, 'running', ?, ?)",
            (arm, number, started_at, draft_asked),
        )
        self.commit()
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    @_in_turn
    def set_plan_started(self, trial_id: int, at_ns: int) -> None:
        self._write("UPDATE trial SET plan_started_ns = ? WHERE id = ?", (at_ns, trial_id))

    @_in_turn
    def add_record(self, trial_id: int, record: RequestRecord) -> None:
        row = (trial_id, *row_of(record))
        self._write(f"INSERT INTO record (trial_id, {COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
        self.commit_when_due()

    @_in_turn
    def add_samples(self, trial_id: int, samples: Iterable[Sample]) -> None:
        self._write_many(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(trial_id, s.at_ns, s.source, s.quantity, s.value, s.pid, s.device) for s in samples],
        )
        self.commit_when_due()

    @_in_turn
    def set_our_tokens(self, trial_id: int, counts: dict[int, int]) -> None:
        """Tokens of the outputs counted again, by record index."""
        self._write_many(
            "UPDATE record SET our_tokens = ? WHERE trial_id = ? AND idx = ?",
            [(count, trial_id, index) for index, count in counts.items()],
        )

    @_in_turn
    def end_trial(
        self, trial_id: int, state: str, error: str, facts: Iterable[Fact], findings: Iterable[Finding]
    ) -> None:
        self._write(
            "UPDATE trial SET state = ?, error = ?, facts = ?, findings = ? WHERE id = ?",
            (state, error, _encode(list(facts)).decode(), _encode(list(findings)).decode(), trial_id),
        )
        self.commit()

    @_in_turn
    def forget_trial(self, arm: str, number: int) -> None:
        """Removes a trial, to be played again."""
        ids = "(SELECT id FROM trial WHERE arm = ? AND number = ?)"
        for table, key in (("record", "trial_id"), ("sample", "trial_id"), ("trial", "id")):
            self._write(f"DELETE FROM {table} WHERE {key} IN {ids}", (arm, number))
        self.commit()

    @_in_turn
    def commit(self) -> None:
        with self._storing():
            self._database.commit()
        self._last_commit_s = time.monotonic()

    @_in_turn
    def commit_when_due(self) -> None:
        """Commits what has waited for half a second; to be called now and then."""
        if time.monotonic() - self._last_commit_s > _COMMIT_EVERY_S:
            self.commit()

    def _write(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with self._storing():
            return self._database.execute(sql, values)  # pyright: ignore[reportArgumentType] # they are our own

    def _write_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        with self._storing():
            self._database.executemany(sql, rows)  # pyright: ignore[reportArgumentType] # they are our own

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """Raises StoreBroken where SQLite cannot write: a full disk, a folder that went away or is read-only now."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreBroken(
                f"the study in {self.folder} cannot be written any more: {error} ({_room(self.folder)}).\n"
                "What was stored before is whole. Mend that, and go on from there with run --resume."
            ) from error

    # --- reading ----------------------------------------------------------------------------------

    def spec(self) -> Spec:
        return stored_spec(self.folder / "study.yaml")

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
        except (*BROKEN, msgspec.MsgspecError, TypeError) as error:
            self._damaged(f"what study.db holds as {key!r} cannot be read ({sanitize(str(error))})")
            return None

    def progress(self) -> tuple[str | None, dict[str, int]]:
        """When the first trial began (ISO 8601), and how many trials are in each state; read without the records.
        Raises StudyUnreadable."""
        try:
            (began,) = self._database.execute("SELECT min(started_at) FROM trial").fetchone()
            states = self._database.execute("SELECT state, count(*) FROM trial GROUP BY state ORDER BY state")
            return began, dict(states.fetchall())
        except BROKEN as error:
            raise StudyUnreadable(f"{self.folder / 'study.db'} is damaged: {sanitize(str(error))}") from error

    def ended(self) -> set[tuple[str, int]]:
        """Arm and number of each trial that is over, well or badly."""
        return set(self._database.execute("SELECT arm, number FROM trial WHERE state != 'running'").fetchall())

    def trials(self) -> list[Trial]:
        """Every trial in the order in which they began, with all of it that can be read; what cannot is a finding of
        its trial. Raises StudyUnreadable where not even the list of trials can be read."""
        try:
            rows = self._database.execute("SELECT id, arm, number, state, facts, findings FROM trial ORDER BY id")
            listed = rows.fetchall()
        except BROKEN as error:
            raise StudyUnreadable(f"{self.folder / 'study.db'} is damaged: {sanitize(str(error))}") from error
        found: list[Trial] = []
        for trial_id, arm, number, state, facts, findings in listed:
            if not isinstance(arm, str) or not isinstance(number, int) or state not in ("running", "done", "failed"):
                self._damaged(
                    f"the trial with the id {trial_id} cannot be read (it is {sanitize(repr((arm, number, state)))})"
                )
                continue
            found.append(self._trial(trial_id, arm, number, state, facts, findings))
        return found

    def _trial(
        self, trial_id: int, arm: str, number: int, state: Literal["running", "done", "failed"], *told: object
    ) -> Trial:
        lost: list[str] = []
        facts = _decoded(told[0], tuple[Fact, ...], "its facts", lost) or ()
        findings = _decoded(told[1], tuple[Finding, ...], "its findings", lost) or ()
        started_ns, draft_asked, error, started_at = self._rest(trial_id, lost)
        records = self._records(trial_id, lost)
        samples = self._samples(trial_id, lost)
        if lost:
            action = "The file was damaged after it was written: take it from a copy, or measure again."
            findings = (*findings, Finding("invalid", "store-damaged", f"{'; '.join(lost)} cannot be read.", action))
        return Trial(
            arm=arm,
            number=number,
            state=state,
            plan_started_ns=started_ns,
            records=records,
            samples=samples,
            facts=facts,
            findings=findings,
            draft_asked=draft_asked,
            error=error,
            started_at=started_at,
        )

    def _rest(self, trial_id: int, lost: list[str]) -> tuple[int | None, bool, str, str]:
        sql = "SELECT plan_started_ns, draft_asked, error, started_at FROM trial WHERE id = ?"
        try:
            row: Any = self._database.execute(sql, (trial_id,)).fetchone() or (None, None, None, None)
        except BROKEN:
            row = (None, None, None, None)
        if not fits(row[0], INT_OR_NONE) or not fits(row[1], INT) or not fits(row[2], TEXT) or not fits(row[3], TEXT):
            lost.append("when it and its plan began, and how it ended")
            return None, False, "", ""
        return row[0], bool(row[1]), row[2], row[3]

    @_in_turn
    def records(self, trial_id: int) -> tuple[RequestRecord, ...]:
        """The records of one trial by index, as many as can be read."""
        return self._records(trial_id, [])

    def _records(self, trial_id: int, lost: list[str]) -> tuple[RequestRecord, ...]:
        """Row by row where the file is damaged: a page that cannot be read takes its own records with it, no others."""
        sql = f"SELECT {COLUMNS} FROM record WHERE trial_id = ?"
        found: list[RequestRecord] = []
        bad: list[int] = []
        try:
            for row in self._database.execute(f"{sql} ORDER BY idx", (trial_id,)):
                take(row, found, bad)
        except BROKEN as error:
            found, bad = [], []
            for index in range(self._last_index(trial_id) + 1):
                try:
                    row = self._database.execute(f"{sql} AND idx = ?", (trial_id, index)).fetchone()
                except BROKEN:
                    bad.append(index)
                    continue
                if row is not None:
                    take(row, found, bad)
            lost.append(f"a part of its records ({sanitize(str(error))})")
        if bad:
            shown = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
            lost.append(f"{len(bad)} of its records (number {shown})")
        return tuple(found)

    def _last_index(self, trial_id: int) -> int:
        """The greatest index that a record of the trial may have."""
        plan = self.plan()
        if plan is not None:
            return max((item.index for item in plan.items), default=-1)
        try:
            (index,) = self._database.execute("SELECT max(idx) FROM record WHERE trial_id = ?", (trial_id,)).fetchone()
        except BROKEN:
            return _MOST_RECORDS
        return index if isinstance(index, int) else -1

    def _samples(self, trial_id: int, lost: list[str]) -> tuple[Sample, ...]:
        found: list[Sample] = []
        bad = 0
        try:
            for row in self._database.execute(
                "SELECT at_ns, source, quantity, value, pid, device FROM sample WHERE trial_id = ? ORDER BY at_ns",
                (trial_id,),
            ):
                at_ns, source, quantity, value, pid, device = row
                whole = fits(at_ns, INT) and fits(source, TEXT) and fits(quantity, TEXT) and fits(value, FLOAT)
                if whole and fits(pid, INT_OR_NONE) and fits(device, TEXT_OR_NONE):
                    found.append(Sample(*row))
                else:
                    bad += 1
        except BROKEN as error:
            lost.append(f"a part of its samples ({sanitize(str(error))})")
        if bad:
            lost.append(f"{bad} of its samples")
        return tuple(found)

    def _damaged(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage.append(sentence)


def _lock(folder: Path) -> FolderLock:
    """The folder, made and locked. Raises RequestWrong."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        return FolderLock(folder)
    except OSError as error:
        raise RequestWrong(f"{folder} cannot hold a study: {error}") from error


def _to_write(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def _version(path: Path) -> int:
    """Raises StudyUnreadable."""
    try:
        with contextlib.closing(opened(path)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
    except BROKEN as error:
        raise StudyUnreadable(f"{path} cannot be read: {error}") from error
    return version


def _is_empty(path: Path) -> bool:
    """Whether nothing was ever committed to the database."""
    with contextlib.closing(opened(path)) as database:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return tables == 0


def _require_known(folder: Path, version: int) -> None:
    """Raises StudyUnreadable for a format that is no version's up to today's."""
    if version > FORMAT_VERSION:
        raise StudyUnreadable(
            f"{folder} has format version {version}, of a newer Inferometer; this one reads up to version "
            f"{FORMAT_VERSION}. Install a newer one (pip install -U inferometer)."
        )
    if version < migrations.OLDEST:
        raise StudyUnreadable(
            f"{folder / 'study.db'} has format version {version}: it is no study, or it was cut off in the moment of "
            "its making."
        )


def _room(folder: Path) -> str:
    """How full its file system is, for a message."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return f"the folder: {error.strerror}"
    return f"{bytes_text(usage.free)} free there"


def stored_spec(path: Path | str) -> Spec:
    """The spec of a stored study. Its engines and workloads need not be installed. Raises like `study_text`, and
    SpecInvalid."""
    return parse(study_text(path), str(path))


def study_text(path: Path | str) -> str:
    """The text of a study file. Raises RequestWrong if it cannot be read."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestWrong(
            f"the study file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _decoded(text: Any, kind: type[_T], what: str, lost: list[str]) -> _T | None:
    """`text`: whatever an altered file holds."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, TypeError) as error:
        lost.append(f"{what} ({sanitize(str(error))})")
        return None

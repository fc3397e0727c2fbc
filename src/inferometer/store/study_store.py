"""Writing of a study folder: creation, resumption, and storage of results as they arrive.

A finished request is committed within a second, so a study can be read after a crash.
"""

import contextlib
import functools
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from inferometer.base.errors import RequestWrong, StoreBroken, StudyUnreadable
from inferometer.base.units import bytes_text
from inferometer.core.continuation import Continuation
from inferometer.core.record import AnswerCheck, Fact, Finding, RequestRecord, Sample
from inferometer.core.record_columns import RecordColumns
from inferometer.core.redaction import redacted_spec
from inferometer.core.spec import Spec
from inferometer.core.spec_file import to_yaml
from inferometer.store import migrations
from inferometer.store.folder_lock import FolderLock
from inferometer.store.hidden_text import require_texts
from inferometer.store.record_batches import COLUMNS, MOST_REQUESTS, NO_TEXT_COLUMNS, row_of, with_our_tokens
from inferometer.store.schema import (
    DATABASE,
    FORMAT_VERSION,
    TABLE_KEYS,
    create_later_tables,
    create_tables,
    format_version,
    has_no_tables,
    opened_for_writing,
    require_known_version,
    table_names,
)
from inferometer.store.study_reader import StudyReader
from inferometer.store.study_yaml import stored_spec

SPEC_FILE = "study.yaml"
_COMMIT_EVERY_S = 0.5

_encode = msgspec.json.encode
_P = ParamSpec("_P")
_T = TypeVar("_T")


def _one_at_a_time(method: Callable[Concatenate["Store", _P], _T]) -> Callable[Concatenate["Store", _P], _T]:
    """Only one thread runs any of these methods."""

    @functools.wraps(method)
    def taking_turns(self: "Store", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.turn:
            return method(self, *args, **kwargs)

    return taking_turns


class Store(StudyReader):
    """One study folder that is written. Several threads may call the writing methods and `records` (`parallel`)."""

    def __init__(self, folder: Path, database: sqlite3.Connection, lock: FolderLock | None = None) -> None:
        """`lock`: held while the study is written; None if it is only read."""
        super().__init__(folder, database)
        self._lock = lock
        self._last_commit_s = time.monotonic()
        self._waiting: dict[int, list[RequestRecord]] = {}
        """Records of each trial that the next commit stores."""

    @classmethod
    def create(cls, folder: Path, spec: Spec) -> "Store":
        """A new study in `folder`, which is created. The spec is stored without its secrets. A study there whose trials
        all failed before their first request is replaced; its logs stay. Raises RequestWrong if the folder already
        holds another study or cannot hold one."""
        lock = _locked(folder)
        try:
            text, had_study = to_yaml(redacted_spec(spec)), (folder / DATABASE).exists()
            if had_study and _has_nothing(folder / DATABASE):
                for leftover in folder.glob(f"{DATABASE}*"):
                    leftover.unlink()
            require_no_study(folder)
            if not had_study:
                _require_no_other_file(folder / SPEC_FILE, text)
            try:
                (folder / SPEC_FILE).write_text(text, encoding="utf-8")
                database = opened_for_writing(folder / DATABASE)
                create_tables(database)
            except (OSError, sqlite3.Error) as error:
                raise _cannot_hold(folder, error, "Choose another folder with --out.") from error
        except BaseException:
            lock.release()
            raise
        return cls(folder, database, lock)

    @classmethod
    def resume(cls, folder: Path, spec: Spec) -> "Store":
        """The study in `folder`, to be continued. Trials that did not end well are removed, to be played again.

        Creates the study if there is none, or if a run was interrupted while it created one. Converts a study of an
        older format. Raises RequestWrong if the study there has a different spec.
        """
        path = folder / DATABASE
        if not path.exists():
            return cls.create(folder, spec)
        lock = _locked(folder)
        try:
            version = format_version(path)
            if version == 0 and has_no_tables(path):
                for leftover in folder.glob(f"{DATABASE}*"):
                    leftover.unlink()
                lock.release()
                return cls.create(folder, spec)
            require_known_version(folder, version)
            _require_same_spec(folder, spec)
            database = _opened_to_resume(path, version)
            require_texts(database, folder)
        except BaseException:
            lock.release()
            raise
        return cls(folder, database, lock)

    @classmethod
    def amend(cls, folder: Path) -> "Store":
        """The study in `folder`, to add outcomes of checks, or answers of the fidelity pass. Raises StudyUnreadable for
        a folder without a study, and RequestWrong for one that cannot be written, or is being written."""
        path = folder / DATABASE
        if folder.is_file():
            raise StudyUnreadable(f"{folder} is a file, and cannot be changed. Unpack the zip, and name its folder.")
        if not path.is_file():
            raise StudyUnreadable(f"{folder} is not a study: it has no {DATABASE}.")
        lock = _locked(folder, "Copy the study to a folder that can be written.")
        try:
            version = format_version(path)
            require_known_version(folder, version)
            database = opened_for_writing(path)
            if version < FORMAT_VERSION:
                migrations.migrate(database, version)
            create_later_tables(database)
            require_texts(database, folder)
        except (sqlite3.Error, ValueError) as error:
            lock.release()
            raise RequestWrong(f"the study in {folder} cannot be changed: {error}") from error
        except BaseException:
            lock.release()
            raise
        return cls(folder, database, lock)

    def close(self) -> None:
        """Leaves a single database file, which can be read from a read-only folder."""
        if self._lock is None:
            super().close()
            return
        try:
            with contextlib.suppress(sqlite3.Error, StoreBroken):  # a full disk was reported before; commits remain
                self.commit()
                self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.close()
        finally:
            self._lock.release()

    @_one_at_a_time
    def set_meta(self, key: str, value: object) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _encode(value).decode()))
        self.commit()

    @_one_at_a_time
    def begin_trial(self, arm: str, number: int, draft_asked: bool, started_at: str) -> int:
        """Returns the id of the new trial."""
        cursor = self._write(
            "INSERT INTO trial (arm, number, state, started_at, draft_asked) VALUES (?, ?, 'running', ?, ?)",
            (arm, number, started_at, draft_asked),
        )
        self.commit()
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    @_one_at_a_time
    def set_plan_started(self, trial_id: int, at_ns: int) -> None:
        self._write("UPDATE trial SET plan_started_ns = ? WHERE id = ?", (at_ns, trial_id))

    @_one_at_a_time
    def add_record(self, trial_id: int, record: RequestRecord) -> None:
        """The next commit stores it, in one row with the other records since the last commit."""
        waiting = self._waiting.setdefault(trial_id, [])
        waiting.append(record)
        if len(waiting) >= MOST_REQUESTS:
            self._write_waiting()
        self.commit_when_due()

    @_one_at_a_time
    def add_records(self, trial_id: int, records: RecordColumns) -> None:
        """Stores these records as one batch, with their texts one after another."""
        row = (trial_id, int(records.numbers["index"].min()), *row_of(records))
        self._write(f"INSERT INTO batch (trial_id, idx, {COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for trial_id, records in waiting.items():
            self.add_records(trial_id, RecordColumns.of(records))

    @_one_at_a_time
    def records(self, trial_id: int) -> Sequence[RequestRecord]:
        """The records of one trial so far, by index."""
        if self._waiting:
            self.commit()
        return super().records(trial_id)

    @_one_at_a_time
    def add_samples(self, trial_id: int, samples: Iterable[Sample]) -> None:
        self._write_many(
            "INSERT INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(trial_id, s.at_ns, s.source, s.quantity, s.value, s.pid, s.device) for s in samples],
        )
        self.commit_when_due()

    @_one_at_a_time
    def add_check(self, trial_id: int, check: AnswerCheck) -> None:
        """Stores the outcome of one answer's check, in place of an earlier one."""
        row = (trial_id, check.index, check.result, check.reason, check.base_passed)
        self._write("INSERT OR REPLACE INTO answer_check VALUES (?, ?, ?, ?, ?)", row)
        self.commit_when_due()

    @_one_at_a_time
    def forget_checks(self) -> None:
        """Removes the outcomes of all checks, to be computed again."""
        self._write("DELETE FROM answer_check")
        self.commit()

    @_one_at_a_time
    def add_continuation(self, arm: str, request_id: str, answer: Continuation) -> None:
        """Stores one arm's answer of the fidelity pass, in place of an earlier one."""
        row = (arm, request_id, answer.finish_reason, zlib.compress(_encode(answer.tokens)))
        self._write("INSERT OR REPLACE INTO continuation VALUES (?, ?, ?, ?)", row)
        self.commit_when_due()

    @_one_at_a_time
    def forget_continuations(self) -> None:
        """Removes the answers of the fidelity pass, to be requested again."""
        self._write("DELETE FROM continuation")
        self.commit()

    @_one_at_a_time
    def set_our_tokens(self, trial_id: int, counts: dict[int, int]) -> None:
        """Output tokens by our own tokenizer, by record index."""
        self._write_waiting()
        rows = self._write(f"SELECT id, {NO_TEXT_COLUMNS} FROM batch WHERE trial_id = ?", (trial_id,))
        with self._storing():
            listed = [(row_id, with_our_tokens(row, counts)) for row_id, *row in rows]
        self._write_many(
            "UPDATE batch SET crc = ?, scalars = ? WHERE id = ?", [(*new, row_id) for row_id, new in listed]
        )

    @_one_at_a_time
    def end_trial(
        self, trial_id: int, state: str, error: str, facts: Iterable[Fact], findings: Iterable[Finding]
    ) -> None:
        self._write(
            "UPDATE trial SET state = ?, error = ?, facts = ?, findings = ? WHERE id = ?",
            (state, error, _encode(list(facts)).decode(), _encode(list(findings)).decode(), trial_id),
        )
        self.commit()

    @_one_at_a_time
    def forget_trial(self, arm: str, number: int) -> None:
        """Removes a trial, to be played again."""
        ids = "(SELECT id FROM trial WHERE arm = ? AND number = ?)"
        self._write_waiting()
        tables = table_names(self._database)
        for table, key in TABLE_KEYS:
            if table in tables:
                self._write(f"DELETE FROM {table} WHERE {key} IN {ids}", (arm, number))
        self.commit()

    @_one_at_a_time
    def commit(self) -> None:
        self._write_waiting()
        with self._storing():
            self._database.commit()
        self._last_commit_s = time.monotonic()

    @_one_at_a_time
    def commit_when_due(self) -> None:
        """Commits if the last commit is half a second ago. Call it regularly."""
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
        """Raises StoreBroken if SQLite cannot write: a full disk, a folder that vanished or became read-only."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreBroken(
                f"the study in {self.folder} can no longer be written: {error} ({_free_space(self.folder)}).\n"
                "Everything that was stored before is complete. Fix the cause, then continue with run --resume."
            ) from error


def _locked(folder: Path, advice: str = "Choose another folder with --out.") -> FolderLock:
    """Creates the folder and locks it. Raises RequestWrong, with what to do where the folder cannot be written."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        return FolderLock(folder)
    except OSError as error:
        raise _cannot_hold(folder, error, advice) from error


def _cannot_hold(folder: Path, error: Exception, advice: str) -> RequestWrong:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return RequestWrong(f"{folder} cannot hold a study: {reason}. {advice}")


def require_no_study(folder: Path) -> None:
    """Raises RequestWrong if the folder holds a study with a request, or is a file."""
    if folder.is_file():
        raise RequestWrong(f"{folder} cannot hold a study: it is a file. Choose another folder with --out.")
    if (folder / DATABASE).exists() and not _has_nothing(folder / DATABASE):
        raise RequestWrong(
            f"{folder} already holds a study. Choose another folder with --out, or replace it with --force. "
            "To continue an interrupted study, use run --resume."
        )


def _require_no_other_file(path: Path, text: str) -> None:
    """Raises RequestWrong if the file is there and says something else: somebody wrote it by hand."""
    if path.exists() and path.read_text("utf-8", "replace") != text:
        raise RequestWrong(
            f"{path} exists, and a study in this folder would replace it by its own file of this name. Choose another "
            "folder with --out."
        )


def remove_study(folder: Path) -> None:
    """Removes the files of the study in `folder`, and the folder if it holds nothing else. Raises RequestWrong if the
    folder holds other files but no study, or if a run writes to it."""
    if not folder.exists():
        return
    if not (folder / DATABASE).exists():
        if folder.is_file() or any(folder.iterdir()):
            raise RequestWrong(f"--force: {folder} is not a study and not an empty folder. Choose another --out.")
        return
    lock = _locked(folder)
    own = [folder / name for name in (SPEC_FILE, "summary.md", "report.html")]
    for path in (*own, *folder.glob(f"{DATABASE}*"), *(folder / "logs").glob("*.log")):
        path.unlink(missing_ok=True)
    lock.release()
    for left in (folder / "logs", folder):
        with contextlib.suppress(OSError):  # not empty
            left.rmdir()


def _has_nothing(path: Path) -> bool:
    """Whether a study has trials without a request, and none is done: no engine started, or it was killed."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            states = {state for (state,) in database.execute("SELECT state FROM trial")}
            records = sum(
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in table_names(database) & {"record", "batch"}
            )
    except sqlite3.Error:
        return False
    return bool(states) and "done" not in states and records == 0


def _require_same_spec(folder: Path, spec: Spec) -> None:
    """Stores the spec where it only asks for more trials than the stored one; raises RequestWrong where it differs in
    something else."""
    stored, asked = stored_spec(folder / "study.yaml"), redacted_spec(spec)
    if to_yaml(stored) == to_yaml(asked):
        return
    numbers = {name: getattr(stored, name) for name in ("trials", "max_trials", "until")}
    if asked.trials < stored.trials and to_yaml(stored) == to_yaml(
        msgspec.structs.replace(asked, trials=stored.trials)
    ):
        raise RequestWrong(
            f"{folder} holds a study of {stored.trials} trials, and {asked.trials} are asked for. A study can get more "
            "trials, not fewer: leave --trials out, or choose another folder with --out."
        )
    if asked.trials >= stored.trials and to_yaml(stored) == to_yaml(msgspec.structs.replace(asked, **numbers)):
        (folder / "study.yaml").write_text(to_yaml(asked), encoding="utf-8")
    else:
        raise RequestWrong(
            f"{folder} holds a study with a different spec: its study.yaml differs from the spec of this run. "
            "Run with the same spec, or choose another folder with --out."
        )


def _opened_to_resume(path: Path, version: int) -> sqlite3.Connection:
    """The database in the current format, without trials that did not end well. Raises RequestWrong."""
    try:
        database = opened_for_writing(path)
        if version < FORMAT_VERSION:
            migrations.migrate(database, version)
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise RequestWrong(
                f"{path} is damaged, so the study cannot be resumed: {verdict}\n"
                "`inferometer compare` shows what can still be read. Run the study again with another --out."
            )
        create_later_tables(database)
        tables = table_names(database)
        for table, key in TABLE_KEYS:
            if table in tables:
                database.execute(f"DELETE FROM {table} WHERE {key} NOT IN (SELECT id FROM trial WHERE state = 'done')")
        database.commit()
    except (sqlite3.Error, ValueError) as error:
        raise RequestWrong(f"the study in {path.parent} cannot be resumed: {error}") from error
    return database


def _free_space(folder: Path) -> str:
    """How much space the folder's file system has left, for a message."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return f"the folder: {error.strerror}"
    return f"{bytes_text(usage.free)} free"

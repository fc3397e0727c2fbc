"""Reading of a study folder, as far as a damaged database allows."""

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import msgspec

from inferometer.base.errors import StudyUnreadable
from inferometer.base.text import sanitize
from inferometer.core.continuation import Continuation, TokenChoice
from inferometer.core.plan import Plan
from inferometer.core.record import INTERRUPTED, AnswerCheck, Fact, Finding, RequestRecord, Sample, Trial
from inferometer.core.record_columns import RecordColumns, joined
from inferometer.core.spec import Spec
from inferometer.store import batch_reader, migrations
from inferometer.store.record_rows import (
    COLUMNS,
    FAST_COLUMNS,
    FLOAT,
    INT,
    INT_OR_NONE,
    TEXT,
    TEXT_OR_NONE,
    append_record,
    fits,
    record_columns,
)
from inferometer.store.salvage import BROKEN, filled_up, missing_bytes, opened
from inferometer.store.schema import DATABASE, FOREIGN_OBJECTS, OLDEST_OPEN, require_known_version, table_names
from inferometer.store.study_yaml import stored_spec

_ROWS_AT_ONCE = 4096
_MOST_RECORDS = 1_000_000
"""The highest index to try, one by one, when a damaged file does not say how many records there are."""

_HAS_CHECKS = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'answer_check'"
_HAS_CONTINUATIONS = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'continuation'"
_MOST_TOKENS_BYTES = 64 * 1024**2
"""Largest size of one answer's tokens: a damaged file does not fill the memory."""

_T = TypeVar("_T")


class StudyReader:
    """One open study folder. `damage`: a sentence for each part that cannot be read and belongs to no trial. Several
    threads may call `records`, one at a time."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self.damage: list[str] = []
        self.turn = threading.RLock()
        """Held by the one thread that uses the database."""
        self._database = database
        self._texts_path: Path | None = folder / DATABASE
        """Where long texts are read from when somebody looks at them, even after `close`; None: at once."""

    @classmethod
    def open(cls, folder: Path, *, stays: bool = True) -> Self:
        """An existing study, to be read. A study of an older format is converted in memory; its file does not change.
        `stays`: False for a temporary copy. Raises StudyUnreadable."""
        path = folder / DATABASE
        if not path.is_file():
            below = (found for levels in ("*", "*/*", "*/*/*") for found in folder.glob(f"{levels}/{DATABASE}"))
            hint = f" It contains studies: inferometer list {folder}" if any(below) else ""
            raise StudyUnreadable(f"{folder} is not a study: it has no {DATABASE}.{hint}")
        try:
            missing = missing_bytes(path)
            database = filled_up(path) if missing else opened(path)
            (version,) = database.execute("PRAGMA user_version").fetchone()
            foreign = database.execute(FOREIGN_OBJECTS).fetchall()
        except (OSError, *BROKEN) as error:
            raise StudyUnreadable(f"{path} cannot be read: {sanitize(str(error))}") from error
        if foreign:
            database.close()
            raise StudyUnreadable(
                f"{path} contains a {sanitize(str(foreign[0][0]))}, which no study contains: another program wrote it."
            )
        require_known_version(folder, version)
        if version < OLDEST_OPEN:
            database = _migrated_copy(path, database, version)
        reader = cls(folder, database)
        if missing or not stays:
            reader._texts_path = None
        if missing:
            reader._note_damage(f"{DATABASE} is truncated: {missing} bytes are missing at its end")
        return reader

    def close(self) -> None:
        self._database.close()

    # --- the whole study --------------------------------------------------------------------------

    def spec(self) -> Spec:
        return stored_spec(self.folder / "study.yaml")

    def plan(self) -> Plan | None:
        """The plan that every trial played; None before the first trial."""
        return self._meta("plan", Plan)

    def notes(self) -> tuple[str, ...]:
        """Notes of the workload about itself."""
        return self._meta("notes", tuple[str, ...]) or ()

    def machine(self) -> tuple[Fact, ...]:
        """Facts about the machine."""
        return self._meta("machine", tuple[Fact, ...]) or ()

    def workload(self) -> dict[str, str]:
        """The source of the requests: data set, its hash, tokenizer."""
        return self._meta("workload", dict[str, str]) or {}

    def stopped(self) -> str:
        """Why the study ended before its last possible trial; "" if it did not."""
        return self._meta("stopped", str) or ""

    def progress(self) -> tuple[str | None, dict[str, int]]:
        """The start of the first trial (ISO 8601), and the number of trials in each state, those that were interrupted
        apart from `failed`; reads no records. Raises StudyUnreadable."""
        try:
            (started_at,) = self._database.execute("SELECT min(started_at) FROM trial").fetchone()
            states = self._database.execute(
                "SELECT CASE WHEN state = 'failed' AND error = ? THEN ? ELSE state END AS shown, count(*) FROM trial "
                "GROUP BY shown ORDER BY shown",
                (INTERRUPTED, INTERRUPTED),
            )
            return started_at, dict(states.fetchall())
        except BROKEN as error:
            raise StudyUnreadable(f"{self.folder / DATABASE} is damaged: {sanitize(str(error))}") from error

    def ended(self) -> set[tuple[str, int]]:
        """Arm and number of each trial that is done or has failed."""
        return set(self._database.execute("SELECT arm, number FROM trial WHERE state != 'running'").fetchall())

    def _meta(self, key: str, kind: type[_T]) -> _T | None:
        try:
            row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=kind)
        except (*BROKEN, msgspec.MsgspecError, TypeError) as error:
            self._note_damage(f"the entry {key!r} of {DATABASE} cannot be read ({sanitize(str(error))})")
            return None

    # --- trials -----------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """Every trial in the order of their starts, with everything that can be read; a finding of the trial names the
        rest. Raises StudyUnreadable if not even the list of trials can be read."""
        try:
            rows = self._database.execute("SELECT id, arm, number, state, facts, findings FROM trial ORDER BY id")
            listed = rows.fetchall()
        except BROKEN as error:
            raise StudyUnreadable(f"{self.folder / DATABASE} is damaged: {sanitize(str(error))}") from error
        found: list[Trial] = []
        for trial_id, arm, number, state, facts, findings in listed:
            if not isinstance(arm, str) or not isinstance(number, int) or state not in ("running", "done", "failed"):
                self._note_damage(
                    f"the trial with id {trial_id} cannot be read (it contains {sanitize(repr((arm, number, state)))})"
                )
                continue
            found.append(self._trial(trial_id, arm, number, state, facts, findings))
        return found

    def _trial(
        self,
        trial_id: int,
        arm: str,
        number: int,
        state: Literal["running", "done", "failed"],
        facts_json: object,
        findings_json: object,
    ) -> Trial:
        lost: list[str] = []
        facts = _decoded(facts_json, tuple[Fact, ...], "its facts", lost) or ()
        findings = _decoded(findings_json, tuple[Finding, ...], "its findings", lost) or ()
        started_ns, draft_asked, error, started_at = self._start_and_end(trial_id, lost)
        records = self._records(trial_id, lost)
        samples = self._samples(trial_id, lost)
        checks = self._checks(trial_id, lost)
        if lost:
            action = "The file was damaged after it was written: restore it from a copy, or measure again."
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
            checks=checks,
        )

    def _start_and_end(self, trial_id: int, lost: list[str]) -> tuple[int | None, bool, str, str]:
        """The plan's start, whether a draft was requested, the error, and the trial's start."""
        sql = "SELECT plan_started_ns, draft_asked, error, started_at FROM trial WHERE id = ?"
        try:
            row: Any = self._database.execute(sql, (trial_id,)).fetchone() or (None, None, None, None)
        except BROKEN:
            row = (None, None, None, None)
        if not fits(row[0], INT_OR_NONE) or not fits(row[1], INT) or not fits(row[2], TEXT) or not fits(row[3], TEXT):
            lost.append("its start, its plan's start and its error")
            return None, False, "", ""
        return row[0], bool(row[1]), row[2], row[3]

    # --- records and samples ----------------------------------------------------------------------

    def records(self, trial_id: int) -> Sequence[RequestRecord]:
        """The records of one trial by index, as many as can be read."""
        with self.turn:
            return self._records(trial_id, [])

    def samples(self, trial_id: int) -> tuple[Sample, ...]:
        """The samples of one trial by time, as many as can be read."""
        with self.turn:
            return self._samples(trial_id, [])

    def _records(self, trial_id: int, lost: list[str]) -> Sequence[RequestRecord]:
        found: list[RecordColumns] = []
        try:
            tables = table_names(self._database)
        except BROKEN:
            tables = {"record", "batch"}
        if "record" in tables:
            found.append(self._old_records(trial_id, lost))
        if "batch" in tables:
            batches = batch_reader.trial_records(self._database, self._texts_path, trial_id, lost)
            found += [] if batches is None else [batches]
        return joined([one for one in found if len(one)]).by_index()

    def _old_records(self, trial_id: int, lost: list[str]) -> RecordColumns:
        """The records of a study up to format 3."""
        try:
            return self._record_columns(trial_id)
        except (*BROKEN, ValueError, TypeError, KeyError, msgspec.MsgspecError):
            return self._sound_records(trial_id, lost)

    def _record_columns(self, trial_id: int) -> RecordColumns:
        """All records of the trial at once. Raises one of many errors if any of them is damaged."""
        rows = self._database.execute(f"SELECT {FAST_COLUMNS} FROM record WHERE trial_id = ? ORDER BY idx", (trial_id,))
        return joined([record_columns(part) for part in iter(lambda: rows.fetchmany(_ROWS_AT_ONCE), [])])

    def _sound_records(self, trial_id: int, lost: list[str]) -> RecordColumns:
        """The records that are not damaged, row by row."""
        sql = f"SELECT {COLUMNS} FROM record WHERE trial_id = ? ORDER BY idx"
        found: list[RequestRecord] = []
        unreadable: list[int] = []
        try:
            for row in self._database.execute(sql, (trial_id,)):
                append_record(row, found, unreadable)
        except BROKEN as error:
            found, unreadable = self._records_one_by_one(trial_id)
            lost.append(f"a part of its records ({sanitize(str(error))})")
        if unreadable:
            shown = ", ".join(map(str, unreadable[:5])) + (", …" if len(unreadable) > 5 else "")
            lost.append(f"{len(unreadable)} of its records (number {shown})")
        return RecordColumns.of(found)

    def _records_one_by_one(self, trial_id: int) -> tuple[list[RequestRecord], list[int]]:
        """The records of a damaged file, and the indices of those that cannot be read: an unreadable page loses only
        its own records."""
        if self._has_row_ids():
            return self._records_by_row_id(trial_id)
        sql = f"SELECT {COLUMNS} FROM record WHERE trial_id = ? AND idx = ?"
        found: list[RequestRecord] = []
        unreadable: list[int] = []
        for index in range(self._last_index(trial_id) + 1):
            try:
                row = self._database.execute(sql, (trial_id, index)).fetchone()
            except BROKEN:
                unreadable.append(index)
                continue
            if row is not None:
                append_record(row, found, unreadable)
        return found, unreadable

    def _has_row_ids(self) -> bool:
        """Whether the table of records has them; those of older studies have none."""
        try:
            self._database.execute("SELECT rowid FROM record LIMIT 0")
        except BROKEN:
            return False
        return True

    def _records_by_row_id(self, trial_id: int) -> tuple[list[RequestRecord], list[int]]:
        """As `_records_one_by_one`, without the table's index, which may be lost."""
        found: list[RequestRecord] = []
        unreadable: list[int] = []
        for row_id in range(1, self._last_row_id(trial_id) + 1):
            row = self._row_or_none("idx", trial_id, row_id)
            if row is None:
                continue
            whole = self._row_or_none(COLUMNS, trial_id, row_id)
            if whole is None:
                unreadable.append(row[0] if isinstance(row[0], int) else -1)
            else:
                append_record(whole, found, unreadable)
        return sorted(found, key=lambda record: record.index), unreadable

    def _row_or_none(self, columns: str, trial_id: int, row_id: int) -> tuple[Any, ...] | None:
        """None for a row that cannot be read or belongs to another trial."""
        try:
            row = self._database.execute(
                f"SELECT trial_id, {columns} FROM record WHERE rowid = ?", (row_id,)
            ).fetchone()
        except BROKEN:
            return None
        return row[1:] if row is not None and row[0] == trial_id else None

    def _last_row_id(self, trial_id: int) -> int:
        """The highest row id that a record may have; the end of the table may be lost."""
        last = 0
        with contextlib.suppress(*BROKEN):
            (last,) = self._database.execute("SELECT max(rowid) FROM record").fetchone()
        with contextlib.suppress(*BROKEN):
            (trials,) = self._database.execute("SELECT count(*) FROM trial").fetchone()
            last = max(last or 0, (self._last_index(trial_id) + 1) * trials)
        return min(last or 0, _MOST_RECORDS)

    def _last_index(self, trial_id: int) -> int:
        """The highest index that a record of the trial may have."""
        plan = self.plan()
        if plan is not None:
            return max((item.index for item in plan.items), default=-1)
        try:
            (index,) = self._database.execute("SELECT max(idx) FROM record WHERE trial_id = ?", (trial_id,)).fetchone()
        except BROKEN:
            return _MOST_RECORDS
        return index if isinstance(index, int) else -1

    def _samples(self, trial_id: int, lost: list[str]) -> tuple[Sample, ...]:
        sql = "SELECT at_ns, source, quantity, value, pid, device FROM sample WHERE trial_id = ? ORDER BY at_ns"
        kinds = (INT, TEXT, TEXT, FLOAT, INT_OR_NONE, TEXT_OR_NONE)
        found: list[Sample] = []
        unreadable = 0
        try:
            for row in self._database.execute(sql, (trial_id,)):
                if all(map(fits, row, kinds)):
                    found.append(Sample(*row))
                else:
                    unreadable += 1
        except BROKEN as error:
            lost.append(f"a part of its samples ({sanitize(str(error))})")
        if unreadable:
            lost.append(f"{unreadable} of its samples")
        return tuple(found)

    def trial_ids(self) -> dict[tuple[str, int], int]:
        """The id of each trial that is done, by its arm and number."""
        rows = self._database.execute("SELECT arm, number, id FROM trial WHERE state = 'done' ORDER BY id")
        return {(arm, number): trial_id for arm, number, trial_id in rows.fetchall()}

    def checks(self, trial_id: int) -> tuple[AnswerCheck, ...]:
        """The outcomes of the answers' checks of one trial, as many as can be read."""
        with self.turn:
            return self._checks(trial_id, [])

    def _checks(self, trial_id: int, lost: list[str]) -> tuple[AnswerCheck, ...]:
        sql = "SELECT idx, result, reason, base_passed FROM answer_check WHERE trial_id = ? ORDER BY idx"
        found: list[AnswerCheck] = []
        try:
            (has_table,) = self._database.execute(_HAS_CHECKS).fetchone()
            found.extend(_check(row) for row in (self._database.execute(sql, (trial_id,)) if has_table else ()))
        except (*BROKEN, msgspec.ValidationError) as error:
            lost.append(f"a part of the outcomes of its checks ({sanitize(str(error))})")
        return tuple(found)

    def continuations(self) -> dict[str, dict[str, Continuation]]:
        """Answers of the fidelity pass by arm and request, as many as can be read."""
        sql = "SELECT arm, request_id, finish_reason, tokens FROM continuation ORDER BY arm, request_id"
        found: dict[str, dict[str, Continuation]] = {}
        with self.turn:
            try:
                (has_table,) = self._database.execute(_HAS_CONTINUATIONS).fetchone()
                for arm, name, finish_reason, data in self._database.execute(sql) if has_table else ():
                    found.setdefault(str(arm), {})[str(name)] = Continuation(_tokens(data), str(finish_reason))
            except (*BROKEN, msgspec.MsgspecError, zlib.error, TypeError) as error:
                self._note_damage(f"a part of the answers of its fidelity pass cannot be read ({sanitize(str(error))})")
        return found

    def _note_damage(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage.append(sentence)


def _check(row: tuple[Any, ...]) -> AnswerCheck:
    """Raises msgspec.ValidationError for a row that holds no valid outcome."""
    index, result, reason, passed = row
    raw = {"index": index, "result": result, "reason": reason, "base_passed": None if passed is None else bool(passed)}
    return msgspec.convert(raw, AnswerCheck)


def _tokens(data: Any) -> tuple[TokenChoice, ...]:
    """Raises zlib.error, TypeError or MsgspecError for data of any other form."""
    plain = zlib.decompressobj().decompress(data, _MOST_TOKENS_BYTES)
    return msgspec.json.decode(plain, type=tuple[TokenChoice, ...])


def _migrated_copy(path: Path, old: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """A copy in memory in the current format; closes `old`. Raises StudyUnreadable."""
    copy = sqlite3.connect(":memory:")
    try:
        with contextlib.closing(old):
            old.backup(copy)
        migrations.migrate(copy, version)
    except (sqlite3.Error, ValueError) as error:
        raise StudyUnreadable(f"{path} cannot be read: {error}") from error
    return copy


def _decoded(text: Any, kind: type[_T], what: str, lost: list[str]) -> _T | None:
    """`text` may be anything: the file may have been changed."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, TypeError) as error:
        lost.append(f"{what} ({sanitize(str(error))})")
        return None

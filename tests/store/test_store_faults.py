"""Stores of other versions and damaged ones: migrated, read as far as can be, or refused with the reason."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from inferometer.base.errors import InferometerError, RequestWrong, StoreBroken, StudyUnreadable
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, Finding, RequestRecord, Sample, ServerTimings, TokenUsage
from inferometer.core.record_columns import RecordColumns
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Spec
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store import FORMAT_VERSION, Store

DATA = Path(__file__).parents[1] / "data" / "store"
OLD = ["format-1-first", "format-1-second"]
SPEC = Spec(arms={"a": Arm(engine="embedded", model="m")})
BATCH = 5
ITEMS = tuple(PlanItem(i, user_request(f"r{i}", f"prompt {i}", max_tokens=4), None) for i in range(60))


def record(index: int) -> RequestRecord:
    events = (Event(10, "role"), *(Event(20 + n, "text", f" w{index}-{n}") for n in range(100)), Event(200, "done"))
    return RequestRecord(index, f"r{index}", True, "ok", None, 1, 300, first_byte_ns=5, events=events, status=200)


def a_study(folder: Path) -> Path:
    store = Store.create(folder, SPEC)
    store.set_meta("plan", Plan(ITEMS, 1, 1))
    trial_id = store.begin_trial("a", 1, False, "now")
    for index in range(60):
        store.add_record(trial_id, record(index))
        if index % BATCH == BATCH - 1:
            store.commit()
    store.end_trial(trial_id, "done", "", (Fact("n", "v", "s"),), ())
    store.close()
    return folder


def alter(folder: Path, sql: str, *values: object) -> None:
    database = sqlite3.connect(folder / "study.db")
    database.execute(sql, values)
    database.commit()
    database.close()


# --- other versions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OLD)
def test_a_study_of_format_1_is_read_as_one_of_today_s_and_its_file_left_as_it_is(tmp_path: Path, name: str):
    folder = Path(shutil.copytree(DATA / name, tmp_path / "old"))
    before = (folder / "study.db").read_bytes()
    study = read_study(folder)
    assert (folder / "study.db").read_bytes() == before
    assert [path.name for path in folder.iterdir() if "db-" in path.name] == []
    assert study.notes == ("a note of then",)
    first, second = study.trials
    assert [(t.arm, t.number, t.state, t.plan_started_ns) for t in study.trials] == [
        ("a", 1, "done", 1000),
        ("b", 1, "done", 1000),
    ]
    answer = first.records[0]
    assert answer.text == "é 🙂\n漢字"
    assert [event.kind for event in answer.events] == ["role", "text", "text", "text", "text", "done"]
    assert [event.at_ns for event in second.records[1].events] == [
        1_005_001_000, 1_010_001_000, 1_030_001_000, 1_050_001_000, 1_070_001_000, 1_090_001_000,
    ]  # fmt: skip
    assert (answer.usage, answer.timings) == (TokenUsage(3, 4), ServerTimings(predicted_n=4, predicted_ms=2.5))
    assert (answer.stamp_errors, answer.resent, answer.our_tokens) == (0, 0, None)
    assert (first.records[2].outcome, first.records[2].error) == ("refused", "Connection refused")
    assert first.samples == (Sample(1, "smaps_rollup", "pss_bytes", 5.0),)
    assert first.findings == (Finding("note", "c", "m"),)


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")  # two prompts, drawn anew
@pytest.mark.parametrize("name", OLD)
def test_a_study_of_format_1_can_be_compared(name: str):
    rows = {row.metric: row for row in comparison_of([DATA / name], "inferometer").rows}
    assert rows["mean_tpot_ms"].values == {"a": pytest.approx(10.0), "b": pytest.approx(20.0)}


@pytest.mark.parametrize("name", OLD)
def test_a_study_of_format_1_goes_on_as_one_of_today_s(tmp_path: Path, name: str):
    folder = Path(shutil.copytree(DATA / name, tmp_path / "old"))
    before = read_study(folder).trials
    store = Store.resume(folder, read_study(folder).spec)
    assert store.ended() == {("a", 1), ("b", 1)}
    store.add_record(store.begin_trial("a", 2, False, "now"), record(0))
    store.close()
    database = sqlite3.connect(folder / "study.db")
    assert database.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
    database.close()
    after = read_study(folder).trials
    assert after[:2] == before
    assert after[2].records[0].events == record(0).events


def test_a_migration_that_fails_leaves_the_old_study_as_it_was(tmp_path: Path):
    folder = Path(shutil.copytree(DATA / "format-1-first", tmp_path / "old"))
    spec = read_study(folder).spec
    alter(folder, "UPDATE record SET events = x'00' WHERE idx = 1 AND trial_id = 2")
    with pytest.raises(RequestWrong, match="cannot be resumed: the events of request 1 are damaged"):
        Store.resume(folder, spec)
    database = sqlite3.connect(folder / "study.db")
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert "event_ns" not in {row[1] for row in database.execute("PRAGMA table_info(record)")}
    database.close()


def test_a_newer_format_is_refused_with_the_reason(tmp_path: Path):
    alter(a_study(tmp_path / "s"), "PRAGMA user_version = 5")
    with pytest.raises(
        StudyUnreadable, match=r"format version 5, written by a newer Inferometer; this one reads up to version 4"
    ):
        Store.open(tmp_path / "s")
    with pytest.raises(StudyUnreadable, match="written by a newer Inferometer"):
        Store.resume(tmp_path / "s", SPEC)


def test_what_a_killed_writer_left_half_done_is_undone_for_a_reader_and_the_files_left_as_they_are(tmp_path: Path):
    """A rollback journal, as SQLite has one while it makes a study and while it ends one."""
    folder = a_study(tmp_path / "s")
    writer = sqlite3.connect(folder / "study.db")
    writer.execute("PRAGMA cache_size = 1")  # so that it writes to the file before the end of its transaction
    writer.execute("UPDATE batch SET event_kind = zeroblob(length(event_kind)), text = zeroblob(length(text) + 500)")
    half = Path(shutil.copytree(folder, tmp_path / "half"))
    writer.rollback()
    writer.close()
    before = {path.name: path.read_bytes() for path in half.iterdir() if path.is_file()}
    assert len(before["study.db-journal"]) > 10_000
    assert before["study.db"] != (folder / "study.db").read_bytes()
    (trial,) = read_study(half).trials
    assert [r.text for r in trial.records] == [record(n).text for n in range(60)]
    assert (trial.findings, read_study(half).damage) == ((), ())
    assert {path.name: path.read_bytes() for path in half.iterdir() if path.is_file()} == before
    Store.resume(half, SPEC).close()
    assert read_study(half).trials == (trial,)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "gone", "said"),
    [
        ("UPDATE batch SET event_ns = x'0102' WHERE idx = 10", range(10, 15), "stored together with number 10)"),
        ("UPDATE batch SET scalars = x'90' WHERE idx < 10", range(10), "10 of its records (stored together"),
        ("UPDATE batch SET requests = 'five' WHERE idx = 55", range(55, 60), "together with number 55)"),
        ("UPDATE batch SET event_chars = x'' WHERE idx = 0", range(5), "5 of its records"),
        ("UPDATE batch SET text = replace(text, 'w5', 'v5') WHERE idx = 5", range(5, 10), "number 5"),
        ("UPDATE trial SET facts = '[{]'", set(), "its facts"),
        ("UPDATE trial SET plan_started_ns = 'x'", set(), "its start, its plan's start"),
        ("INSERT INTO sample VALUES (1, 'x', 's', 'q', 1.0, NULL, NULL)", set(), "1 of its samples"),
    ],
)  # fmt: skip
def test_of_an_altered_study_the_rest_is_read_and_the_damage_named(
    tmp_path: Path, sql: str, gone: Iterable[int], said: str
):
    alter(a_study(tmp_path / "s"), sql)
    (trial,) = read_study(tmp_path / "s").trials
    assert {r.index for r in trial.records} == set(range(60)) - set(gone)
    (finding,) = trial.findings
    assert (finding.severity, finding.code) == ("invalid", "store-damaged")
    assert said in finding.message


def test_a_plan_that_cannot_be_read_is_named_and_the_trials_are_read(tmp_path: Path):
    alter(a_study(tmp_path / "s"), "UPDATE meta SET value = '{' WHERE key = 'plan'")
    study = read_study(tmp_path / "s")
    assert len(study.trials[0].records) == 60
    assert study.damage[0].startswith("the entry 'plan' of study.db cannot be read")
    findings = comparison_of([tmp_path / "s"], "inferometer").findings
    assert [finding.severity for finding in findings if finding.code == "store-damaged"] == ["warning"]


@pytest.mark.parametrize(("share", "least"), [(0.75, 30), (0.8, 33), (0.95, 50)])
def test_of_a_truncated_study_what_can_be_read_is_read(tmp_path: Path, share: float, least: int):
    path = a_study(tmp_path / "s") / "study.db"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    study = read_study(tmp_path / "s")
    (trial,) = study.trials
    assert least <= len(trial.records) < 60
    assert all(r.events == record(r.index).events for r in trial.records)
    assert "store-damaged" in {finding.code for finding in trial.findings}
    assert study.damage[0].startswith("study.db is truncated: ")


def test_a_damaged_study_is_not_gone_on_with(tmp_path: Path):
    path = a_study(tmp_path / "s") / "study.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\x55" * 4096
    path.write_bytes(data)
    with pytest.raises(RequestWrong, match=r"study\.db is damaged, so the study cannot be resumed|cannot be resumed"):
        Store.resume(tmp_path / "s", SPEC)


def test_whatever_bytes_are_altered_a_study_is_read_or_refused_with_a_reason(tmp_path: Path):
    path = a_study(tmp_path / "s") / "study.db"
    data = path.read_bytes()
    rng = random.Random(1)
    read = 0
    for _ in range(60):
        altered = bytearray(data)
        for _ in range(rng.choice((1, 20, 400))):
            altered[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(altered)
        with contextlib.suppress(InferometerError):
            study = read_study(tmp_path / "s")
            assert all(len(trial.records) <= 60 for trial in study.trials)
            read += 1
    assert read > 10


def test_a_store_that_can_no_longer_be_written_says_so_and_keeps_what_was_committed(tmp_path: Path):
    """SQLite's own limit of pages stands for a full disk."""
    store = Store.create(tmp_path / "s", SPEC)
    trial_id = store.begin_trial("a", 1, False, "now")
    store.add_record(trial_id, record(0))
    store.commit()
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreBroken, match=r"can no longer be written: database or disk is full \(.* free\)"):
        store.add_records(trial_id, RecordColumns.of(map(record, range(1, 60))))
    store.close()
    (trial,) = read_study(tmp_path / "s").trials
    assert trial.records[0].events == record(0).events


# --- studies with one row a request -----------------------------------------------------------------


def test_a_study_of_format_3_is_read_and_goes_on_in_batches(tmp_path: Path):
    folder = Path(shutil.copytree(DATA / "format-3", tmp_path / "old"))
    (before,) = read_study(folder).trials
    assert [r.text for r in before.records] == ["".join(f" w{i}-{n}é" for n in range(4)) for i in range(8)]
    assert before.records[7].usage == TokenUsage(3, 4)
    store = Store.resume(folder, SPEC)
    store.add_record(store.begin_trial("a", 2, False, "now"), record(0))
    store.close()
    assert read_study(folder).trials[0] == before
    assert read_study(folder).trials[1].records[0].events == record(0).events
    store = Store.resume(folder, SPEC)
    store.forget_trial("a", 1)
    store.close()
    assert len(read_study(folder).trials) == 0  # the second trial had not ended


@pytest.mark.parametrize(
    ("sqls", "gone"),
    [
        (["UPDATE record SET event_ns = x'0102' WHERE idx = 7"], {7}),
        (["UPDATE record SET outcome = 'x' WHERE idx < 2"], {0, 1}),
        (["UPDATE record SET event_text = CAST(x'ff' AS TEXT) WHERE idx = 3"], {3}),
        (
            [
                "UPDATE record SET event_ns = event_ns || x'0000000000000000' WHERE idx = 4",
                "UPDATE record SET event_ns = substr(event_ns, 9) WHERE idx = 5",
            ],
            {4, 5},
        ),
    ],
)
def test_of_an_altered_study_of_format_3_the_sound_records_are_read(tmp_path: Path, sqls: list[str], gone: set[int]):
    folder = Path(shutil.copytree(DATA / "format-3", tmp_path / "old"))
    for sql in sqls:
        alter(folder, sql)
    (trial,) = read_study(folder).trials
    assert {r.index for r in trial.records} == set(range(8)) - gone
    assert f"{len(gone)} of its records (number {min(gone)}" in trial.findings[0].message

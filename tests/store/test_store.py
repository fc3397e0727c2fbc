"""The study folder: what is written reads back, while it is written too."""

import sqlite3
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong, StudyUnreadable
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, Finding, RequestRecord, Sample, ServerTimings, TokenUsage
from inferometer.core.redaction import redacted_spec
from inferometer.core.request import user_request
from inferometer.core.spec import Arm, Spec
from inferometer.core.spec_file import to_yaml
from inferometer.store import Store
from inferometer.store.study_store import remove_study

SPEC = Spec(arms={"a": Arm(engine="embedded", model="m")})
FULL = RequestRecord(
    index=3,
    request_id="r",
    measured=True,
    outcome="ok",
    due_ns=5,
    sent_ns=6,
    done_ns=90,
    first_byte_ns=20,
    connected_ns=1,
    events=(Event(20, "role"), Event(30, "text", 'ünï"\n', 3), Event(31, "done")),
    status=200,
    finish_reason="stop",
    usage=TokenUsage(7, 1, 2),
    timings=ServerTimings(predicted_n=1, predicted_ms=2.5, draft_n=4, draft_n_accepted=3),
    model="m",
    coalesced=1,
    resent=1,
    prompt_tokens=6,
)
BARE = RequestRecord(
    index=1, request_id="q", measured=False, outcome="refused", due_ns=None, sent_ns=None, done_ns=9, error="no"
)


def test_a_trial_reads_back_as_it_was_written(tmp_path: Path):
    store = Store.create(tmp_path / "s", SPEC)
    plan = Plan((PlanItem(0, user_request("r", "p"), None),), 1, 1)
    store.set_meta("plan", plan)
    store.set_meta("notes", ("a note",))
    trial_id = store.begin_trial("a", 1, True, "2026-01-01T00:00:00+00:00")
    store.set_plan_started(trial_id, 4)
    store.add_record(trial_id, FULL)
    store.add_record(trial_id, BARE)
    samples = (Sample(1, "smaps_rollup", "pss_bytes", 5.0), Sample(2, "nvml", "gpu_memory_bytes", 6.0, 7, "GPU 0"))
    store.add_samples(trial_id, samples)
    store.set_our_tokens(trial_id, {3: 2})
    facts, findings = (Fact("n", "v", "s"),), (Finding("note", "c", "m"),)
    store.end_trial(trial_id, "done", "", facts, findings)
    store.close()

    again = Store.open(tmp_path / "s")
    assert again.spec() == SPEC
    assert again.plan() == plan
    assert again.notes() == ("a note",)
    assert again.ended() == {("a", 1)}
    (trial,) = again.trials()
    assert (trial.state, trial.plan_started_ns, trial.draft_asked) == ("done", 4, True)
    assert trial.records[0] == BARE
    assert trial.records[1].our_tokens == 2
    assert trial.records[1].events == FULL.events
    assert trial.records[1].usage == FULL.usage
    assert trial.records[1].timings == FULL.timings
    assert (trial.samples, trial.facts, trial.findings) == (samples, facts, findings)
    again.close()


def test_another_reader_sees_records_before_the_study_ends(tmp_path: Path):
    store = Store.create(tmp_path, SPEC)
    trial_id = store.begin_trial("a", 1, False, "now")
    store.add_record(trial_id, FULL)
    store.commit()
    reader = Store.open(tmp_path)
    (trial,) = reader.trials()
    assert trial.state == "running"
    assert [record.index for record in trial.records] == [3]
    assert reader.ended() == set()
    reader.close()
    store.close()


def test_a_finished_study_is_one_plain_file(tmp_path: Path):
    Store.create(tmp_path, SPEC).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "study.db", "study.yaml"]


def test_a_folder_that_holds_a_study_is_not_overwritten(tmp_path: Path):
    Store.create(tmp_path, SPEC).close()
    with pytest.raises(RequestWrong, match=r"already holds a study.*replace it with --force"):
        Store.create(tmp_path, SPEC)


def test_a_place_that_cannot_hold_a_study_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestWrong, match="cannot hold a study"):
        Store.create(tmp_path / "file" / "s", SPEC)


def test_a_study_file_that_somebody_wrote_is_not_replaced(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("# my own\narms: {a: {engine: embedded, model: m}}\n")
    with pytest.raises(RequestWrong, match=r"study\.yaml exists.*Choose another folder"):
        Store.create(tmp_path, SPEC)
    (tmp_path / "study.yaml").write_text(to_yaml(redacted_spec(SPEC)))  # as a run leaves it that was killed at once
    Store.create(tmp_path, SPEC).close()


def test_removing_a_study_leaves_other_files(tmp_path: Path):
    for folder in (tmp_path / "alone", tmp_path / "with"):
        Store.create(folder, SPEC).close()
        (folder / "logs" / "a-1.log").touch()
    (tmp_path / "with" / "model.gguf").touch()
    (tmp_path / "with" / "logs" / "mine.txt").touch()
    remove_study(tmp_path / "alone")
    remove_study(tmp_path / "with")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["with/logs/mine.txt", "with/model.gguf"] and not (tmp_path / "alone").exists()
    store = Store.create(tmp_path / "busy", SPEC)
    with pytest.raises(RequestWrong, match="another run writes to"):
        remove_study(tmp_path / "busy")
    store.close()


def test_what_is_no_study_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(StudyUnreadable, match="not a study"):
        Store.open(tmp_path)
    (tmp_path / "study.db").write_bytes(b"not a database, but long enough to be looked at" * 20)
    with pytest.raises(StudyUnreadable, match="cannot be read"):
        Store.open(tmp_path)


def test_another_format_version_is_refused_with_its_number(tmp_path: Path):
    Store.create(tmp_path, SPEC).close()
    database = sqlite3.connect(tmp_path / "study.db")
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(StudyUnreadable, match="format version 99"):
        Store.open(tmp_path)


def test_a_study_goes_on_with_what_ended_well(tmp_path: Path):
    store = Store.create(tmp_path, SPEC)
    store.set_meta("notes", ("a note",))
    for number, state in ((1, "done"), (2, "failed")):
        trial_id = store.begin_trial("a", number, False, "now")
        store.add_record(trial_id, FULL)
        store.add_samples(trial_id, [Sample(1, "smaps_rollup", "pss_bytes", 5.0)])
        store.end_trial(trial_id, state, "", (), ())
    store.begin_trial("a", 3, False, "now")  # and the power went
    store.close()

    again = Store.resume(tmp_path, SPEC)
    assert again.ended() == {("a", 1)}
    assert again.notes() == ("a note",)
    again.end_trial(again.begin_trial("a", 2, False, "later"), "done", "", (), ())
    again.close()
    first, second = Store.open(tmp_path).trials()
    assert (first.number, len(first.records), len(first.samples)) == (1, 1, 1)
    assert (second.number, second.records, second.samples) == (2, (), ())


def test_going_on_where_nothing_is_begins_a_study(tmp_path: Path):
    Store.resume(tmp_path / "s", SPEC).close()
    assert Store.open(tmp_path / "s").spec() == SPEC


def test_a_study_does_not_go_on_as_another(tmp_path: Path):
    Store.create(tmp_path, SPEC).close()
    with pytest.raises(RequestWrong, match=r"study with a different spec: its study\.yaml differs"):
        Store.resume(tmp_path, Spec(arms={"a": Arm(engine="embedded", model="other")}))

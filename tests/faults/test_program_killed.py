"""`kill -9` of the program at random moments of a study: what had ended is there, and the study goes on."""

import json
import random
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from warm_program import inferometer, start

from inferometer.base.errors import StudyUnreadable
from inferometer.core.record import RequestRecord
from inferometer.results.read import Study, read_study
from inferometer.store.salvage import opened
from inferometer.testing.real_program import processes_with, run, scripted_engine, wait_gone

STUDY = """
workload: {{kind: builtin, num_prompts: {prompts}, max_tokens: 5}}
schedule: {{kind: closed, concurrency: 2}}
tokenizer: none
trials: 1
order: {order}
arms:
  a: {{engine: command, command: {command}, env: {{FOLDER: "{folder}"}}}}
  b: {{base: a}}
"""
Tell = Callable[..., None]
TIMES = {
    *("due_ns", "sent_ns", "done_ns", "first_byte_ns", "connected_ns", "coalesced", "stamp_errors"),
    *("events", "timings"),
}


def without_times(record: RequestRecord) -> dict[str, Any]:
    fields = {name: value for name, value in msgspec.structs.asdict(record).items() if name not in TIMES}
    return fields | {"events": [(event.kind, event.text, event.tokens) for event in record.events]}


def essence(study: Study) -> Any:
    """All of a study but its times, what is of one start alone (ports, process numbers), and how often a busy machine
    could be looked at: facts `…_every_s`, and `no_…` for what it was looked at too rarely for."""
    trials = [
        (
            (t.arm, t.number, t.state, t.error),
            [without_times(record) for record in t.records],
            {fact.name for fact in t.facts if not fact.name.startswith("no_") and not fact.name.endswith("_every_s")},
        )
        for t in study.trials
    ]
    return study.spec.trials, study.plan, study.notes, study.workload, *trials


def told_done(folder: Path, before_ns: int) -> set[tuple[str, str]]:
    """Arm and beginning of the prompt of each request that the engine had answered whole before then."""
    found: set[tuple[str, str]] = set()
    for log in (folder / "logs").glob("*.log"):
        for at_ns, text in re.findall(r"^done (\d+) (.*)$", log.read_text(), re.MULTILINE):
            if int(at_ns) < before_ns:
                found.add((log.stem, text))
    return found


def stored(folder: Path) -> set[tuple[str, str]]:
    if not (folder / "study.db").exists():
        return set()
    try:
        study = read_study(folder)
    except StudyUnreadable as error:
        if "interrupted while it created the study" not in str(error):
            raise
        return set()
    if study.plan is None:
        return set()
    prompts = {item.index: repr(item.request.messages[-1].content[:40]) for item in study.plan.items}
    return {(f"{t.arm}-{t.number}", prompts[r.index]) for t in study.trials for r in t.records if r.ok}


def done_rows(folder: Path) -> list[tuple[object, ...]]:
    """All that is stored of the trials that are over."""
    if not (folder / "study.db").exists():
        return []
    database = opened(folder / "study.db")
    try:
        return database.execute(
            "SELECT * FROM batch JOIN trial ON trial.id = trial_id WHERE state = 'done' ORDER BY arm, batch.id"
        ).fetchall()
    except sqlite3.OperationalError:  # killed before it had tables
        return []
    finally:
        database.close()


def kill_at_random_moments(moments: int, prompts: int, order: str, tmp_path: Path, tell: Tell) -> None:
    study_file = tmp_path / "study.yaml"
    command = scripted_engine("--gap-ms", "40")
    study_file.write_text(STUDY.format(command=command, folder=tmp_path, prompts=prompts, order=order))
    began_s = time.monotonic()
    code, _, said = run("run", "study.yaml", "--out", "undisturbed", cwd=tmp_path)
    whole_s = time.monotonic() - began_s
    assert code == 0, said
    undisturbed = essence(read_study(tmp_path / "undisturbed"))
    rng = random.Random(moments)
    lost = 0
    answered = 0
    for number in range(moments):
        folder = tmp_path / f"s{number}"
        process = start("run", "study.yaml", "--out", folder.name, cwd=tmp_path)
        time.sleep(whole_s * (number + rng.random()) / moments)
        below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGKILL)
        killed_ns = time.monotonic_ns()
        process.communicate()
        was_done = told_done(folder, killed_ns - 1_000_000_000)
        answered += len(was_done)
        lost += len(was_done - stored(folder))
        kept = done_rows(folder)
        if order == "requests" and len({row[0] for row in kept}) < 2:  # by the trial's id
            kept = []  # an interleaved round is played as a whole
        assert wait_gone(below) == []
        assert processes_with(str(tmp_path)) == []
        resumed = inferometer("run", "study.yaml", "--out", folder.name, "--resume", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        again = done_rows(folder)
        assert [row for row in again if row in kept] == kept  # what had ended well was not played again
        for part, expected in zip(essence(read_study(folder)), undisturbed, strict=True):
            assert part == expected
        assert json.loads(inferometer("compare", folder.name, "--format", "json", cwd=tmp_path).stdout)["rows"]
        shutil.rmtree(folder)
    tell(
        "kill -9 of the program",
        tried=moments,
        lost=lost,
        seen=f"of {answered} requests that had ended more than 1 s before, {lost} were missing; every study went on "
        "and equals the undisturbed one; no process was left",
    )
    assert lost == 0


@pytest.mark.parametrize("order", ["trials", "requests"])
def test_a_random_moment(order: str, tmp_path: Path, tell: Tell):
    kill_at_random_moments(1, 6, order, tmp_path, tell)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("order", ["trials", "requests"])
def test_forty_random_moments(order: str, tmp_path: Path, tell: Tell):
    kill_at_random_moments(40, 20, order, tmp_path, tell)

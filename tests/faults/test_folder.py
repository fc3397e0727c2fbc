"""What the disk and other runs do to a study: clear errors, and nothing that was stored is lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from warm_program import Started, run, start

from inferometer.results.read import read_study
from inferometer.testing.real_program import processes_with, scripted_engine

Tell = Callable[..., None]
STUDY = """
workload: {{kind: builtin, num_prompts: {prompts}, max_tokens: 400}}
schedule: {{kind: closed, concurrency: 4}}
tokenizer: none
trials: 1
arms:
  a: {{engine: command, command: {command}, env: {{FOLDER: "{folder}"}}}}
"""


def write_study(folder: Path, prompts: int = 40, *flags: str) -> None:
    text = STUDY.format(command=scripted_engine(*flags), folder=folder, prompts=prompts)
    (folder / "study.yaml").write_text(text)


def wait_for_records(folder: Path, count: int, process: Started) -> None:
    """Until the study holds so many, or the program ended."""
    while process.poll() is None:
        try:
            database = sqlite3.connect(f"file:{folder}/study.db?mode=ro", uri=True)
            (found,) = database.execute("SELECT total(requests) FROM batch").fetchone()
            database.close()
            if found >= count:
                return
        except sqlite3.Error:
            pass
        time.sleep(0.05)


def in_a_small_file_system(tmp_path: Path, size: str) -> str:
    """A shell's line that makes `tmp_path/small` a file system of its own for what it starts."""
    small = tmp_path / "small"
    small.mkdir()
    line = f"mount -t tmpfs -o size={size} tmpfs {small}"
    probe = subprocess.run(["unshare", "-rm", "/bin/sh", "-c", line], check=False, capture_output=True)
    if sys.platform != "linux" or probe.returncode != 0:
        pytest.skip("no file system can be mounted here")
    return line


def test_a_full_disk_is_said_and_what_was_stored_before_is_whole(tmp_path: Path, tell: Tell):
    line = in_a_small_file_system(tmp_path, "520k")
    write_study(tmp_path, 30, "--tokens", "300", "--gap-ms", "1")
    words = [sys.executable, "-m", "inferometer", "run", "study.yaml", "--out", "small/s"]
    script = f'{line}; "$@"; code=$?; cp -r small/s kept; exit $code'
    done = subprocess.run(
        ["unshare", "-rm", "/bin/sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "the study in small/s can no longer be written: database or disk is full" in done.stderr
    assert "continue with run --resume" in done.stderr
    assert processes_with(str(tmp_path)) == []
    (trial,) = read_study(tmp_path / "kept").trials
    assert len(trial.records) > 5
    assert {record.outcome for record in trial.records} == {"ok"}
    assert all(len(record.events) > 1 for record in trial.records)
    code, _, said = run("run", "study.yaml", "--out", "kept", "--resume", cwd=tmp_path)
    assert code == 0, said
    (trial,) = read_study(tmp_path / "kept").trials
    assert len(trial.records) == 31
    tell("disk full", tried=1, lost=0, seen="the error says so; what was stored is whole, and the study goes on")


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_started(tmp_path: Path, tell: Tell):
    line = in_a_small_file_system(tmp_path, "1m")
    write_study(tmp_path)
    words = [sys.executable, "-m", "inferometer", "run", "study.yaml", "--out", "small/s"]
    script = f'{line}; mount -o remount,ro {tmp_path}/small; exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "/bin/sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "small/s cannot hold a study:" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "waiting for its engine" not in done.stderr
    tell("folder read-only", tried=1, lost=0, seen="refused before an engine is started")


def test_a_finished_study_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path):
    line = in_a_small_file_system(tmp_path, "4m")
    write_study(tmp_path, 2, "--gap-ms", "1")
    code, _, said = run("run", "study.yaml", "--out", "s", cwd=tmp_path)
    assert code == 0, said
    script = f'{line}; cp -r s small; mount -o remount,ro {tmp_path}/small; exec "$@"'
    words = [sys.executable, "-m", "inferometer", "compare", "small/s"]
    done = subprocess.run(
        ["unshare", "-rm", "/bin/sh", "-c", script, "sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Output token throughput" in done.stdout


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_second_run_on_the_same_folder_is_refused_and_disturbs_nothing(
    tmp_path: Path, tell: Tell, resume: tuple[str, ...]
):
    write_study(tmp_path, 20, "--gap-ms", "20")
    first = start("run", "study.yaml", "--out", "s", cwd=tmp_path)
    wait_for_records(tmp_path / "s", 1, first)
    first.send_signal(signal.SIGSTOP)  # so that it is not over before the second one has begun
    code, shown, said = run("run", "study.yaml", "--out", "s", *resume, cwd=tmp_path)
    first.send_signal(signal.SIGCONT)
    assert (code, shown) == (2, "")
    assert f"another run writes to s: process {first.pid} on {os.uname().nodename}, since 2" in said
    _, first_said = first.communicate()
    assert first.returncode == 0, first_said
    (trial,) = read_study(tmp_path / "s").trials
    assert [record.outcome for record in trial.records] == ["ok"] * 21
    assert not (tmp_path / "s" / "study.lock").exists()
    tell("a second run on the same folder", tried=1, lost=0, seen="refused with the first one's process number")


def test_the_lock_of_a_killed_run_is_no_obstacle(tmp_path: Path):
    write_study(tmp_path, 20, "--gap-ms", "20")
    first = start("run", "study.yaml", "--out", "s", cwd=tmp_path)
    wait_for_records(tmp_path / "s", 1, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (tmp_path / "s" / "study.lock").exists()
    code, _, said = run("run", "study.yaml", "--out", "s", "--resume", cwd=tmp_path)
    assert code == 0, said


def test_a_study_that_was_cut_off_is_read_where_it_lies_and_as_a_copy(tmp_path: Path):
    write_study(tmp_path, 20, "--gap-ms", "20")
    first = start("run", "study.yaml", "--out", "s", cwd=tmp_path)
    wait_for_records(tmp_path / "s", 4, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    for folder in ("s", "copy"):
        (trial,) = read_study(tmp_path / folder).trials
        assert trial.state == "running"
        assert len(trial.records) >= 4

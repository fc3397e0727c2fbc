"""`inferometer demo` and `make demo`: what they compare, and what they say where the model cannot be had."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferometer.base.errors import RequestWrong
from inferometer.cli import app
from inferometer.cli.demo import DRAFT_PAIR, MODEL, STANDIN_PAIR, demo_spec
from inferometer.standin.model_names import model_file

ROOT = Path(__file__).parents[2]


def demo(*words: str) -> str:
    result = CliRunner().invoke(app, ["demo", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.mark.parametrize("words", [["--standin"], ["draft", "--standin"]])
def test_a_draft_is_compared_on_a_pair_that_needs_no_download(words: list[str]):
    said = demo(*words, "--dry-run")
    assert f"baseline  embedded {STANDIN_PAIR[0]}" in said
    assert f"draft     embedded {STANDIN_PAIR[0]} draft {STANDIN_PAIR[1]}" in said


def test_the_draft_of_the_demo_s_model_is_in_the_package():
    assert Path(model_file(DRAFT_PAIR[1], "draft")).read_bytes()[:4] == b"GGUF"
    arms = demo_spec("draft", 8, 48, 3, 1).arms
    assert [arm.draft and arm.draft.model for arm in arms.values()] == [None, DRAFT_PAIR[1]]
    assert {arm.model for arm in arms.values()} == {MODEL}


def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index that has nothing, and a cache without models."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("INFEROMETER_CACHE", str(tmp_path / "cache"))


def test_without_the_model_and_a_network_the_two_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_network(monkeypatch, tmp_path)
    with pytest.raises(RequestWrong) as caught:
        demo()
    assert f"inferometer models get {MODEL}" in str(caught.value)
    assert "inferometer demo --standin" in str(caught.value)
    with pytest.raises(RequestWrong, match="unknown demo 'drft'; known: kv, draft"):
        demo("drft")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("has_model", "arguments", "runs"),
    [
        (True, "", ["models get", "demo"]),
        (False, "", ["models get", "demo --standin"]),
        (False, "--standin", ["demo --standin"]),
    ],
)
def test_make_demo_gets_the_model_and_goes_on_with_the_stand_in_without_it(
    has_model: bool, arguments: str, runs: list[str], tmp_path: Path
):
    program = tmp_path / "inferometer"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\ntest "$1" != models -o {int(has_model)} = 1\n')
    program.chmod(0o755)
    installed = ["-o", ".venv/.installed-base"]  # a fresh clone makes it first
    done = subprocess.run(
        ["make", "-C", str(ROOT), *installed, "demo", f"BIN={tmp_path}", f"ARGS={arguments}"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == 0 and len(calls) == len(runs), done.stderr
    assert all(call.startswith(start) for call, start in zip(calls, runs, strict=True))
    assert ("could not be downloaded" in done.stderr) == (not has_model and not arguments)

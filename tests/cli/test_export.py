"""`inferometer export` as its user calls it: what is printed, written, and not written over."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import InferometerError
from inferometer.cli import app
from inferometer.exports import FORMATS


@pytest.fixture
def folder(write_study) -> Path:
    return write_study("mine", {"base": 10, "draft": 5})


class Done(msgspec.Struct):
    """What a call of the program came to."""

    code: int
    stdout: str
    stderr: str


Call = Callable[..., Done]


@pytest.fixture
def inferometer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The program in this process, which spares a second for each call: what `main` does but for its signals."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Done:
        try:
            code = app(words, standalone_mode=False) or 0
        except InferometerError as error:
            code = error.exit_code
            print(f"inferometer: {error}", file=sys.stderr)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


def test_the_program_as_a_process_says_what_is_wrong_and_exits_with_2(folder: Path, tmp_path: Path):
    command = [sys.executable, "-m", "inferometer", "export", "mine", "--to", "excel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "inferometer: there is no format 'excel'. Known: csv, md, json, vllm-block, vllm-json, parquet, zip.\n"
    )


def test_text_is_printed_where_no_file_is_named(inferometer: Call, folder: Path, tmp_path: Path):
    done = inferometer("export", "mine", "--to", "csv")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("row,arm,baseline,trial,metric,label,value,unit,low,high,n,")
    as_minus = inferometer("export", "mine", "--format", "csv", "-o", "-")
    assert as_minus.stdout == done.stdout
    lines = inferometer("export", "mine", "--to", "vllm-json").stdout.splitlines()
    assert [json.loads(line)["arm"] for line in lines] == ["base", "draft"] * 3


def test_a_file_is_written_whole_said_and_not_written_over(inferometer: Call, folder: Path, tmp_path: Path):
    done = inferometer("export", "mine", "-o", "new/out.md")
    assert (done.code, done.stdout) == (0, "")
    path = tmp_path / "new" / "out.md"
    assert done.stderr == f"written: {path}\n"
    assert "| Mean TPOT (ms) " in path.read_text()
    again = inferometer("export", "mine", "-o", "new/out.md", "--to", "json")
    assert again.code == 2
    assert again.stderr == (
        "inferometer: new/out.md already exists. Name another file, or add --force to overwrite it.\n"
    )
    forced = inferometer("export", "mine", "-o", "new/out.md", "--to", "json", "--force")
    assert forced.code == 0
    assert json.loads(path.read_text())["arms"] == ["base", "draft"]
    assert [found.name for found in path.parent.iterdir()] == ["out.md"]


def test_a_folder_takes_a_file_for_each_trial_and_one_json_cannot(inferometer: Call, folder: Path, tmp_path: Path):
    one = inferometer("export", "mine", "--to", "vllm-json", "-o", "r.json")
    assert one.code == 2
    assert "6 trials were selected, and a vLLM result file holds one" in one.stderr
    done = inferometer("export", "mine", "--to", "vllm-json", "-o", "r/")
    assert done.code == 0, done.stderr
    assert len(list((tmp_path / "r").iterdir())) == 6
    lines = inferometer("export", "mine", "-o", "r.jsonl")
    assert lines.code == 0
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 6


def test_a_zip_is_compared_as_the_folder_is_and_not_gone_on_with(inferometer: Call, folder: Path, tmp_path: Path):
    assert inferometer("export", "mine", "-o", "handed on.zip").code == 0
    whole = inferometer("compare", "mine")
    zipped = inferometer("compare", "handed on.zip")
    assert (zipped.code, zipped.stdout) == (whole.code, whole.stdout)
    tables = inferometer("export", "handed on.zip", "--to", "csv")
    assert tables.stdout.count("\ntrial,") > 20


def test_what_cannot_be_printed_or_is_unknown_is_refused(inferometer: Call, folder: Path, tmp_path: Path):
    for words, said in (
        (("--to", "zip"), "zip is a binary format: name a file with -o FILE.zip"),
        ((), "no format is given. Name it with --to, or by the ending of -o FILE. Known: csv,"),
        (("--to", "csv", "--table", "samples"), "unknown --table 'samples'; known: metrics, requests, events"),
        (("--to", "csv", "--metric-dialect", "tgi"), "unknown metric dialect 'tgi'"),
    ):
        done = inferometer("export", "mine", *words)
        assert done.code == 2
        assert said in done.stderr


def test_pairs_are_asked_for_on_the_command_line(inferometer: Call, write_study):
    write_study("one", {"base": 10, "draft": 5})
    write_study("two", {"base": 20, "draft": 5})
    done = inferometer("compare", "one", "two", "--format", "json", "--pair", "one/base:two/draft")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["pairs"] == [["one/base", "two/draft"]]
    alone = inferometer("compare", "one", "two", "--format", "json", "--no-pairs")
    assert json.loads(alone.stdout)["arms"] == ["one/base", "one/draft", "two/base", "two/draft"]
    both = inferometer("compare", "one", "two", "--no-pairs", "--pair", "one/base:two/draft")
    assert (both.code, both.stderr) == (2, "inferometer: --pair and --no-pairs exclude each other: give one.\n")


DOCUMENT = (Path(__file__).parents[2] / "docs" / "reference" / "export.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]


def test_every_format_is_named_in_the_help_and_in_the_document(inferometer: Call):
    shown = inferometer("export", "--help").stdout
    assert [name for name in FORMATS if name not in shown or f"`{name}`" not in DOCUMENT] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_document_runs(command: str, inferometer: Call, write_study):
    if "parquet" in command:
        pytest.importorskip("pyarrow")
    for name in ("results/qwen-draft", "w7900", "rtx3090"):
        write_study(name, {"baseline": 10, "draft": 5})
    program, *words = command.split()
    assert program == "inferometer"
    done = inferometer(*words)
    assert done.code == 0, done.stderr
    assert done.stdout or done.stderr.startswith("written: ")


def test_the_document_has_commands():
    assert len(COMMANDS) >= 8

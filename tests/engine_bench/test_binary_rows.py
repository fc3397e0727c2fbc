"""The llama-bench here is a script that prints what one of build 11434 printed; see formats/recorded."""

import os
import shlex
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong, TrialFailed
from inferometer.engine_bench.binary_rows import binary_path, check_binary, rows_by_binary

RECORDED = Path(__file__).parents[1] / "foreign" / "recorded"
HELP = RECORDED / "llama-bench-b11434.help.txt"


def script(folder: Path, body: str, help_text: str = f"cat {shlex.quote(str(HELP))}") -> str:
    """A program that answers --help as the real one and does `body` else."""
    path = folder / "llama-bench"
    path.write_text(f'#!/bin/sh\n[ "$1" = --help ] && {{ {help_text}; exit 0; }}\n{body}\n')
    path.chmod(0o755)
    return str(path)


def recorded(folder: Path) -> str:
    name = shlex.quote(str(RECORDED / "llama-bench-b11434.jsonl"))
    return script(folder, f'echo "$@" > {shlex.quote(str(folder / "asked"))}\ncat {name}')


def test_every_row_that_it_prints_comes(tmp_path: Path):
    rows = list(rows_by_binary(recorded(tmp_path), ["-m", "m.gguf", "-p", "16"]))
    assert [row.test.label for row in rows] == ["pp16", "tg8", "pp16 @ d32", "tg8 @ d32"]
    assert (tmp_path / "asked").read_text() == "-m m.gguf -p 16 -o jsonl\n"


def test_a_row_comes_when_it_is_measured_not_at_the_end(tmp_path: Path):
    line = shlex.quote(str(RECORDED / "llama-bench-b11434.jsonl"))
    go_on = tmp_path / "go-on"
    os.mkfifo(go_on)
    rows = rows_by_binary(script(tmp_path, f"head -1 {line}; cat {shlex.quote(str(go_on))}; tail -1 {line}"), [])
    assert next(rows).test.label == "pp16"
    go_on.write_text("")  # it could not have gone on before
    assert [row.test.label for row in rows] == ["tg8 @ d32"]


def test_builds_without_jsonl_are_asked_for_json(tmp_path: Path):
    older = f"grep -v jsonl {shlex.quote(str(HELP))}"
    body = f'echo "$@" > {shlex.quote(str(tmp_path / "asked"))}\ncat {RECORDED / "llama-bench-b11434.json"}'
    rows = list(rows_by_binary(script(tmp_path, body, older), ["-m", "m.gguf"]))
    assert [row.test.label for row in rows] == ["pp16", "tg8"]
    assert (tmp_path / "asked").read_text() == "-m m.gguf -o json\n"


def test_a_failure_keeps_the_rows_before_and_shows_the_end_of_what_it_said(tmp_path: Path):
    body = f"head -1 {RECORDED / 'llama-bench-b11434.jsonl'}; echo 'cudaMalloc failed: out of memory' >&2; exit 1"
    rows = rows_by_binary(script(tmp_path, body), ["-m", "m.gguf"])
    assert next(rows).test.label == "pp16"
    with pytest.raises(TrialFailed) as caught:
        next(rows)
    text = str(caught.value)
    assert "llama-bench failed: exit code 1." in text
    assert "-m m.gguf -o jsonl" in text
    assert "  cudaMalloc failed: out of memory" in text
    assert "fewer GPU layers (-ngl)" in text


def test_no_process_is_left_when_it_is_given_up(tmp_path: Path):
    body = f"head -1 {RECORDED / 'llama-bench-b11434.jsonl'}; echo $$ > {tmp_path / 'pid'}; exec sleep 1000"
    rows = rows_by_binary(script(tmp_path, f"echo $$ > {tmp_path / 'pid'}\n{body}"), [])
    next(rows)
    pid = int((tmp_path / "pid").read_text())
    rows.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_flag_that_it_does_not_know_is_refused_with_the_nearest(tmp_path: Path):
    binary = recorded(tmp_path)
    check_binary(binary, ["-m", "m.gguf", "-ngl", "99", "-fa", "0,1", "-ctk", "q8_0", "--n_prompt", "5", "-ngl", "-1"])
    with pytest.raises(RequestWrong, match=r"has no flag -ngk\. Did you mean -ngl\?"):
        check_binary(binary, ["-ngk", "99"])


def test_a_build_that_knows_no_auto_is_not_asked_for_it(tmp_path: Path):
    """llama-bench's --help of 2024 says <0|1>."""
    older = f"sed 's/<on.off.auto>/<0|1>/' {shlex.quote(str(HELP))}"
    check_binary(recorded(tmp_path), ["-fa", "0,-1"])
    with pytest.raises(RequestWrong, match=r"-fa auto: .* supports only on and off: use -fa 0 or -fa 1"):
        check_binary(script(tmp_path, "", older), ["-fa", "0,-1"])


def test_the_form_of_the_output_is_ours(tmp_path: Path):
    with pytest.raises(RequestWrong, match=r"-o is not passed on to llama-bench: use --format"):
        check_binary(recorded(tmp_path), ["-o", "csv"])


def test_another_program_is_refused_with_what_it_says(tmp_path: Path):
    with pytest.raises(RequestWrong, match="is not llama-bench: its --help prints: Usage: ls"):
        check_binary(script(tmp_path, "", "echo Usage: ls"), [])


def test_wrong_paths_are_told(tmp_path: Path):
    with pytest.raises(RequestWrong, match="is a folder: name the program in it"):
        binary_path(str(tmp_path))
    with pytest.raises(RequestWrong, match=r"nowhere not found.*measure through a server"):
        binary_path(str(tmp_path / "nowhere"))
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(RequestWrong, match=r"is not executable: try chmod \+x"):
        binary_path(str(plain))


def test_where_none_is_on_path_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binary_path(None) is None
    found = recorded(tmp_path)
    assert binary_path(None) == found

"""`inferometer standin` as its user calls it."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from inferometer.base.errors import InferometerError
from inferometer.cli import app
from inferometer.llama_bench.gguf_facts import header_of
from inferometer.standin import free_space
from inferometer.standin.shapes import shape_of_config

QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 1024,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
    "vocab_size": 50000,
    "rope_theta": 1000000.0,
}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def standin(*words: str, cwd: Path) -> Done:
    """The command in this process, where the network inside is read only once."""
    with contextlib.chdir(cwd):
        ended = CliRunner().invoke(app, ["standin", *words])
    if isinstance(ended.exception, InferometerError):
        return Done(ended.exception.exit_code, ended.stdout, str(ended.exception))
    return Done(ended.exit_code, ended.stdout, ended.stderr)


def a_config(folder: Path, **changes: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**QWEN, **changes}))
    return str(path)


def test_a_pair_of_any_shape_is_made_and_said_and_force_replaces_a_file(tmp_path: Path):
    config = a_config(tmp_path)
    (tmp_path / "target.gguf").write_text("mine")
    done = standin(
        *("--config", config, "--quant", "q6_k", "-o", "target.gguf", "--force"),
        *("--draft-config", config, "--draft-output", "draft.gguf"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("target.gguf: stand-in for ")
    assert "Q6_K" in first
    assert second.startswith("draft.gguf: stand-in for ")
    assert "Q8_0" in second
    with (tmp_path / "target.gguf").open("rb") as file:
        written = header_of(file, "target.gguf").metadata
    assert str(written["general.name"]).startswith("stand-in for ")
    assert written["qwen2.block_count"] == 12
    assert written["qwen2.context_length"] == 32768


def test_a_large_file_takes_little_memory_and_disk(tmp_path: Path):
    words = ("--like", "qwen2.5-coder-1.5b", "--network", "smollm2-135m-draft", "-o", "t.gguf", "--force")
    command = [sys.executable, "-m", "inferometer", "standin", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        assert program.stdout is not None
        assert (program.returncode, "934.7 MiB, 1.54 B parameters" in program.stdout.read()) == (0, True)
    assert usage.ru_maxrss * 1024 < 0.75 * 2**30  # the weights as F32 take 5.7 GiB
    written = (tmp_path / "t.gguf").stat()
    assert (written.st_size > 934 * 2**20, written.st_blocks * 512 < 300 * 2**20) == (True, True)
    (tmp_path / "t.gguf").unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--like qwen2.5-coder32b -o t.gguf", "Did you mean qwen2.5-coder-32b?"),
        ("--like llama-3-8b --quant Q4_K_L -o t.gguf", "there is no quantisation 'Q4_K_L' here. The nearest is Q4_K_M"),
        ("--like llama-3-8b", "--output is missing"),
        ("-o t.gguf", "--output t.gguf needs a shape. Add --like NAME"),
        ("--draft-like llama-3-8b", "--draft-output is missing"),
        ("--like llama-3-8b --config config.json -o t.gguf", "--like and --config exclude each other"),
        ("--config nowhere.json -o t.gguf", "--config nowhere.json cannot be read: No such file or directory"),
        (
            "--like llama-3-8b -o t.gguf --draft-like qwen2.5-coder-1.5b --draft-output d.gguf",
            "(128256) and qwen2.5-coder-1.5b (151936) differ by more than 128",
        ),
        (
            "--like llama-3-8b -o t.gguf --draft-like llama-3-8b --draft-output t.gguf",
            "--output and --draft-output are both t.gguf",
        ),
        ("--size huge", "no stand-in of size 'huge'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path, words: str, message: str):
    done = standin(*words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_cannot_be_made_leaves_no_target_either(tmp_path: Path):
    (tmp_path / "small").mkdir()
    config = a_config(tmp_path / "small", num_hidden_layers=0)
    done = standin(
        *("--config", a_config(tmp_path), "-o", "t.gguf"),
        *("--draft-config", config, "--draft-output", "d.gguf"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "layers is 0; it must be at least 1" in done.stderr
    assert not (tmp_path / "t.gguf").exists()


def test_a_file_that_is_there_is_left_alone_without_force(tmp_path: Path):
    (tmp_path / "t.gguf").write_text("mine")
    done = standin("--config", a_config(tmp_path), "-o", "t.gguf", cwd=tmp_path)
    assert (done.returncode, "t.gguf exists already; nothing was written" in done.stderr) == (2, True)
    assert (tmp_path / "t.gguf").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen3"}, "model_type is 'qwen3'. Stand-ins have the architecture qwen2 or llama"),
        ({"head_dim": 256}, "head_dim is 256, and 8 heads of it are not the hidden_size 1024"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias is true"),
        ({"hidden_size": "wide"}, "is not a config.json of a Hugging Face model"),
    ],
)
def test_a_config_that_no_stand_in_has_is_refused(tmp_path: Path, changes: dict[str, object], message: str):
    done = standin("--config", a_config(tmp_path, **changes), "-o", "t.gguf", cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_a_config_without_groups_has_a_key_value_head_for_each(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in QWEN.items() if key != "num_key_value_heads"}))
    assert shape_of_config(path).kv_heads == 8


def test_a_model_larger_than_the_disk_is_refused_whatever_is_said(tmp_path: Path):
    a_config(tmp_path, num_hidden_layers=2000, intermediate_size=2**20)
    done = standin("--config", "config.json", "--quant", "F32", "--force", "-o", "t.gguf", cwd=tmp_path)
    assert done.returncode == 2
    assert "and the disk of" in done.stderr
    assert not (tmp_path / "t.gguf").exists()


def test_a_model_larger_than_the_memory_is_refused_unless_it_is_for_another_machine(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(free_space, "memory_bytes", lambda: 2**20)
    with pytest.raises(free_space.RequestWrong, match=r"would take 2\.0 MiB, and this machine has 1\.0 MiB of memory"):
        free_space.require_room(tmp_path / "t.gguf", 2 * 2**20, force=False)
    free_space.require_room(tmp_path / "t.gguf", 2 * 2**20, force=True)

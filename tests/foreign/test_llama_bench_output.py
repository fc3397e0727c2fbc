"""`recorded/` holds what llama-bench of build 11434 printed for the tiny stand-in on one CPU core."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import TrialFailed
from inferometer.foreign.llama_bench_output import row_of, row_of_line, rows_of
from inferometer.llama_bench.row import BenchTest

RECORDED = Path(__file__).parent / "recorded"
LINES = (RECORDED / "llama-bench-b11434.jsonl").read_text()


def test_a_real_output_by_lines_is_read():
    rows = rows_of(LINES)
    assert [row.test for row in rows] == [BenchTest(16, 0), BenchTest(0, 8), BenchTest(16, 0, 32), BenchTest(0, 8, 32)]
    first = rows[0]
    assert first.engine == "llama-bench b11434"
    assert (first.description, first.size_bytes, first.parameters) == ("qwen2 ?B Q8_0", 4121600, 3869952)
    assert (first.backend, first.devices) == ("CPU", ())
    assert first.settings["n_threads"] == "1"
    assert first.settings["flash_attn"] == "1"
    assert len(first.samples_ns) == 3


def test_our_mean_and_deviation_are_those_that_llama_bench_computed():
    for row, line in zip(rows_of(LINES), LINES.splitlines(), strict=True):
        said = json.loads(line)
        assert row.rate_per_s == pytest.approx(said["avg_ts"], rel=1e-6)
        assert row.deviation_per_s == pytest.approx(said["stddev_ts"], rel=1e-6)


def test_a_real_output_as_one_array_is_read():
    rows = rows_of((RECORDED / "llama-bench-b11434.json").read_text())
    assert [(row.test.label, len(row.samples_ns)) for row in rows] == [("pp16", 2), ("tg8", 2)]


def test_gpus_are_named_by_commas():
    """By llama-bench's source: the descriptions of all GPUs, joined by a comma and a blank."""
    said = json.loads(LINES.splitlines()[0]) | {"backends": "CUDA", "gpu_info": "NVIDIA H200, NVIDIA GeForce RTX 3090"}
    assert row_of(said).devices == ("NVIDIA H200", "NVIDIA GeForce RTX 3090")
    assert row_of(said).backend == "CUDA"


def test_builds_of_2024_are_read():
    """By its source of then: no n_depth, no backends but a flag for each, true for 1, GPUs by strokes."""
    said = json.loads(LINES.splitlines()[0]) | {"cuda": True, "flash_attn": True, "gpu_info": "NVIDIA H200/Tesla P40"}
    del said["n_depth"], said["backends"]
    row = row_of(said)
    assert (row.backend, row.test.depth, row.settings["flash_attn"]) == ("CUDA/ROCm", 0, "1")
    assert row.devices == ("NVIDIA H200", "Tesla P40")


def test_other_lines_hold_no_row():
    assert row_of_line("warning: debug build, performance may be affected\n") is None


def test_what_is_no_output_of_llama_bench_is_told():
    with pytest.raises(TrialFailed, match=r"has an unknown form: .*n_prompt"):
        rows_of('[{"tool": "another"}]')
    with pytest.raises(TrialFailed, match="wrote no JSON"):
        rows_of('[{"n_prompt": 5, ')

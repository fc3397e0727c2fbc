"""Real files of llama-bench b11434 for the tiny stand-in on one core: `-fa` of one run, as md and as csv; `-depth` of
one run, as md and as sql. Tables of other versions are written here after the seed and after llama-bench's README of
2023."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.readers import read
from inferometer.llama_bench.row import BenchRow, BenchTest

RECORDED = Path(__file__).parent / "recorded"
SEED = Path(__file__).parents[1] / "golden" / "seed.md"


def only(runs: Sequence[ForeignRun] | None) -> ForeignRun:
    assert runs is not None
    (run,) = runs
    return run


def rows_in(name: str) -> tuple[BenchRow, ...]:
    run = only(read((RECORDED / name).read_text(), name))
    assert (run.name, run.tool, run.values) == (name, "llama-bench", {})
    return run.rows


@pytest.mark.parametrize(
    ("table", "other", "tests"),
    [
        ("fa.md", "fa.csv", [BenchTest(16, 0), BenchTest(0, 8)] * 2),
        (
            "depth.md",
            "depth.sql",
            [BenchTest(*lengths, depth) for depth in (0, 32) for lengths in ((16, 0), (0, 8), (16, 8))],
        ),
    ],
)
def test_the_table_of_a_run_says_what_its_other_output_says(table: str, other: str, tests: list[BenchTest]):
    printed, whole = rows_in(f"llama-bench-b11434-{table}"), rows_in(f"llama-bench-b11434-{other}")
    assert [row.test for row in printed] == [row.test for row in whole] == tests
    for one, same in zip(printed, whole, strict=True):
        assert one.rate_per_s == pytest.approx(same.rate_per_s, abs=0.005)
        assert one.deviation_per_s == pytest.approx(same.deviation_per_s, abs=0.005)
        assert one.settings == {name: same.settings[name] for name in ("n_threads", "flash_attn")}
        assert (one.description, one.backend, one.engine) == (same.description, same.backend, same.engine)
        assert one.engine == "llama-bench b11434"
        assert one.size_bytes == pytest.approx(same.size_bytes, rel=0.002)  # 3.93 MiB in the table
        assert same.size_bytes == 4121600


def test_csv_holds_no_repetitions_and_its_figures_are_those_it_printed():
    first = rows_in("llama-bench-b11434-fa.csv")[0]
    assert (first.samples_ns, first.model) == ((), "standin-tiny-target-d1834e150ad5.gguf")
    assert (first.rate_per_s, first.deviation_per_s) == (22273.326449, 1166.755291)


@pytest.mark.parametrize("name", ["llama-bench-b11434.json", "llama-bench-b11434.jsonl"])
def test_json_is_a_run_with_its_repetitions(name: str):
    assert all(row.samples_ns for row in rows_in(name))


def test_what_llama_bench_logs_between_the_lines_of_csv_is_passed_over():
    lines = (RECORDED / "llama-bench-b11434-fa.csv").read_text().splitlines()
    lines.insert(0, "ggml_cuda_init: found 1 CUDA devices:")
    lines.insert(3, "state_read_data: incompatible V transposition")
    run = only(read("\n".join(lines), "x"))
    assert run.rows == rows_in("llama-bench-b11434-fa.csv")


def test_the_seed_s_tables_have_their_device_build_and_flash_attention():
    runs = [run for run in read(SEED.read_text(), "seed") or () if run.tool == "llama-bench"]
    assert [run.name.split(" > ")[1:] for run in runs] == [
        ["llama-bench", "W7900"], ["llama-bench", "RTX 3090"], ["llama-bench", "RTX 3090"]
    ]  # fmt: skip
    assert [[(row.test.label, row.rate_per_s, row.deviation_per_s) for row in run.rows] for run in runs] == [
        [("pp512", 663.44, 1.5), ("tg128", 23.0, 0.06)],
        [("pp512", 1294.03, 7.76), ("tg128", 37.71, 0.15)],
        [("pp512", 1335.7, 25.01), ("tg128", 38.34, 0.15)],
    ]
    assert [run.rows[0].engine for run in runs] == ["llama-bench b4398", "llama-bench b4400", "llama-bench b4400"]
    assert runs[0].rows[0].devices == ("AMD Radeon Pro W7900",)
    assert runs[2].rows[0].settings == {"n_gpu_layers": "99", "flash_attn": "1"}


def test_the_table_of_2023_has_other_columns():
    text = (
        "| model                          | backend    | ngl | test       |              t/s |\n"
        "| ------------------------------ | ---------- | --: | ---------- | ---------------: |\n"
        "| llama 7B mostly Q4_0           | CUDA       |  99 | pp 512     |  2368.80 ± 93.24 |\n"
        "| llama 7B mostly Q4_0           | CUDA       |  99 | tg 128     |    131.42 ± 0.59 |\n"
    )
    run = only(read(text, "x"))
    assert [(row.test.label, row.rate_per_s, row.size_bytes) for row in run.rows] == [
        ("pp512", 2368.8, None), ("tg128", 131.42, None)
    ]  # fmt: skip
    assert run.rows[0].engine == "llama-bench"


def test_a_table_of_something_else_is_none_of_it():
    assert read("| model | test | score |\n|---|---|---|\n| a | pp512 | 1 |\n", "x") is None
    assert read("| model | test | t/s |\n|---|---|---|\n| a | sum | 1 |\n", "x") is None


@pytest.mark.parametrize(
    ("name", "cut", "said"),
    [
        ("llama-bench-b11434.json", -40, "cannot be read, it may be cut off"),
        ("llama-bench-b11434.jsonl", -40, "cannot be read, it may be cut off"),
    ],
)
def test_a_file_that_was_cut_off_says_so(name: str, cut: int, said: str):
    with pytest.raises(RequestWrong, match=said):
        read((RECORDED / name).read_text().rstrip()[:cut], name)


def test_a_csv_with_its_head_alone_says_that_there_is_no_row():
    with pytest.raises(RequestWrong, match="has no row"):
        read((RECORDED / "llama-bench-b11434-fa.csv").read_text().splitlines()[0], "x")

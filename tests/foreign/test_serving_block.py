"""Blocks as tools print them; SGLang's figures are those of its cookbook for Nemotron 3 Nano, as far as they go."""

import pytest

from inferometer.foreign.document import runs_of
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.serving_block import memory_below
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import METRICS
from inferometer.metrics.summary import TrialSummary
from inferometer.report.vllm_block import serving_block

SGLANG = """
============ Serving Benchmark Result ============
Backend:                                 sglang
Traffic request rate:                    inf
Max request concurrency:                 256
Successful requests:                     4096
Benchmark duration (s):                  183.18
Total input tokens:                      2081726
Total input text tokens:                 2081726
Total generated tokens:                  2116125
Total generated tokens (retokenized):    1076256
Request throughput (req/s):              22.36
Input token throughput (tok/s):          11364.25
Output token throughput (tok/s):         11552.04
Peak concurrent requests:                294
Total token throughput (tok/s):          22916.30
Concurrency:                             251.19
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   11233.74
Median E2E Latency (ms):                 11142.97
P90 E2E Latency (ms):                    12654.31
---------------Time to First Token----------------
Mean TTFT (ms):                          172.99
---------------Inter-Token Latency----------------
Mean ITL (ms):                           21.45
Max ITL (ms):                            3469.54
==================================================
"""


def only(text: str) -> ForeignRun:
    runs = runs_of(text, "file")
    assert runs is not None
    (run,) = runs
    return run


def summary(dialect: MetricDialect, **values: float | None) -> TrialSummary:
    """A number for every metric, told apart by place."""
    every = {metric.key: float(place) for place, metric in enumerate(METRICS, start=1)}
    return TrialSummary("a", 1, every | values, dialect=dialect)


@pytest.mark.parametrize(
    ("dialect", "tool"),
    [
        ("vllm-0.6.5", "vLLM's block (as of 0.6.5)"),
        ("vllm-0.33", "vLLM's block (as of 0.33)"),
        ("inferometer", "Inferometer's block"),
    ],
)
def test_a_block_that_we_print_as_a_tool_would_is_read_back_with_every_value(dialect: MetricDialect, tool: str):
    asked = summary(dialect)
    block = serving_block(asked, percentile_metrics=("ttft", "tpot", "itl", "e2el"), max_concurrency=4)
    run = only(block)
    assert (run.tool, run.dialect) == (tool, dialect)
    lines = sum(": " in line for line in block.splitlines())
    assert len(run.values) == (lines - 1 if dialect == "vllm-0.33" else lines)  # one is the concurrency
    rates = {"request_throughput", "output_throughput", "total_token_throughput"}  # see the test of their digits
    assert {key: run.values[key] for key in run.values if key not in rates} == {
        key: asked.values[key] for key in run.values if key not in rates
    }
    assert run.settings == ({"concurrency": "4"} if dialect == "vllm-0.33" else {})


def test_of_sglang_s_block_what_we_have_is_taken_by_definition():
    run = only(SGLANG)
    assert (run.name, run.tool, run.dialect) == ("file", "SGLang's block", "")
    assert run.settings == {"backend": "sglang", "request_rate": "inf", "concurrency": "256"}
    assert run.values["total_output_tokens"] == 2116125  # not those counted again
    assert run.values["total_input_tokens"] == 2081726
    assert run.values["total_token_throughput"] == pytest.approx(22916.30, abs=0.01)
    assert run.values["mean_e2el_ms"] == 11233.74
    assert run.values["p90_e2el_ms"] == 12654.31
    assert "max_itl_ms" not in run.values
    assert "the block does not say" in run.differs["mean_itl_ms"]


def test_rates_get_the_digits_that_two_decimals_took_from_them():
    """50 ÷ 1085.39 s is 0.0461 req/s, printed as 0.05."""
    lines = "Successful requests: 50\nBenchmark duration (s): 1085.39\nRequest throughput (req/s): {}\n"
    head, end = "==== Serving Benchmark Result ====\n".replace("====", "====="), "=" * 50
    assert only(head + lines.format("0.05") + end).values["request_throughput"] == pytest.approx(0.046066, abs=1e-6)
    assert only(head + lines.format("0.90") + end).values["request_throughput"] == 0.90  # of another sum: as it is


def test_what_was_asked_is_taken_from_the_command_line_above():
    command = "vllm bench serve --model 'a b' --num-prompts=50 --max-concurrency 8 --dataset-name \"random\" --seed 3\n"
    assert only(command + SGLANG).settings == {
        "model": "a b", "requests": "50", "dataset": "random", "seed": "3",
        "backend": "sglang", "request_rate": "inf", "concurrency": "256",
    }  # fmt: skip
    assert only("an older one: bench_serving.py --seed 1\n" + SGLANG).settings["seed"] == "1"
    assert "seed" not in only("--seed 1\n" + SGLANG).settings  # of some other program


def test_a_commented_and_a_quoted_block_are_read_and_one_that_was_cut_off():
    for prefix in ("# ", "> ", "    "):
        text = "".join(f"{prefix}{line}\n" for line in SGLANG.strip().splitlines())
        assert only(text).values == only(SGLANG).values
    cut = SGLANG[: SGLANG.index("Total input")]
    assert only(cut).values == {"completed": 4096, "duration": 183.18}
    both = runs_of(cut + SGLANG, "file") or ()
    assert [len(run.values) for run in both] == [2, len(only(SGLANG).values)]


def test_a_head_without_a_line_that_is_known_is_no_run():
    assert runs_of("===== Serving Benchmark Result =====\nsome: words\n=====================\n", "f") is None


@pytest.mark.parametrize(
    ("lines", "gib"),
    [
        (["```", "- 20.567 GiB"], 20.567),
        (["", "* GPU memory: 20567 MiB / 24576 MiB"], 20567 / 1024),
        (["VRAM 22 GB"], 22e9 / 1024**3),
        (["peak memory usage (GiB): about 1,5 GiB"], 1.5),
        (["VRAM used: 20.5 GiB of 24 GiB"], 20.5),
        (["it takes about 20.5 GiB of VRAM"], 20.5),
        (["Memory: 21.3 GiB"], 21.3),
        (["the model file has 18.48 GiB"], None),
        (["GPU: NVIDIA RTX 4090 24GB"], None),
        (["Tested on 1x A100 80GB GPU, vLLM 0.8.2"], None),
        (["VRAM: 24 GB"], None),
        (["Memory: 128 GB DDR5"], None),
        (["GPU KV cache memory: 9.1 GiB", "Total GPU memory: 23.64 GiB"], None),
        (["Using a card with 24GB VRAM"], None),
        (["Model loading took 14.2 GiB memory"], None),
        (["System memory usage: 40.1 GiB"], None),
        (["one", "two", "three", "four", "- 20.567 GiB"], None),  # too far below
        ([], None),
    ],
)
def test_the_memory_below_a_block_is_a_bare_figure_or_one_that_is_called_memory(lines, gib):
    assert memory_below(lines) == (None if gib is None else pytest.approx(gib))


def test_memory_of_one_heading_is_not_that_of_the_block_before():
    run = only(f"# A\n{SGLANG}\n# B\n- 20.567 GiB\n")
    assert run.name == "A"
    assert "memory_gib" not in run.values

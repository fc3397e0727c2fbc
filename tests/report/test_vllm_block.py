"""vLLM's block and result file, against the seed and by hand."""

import json
import math
import re
from pathlib import Path

import msgspec
import pytest

from inferometer.base.units import COUNT_UNITS
from inferometer.core.record import Event, RequestRecord, TokenUsage, Trial
from inferometer.core.schedule import Ramp
from inferometer.metrics.rows import METRICS
from inferometer.metrics.summary import TrialSummary, view
from inferometer.report.vllm_block import ServingArguments, result_filename, result_json, serving_block

MS = 1_000_000
SEED = (Path(__file__).parents[1] / "golden" / "seed.md").read_text()
SEED_BLOCKS = re.findall(r"^=+ Serving Benchmark Result =+\n.*?^={50}$", SEED, re.MULTILINE | re.DOTALL)


def summary_of(block: str) -> TrialSummary:
    """The numbers of a printed block."""
    found = dict(re.findall(r"^(.+?): +([\d.]+) *$", block, re.MULTILINE))
    values = {m.key: (int if m.unit in COUNT_UNITS else float)(found[m.label]) for m in METRICS if m.label in found}
    assert len(values) == len(found) == 16
    return TrialSummary("arm", 1, values, dialect="vllm-0.6.5")


def test_the_seed_has_five_blocks():
    assert len(SEED_BLOCKS) == 5


@pytest.mark.parametrize("block", SEED_BLOCKS)
def test_each_block_of_the_seed_comes_out_byte_for_byte(block):
    assert serving_block(summary_of(block)) == block


def test_our_own_block_is_the_seeds_with_a_section_more():
    own = msgspec.structs.replace(summary_of(SEED_BLOCKS[0]), dialect="inferometer")
    assert serving_block(own) == SEED_BLOCKS[0]
    own.values.update(failed=1, memory_gib=20.567, drafted_tokens=200, accepted_tokens=150)
    own.values.update(acceptance_rate_percent=75.0, mean_accepted_length=3.1234, cached_prompt_tokens=None)
    assert serving_block(own).removeprefix(SEED_BLOCKS[0].removesuffix("=" * 50)) == "\n".join(
        [
            "-------------------Not in vLLM--------------------",
            "Failed requests:                         1         ",
            "Memory Usage (GiB):                      20.57     ",
            "Drafted tokens:                          200       ",
            "Accepted tokens:                         150       ",
            "Acceptance rate (%):                     75.00     ",
            "Mean accepted length (tok):              3.12      ",
            "=" * 50,
        ]
    )


def test_our_own_block_has_the_open_loop_where_something_was_due():
    late: dict[str, float | None] = {
        "mean_ttft_from_due_ms": 45.0,
        "p99_ttft_from_due_ms": 59.7,
        "mean_lateness_ms": 40.0,
    }
    lines = serving_block(TrialSummary("a", 1, late)).splitlines()
    assert [line.rstrip() for line in lines[lines.index(f"{'Not in vLLM':-^50}") + 1 : -1]] == [
        "Mean TTFT from due (ms):                 45.00",
        "P99 TTFT from due (ms):                  59.70",
        "Mean Lateness (ms):                      40.00",
    ]


def test_sections_are_those_asked_for_in_vllms_order():
    summary = TrialSummary(
        "arm", 1, {"mean_e2el_ms": 4.0, "p99.9_e2el_ms": 5.0}, dialect="vllm-0.6.5", percentiles=(50, 99.9)
    )
    block = serving_block(summary, percentile_metrics=["e2el", "ttft", "unheard-of"])
    assert [line.strip("-") for line in block.splitlines() if line.startswith("-")] == [
        "Time to First Token",
        "End-to-end Latency",
    ]
    assert (
        "\n----------------End-to-end Latency----------------\nMean E2EL (ms):                          4.00      \n"
        in block
    )
    assert "\nP99.9 E2EL (ms):                         5.00      \n" in block
    assert "\nP50 E2EL (ms):                           n/a       \n" in block


SUMMARY_033 = TrialSummary(
    "arm",
    1,
    {
        "completed": 49,
        "failed": 1,
        "duration": 61.204,
        "total_input_tokens": 17203,
        "total_output_tokens": 15100,
        "request_throughput": 0.8006,
        "output_throughput": 246.73,
        "total_token_throughput": 527.83,
        "max_output_tokens_per_s": 25,
        "max_concurrent_requests": 2,
        "mean_ttft_ms": 1.0,
        "median_ttft_ms": 2.0,
        "p99_ttft_ms": 3.0,
        "drafted_tokens": 200,
        "accepted_tokens": 150,
        "acceptance_rate_percent": 75.0,
    },
    dialect="vllm-0.33",
)


def test_the_block_of_033():
    block = serving_block(SUMMARY_033, percentile_metrics=["ttft"], max_concurrency=1, request_rate=2.5)
    assert block.splitlines() == [
        "============ Serving Benchmark Result ============",
        "Successful requests:                     49        ",
        "Failed requests:                         1         ",
        "Maximum request concurrency:             1         ",
        "Request rate configured (RPS):           2.50      ",
        "Benchmark duration (s):                  61.20     ",
        "Total input tokens:                      17203     ",
        "Total generated tokens:                  15100     ",
        "Request throughput (req/s):              0.80      ",
        "Output token throughput (tok/s):         246.73    ",
        "Peak output token throughput (tok/s):    25.00     ",
        "Peak concurrent requests:                2.00      ",
        "Total token throughput (tok/s):          527.83    ",
        "---------------Time to First Token----------------",
        "Mean TTFT (ms):                          1.00      ",
        "Median TTFT (ms):                        2.00      ",
        "P99 TTFT (ms):                           3.00      ",
        "---------------Speculative Decoding---------------",
        "Acceptance rate (%):                     75.00     ",
        "Draft tokens:                            200       ",
        "Accepted tokens:                         150       ",
        "==================================================",
    ]
    unlimited = serving_block(SUMMARY_033, percentile_metrics=[])
    assert "Maximum request concurrency" not in unlimited
    assert "Request rate configured" not in unlimited


# --- the result file ------------------------------------------------------------------------------

TRIAL = Trial(
    "arm",
    1,
    "done",
    plan_started_ns=100 * MS,
    records=(
        RequestRecord(
            index=0,
            request_id="a",
            measured=True,
            outcome="ok",
            due_ns=None,
            sent_ns=110 * MS,
            done_ns=160 * MS,
            events=(
                Event(120 * MS, "role"),
                Event(130 * MS, "text", "He"),
                Event(140 * MS, "text", "llo"),
                Event(150 * MS, "usage"),
                Event(160 * MS, "done"),
            ),
            usage=TokenUsage(9, 2),
            prompt_tokens=4,
            our_tokens=3,
        ),
        RequestRecord(
            index=1,
            request_id="b",
            measured=True,
            outcome="http_error",
            due_ns=None,
            sent_ns=170 * MS,
            done_ns=200 * MS,
            error="HTTP 500",
            prompt_tokens=6,
        ),
    ),
)
ARGUMENTS = ServingArguments(
    date="20241231-235959",
    backend="openai-chat",
    model_id="Qwen/Qwen2.5-Coder-32B-Instruct",
    tokenizer_id="Qwen/Qwen2.5-Coder-32B-Instruct",
    num_prompts=2,
    metadata={"gpu": "W7900"},
    max_concurrency=1,
    percentile_metrics=("ttft", "e2el"),
)


def test_the_result_file_of_065():
    result = result_json(view(TRIAL, "vllm-0.6.5"), ARGUMENTS)
    assert list(result.items()) == [
        ("date", "20241231-235959"),
        ("backend", "openai-chat"),
        ("model_id", "Qwen/Qwen2.5-Coder-32B-Instruct"),
        ("tokenizer_id", "Qwen/Qwen2.5-Coder-32B-Instruct"),
        ("best_of", 1),
        ("num_prompts", 2),
        ("gpu", "W7900"),
        ("request_rate", "inf"),
        ("burstiness", 1.0),
        ("max_concurrency", 1),
        ("duration", 0.1),
        ("completed", 1),
        ("total_input_tokens", 4),
        ("total_output_tokens", 3),
        ("request_throughput", 10.0),
        ("request_goodput:", None),
        ("output_throughput", 30.0),
        ("total_token_throughput", 70.0),
        ("input_lens", [4, 6]),
        ("output_lens", [3, 0]),
        ("ttfts", [0.02, 0.0]),
        ("itls", [[0.01], []]),
        ("generated_texts", ["Hello", ""]),
        ("errors", ["", "HTTP 500"]),
        ("mean_ttft_ms", 20.0),
        ("median_ttft_ms", 20.0),
        ("std_ttft_ms", 0.0),
        ("p99_ttft_ms", 20.0),
        ("mean_e2el_ms", 50.0),
        ("median_e2el_ms", 50.0),
        ("std_e2el_ms", 0.0),
        ("p99_e2el_ms", 50.0),
    ]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_result_file_of_033():
    arguments = msgspec.structs.replace(ARGUMENTS, save_detailed=True, request_rate=2.0)
    result = result_json(view(TRIAL, "vllm-0.33"), arguments)
    assert " ".join(result) == (
        "date endpoint_type backend label model_id tokenizer_id num_prompts gpu request_rate burstiness "
        "max_concurrency duration completed failed total_input_tokens total_output_tokens request_throughput "
        "request_goodput output_throughput total_token_throughput input_lens output_lens ttfts itls latencies "
        "start_times queue_times generated_texts errors max_output_tokens_per_s max_concurrent_requests rtfx "
        "mean_ttft_ms median_ttft_ms std_ttft_ms p99_ttft_ms mean_e2el_ms median_e2el_ms std_e2el_ms p99_e2el_ms"
    )
    assert result["request_rate"] == 2.0
    assert result["input_lens"] == [9, 6]
    assert result["output_lens"] == [2, 0]
    assert result["latencies"] == [0.03, 0.0]
    assert result["start_times"] == [0.11, 0.17]
    assert result["queue_times"] == [0.0, 0.0]  # nothing was due at a time


def test_without_details_033_leaves_the_long_lists_out_but_for_two():
    result = result_json(view(TRIAL, "vllm-0.33"), ARGUMENTS)
    assert [key for key, value in result.items() if isinstance(value, list)] == ["latencies", "queue_times"]
    assert result["queue_times"] == [0.01, 0.07]  # all at once: each waited from the start


def test_file_names():
    assert result_filename(ARGUMENTS) == (
        "openai-chat-infqps-concurrency1-Qwen2.5-Coder-32B-Instruct-20241231-235959.json"
    )
    other = msgspec.structs.replace(ARGUMENTS, label="fa on", max_concurrency=None, request_rate=2)
    assert result_filename(other, "vllm-0.33") == "fa on-2.0qps-Qwen2.5-Coder-32B-Instruct-20241231-235959.json"
    assert result_filename(other).startswith("openai-chat-2.0qps-Qwen")
    assert math.isinf(ARGUMENTS.request_rate)
    ramped = msgspec.structs.replace(ARGUMENTS, max_concurrency=None, ramp=Ramp(1.0, 9.5, "linear"))
    assert result_filename(ramped, "vllm-0.33").startswith("openai-chat-ramp-up-linear-1qps-9.5qps-Qwen2.5")

"""The open loop as its user calls it: flags and study files, against a real HTTP server on a script."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from warm_program import inferometer

from inferometer.core.record import RequestRecord
from inferometer.results.read import read_study
from inferometer.testing.scripted_server import ScriptedServer, inference_server

BENCH = ("bench", "--backend", "openai-chat", "--disable-tqdm", "--out", "s")
TRACE = [
    {"timestamp": 1000, "input_length": 30, "output_length": 3, "hash_ids": [4]},
    {"timestamp": 1100, "input_length": 20, "output_length": 2, "hash_ids": [5]},
    {"timestamp": 1100, "input_length": 30, "output_length": 1, "hash_ids": [4]},
    {"timestamp": 1400, "input_length": 9, "output_length": 3, "hash_ids": [6]},
]


def benched(cwd: Path, *words: str, slow_s: float = 0.0) -> tuple[list[RequestRecord], str]:
    """The measured records of a run by these flags, in the plan's order, and what was printed."""
    with ScriptedServer(inference_server(tokens=3, first_s=slow_s)) as server:
        done = inferometer(*BENCH, "--base-url", server.url, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return measured(cwd), done.stdout + done.stderr


def measured(cwd: Path) -> list[RequestRecord]:
    (trial,) = read_study(cwd / "s").trials
    return sorted((record for record in trial.records if record.measured), key=lambda record: record.index)


def gaps_ms(records: list[RequestRecord]) -> list[float]:
    return [(after.due_ns - before.due_ns) / 1e6 for before, after in pairwise(records)]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, TRACE)))
    return "trace.jsonl"


def test_a_rate_of_even_gaps_and_every_latency_twice(tmp_path: Path):
    flags = ("--num-prompts", "5", "--request-rate", "50", "--burstiness", "inf", "--max-concurrency", "1")
    records, printed = benched(tmp_path, *flags, slow_s=0.04)
    assert gaps_ms(records) == pytest.approx([20] * 4)
    assert all((record.sent_ns or 0) >= (record.due_ns or 0) for record in records)
    numbers = {
        line.split(":")[0]: float(line.split(":")[1])
        for line in printed.splitlines()
        if "(ms):" in line and "n/a" not in line
    }
    # The server takes 40 ms and one may be under way: each waits 20 ms longer than the one before.
    assert numbers["Mean Lateness (ms)"] > 30
    assert numbers["Mean TTFT from due (ms)"] == pytest.approx(
        numbers["Mean TTFT (ms)"] + numbers["Mean Lateness (ms)"], abs=0.02
    )
    assert numbers["P99 E2E latency from due (ms)"] > numbers["P99 E2E latency from sent (ms)"] + 50


def test_a_closed_loop_has_no_latency_from_due(tmp_path: Path):
    _, printed = benched(tmp_path, "--num-prompts", "2", "--max-concurrency", "1")
    assert "Mean TTFT (ms)" in printed
    assert "from due" not in printed
    assert "Lateness" not in printed


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
def test_a_ramp_sends_ever_faster_and_its_result_file_says_so(tmp_path: Path, strategy: str):
    records, _ = benched(
        tmp_path,
        *("--num-prompts", "6", "--burstiness", "inf", "--metric-dialect", "vllm-0.33", "--save-result"),
        *("--ramp-up-strategy", strategy, "--ramp-up-start-rps", "20", "--ramp-up-end-rps", "100"),
        *("--result-filename", "r.json"),
    )
    gaps = gaps_ms(records)
    assert gaps == sorted(gaps, reverse=True)
    second = 20 + 80 / 5 if strategy == "linear" else 20 * 5**0.2
    assert [gaps[0], gaps[-1]] == pytest.approx([1000 / second, 10])
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["request_rate"], result["ramp_up_strategy"]) == ("inf", strategy)
    assert (result["ramp_up_start_rps"], result["ramp_up_end_rps"]) == (20, 100)


def test_a_trace_is_replayed_at_its_times_and_lengths(tmp_path: Path, trace: str):
    flags = ("--dataset-name", "trace", "--dataset-path", trace, "--trace-speed", "4", "--skip-tokenizer-init")
    records, printed = benched(tmp_path, *flags)
    assert [record.request_id for record in records] == ["trace-1", "trace-2", "trace-3", "trace-4"]
    assert gaps_ms(records) == pytest.approx([25, 0, 75])
    assert [record.usage.completion_tokens for record in records if record.usage] == [3, 2, 1, 3]
    assert "No tokenizer: prompts have 4 characters" in printed
    assert "--ignore-eos" in printed


def test_a_trace_s_blocks_are_equal_text_on_the_wire(tmp_path: Path, trace: str):
    flags = ("--dataset-name", "trace", "--dataset-path", trace, "--trace-speed", "99", "--num-prompts", "3")
    with ScriptedServer(inference_server(tokens=3)) as server:
        done = inferometer(*BENCH, "--base-url", server.url, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = [request.body for request in server.load_requests]
    prompts = [body["messages"][0]["content"] for body in asked if body["max_tokens"] <= 3]
    assert len(prompts) == 3
    assert len(set(prompts)) == 2  # the first and the third have the one block that they have in common


def test_a_trace_s_lengths_may_come_at_a_rate(tmp_path: Path, trace: str):
    flags = ("--dataset-name", "trace", "--dataset-path", trace, "--request-rate", "100", "--burstiness", "inf")
    records, _ = benched(tmp_path, *flags)
    assert gaps_ms(records) == pytest.approx([10] * 3)


STUDY = """
workload: {{kind: trace, path: trace.jsonl}}
schedule: {schedule}
tokenizer: none
trials: 1
arms:
  first: {{engine: external, url: "{url}"}}
"""


@pytest.mark.parametrize(
    ("schedule", "gaps"),
    [
        ("{kind: replay, speed: 10}", [10, 0, 30]),
        ("{kind: gamma, rate_per_s: 100, burstiness: .inf}", [10, 10, 10]),
        ("{kind: ramp, start_per_s: 0, end_per_s: 100, duration_s: 0.08, burstiness: .inf}", [40, 16.5685, 12.7134]),
    ],
)
def test_a_study_file_says_the_same(tmp_path: Path, trace: str, schedule: str, gaps: list[float]):
    # The ramp: 625 t² arrivals in t seconds (t < 0.08), so that arrival n is at sqrt(n)/25 s.
    with ScriptedServer(inference_server(tokens=3)) as server:
        (tmp_path / "study.yaml").write_text(STUDY.format(url=server.url, schedule=schedule))
        done = inferometer("run", "study.yaml", "--out", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert gaps_ms(measured(tmp_path)) == pytest.approx(gaps, abs=1e-3)
    assert "P99 TTFT from due (ms)" in done.stdout
    shown = inferometer("compare", "s", "--format", "md", cwd=tmp_path).stdout
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert rows.index("Median E2E latency from due (ms)") > rows.index("Failed requests")


# --- bad input ------------------------------------------------------------------------------------

RAMP = ("--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1", "--ramp-up-end-rps", "9")
ON_TRACE = ("--dataset-name", "trace", "--dataset-path", "trace.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--request-rate", "0"], "rate_per_s must be greater than 0, not 0"),
        (["--request-rate", "-2"], "rate_per_s must be greater than 0, not -2"),
        (["--request-rate", "nan"], "rate_per_s must be greater than 0, not nan"),
        (["--burstiness", "0"], "--burstiness must be greater than 0"),
        (["--request-rate", "2", *RAMP], "--request-rate and --ramp-up-strategy exclude each other"),
        (["--ramp-up-start-rps", "1"], "a ramp needs --ramp-up-strategy"),
        (["--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1"], "a ramp needs"),
        ([*RAMP, "--ramp-up-strategy", "cubic"], "unknown --ramp-up-strategy 'cubic'; known: linear, exponential"),
        ([*RAMP, "--ramp-up-start-rps", "0"], "start_per_s must be greater than 0"),
        ([*RAMP, "--ramp-up-end-rps", "-1"], "end_per_s must be greater than 0"),
        (["--trace-speed", "2"], "--trace-speed needs --dataset-name trace"),
        ([*ON_TRACE, "--trace-speed", "2", "--request-rate", "5"], "--trace-speed needs --dataset-name trace"),
        ([*ON_TRACE, "--trace-speed", "0"], "speed must be greater than 0"),
        ([*ON_TRACE, "--sharegpt-output-len", "5"], "cannot be used with a trace"),
        (["--dataset-name", "trace"], "--dataset-name trace needs --dataset-path"),
        (["--dataset-name", "trace", "--dataset-path", "nowhere.csv"], "there is no data set at nowhere.csv"),
        (["--dataset-name", "trace", "--dataset-path", "falling.csv"], "falling.csv, line 3: its time is 1 s before"),
        (["--dataset-name", "trace", "--dataset-path", "empty.csv"], "empty.csv is empty"),
    ],
)
def test_a_wrong_open_loop_is_one_message_with_code_2_and_nothing_is_sent(
    tmp_path: Path, trace: str, words: list[str], said: str
):
    (tmp_path / "falling.csv").write_text("Timestamp,Request tokens,Response tokens\n5,1,1\n4,1,1\n")
    (tmp_path / "empty.csv").write_text("")
    with ScriptedServer(inference_server()) as server:
        done = inferometer(*BENCH, "--base-url", server.url, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert server.received == []
    assert not (tmp_path / "s").exists()

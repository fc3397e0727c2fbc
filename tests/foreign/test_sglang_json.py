"""`recorded/README.md` says how its files were made: 12 tokens, the first after 30 ms, then every 10 ms; one fails."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.readers import read
from inferometer.foreign.sglang_json import runs_of

LINE = (Path(__file__).parent / "recorded" / "sglang-0.5.23-chat.jsonl").read_text()


def test_over_chat_its_itl_is_a_gap_between_chunks(runs):
    (run,) = runs("sglang-0.5.23-chat-details.jsonl")
    assert run.tool == "sglang"
    assert run.settings == {"backend": "vllm-chat", "workload": "random-ids", "concurrency": "2"}
    assert (run.values["completed"], run.values["total_token_throughput"]) == (4, pytest.approx(281.7116, abs=1e-4))
    assert run.values["median_itl_ms"] == run.values["median_chunk_gap_ms"] == pytest.approx(10.1170, abs=1e-4)
    assert run.values["p95_e2el_ms"] == pytest.approx(142.2530, abs=1e-4)
    assert not [key for key in run.values if "per_token" in key]


def test_over_its_own_route_it_is_the_time_of_a_token(runs):
    """Steps of 12.13 ms that bring 3, 2, 3, 1 and 2 tokens: 4.04 ms is in the middle of the eleven."""
    (run,) = runs("sglang-0.5.23-generate-details.jsonl")
    assert run.values["median_itl_per_token_ms"] == pytest.approx(4.0438, abs=1e-4)
    assert "are not merged" in run.differs["median_itl_per_token_ms"]
    assert not [key for key in run.values if "_itl_ms" in key or "chunk_gap" in key]


def test_the_chunks_are_found_again_from_the_shares(runs, by_us):
    (run,) = runs("sglang-0.5.23-generate-details.jsonl")
    assert [event.tokens for event in run.records[0].events] == [1, 3, 2, 3, 1, 2]
    ours = by_us(run)
    for key in ("median_itl_per_token_ms", "p95_itl_per_token_ms", "p99_itl_per_token_ms", "mean_ttft_ms"):
        assert ours[key] == pytest.approx(run.values[key], rel=1e-6), key
    assert ours["tokens_per_burst"] == pytest.approx(11 / 5)
    assert ours["median_chunk_gap_ms"] == pytest.approx(12.12, abs=0.02)


def test_our_metrics_of_its_requests_are_its_own(runs, by_us):
    (run,) = runs("sglang-0.5.23-chat-details.jsonl")
    ours = by_us(run)
    assert [record.outcome for record in run.records] == ["ok", "ok", "server_error", "ok", "ok"]
    for key in ("mean_ttft_ms", "p90_ttft_ms", "mean_itl_ms", "p99_itl_ms", "median_chunk_gap_ms"):
        assert ours[key] == pytest.approx(run.values[key], rel=1e-6), key
    assert ours["total_output_tokens"] == run.values["total_output_tokens"]
    assert ours["mean_tpot_ms"] == pytest.approx(run.values["mean_tpot_ms"], rel=1e-3)
    assert run.differs["mean_tpot_ms"] == "ends at [DONE], not at the last token"


def test_its_total_of_input_is_the_clients_and_its_lengths_are_the_servers(runs, by_us):
    """Prompts of 8 words by the client, of 7 tokens by the server."""
    (run,) = runs("sglang-0.5.23-chat-details.jsonl")
    assert (run.values["total_input_tokens"], by_us(run)["total_input_tokens"]) == (32, 28)
    assert "client's tokenizer" in run.differs["total_input_tokens"]


def test_without_details_there_are_no_records(runs):
    (run,) = runs("sglang-0.5.23-chat.jsonl")
    assert run.records == () and run.keys_from_records == frozenset()


def test_each_line_is_a_run():
    assert [run.name for run in runs_of(LINE + LINE, "rates")] == ["rates 1", "rates 2"]


def test_where_the_server_speculates_its_openai_routes_have_the_time_of_a_token_too():
    source = json.loads(LINE) | {"backend": "sglang-oai-chat", "accept_length": 2.5}
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert run.values["mean_accepted_length"] == 2.5
    assert "client's tokenizer counted" in run.differs["p99_itl_per_token_ms"]


def test_a_run_in_which_all_failed_has_no_latencies():
    source = json.loads(LINE) | {
        "completed": 0,
        "mean_ttft_ms": 0.0,
        "median_ttft_ms": 0.0,
        "mean_e2e_latency_ms": None,
    }
    text = json.dumps(source).replace('"median_e2e_latency_ms": 141.', '"median_e2e_latency_ms": NaN, "x": 141.')
    (run,) = list(runs_of(text, "a") or ())
    assert run.values["median_ttft_ms"] is None
    assert run.values["median_e2el_ms"] is None


def test_a_file_without_what_every_version_writes_is_refused_by_the_field():
    with pytest.raises(RequestWrong, match="`completed` or `duration`"):
        runs_of(json.dumps(json.loads(LINE) | {"duration": None}), "a")


OLD = {
    "backend": "sglang", "dataset_name": "random", "request_rate": float("inf"), "total_input_tokens": 1000,
    "total_output_tokens": 500, "total_output_tokens_retokenized": 490, "output_throughput": 50.0,
    "random_input_len": 100, "duration": 10.0, "completed": 20,
}  # fmt: skip


@pytest.mark.parametrize(
    "latencies",
    [
        {"mean_e2e_latency": 900.0, "median_e2e_latency": 880.0, "median_ttft": 40.0, "median_itl": 9.0},  # of 2024
        {"mean_e2e_latency_ms": 900.0, "median_e2e_latency_ms": 880.0, "median_ttft_ms": 40.0, "median_itl_ms": 9.0},
    ],
)
def test_files_of_older_versions_are_read_and_their_missing_rates_are_sums_over_the_duration(latencies):
    found = runs_of(json.dumps(OLD | latencies), "f")
    assert found is not None
    (run,) = found
    assert (run.values["mean_e2el_ms"], run.values["median_e2el_ms"]) == (900, 880)
    assert (run.values["request_throughput"], run.values["total_token_throughput"]) == (2.0, 150.0)


def test_latencies_that_are_0_as_nothing_was_measured_are_unknown():
    zeros = {"mean_ttft_ms": 0.0, "median_ttft_ms": 0.0, "p99_itl_ms": 0.0, "mean_tpot_ms": float("nan")}
    found = read(json.dumps(OLD | zeros) + "\n", "f")
    assert found is not None
    (run,) = found
    assert {key for key, value in run.values.items() if value is None} >= {"mean_ttft_ms", "median_ttft_ms"}

"""`recorded/README.md` says how its files were made: 12 tokens, the first after 30 ms, then every 10 ms; one fails."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.aiperf import runs_of

RECORDED = Path(__file__).parent / "recorded"
PROFILE = json.loads((RECORDED / "aiperf-0.13.0.json").read_text())
REQUESTS = (RECORDED / "aiperf-0.13.0-profile_export.jsonl").read_text()


def test_a_profile_is_read(runs):
    (run,) = runs("aiperf-0.13.0.json")
    assert run.tool == "aiperf"
    assert (run.settings["version"], run.settings["model"], run.settings["concurrency"]) == ("0.13.0", "scripted", "2")
    assert (run.values["completed"], run.values["failed"], run.values["total_input_tokens"]) == (4, 1, 32)
    assert run.values["duration"] == pytest.approx(0.296989, abs=1e-6)
    assert run.values["p95_ttft_ms"] == pytest.approx(34.0739, abs=1e-4)


def test_its_inter_token_latency_is_our_tpot_and_its_inter_chunk_latency_our_itl(runs):
    (run,) = runs("aiperf-0.13.0.json")
    assert run.values["std_tpot_ms"] == pytest.approx(0.02596, abs=1e-5)
    assert run.values["std_itl_ms"] == pytest.approx(0.09914, abs=1e-5)
    assert run.values["p99_itl_ms"] == run.values["p99_chunk_gap_ms"] == pytest.approx(10.5270, abs=1e-4)


def test_its_throughput_is_over_more_than_its_duration(runs):
    """4 requests in 0.29699 s would be 13.47 a second."""
    (run,) = runs("aiperf-0.13.0.json")
    assert run.values["request_throughput"] == pytest.approx(13.3184, abs=1e-4)
    assert "longer than the benchmark duration" in run.differs["request_throughput"]


def test_the_requests_give_what_the_profile_says(runs):
    (profile,), (requests,) = runs("aiperf-0.13.0.json"), runs("aiperf-0.13.0-profile_export.jsonl")
    assert [record.outcome for record in requests.records] == ["ok", "ok", "ok", "http_error", "ok"]
    assert requests.records[3].status == 500
    same = [key for key in profile.values if key.endswith("_ms") or key in ("completed", "failed")]
    assert len(same) == 30
    for key in (*same, "total_output_tokens"):
        assert requests.values[key] == pytest.approx(profile.values[key], rel=1e-6), key
    assert requests.values["duration"] == pytest.approx(profile.values["duration"], rel=1e-6)


def test_the_requests_values_are_our_own_metrics(runs, by_us):
    (run,) = runs("aiperf-0.13.0-profile_export.jsonl")
    ours = by_us(run)
    assert run.values["tokens_per_burst"] == 1.0
    assert {key: ours[key] for key in run.values} == run.values


def test_input_is_counted_by_the_server_in_the_requests(runs):
    """8 words by the client, 7 tokens by the server."""
    (profile,), (requests,) = runs("aiperf-0.13.0.json"), runs("aiperf-0.13.0-profile_export.jsonl")
    assert (profile.values["total_input_tokens"], requests.values["total_input_tokens"]) == (32, 28)
    assert "client's tokenizer" in profile.differs["total_input_tokens"]


def test_warm_ups_are_not_measured():
    first, *others = REQUESTS.splitlines()
    warm_up = first.replace('"benchmark_phase":"profiling"', '"benchmark_phase":"warmup"')
    (run,) = list(runs_of("\n".join([warm_up, *others]), "a") or ())
    assert run.values["completed"] == 3


def test_a_cancelled_request_is_no_success():
    text = REQUESTS.replace('"was_cancelled":false', '"was_cancelled":true', 1)
    (run,) = list(runs_of(text, "a") or ())
    assert (run.values["completed"], run.values["failed"]) == (3, 2)


def test_units_are_read_and_not_supposed():
    source = PROFILE | {
        "time_to_first_token": {"unit": "us", "avg": 32086.0},
        "request_latency": {"unit": "x", "avg": 1},
    }
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert run.values["mean_ttft_ms"] == pytest.approx(32.086)
    assert "mean_e2el_ms" not in run.values


def test_where_nothing_failed_none_is_told():
    source = {key: value for key, value in PROFILE.items() if key != "error_request_count"}
    assert runs_of(json.dumps(source), "a")[0].values["failed"] == 0


def test_what_cannot_be_read_is_refused_by_its_version_and_field():
    source = PROFILE | {"aiperf_version": "9.0", "request_count": None}
    with pytest.raises(RequestWrong, match=r"version 9\.0 has no number for `request_count\.avg`"):
        runs_of(json.dumps(source), "a")

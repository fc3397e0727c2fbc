"""`recorded/README.md` says how its file was made: 12 tokens, the first after 30 ms, then every 10 ms; one fails."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.guidellm import runs_of

TEXT = (Path(__file__).parent / "recorded" / "guidellm-0.8.1.json").read_text()


def test_a_file_of_0_8_1_is_read(runs):
    (run,) = runs("guidellm-0.8.1.json")
    assert run.tool == "guidellm"
    assert run.settings == {"version": "0.8.1", "model": "scripted", "schedule": "concurrent", "concurrency": "2"}
    assert (run.values["completed"], run.values["failed"]) == (3, 1)
    assert (run.values["total_input_tokens"], run.values["total_output_tokens"]) == (21, 36)
    assert run.values["duration"] == pytest.approx(0.289773, abs=1e-6)
    assert run.values["output_throughput"] == pytest.approx(36 / 0.289773, rel=1e-5)
    assert run.values["mean_e2el_ms"] == pytest.approx(143.4981, abs=1e-4)


def test_its_inter_token_latency_is_our_tpot_and_its_tpot_nothing_of_ours(runs):
    """Its own time per output token, with the wait for the first, is 11.9 ms."""
    (run,) = runs("guidellm-0.8.1.json")
    assert run.values["mean_tpot_ms"] == pytest.approx(10.1001, abs=1e-4)
    assert not [key for key in run.values if "itl" in key or "chunk_gap" in key]
    assert run.differs["mean_tpot_ms"] == "a request counts as often as it has tokens after the first"
    assert run.differs["p99_tpot_ms"].endswith("an observed value, not interpolated")


def test_our_metrics_of_its_requests_are_its_own(runs, by_us):
    (run,) = runs("guidellm-0.8.1.json")
    ours = by_us(run)
    assert [record.outcome for record in run.records] == ["ok", "ok", "ok", "server_error"]
    keys = ("mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "mean_tpot_ms", "median_tpot_ms", "completed", "failed")
    for key in (*keys, "total_input_tokens", "total_output_tokens", "duration", "request_throughput"):
        assert ours[key] == pytest.approx(run.values[key], rel=1e-6), key


def test_of_percentiles_it_takes_the_value_above(runs, by_us):
    """Of three TTFTs the third is its P90; ours lies a fifth of the way from the third to the second."""
    (run,) = runs("guidellm-0.8.1.json")
    second, third = 31.931639, 32.831669
    assert run.values["p90_ttft_ms"] == pytest.approx(third, abs=1e-5)
    assert by_us(run)["p90_ttft_ms"] == pytest.approx(third - 0.2 * (third - second), abs=1e-5)


def test_gaps_between_chunks_are_not_had_from_its_requests(runs):
    """It keeps the first and the last token's time only."""
    (run,) = runs("guidellm-0.8.1.json")
    assert [len(record.outputs_ns) for record in run.records] == [2, 2, 2, 0]
    assert not [key for key in run.keys_from_records if "itl" in key or "chunk_gap" in key or "stall" in key]


def test_of_a_sample_of_its_requests_no_totals_are_had():
    source = json.loads(TEXT)
    source["benchmarks"][0]["requests"]["successful"].pop()
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert "median_ttft_ms" in run.keys_from_records
    assert not {"completed", "duration", "output_throughput"} & run.keys_from_records


def test_requests_of_a_schedule_have_a_due_time(by_us):
    """Its `targeted_start` lies 3.4, 4.2, 2.8 and 4.0 ms before the requests were sent."""
    source = json.loads(TEXT)
    source["benchmarks"][0]["config"]["strategy"] = {"type_": "constant", "rate": 8.0}
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert run.settings["rate_per_s"] == "8"
    waits_ms = sorted((record.sent_ns - record.due_ns) / 1e6 for record in run.records)
    assert waits_ms == pytest.approx([2.777, 3.210, 4.177, 4.199], abs=1e-3)
    assert by_us(run)["median_lateness_ms"] == pytest.approx((3.2096 + 4.1766) / 2, abs=1e-3)


def test_several_benchmarks_are_several_runs():
    source = json.loads(TEXT)
    source["benchmarks"] *= 2
    assert [run.name for run in runs_of(json.dumps(source), "sweep")] == ["sweep concurrent@2"] * 2


def test_what_cannot_be_read_is_refused_by_its_version_and_field():
    source = json.loads(TEXT)
    source["metadata"]["guidellm_version"] = "9.0"
    del source["benchmarks"][0]["metrics"]["request_totals"]
    with pytest.raises(RequestWrong, match=r"version 9\.0 has no number for `metrics.request_totals.successful`"):
        runs_of(json.dumps(source), "a")
    with pytest.raises(RequestWrong, match="has no benchmark"):
        runs_of(json.dumps(source | {"benchmarks": []}), "a")


def test_an_unknown_version_with_the_known_fields_is_read():
    source = json.loads(TEXT)
    source["metadata"]["guidellm_version"] = "9.0"
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert run.settings["version"] == "9.0" and run.values["completed"] == 3

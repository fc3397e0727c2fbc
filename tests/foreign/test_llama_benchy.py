"""`recorded/README.md` says how its file was made: 12 tokens, the first after 30 ms, then every 10 ms."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.llama_benchy import runs_of

SOURCE = json.loads((Path(__file__).parent / "recorded" / "llama-benchy-0.4.0.json").read_text())


def test_each_of_its_tests_is_a_run(runs):
    found = runs("llama-benchy-0.4.0.json")
    assert [run.name for run in found] == [
        "scripted pp8 tg12",
        "scripted pp8 tg12 (c2)",
        "scripted pp8 tg12 @ d16",
        "scripted pp8 tg12 @ d16 (c2)",
    ]
    assert (found[3].tool, found[3].settings["version"]) == ("llama-benchy", "0.4.0")
    assert (found[3].settings["concurrency"], found[3].settings["depth"]) == ("2", "16")


def test_the_first_token_and_not_the_first_response_is_our_ttft(runs):
    """Its `ttfr` of the second test has a mean of 31.33, its `e2e_ttft` 31.37 and a largest value of 31.502."""
    run = runs("llama-benchy-0.4.0.json")[1]
    assert run.values["mean_ttft_ms"] == pytest.approx(31.3652, abs=1e-4)
    assert run.values["p99_ttft_ms"] == pytest.approx(31.4991, abs=1e-4)


def test_a_requests_speed_is_the_reciprocal_of_its_tpot(runs):
    """98.7208 and 98.7379 tokens a second."""
    run = runs("llama-benchy-0.4.0.json")[0]
    assert run.values["mean_tpot_ms"] == pytest.approx((1000 / 98.720797 + 1000 / 98.737934) / 2, rel=1e-6)
    assert "token ids" in run.differs["mean_tpot_ms"]


def test_its_speeds_are_no_throughput_of_ours(runs):
    found = runs("llama-benchy-0.4.0.json")
    assert found
    assert [key for run in found for key in run.values if "throughput" in key] == []


def test_the_loading_of_a_context_is_named():
    source = SOURCE | {"benchmarks": [SOURCE["benchmarks"][2] | {"is_context_prefill_phase": True}]}
    assert [run.name for run in runs_of(json.dumps(source), "a")] == ["scripted context pp8 tg12 @ d16"]


def test_a_test_without_speed_has_no_tpot():
    source = SOURCE | {"benchmarks": [SOURCE["benchmarks"][0] | {"tg_req_throughput": None}]}
    (run,) = list(runs_of(json.dumps(source), "a") or ())
    assert "mean_tpot_ms" not in run.values and "mean_ttft_ms" in run.values


def test_what_cannot_be_read_is_refused_by_its_version_and_field():
    source = SOURCE | {"version": "9.0", "benchmarks": [{"concurrency": 1}]}
    with pytest.raises(RequestWrong, match=r"version 9\.0 has neither `e2e_ttft` nor `tg_req_throughput`"):
        runs_of(json.dumps(source), "a")

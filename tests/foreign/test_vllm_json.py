"""`recorded/README.md` says how its files were made: 12 tokens, the first after 30 ms, then every 10 ms; one fails."""

import json
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.foreign.unmeasured import without_unmeasured
from inferometer.foreign.vllm_json import runs_of

RECORDED = Path(__file__).parent / "recorded"
DETAILED = ["vllm-0.6.5.json", "vllm-0.7.3.json", "vllm-0.9.2-detailed.json", "vllm-0.33.0-detailed.json"]


def changed(name: str, gone: tuple[str, ...] = (), **fields) -> str:
    """A recorded file with other fields, and without those that are `gone`."""
    source = json.loads((RECORDED / name).read_text()) | fields
    return json.dumps({key: value for key, value in source.items() if key not in gone})


def test_a_file_of_0_33_is_read(runs):
    (run,) = runs("vllm-0.33.0-detailed.json")
    assert run.tool == "vllm"
    assert run.settings["version"] == "0.30 to 0.33, by its fields"
    assert (run.settings["model"], run.settings["concurrency"], run.settings["num_prompts"]) == ("scripted", "2", "5")
    assert (run.values["completed"], run.values["failed"], run.values["total_output_tokens"]) == (4, 1, 48)
    assert run.values["median_ttft_ms"] == pytest.approx(31.5915, abs=1e-4)
    assert run.values["p90_tpot_ms"] == pytest.approx(10.1428, abs=1e-4)
    assert run.values["median_chunk_gap_ms"] == run.values["median_itl_ms"] == pytest.approx(10.1154, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "versions"),
    [
        ("vllm-0.6.5.json", "0.6.4 to 0.7.3"),
        ("vllm-0.7.3.json", "0.6.4 to 0.7.3"),
        ("vllm-0.9.2-detailed.json", "0.9.2 to 0.11.1"),
        ("vllm-0.33.0-poisson.json", "0.30 to 0.33"),
    ],
)
def test_fields_tell_the_version(runs, name, versions):
    (run,) = runs(name)
    assert run.settings["version"] == f"{versions}, by its fields"


def test_fields_of_versions_that_were_not_run_are_told_apart_too():
    sources = {
        "0.6.0 to 0.6.3": changed("vllm-0.6.5.json", gone=("request_goodput:", "burstiness")),
        "0.8.0 to 0.9.1": changed("vllm-0.6.5.json", gone=("best_of",)),
        "0.11.2 to 0.29": changed("vllm-0.33.0-detailed.json", gone=("latencies", "queue_times")),
    }
    for versions, text in sources.items():
        assert runs_of(text, "a")[0].settings["version"] == f"{versions}, by its fields"


def test_mean_and_median_of_e2el_are_put_right_where_vllm_had_swapped_them():
    text = changed("vllm-0.6.5.json", gone=("request_goodput:",), mean_e2el_ms=7.0, median_e2el_ms=9.0)
    (run,) = list(runs_of(text, "a") or ())
    assert (run.values["mean_e2el_ms"], run.values["median_e2el_ms"]) == (9.0, 7.0)


def test_what_0_6_5_defines_otherwise_is_said(runs):
    (run,) = runs("vllm-0.6.5.json")
    assert run.differs["p99_tpot_ms"].startswith("ends at [DONE], not at the last token")
    assert run.differs["total_input_tokens"] == "counted by the client's tokenizer, without the chat template"
    assert "output counted again by the client's tokenizer" in run.differs["output_throughput"]
    assert "duration" not in run.differs
    assert "request_throughput" not in run.differs


def test_chat_and_completions_differ_in_their_first_token(runs):
    assert "names the speaker" in runs("vllm-0.9.2-detailed.json")[0].differs["mean_ttft_ms"]
    (run,) = list(runs_of(changed("vllm-0.9.2-detailed.json", backend="openai"), "a") or ())
    assert "a chunk without text counts too" in run.differs["mean_ttft_ms"]


@pytest.mark.parametrize("name", DETAILED)
def test_our_metrics_of_its_requests_are_its_own(runs, by_us, name):
    (run,) = runs(name)
    ours = by_us(run)
    assert [record.outcome for record in run.records].count("server_error") == 1
    for key in ("mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_itl_ms", "p90_itl_ms", "median_chunk_gap_ms"):
        assert ours[key] == pytest.approx(run.values[key], rel=1e-6), key
    assert ours["total_output_tokens"] == run.values["total_output_tokens"] == 48
    assert ours["total_input_tokens"] == run.values["total_input_tokens"]


def test_the_tail_after_the_last_token_is_in_tpot_of_old_versions_only(runs, by_us):
    for name, tail_ms in (("vllm-0.6.5.json", 0.0206), ("vllm-0.33.0-detailed.json", 0.0)):
        (run,) = runs(name)
        tail = run.values["mean_e2el_ms"] - by_us(run)["mean_e2el_ms"]
        assert tail == pytest.approx(tail_ms, abs=1e-4)
        assert (run.values["mean_tpot_ms"] - by_us(run)["mean_tpot_ms"]) * 11 == pytest.approx(tail, abs=1e-4)


def test_the_chunk_of_the_speaker_and_the_finish_chunk_are_gaps_of_0_7_3(runs):
    """12 tokens: 11 gaps between them, and in 0.7.3 two more."""
    assert [len(record.outputs_ns) for record in runs("vllm-0.7.3.json")[0].records] == [14, 14, 0, 14, 14]
    assert [len(record.outputs_ns) for record in runs("vllm-0.6.5.json")[0].records] == [12, 12, 0, 12, 12]


def test_rates_come_of_the_requests_only_where_their_sending_is_told(runs, by_us):
    (new,), (old,) = runs("vllm-0.33.0-detailed.json"), runs("vllm-0.6.5.json")
    assert by_us(new)["request_throughput"] == pytest.approx(new.values["request_throughput"], rel=0.01)
    assert "request_throughput" not in old.keys_from_records
    assert "median_ttft_ms" in old.keys_from_records


def test_waits_for_being_sent_are_lateness(runs):
    """Five `queue_times` from 32 to 107 µs; the largest latency 145.61 ms."""
    (run,) = runs("vllm-0.33.0-poisson.json")
    assert run.records == ()
    assert run.settings["rate_per_s"] == "20"
    assert run.values["median_lateness_ms"] == pytest.approx(0.0435, abs=1e-4)
    assert run.values["mean_latency_from_sent_ms"] == pytest.approx(run.values["mean_e2el_ms"], rel=1e-6)
    assert run.values["mean_latency_from_due_ms"] == pytest.approx(143.6562, abs=1e-3)
    assert run.differs["mean_latency_from_due_ms"].startswith("from when the client's loop reached the request")


def test_in_a_closed_loop_nothing_is_from_due(runs):
    (run,) = runs("vllm-0.33.0-detailed.json")
    assert not [key for key in run.values if "due" in key or "lateness" in key]
    assert {record.due_ns for record in run.records} == {None}


def test_requests_that_are_told_in_an_open_loop_have_a_due_time(by_us):
    text = changed("vllm-0.33.0-detailed.json", request_rate=9.0)
    (run,) = list(runs_of(text, "a") or ())
    assert by_us(run)["mean_lateness_ms"] == pytest.approx(run.values["mean_lateness_ms"], rel=1e-6)


@pytest.mark.parametrize("key", ["median_ttft_ms", "p99_ttft_ms", "request_throughput", "total_input_tokens"])
def test_a_zero_that_no_answer_can_have_is_unknown(key: str):
    (run,) = map(without_unmeasured, runs_of(changed("vllm-0.33.0-poisson.json", (), **{key: 0.0}), "a") or ())
    assert run.values[key] is None
    assert run.values["mean_ttft_ms"]


def test_a_statistic_of_nothing_is_unknown_and_not_0():
    text = changed("vllm-0.33.0-poisson.json", completed=1, mean_tpot_ms=0.0, p99_tpot_ms=0.0)
    (run,) = list(runs_of(text, "a") or ())
    assert run.values["p99_tpot_ms"] is None


def test_speculation_is_read_from_the_servers_counters():
    text = changed("vllm-0.33.0-poisson.json", spec_decode_acceptance_rate=61.5, spec_decode_acceptance_length=2.4)
    (run,) = list(runs_of(text, "a") or ())
    assert run.values["acceptance_rate_percent"] == 61.5
    assert run.values["mean_accepted_length"] == 2.4
    assert "only steps that drafted" in run.differs["mean_accepted_length"]


def test_runs_that_were_appended_are_each_read():
    line = (RECORDED / "vllm-0.33.0-poisson.json").read_text()
    assert [run.name for run in runs_of(f"{line}\n{line}", "a")] == ["a 1", "a 2"]


def test_a_file_without_what_every_version_writes_is_refused_by_the_field():
    with pytest.raises(RequestWrong, match="`completed` or `duration`"):
        runs_of(changed("vllm-0.33.0-poisson.json", completed="many"), "a")
    with pytest.raises(RequestWrong, match="5 ttfts, but 2 errors"):
        runs_of(changed("vllm-0.6.5.json", errors=["", ""]), "a")


def test_times_that_no_benchmark_has_are_refused():
    """What counts by the second would need a place for each of them."""
    with pytest.raises(RequestWrong, match="ends 116 days after the start"):
        runs_of(changed("vllm-0.6.5.json", ttfts=[1e7, 0.03, 0.03, 0.03, 0.03]), "a")


def test_counts_that_no_answer_has_are_unknown():
    (run,) = list(runs_of(changed("vllm-0.6.5.json", output_lens=[4_000_000_000, 12, 0, 12, 12]), "a") or ())
    assert [record.our_tokens for record in run.records] == [None, 12, 0, 12, 12]

"""What each metric and each dialect makes of scripted records; the expected numbers are written by hand."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferometer.core.record import Event, RequestRecord, Sample, ServerTimings, TokenUsage, Trial
from inferometer.metrics.request_timing import request_timing
from inferometer.metrics.rows import METRICS, metric_rows
from inferometer.metrics.summary import summarize, summarize_view, view

MS = 1_000_000
DIALECTS = ("inferometer", "vllm-0.6.5", "vllm-0.33")


def record(*events: Any, index: int = 0, **fields: Any) -> RequestRecord:
    """A measured, successful record that was sent at 0; event times in ms, text events bring "x" unless they say."""
    found = tuple(
        Event(round(at * MS), kind, *(text or (["x"] if kind == "text" else []))) for at, kind, *text in events
    )
    known: dict[str, Any] = {"measured": True, "outcome": "ok", "due_ns": None, "sent_ns": 0} | fields
    known.setdefault("done_ns", found[-1].at_ns if found else 0)
    return RequestRecord(index=index, request_id=f"r{index}", events=found, **known)


SCRIPT = ((10, "role"), (20, "text"), (30, "text"), (35, "empty"), (36, "usage"), (40, "done"))
SCRIPTED = record(*SCRIPT, usage=TokenUsage(7, 3), our_tokens=5, prompt_tokens=6)


def trial(*records: RequestRecord, **fields: Any) -> Trial:
    fields.setdefault("plan_started_ns", 0)
    return Trial("baseline", 1, "done", records=records, **fields)


def times_ms(timing) -> tuple:
    return timing.ttft_ns / MS, [gap / MS for gap in timing.itl_ns], timing.latency_ns / MS, timing.tpot_ns / MS


# --- one request in each dialect ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "api", "ttft", "gaps", "latency", "tpot"),
    [
        ("inferometer", "openai-chat", 20, [10], 30, 5),  # 3 tokens by usage: (30 - 20) / 2
        ("inferometer", "openai", 20, [10], 30, 5),
        ("vllm-0.6.5", "openai-chat", 20, [10], 40, 5),  # 5 tokens by us, to [DONE]: (40 - 20) / 4
        ("vllm-0.6.5", "openai", 20, [10], 40, 5),
        ("vllm-0.33", "openai-chat", 20, [10], 30, 5),
        ("vllm-0.33", "openai", 10, [10, 10, 5], 35, 12.5),  # every chunk with choices counts: (35 - 10) / 2
    ],
)
def test_a_scripted_stream_in_every_dialect(dialect, api, ttft, gaps, latency, tpot):
    assert times_ms(request_timing(SCRIPTED, dialect, api)) == (ttft, gaps, latency, tpot)


def test_times_count_from_the_sending():
    late = record((20, "text"), (30, "text"), (40, "done"), sent_ns=15 * MS, usage=TokenUsage(7, 2))
    assert times_ms(request_timing(late)) == (5, [10], 15, 10)
    assert times_ms(request_timing(late, "vllm-0.6.5")) == (5, [10], 25, 20)


def test_in_065_chat_a_gap_that_ends_in_an_empty_chunk_is_dropped():
    broken_up = record((20, "text"), (26, "empty"), (30, "text"), (40, "done"), our_tokens=2)
    assert request_timing(broken_up, "vllm-0.6.5", "openai-chat").itl_ns == (4 * MS,)
    assert request_timing(broken_up, "vllm-0.6.5", "openai").itl_ns == (10 * MS,)
    assert request_timing(broken_up, "vllm-0.33", "openai-chat").itl_ns == (10 * MS,)


def test_reasoning_and_tool_calls_are_output_but_not_in_065():
    thinking = record((10, "role"), (20, "reasoning"), (30, "tool"), (50, "text"), (60, "done"), our_tokens=2)
    assert request_timing(thinking).ttft_ns == 20 * MS
    assert request_timing(thinking, "vllm-0.33").ttft_ns == 20 * MS
    assert request_timing(thinking, "vllm-0.6.5").ttft_ns == 50 * MS


def test_a_token_without_text_counts_in_033_only():
    blank = record((10, "role"), (20, "text", ""), (30, "text"), (40, "done"), usage=TokenUsage(7, 2), our_tokens=2)
    assert times_ms(request_timing(blank, "vllm-0.33")) == (20, [10], 30, 10)
    assert times_ms(request_timing(blank)) == (30, [], 30, 0)
    assert times_ms(request_timing(blank, "vllm-0.6.5")) == (30, [], 40, 10)


def test_an_answer_without_text_is_a_success_with_ttft_0_in_065_chat():
    silent = record((10, "role"), (35, "empty"), (40, "done"), outcome="no_tokens", our_tokens=0)
    timing = request_timing(silent, "vllm-0.6.5", "openai-chat")
    assert (timing.ttft_ns, timing.itl_ns, timing.latency_ns, timing.tpot_ns) == (0, (), 40 * MS, None)
    assert request_timing(silent, "vllm-0.6.5", "openai") is None
    assert request_timing(silent, "vllm-0.33", "openai-chat") is None
    assert request_timing(silent) is None


def test_an_answer_without_text_is_a_success_in_033_completions():
    silent = record((10, "empty"), (35, "empty"), (40, "done"), outcome="no_tokens", our_tokens=2)
    assert times_ms(request_timing(silent, "vllm-0.33", "openai")) == (10, [25], 35, 25)


def test_without_done_065_fails_and_the_others_do_not():
    ended = record((20, "text"), (30, "text"), usage=TokenUsage(7, 2))
    assert request_timing(ended, "vllm-0.6.5") is None
    assert request_timing(ended, "vllm-0.33").latency_ns == 30 * MS
    assert request_timing(ended).latency_ns == 30 * MS


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("outcome", ["http_error", "refused", "cut", "bad_stream", "timeout", "cancelled"])
def test_a_failed_request_has_no_timing(dialect, outcome):
    assert request_timing(record(*SCRIPT, outcome=outcome), dialect) is None
    assert request_timing(record(outcome=outcome, sent_ns=None), dialect) is None


def test_each_dialect_asks_its_own_counter_first():
    counted = record(*SCRIPT, usage=TokenUsage(70, 20), our_tokens=50, prompt_tokens=60)
    assert _counts(counted, "inferometer") == (20, 70)
    assert _counts(counted, "vllm-0.33") == (20, 70)
    assert _counts(counted, "vllm-0.6.5") == (50, 60)


def test_where_the_first_counter_is_silent_the_next_is_asked():
    by_usage = record(*SCRIPT, usage=TokenUsage(70, 20))
    assert _counts(by_usage, "vllm-0.6.5") == (20, 70)
    by_us = record(*SCRIPT, our_tokens=50, prompt_tokens=60, usage=TokenUsage(None, 0))
    assert _counts(by_us, "vllm-0.33") == (50, 60)
    by_timings = record(*SCRIPT, timings=ServerTimings(cache_n=8, prompt_n=12, predicted_n=21), our_tokens=50)
    assert _counts(by_timings, "inferometer") == (21, 20)
    assert _counts(record(*SCRIPT), "inferometer") == (2, None)  # two events brought output
    assert _counts(record(*SCRIPT), "vllm-0.6.5") == (None, None)


def _counts(of: RequestRecord, dialect) -> tuple:
    timing = request_timing(of, dialect)
    return timing.output_tokens, timing.prompt_tokens


# --- the trial ------------------------------------------------------------------------------------

TWO = trial(
    record((20, "text"), (30, "text"), (60, "text"), (70, "done"), index=1, usage=TokenUsage(100, 3)),
    record((140, "text"), (160, "text"), (170, "done"), index=2, sent_ns=100 * MS, usage=TokenUsage(50, 2)),
    record(index=3, outcome="timeout", sent_ns=150 * MS, done_ns=500 * MS),
    record((1, "text"), (900, "text"), (950, "done"), index=0, measured=False, usage=TokenUsage(9, 9)),
    plan_started_ns=0,
)


def test_every_statistic_of_two_answers_and_a_failure():
    values = summarize(TWO).values
    assert values["completed"] == 2
    assert values["failed"] == 1
    assert values["duration"] == 0.5  # the failed request ends last
    assert values["total_input_tokens"] == 150
    assert values["total_output_tokens"] == 5
    assert values["request_throughput"] == 4
    assert values["output_throughput"] == 10
    assert values["total_token_throughput"] == 310
    # first request: TTFT 20, gaps 10 and 30, TPOT (60 - 20) / 2 = 20; second: TTFT 40, gap 20, TPOT 20
    assert values["mean_ttft_ms"] == 30
    assert values["median_ttft_ms"] == 30
    assert values["p99_ttft_ms"] == pytest.approx(39.8)
    assert values["mean_tpot_ms"] == values["median_tpot_ms"] == values["p99_tpot_ms"] == 20
    assert values["mean_itl_ms"] == 20
    assert values["median_itl_ms"] == 20
    assert values["p99_itl_ms"] == pytest.approx(29.8)
    assert values["std_ttft_ms"] == 10
    assert values["mean_e2el_ms"] == 60
    assert values["memory_gib"] is None
    assert values["drafted_tokens"] is None


def test_the_plan_may_start_later_than_the_trial():
    assert summarize(msgspec.structs.replace(TWO, plan_started_ns=250 * MS)).values["duration"] == 0.25
    unknown = summarize(msgspec.structs.replace(TWO, plan_started_ns=None)).values
    assert unknown["duration"] is unknown["request_throughput"] is None


def test_without_a_success_our_statistics_are_none_and_vllms_are_0():
    lost = trial(record(outcome="refused", sent_ns=None, done_ns=5 * MS))
    for key in ("mean_ttft_ms", "median_tpot_ms", "p99_itl_ms", "std_ttft_ms", "mean_e2el_ms"):
        assert summarize(lost).values[key] is None
        assert summarize(lost, "vllm-0.6.5").values[key] == 0
        assert summarize(lost, "vllm-0.33").values[key] == 0
    assert summarize(lost).values["completed"] == 0
    assert summarize(lost).values["failed"] == 1


def test_a_trial_without_records_has_no_number_but_counts():
    values = summarize(trial()).values
    zero = {"completed", "failed", "total_input_tokens", "total_output_tokens"}
    zero |= {"max_output_tokens_per_s", "max_concurrent_requests"}
    assert {key for key, value in values.items() if value is not None} == zero


def test_one_token_has_no_time_per_output_token():
    single = trial(record((20, "text"), (30, "done"), usage=TokenUsage(5, 1)))
    assert summarize(single).values["mean_tpot_ms"] is None
    assert summarize(single).values["mean_itl_ms"] is None
    assert summarize(single, "vllm-0.33").values["mean_tpot_ms"] == 0


def test_a_token_count_that_nobody_made_leaves_the_total_unknown():
    summary = summarize(trial(record(*SCRIPT), SCRIPTED), "vllm-0.6.5")
    assert summary.values["total_output_tokens"] is None
    assert summary.values["output_throughput"] is None
    assert summary.values["request_throughput"] == 50
    assert any("by nobody" in note and "1 of 2" in note for note in summary.notes)


def test_a_count_by_token_ids_is_named_in_the_notes():
    summary = summarize(trial(record((20, "text", "a b", 2), usage=TokenUsage(7))))
    assert summary.values["total_output_tokens"] == 2
    assert summary.notes == (
        "Total generated tokens: counted by the server (token ids or counts in its chunks) in 1 of 1 requests",
    )


def test_notes_name_a_count_that_is_not_the_dialects_first_choice():
    assert summarize(trial(SCRIPTED)).notes == ()
    assert summarize(trial(SCRIPTED), "vllm-0.6.5").notes == ()
    assert summarize(trial(record(*SCRIPT, usage=TokenUsage(7, 3))), "vllm-0.6.5").notes == (
        "Total input tokens: counted by the server (usage) in 1 of 1 requests",
        "Total generated tokens: counted by the server (usage) in 1 of 1 requests",
    )


def test_percentiles_are_those_asked_for():
    keys = [metric.key for metric in metric_rows((50, 99.9)) if metric.group == "ttft"]
    assert keys == ["mean_ttft_ms", "median_ttft_ms", "p50_ttft_ms", "p99.9_ttft_ms"]
    values = summarize(TWO, percentiles=(50, 99.9)).values
    assert values["p50_ttft_ms"] == 30
    assert values["p99.9_ttft_ms"] == pytest.approx(39.98)
    assert "p99_ttft_ms" not in values


# --- from due and from sent -----------------------------------------------------------------------

LATE = trial(
    record((30, "text"), (50, "done"), index=0, due_ns=0, sent_ns=10 * MS, usage=TokenUsage(1, 1)),
    record(
        (160, "text"), (180, "text"), (190, "done"), index=1, due_ns=100 * MS, sent_ns=130 * MS, usage=TokenUsage(1, 2)
    ),
    record(index=2, outcome="timeout", due_ns=100 * MS, sent_ns=180 * MS, done_ns=500 * MS),
    record(index=3, outcome="cancelled", due_ns=100 * MS, sent_ns=None, done_ns=500 * MS),
)
OPEN_LOOP = [metric.key for metric in METRICS if metric.group == "open_loop"]


def test_every_latency_is_given_from_due_and_from_sent():
    values = summarize(LATE).values
    # Sent 10 and 30 ms late. First token after 20 and 30 ms, last token after 20 and 50 ms.
    assert values["mean_ttft_ms"] == 25
    assert values["mean_ttft_from_due_ms"] == values["median_ttft_from_due_ms"] == 45
    assert values["p99_ttft_from_due_ms"] == pytest.approx(59.7)
    assert values["mean_latency_from_sent_ms"] == values["mean_e2el_ms"] == 35
    assert values["mean_latency_from_due_ms"] == 55
    assert values["p99_latency_from_due_ms"] == pytest.approx(79.5)


def test_lateness_is_of_all_that_was_sent_failures_too():
    values = summarize(LATE).values
    assert values["mean_lateness_ms"] == 40  # 10, 30 and 80
    assert values["median_lateness_ms"] == 30
    assert values["p99_lateness_ms"] == pytest.approx(79)


def test_what_was_due_at_no_time_has_no_latency_from_due():
    values = summarize(TWO).values
    assert [values[key] for key in OPEN_LOOP] == [None] * 12


@pytest.mark.parametrize("dialect", ["vllm-0.6.5", "vllm-0.33"])
def test_vllm_has_no_latency_from_due(dialect):
    assert {summarize(LATE, dialect).values[key] for key in OPEN_LOOP} == {None}


# --- memory ---------------------------------------------------------------------------------------

GIB = 1024**3


def test_memory_is_the_highest_sum_at_one_moment():
    samples = (
        Sample(1, "nvidia", "gpu_memory_bytes", 3 * GIB, pid=1, device="0"),
        Sample(1, "nvidia", "gpu_memory_bytes", 2 * GIB, pid=1, device="1"),
        Sample(2, "nvidia", "gpu_memory_bytes", 4 * GIB, pid=1, device="0"),
        Sample(2, "process", "pss_bytes", 64 * GIB),
    )
    summary = summarize(trial(SCRIPTED, samples=samples))
    assert summary.values["memory_gib"] == 5
    assert summary.notes == ("Memory Usage: peak GPU memory of the engine's processes",)
    assert summary.memory_quantity == "gpu_memory_bytes"


def test_memory_without_a_gpu_is_pss_then_rss():
    pss = (Sample(1, "process", "pss_bytes", 1.5 * GIB), Sample(2, "process", "pss_bytes", GIB))
    rss = (Sample(1, "process", "rss_bytes", 9 * GIB),)
    assert summarize(trial(SCRIPTED, samples=rss + pss)).values["memory_gib"] == 1.5
    assert summarize(trial(SCRIPTED, samples=pss)).notes == ("Memory Usage: peak PSS of the engine's process tree",)
    assert summarize(trial(SCRIPTED, samples=rss)).values["memory_gib"] == 9
    assert summarize(trial(SCRIPTED, samples=(Sample(1, "nvidia", "gpu_power_w", 300.0),))).values["memory_gib"] is None


# --- speculation and cache ------------------------------------------------------------------------


def test_draft_rows_come_from_the_servers_timings():
    drafting = trial(
        record(
            *SCRIPT, timings=ServerTimings(predicted_n=101, draft_n=100, draft_n_accepted=60)
        ),  # 100 tokens, 40 steps
        record(*SCRIPT, timings=ServerTimings(predicted_n=21, draft_n=20, draft_n_accepted=10)),  # 20 tokens, 10 steps
        record(*SCRIPT, timings=ServerTimings(predicted_n=500)),
        record(*SCRIPT, outcome="cut", timings=ServerTimings(predicted_n=50, draft_n=999, draft_n_accepted=1)),
    )
    values = summarize(drafting).values
    assert values["drafted_tokens"] == 120
    assert values["accepted_tokens"] == 70
    assert values["acceptance_rate_percent"] == pytest.approx(58.3333, abs=1e-3)
    assert values["mean_accepted_length"] == pytest.approx(619 / 549)  # (120 + 499) tokens in (50 + 499) steps


def test_without_drafting_the_draft_rows_are_unknown():
    values = summarize(trial(record(*SCRIPT, timings=ServerTimings(predicted_n=5)))).values
    draft_rows = [metric.key for metric in METRICS if metric.group == "draft"]
    assert [values[key] for key in draft_rows] == [None] * 6
    nothing = summarize(trial(record(*SCRIPT, timings=ServerTimings(predicted_n=1, draft_n=0, draft_n_accepted=0))))
    assert [nothing.values[key] for key in draft_rows] == [0, 0, None, None, None, None]


def test_cached_tokens_come_from_timings_or_usage():
    cached = trial(
        record(*SCRIPT, timings=ServerTimings(cache_n=31), usage=TokenUsage(cached_tokens=99)),
        record(*SCRIPT, usage=TokenUsage(cached_tokens=4)),
    )
    assert summarize(cached).values["cached_prompt_tokens"] == 35
    assert summarize(trial(SCRIPTED)).values["cached_prompt_tokens"] is None


def test_peaks_are_of_whole_seconds_from_the_first_sending():
    second = 1000
    busy = trial(
        record((500, "text"), (900, "text"), (1.5 * second, "text"), (1600, "done"), index=0),
        record((1700, "text"), (1800, "text"), (2000, "done"), index=1, sent_ns=600 * MS),
    )
    values = summarize(busy, "vllm-0.33").values
    assert values["max_output_tokens_per_s"] == 3  # 1.5, 1.7 and 1.8 s
    assert values["max_concurrent_requests"] == 2


# --- properties -----------------------------------------------------------------------------------

UNIT_POWERS = {"ms": 1, "s": 1, "req/s": -1, "tok/s": -1, "char/s": -1}  # of time, in which a unit scales
NOT_SCALING = {"max_output_tokens_per_s", "max_concurrent_requests"}  # they are made of whole seconds
NOT_SCALING |= {m.key for m in METRICS if m.group == "tokens" and "chunk_gap" not in m.key}  # a burst is within 1 ms

kinds = st.sampled_from(["role", "text", "reasoning", "tool", "empty"])
gaps_ns = st.integers(1, 10**7)


@st.composite
def records(draw, index: int = 0) -> RequestRecord:
    sent_ns = at_ns = draw(gaps_ns)
    events = []
    for gap_ns, kind in draw(st.lists(st.tuples(gaps_ns, kinds), max_size=6)):
        at_ns += gap_ns
        events.append(Event(at_ns, kind, draw(st.sampled_from(["", "x"])) if kind == "text" else ""))
    events.append(Event(at_ns + draw(gaps_ns), "done"))
    return RequestRecord(
        index=index,
        request_id="r",
        measured=True,
        outcome=draw(st.sampled_from(["ok", "ok", "ok", "cut", "no_tokens"])),
        due_ns=draw(st.none() | st.integers(0, sent_ns)),
        sent_ns=sent_ns,
        done_ns=events[-1].at_ns + draw(gaps_ns),
        events=tuple(events),
        usage=draw(st.none() | st.builds(TokenUsage, *[st.none() | st.integers(0, 99)] * 3)),
        timings=draw(
            st.none() | st.builds(ServerTimings, cache_n=st.integers(0, 9), predicted_n=st.none() | st.integers(0, 99))
        ),
        our_tokens=draw(st.none() | st.integers(0, 99)),
    )


trials = st.lists(records(), max_size=4).map(lambda found: trial(*found))


def slowed(of: Trial, factor: int) -> Trial:
    return msgspec.structs.replace(of, records=tuple(_slowed_record(record, factor) for record in of.records))


def _slowed_record(of: RequestRecord, factor: int) -> RequestRecord:
    events = tuple(Event(event.at_ns * factor, event.kind, event.text) for event in of.events)
    due_ns = None if of.due_ns is None else of.due_ns * factor
    slow = {"due_ns": due_ns, "sent_ns": of.sent_ns * factor, "done_ns": of.done_ns * factor, "events": events}
    return msgspec.structs.replace(of, **slow)


@settings(max_examples=50)  # each computes all metrics twice: 0.2 s
@given(st.sampled_from(DIALECTS), trials, st.integers(2, 100), st.sampled_from(["openai-chat", "openai"]))
def test_a_metric_scales_with_time_as_its_unit_says(dialect, of, factor, api):
    of = slowed(of, MS)  # whether two pieces came at once is a matter of milliseconds
    before, after = summarize(of, dialect, api=api).values, summarize(slowed(of, factor), dialect, api=api).values
    for metric in METRICS:
        if metric.key not in NOT_SCALING:
            value = before[metric.key]
            if value is not None:
                value = pytest.approx(value * factor ** UNIT_POWERS.get(metric.unit, 0), rel=1e-9)
            assert after[metric.key] == value, metric.key


@given(of=trials)
def test_a_statistic_is_none_exactly_where_nothing_is_there_to_take_it_of(of):
    of = slowed(of, MS)
    values = summarize(of).values
    timings = [timing for record in of.records if (timing := request_timing(record))]
    assert (values["mean_ttft_ms"] is None) == (not timings)
    streamed = [timing for timing in timings if timing.latency_ns > timing.ttft_ns]
    assert (values["median_itl_ms"] is None) == (not streamed)
    assert values["p99_tpot_ms"] is None or any(timing.tpot_ns is not None for timing in streamed)
    assert not any(math.isnan(value) for value in values.values() if value is not None)


def test_keys_and_labels_are_unique():
    assert len({metric.key for metric in METRICS}) == len({metric.label for metric in METRICS}) == len(METRICS)


def test_a_trial_that_was_cut_off_early_has_numbers_and_no_warning():
    """Most draws of its prompts hold no request that was ever sent."""
    never_sent = [record(index=i, outcome="cancelled", sent_ns=None, done_ns=50 * MS) for i in range(1, 6)]
    found = summarize_view(view(trial(SCRIPTED, *never_sent)), with_replicates=True)
    assert found.values["completed"] == 1
    assert found.values["output_throughput"] == pytest.approx(60.0)  # 3 tokens in the 50 ms until all had ended

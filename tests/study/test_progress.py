"""How far a plan is, by hand."""

import pytest

from inferometer.cli.progress_display import Standing, is_drawn, sentence
from inferometer.core.plan import Plan
from inferometer.core.record import Event, Outcome, RequestRecord, Sample, TokenUsage
from inferometer.study.progress import (
    FindingRaised,
    PlanReady,
    ProgressCounter,
    RequestsProgress,
    Settling,
    TrialBegan,
    TrialEnded,
)

S = 1_000_000_000
MIB = 1024**2


def record(index: int, ttft_ms: int, outcome: Outcome = "ok", tokens: int = 10, error: str = "") -> RequestRecord:
    events = (Event(1000 + ttft_ms * 1_000_000, "text", "a"),) if outcome == "ok" else ()
    usage = TokenUsage(5, tokens) if outcome == "ok" else None
    return RequestRecord(index, f"r{index}", True, outcome, None, 1000, S, events=events, error=error, usage=usage)


def test_what_has_ended_is_counted_with_its_tokens_and_the_median_ttft():
    counter = ProgressCounter("draft", 5)
    for index, ttft_ms in enumerate([300, 100, 200]):
        assert counter.add_record(record(index, ttft_ms)) == ""
    counter.tick(2, 41)
    progress = counter.progress(2 * S)
    assert (progress.ended, progress.failed, progress.total, progress.in_flight) == (3, 0, 5, 2)
    assert (progress.tokens, progress.reads, progress.ttft_ns) == (30, 41, 200_000_000)
    assert not counter.is_complete


def test_the_first_failure_of_each_kind_is_told():
    counter = ProgressCounter("draft", 4)
    assert counter.add_record(record(0, 1, "http_error", error="503 busy")) == "a request failed (http_error): 503 busy"
    assert counter.add_record(record(1, 1, "http_error", error="503 busy")) == ""
    assert counter.add_record(record(2, 1, "timeout", error="10 s")) == "a request failed (timeout): 10 s"
    assert counter.add_record(record(3, 1, "cancelled")) == ""
    progress = counter.progress(S)
    assert (progress.ended, progress.failed) == (3, 3)  # what an interrupt cancelled has neither ended nor failed


def test_memory_and_power_are_sums_of_the_newest_readings():
    counter = ProgressCounter("draft", 1)
    counter.add_samples(
        [
            Sample(1 * S, "smaps", "pss_bytes", 100.0, pid=1),
            Sample(2 * S, "smaps", "pss_bytes", 120.0, pid=1),
            Sample(2 * S, "smaps", "pss_bytes", 30.0, pid=2),
            Sample(2 * S, "nvml", "power_w", 90.0, device="0"),
            Sample(2 * S, "nvml", "power_w", 95.0, device="1"),
            Sample(2 * S, "nvml", "temperature_c", 40.0, device="1"),
        ]
    )
    progress = counter.progress(0)
    assert (progress.memory_bytes, progress.power_w, progress.ttft_ns) == (150.0, 185.0, None)


def test_a_process_that_is_no_more_is_not_counted():
    counter = ProgressCounter("draft", 1)
    counter.add_samples(
        [Sample(1 * S, "smaps", "rss_bytes", 100.0, pid=1), Sample(20 * S, "smaps", "rss_bytes", 7.0, pid=2)]
    )
    assert counter.progress(0).memory_bytes == 7.0


# --- what is drawn --------------------------------------------------------------------------------


def playing(ended: int, elapsed_s: float, tokens: int, **more) -> RequestsProgress:
    return RequestsProgress("draft", ended, 0, 10, 2, tokens, tokens, round(elapsed_s * S), **more)


def test_a_trial_is_three_lines():
    standing = Standing([])
    standing.heard(TrialBegan("draft", 2, 4, 6, 3), 100.0)
    assert standing.lines(101.5) == [
        "draft, trial 2 of 3 (4 of 6 in all)",
        "  starting the engine, 1.5 s",
    ]
    standing.heard(playing(1, 2.0, 20), 104.0)
    standing.heard(playing(4, 8.0, 140, ttft_ns=345_000_000, memory_bytes=512 * MIB, power_w=143.2), 110.0)
    assert standing.lines(110.0) == [
        # this trial takes 10 s so far and 12 s more; two like it follow
        "draft, trial 2 of 3 (4 of 6 in all), 56.0 s left",
        "  [#########---------------] 4/10 requests, 2 in flight, 12.0 s left",
        "  20.0 tok/s now, 17.5 overall, TTFT 345 ms (median), memory 512.0 MiB, 143 W",
    ]
    assert standing.heard(TrialEnded("draft", 2, ""), 122.0) == (
        "draft #2: 4 requests in 8.0 s, 17.5 tok/s, TTFT 345 ms (median), memory 512.0 MiB, 143 W"
    )
    assert standing.lines(123.0) == []


def test_with_interleaved_requests_the_rate_is_of_the_arm_s_own_turns():
    """It worked 2 s of the 8 s in which the arms took turns."""
    standing = Standing([])
    standing.heard(TrialBegan("a", 1, 1, 2), 0.0)
    for at_s, tokens in ((2.0, 20), (8.0, 140)):
        standing.heard(playing(4, at_s, tokens, worked_ns=2 * S), at_s)
    assert standing.lines(8.0)[-1].strip() == "70.0 tok/s in its turns"


def test_now_is_the_last_three_seconds():
    standing = Standing([])
    standing.heard(TrialBegan("a", 1, 1, 1), 0.0)
    for at_s, tokens in ((1.0, 100), (2.0, 200), (6.0, 220), (8.0, 240)):
        standing.heard(playing(1, at_s, tokens), at_s)
    assert standing.now_per_s() == pytest.approx(10.0)


def test_what_was_noticed_is_said_for_good():
    standing = Standing([])
    assert standing.heard(FindingRaised("not valid: the draft was never used."), 0.0) == (
        "! not valid: the draft was never used."
    )
    assert standing.heard(PlanReady(Plan((), None, 1), ("12 entries were too long",)), 0.0) == (
        "note: 12 entries were too long"
    )
    assert sentence(FindingRaised("x")) == "  ! x"


def test_settling_is_shown_between_trials():
    standing = Standing([])
    standing.heard(Settling("30 s to go"), 0.0)
    assert standing.lines(0.0) == ["settling: 30 s to go"]


def test_only_a_terminal_that_can_move_its_cursor_is_drawn_on():
    assert is_drawn({"TERM": "xterm-256color"})
    assert not any(map(is_drawn, ({}, {"TERM": "dumb"}, {"TERM": "xterm", "CI": "true"})))

"""How far a plan is, by hand."""

import re

import pytest

from inferometer.analysis.live_difference import AnsweredRequest
from inferometer.cli import progress_display
from inferometer.cli.progress_display import display, is_drawn, sentence
from inferometer.cli.standings import Standings
from inferometer.core.plan import Plan
from inferometer.core.record import Event, Outcome, RequestRecord, Sample, TokenUsage
from inferometer.core.spec import Arm, Spec
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


def test_memory_has_grown_since_the_last_reading_of_pss_as_rss_has():
    counter = ProgressCounter("draft", 1)
    read = (("pss_bytes", 1, 100.0), ("rss_at_pss_bytes", 1, 130.0), ("rss_bytes", 1, 130.0), ("rss_bytes", 4, 630.0))
    counter.add_samples([Sample(at_s * S, "/proc", name, value) for name, at_s, value in read])
    assert counter.progress(0).memory_bytes == 600.0


def test_a_process_that_is_no_more_is_not_counted():
    counter = ProgressCounter("draft", 1)
    counter.add_samples(
        [Sample(1 * S, "smaps", "rss_bytes", 100.0, pid=1), Sample(20 * S, "smaps", "rss_bytes", 7.0, pid=2)]
    )
    assert counter.progress(0).memory_bytes == 7.0


# --- what is shown ---------------------------------------------------------------------------------


def playing(ended: int, elapsed_s: float, tokens: int, arm: str = "draft", **more) -> RequestsProgress:
    return RequestsProgress(arm, ended, 0, 10, 1, tokens, tokens, round(elapsed_s * S), **more)


def answers(*times_s: float, tokens: int = 10) -> tuple[AnsweredRequest, ...]:
    return tuple(AnsweredRequest(index, tokens, round(took_s * S)) for index, took_s in enumerate(times_s))


def test_a_trial_is_one_line_below_the_round_and_the_time_left():
    standings = Standings()
    standings.heard(TrialBegan("draft", 2, 4, 6, 3), 100.0)
    assert standings.lines(101.5) == [
        "round 2 of 3, the time left is known soon",
        "  draft  starting the engine, 1.5 s",
    ]
    standings.heard(playing(4, 8.0, 140, ttft_ns=345_000_000, memory_bytes=512 * MIB, power_w=143.2), 110.0)
    # 4 of 10 requests took 8 s, so 12 s are left of this trial, which takes 22 s; two like it follow
    assert standings.lines(110.0) == [
        "round 2 of 3, about 56 s left",
        "  draft  [####--------]   4/10  17.5 tok/s  TTFT 345 ms  512.0 MiB  143 W",
    ]
    assert standings.lines(110.0, width=40)[1] == "  draft   4/10  17.5 tok/s"
    assert standings.heard(TrialEnded("draft", 2, ""), 122.0) == (
        "draft #2: 4 requests in 8.0 s, 17.5 tok/s, TTFT 345 ms (median), memory 512.0 MiB, 143 W"
    )
    assert standings.lines(123.0) == []


def in_turns(failed: bool = False) -> Standings:
    """Two arms that take turns: the second one needs a quarter more time for each of four prompts, a little more or
    less for some."""
    arms = {name: Arm(engine="embedded", model="m.gguf") for name in ("plain", "slow")}
    standings = Standings(Spec(arms=arms))
    for position, arm in enumerate(arms, 1):
        standings.heard(TrialBegan(arm, 1, position, 6, 3), 0.0)
    standings.heard(playing(4, 9.0, 40, "plain", answered=answers(1.0, 1.0, 1.0, 1.0)), 10.0)
    standings.heard(playing(4, 9.0, 40, "slow", answered=answers(1.2, 1.3, 1.25, 1.25)), 10.0)
    if failed:
        standings.heard(TrialEnded("slow", 1, "died"), 10.0)
    return standings


def test_arms_that_take_turns_are_compared_as_they_go_and_timed_by_their_own_requests():
    head, plain, slow = in_turns().lines(10.0)
    # 8 of 20 requests took 9 s, so 13.5 s are left of this round, which takes 23.5 s; two like it follow
    assert head == "round 1 of 3, about 1 min 00 s left"
    assert plain == "  plain  [####--------]   4/10  10.0 tok/s"
    assert re.fullmatch(r"  slow   \[####--------\]   4/10  8.0 tok/s  −20\.0% \(−2\d\.\d\.\.−1\d\.\d\)", slow)


def test_the_answers_of_a_failed_trial_are_in_no_difference():
    assert in_turns().difference_text("slow") != ""
    assert in_turns(failed=True).difference_text("slow") == ""


def test_what_was_noticed_is_said_for_good():
    standings = Standings()
    assert standings.heard(FindingRaised("not valid: the draft was never used."), 0.0) == (
        "! not valid: the draft was never used."
    )
    assert standings.heard(PlanReady(Plan((), None, 1), ("12 entries were too long",)), 0.0) == (
        "note: 12 entries were too long"
    )
    assert sentence(FindingRaised("x"), standings) == "  ! x"


def test_settling_is_shown_between_trials():
    standings = Standings()
    standings.heard(Settling("30 s to go"), 0.0)
    assert standings.lines(0.0) == ["settling: 30 s to go"]


def test_plain_lines_show_one_estimate_and_the_time_left(capsys: pytest.CaptureFixture[str]):
    with display(quiet=False, spec=None) as show:
        show(TrialBegan("draft", 1, 1, 6, 3))
        show(playing(5, 8.0, 140))
        show(playing(10, 16.0, 280))
    shown = capsys.readouterr().err
    assert shown.count("estimate: the study takes about") == 1
    assert re.search(r"draft: 10/10 requests, 17.5 tok/s; about .* left in all\n", shown)


def test_an_arm_that_waits_for_another_engine_gets_no_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress_display, "_LINE_EVERY_S", 0.0)
    with display(quiet=False, spec=None) as show:
        show(TrialBegan("draft", 1, 1, 6, 3))
        show(RequestsProgress("draft", 0, 0, 10, 0, 0, 0, S))
        assert "requests" not in capsys.readouterr().err
        show(RequestsProgress("draft", 0, 0, 10, 1, 0, 0, 2 * S))
        assert "0/10 requests" in capsys.readouterr().err


def test_only_a_terminal_that_can_move_its_cursor_is_drawn_on():
    assert is_drawn({"TERM": "xterm-256color"})
    assert not any(map(is_drawn, ({}, {"TERM": "dumb"}, {"TERM": "xterm", "CI": "true"})))

"""Bursts and stalls of answers whose every token's time is known."""

import pytest

from inferometer.report.page.token_times import MOST_BURSTS, MOST_REQUESTS, timelines


def test_tokens_of_one_moment_are_a_burst_and_a_long_gap_is_a_stall(make):
    """Gaps of 0.1 ms are within a burst; 10 ms are a step; 100 ms, over three times the median step, a stall."""
    words = ("a", "b", "c", "d", "e", "f")
    record = make.record(words=words, ttft_ms=50, gaps_ms=(10, 0.1, 10, 100, 10))
    (shown,) = timelines([make.case("arm", make.trial([record]))]).shown
    (lane,) = shown.lanes
    assert lane.bursts == ((50.0, 1.0), (60.1, 2.0), (70.1, 1.0), (170.1, 1.0), (180.1, 1.0))
    assert lane.stalls == ((70.1, 170.1),) and shown.longest_stall_ms == pytest.approx(100.0)
    assert (shown.request, shown.kind, lane.tokens) == ("r0", "python, write", 6)


def test_every_arm_has_a_lane_of_its_first_done_trial_and_a_failed_answer_says_how(make):
    good = make.case("good", make.trial([make.record()], 1, state="failed"), make.trial([make.record(ttft_ms=70)], 2))
    bad = make.case("bad", make.trial([make.failed()]))
    (shown,) = timelines([good, bad]).shown
    assert [(lane.arm, lane.trial, lane.outcome, len(lane.bursts)) for lane in shown.lanes] == [
        ("good", 2, "ok", 4),
        ("bad", 1, "http_error", 0),
    ]


def test_of_many_requests_some_can_be_chosen_and_the_worst_stall_is_among_them(make):
    records = [make.record(i, gaps_ms=(10, 10, 500 if i == 77 else 10)) for i in range(200)]
    found = timelines([make.case("arm", make.trial(records))])
    assert (len(found.shown), found.total) == (MOST_REQUESTS, 200)
    names = [one.request for one in found.shown]
    assert "r0" in names and "r199" in names and "r77" in names


def test_a_very_long_answer_has_neighbouring_bursts_joined_and_says_so(make):
    count = 2 * MOST_BURSTS + 1
    (shown,) = timelines([make.case("arm", make.trial([make.record(words=("w",) * count)]))]).shown
    (lane,) = shown.lanes
    assert (lane.joined, len(lane.bursts), lane.tokens) == (3, 801, count)

"""What each token took, where several came at once; the expected numbers are written by hand."""

from typing import Any

import pytest

from inferometer.core.record import Event, RequestRecord, ServerTimings, TokenUsage, Trial
from inferometer.metrics.measures import RequestView
from inferometer.metrics.request_measures import chunk_gap_ns, token_gap_ns
from inferometer.metrics.request_timing import request_timing
from inferometer.metrics.summary import summarize, view
from inferometer.metrics.token_latency import delivery
from inferometer.metrics.trial_measures import stalls

MS = 1_000_000


def record(*chunks: Any, usage: int | None = None, **fields) -> RequestRecord:
    """Chunks of text with their times in ms and, where the server told, their tokens."""
    events = tuple(Event(round(at * MS), "text", *more) for at, *more in chunks)
    counted = None if usage is None else TokenUsage(7, usage)
    return RequestRecord(0, "r", True, "ok", None, 0, events[-1].at_ns, events=events, usage=counted, **fields)


def seen(found: RequestRecord) -> RequestView:
    return RequestView(found, request_timing(found))


BURSTS = record((20, "a"), (60, "b"), (60.02, "c"), (60.04, "d"), (60.06, "e"), (100, "f"), (100.01, "g"), usage=7)
"""A step of 40.06 ms that brought four tokens, and one of 39.95 ms that brought two."""


def test_a_burst_shares_its_gap_among_its_tokens():
    found = delivery(BURSTS)
    assert [(burst.at_ns / MS, burst.tokens) for burst in found.bursts] == [(20, 1), (60.06, 4), (100.01, 2)]
    assert found.source == "usage"
    assert [gap / MS for gap in found.token_gaps_ns] == pytest.approx([10.015] * 4 + [19.975] * 2)


def test_chunk_gaps_are_what_the_screen_shows():
    assert [round(gap / MS, 2) for gap in chunk_gap_ns(seen(BURSTS))] == [40, 0.02, 0.02, 0.02, 39.94, 0.01]


def test_the_time_is_the_same_however_it_is_shared():
    """All gaps of chunks, and all of tokens, add up to the time from the first to the last output."""
    assert sum(chunk_gap_ns(seen(BURSTS))) == pytest.approx(sum(token_gap_ns(seen(BURSTS)))) == 80.01 * MS


def test_a_chunk_of_several_tokens_counts_them_by_the_servers_word():
    """As vLLM sends an accepted draft: one chunk, whose ids or running usage tell how many tokens it brought."""
    told = delivery(record((20, "a", 1), (60, "b c d", 3), (100, "e f", 2), usage=6))
    assert [burst.tokens for burst in told.bursts] == [1, 3, 2]
    assert told.source == "token ids"
    assert [gap / MS for gap in told.token_gaps_ns] == pytest.approx([40 / 3] * 3 + [20] * 2)


def test_where_only_the_total_is_known_chunks_share_it_by_length():
    found = delivery(record((20, "aa"), (60, "bbbbbb"), (100, "cccc"), usage=6))
    assert [burst.tokens for burst in found.bursts] == [1, 3, 2]
    assert found.source == "shared by length"


@pytest.mark.parametrize(
    "stated",
    [(0, 0, 0, 4, 1, 1), (1, 1, 1, 0, 0, 0), (21, 1, 1, 1, 1, 1), (0, 2, 0, 2, 0, 2)],
    ids=["from the fourth on", "up to the third", "with the prompt", "in every second"],
)
def test_counts_that_do_not_say_what_each_chunk_brought_are_left_out(stated: tuple[int, ...]):
    found = delivery(record(*((20 * at, "a", count) for at, count in enumerate(stated, 1)), usage=6))
    assert [burst.tokens for burst in found.bursts] == [1] * 6
    assert found.source == "usage"


def test_pieces_that_are_parts_of_a_token_share_it():
    """As a proxy sends them that passes on one character after the other."""
    found = delivery(record(*((20 * token + part / 100, "a") for token in (1, 2, 3) for part in range(5)), usage=3))
    assert [burst.tokens for burst in found.bursts] == pytest.approx([1, 1, 1])
    assert [gap / MS for gap in found.token_gaps_ns] == pytest.approx([20, 20])


def test_the_end_token_brings_no_text_and_makes_no_chunk_two():
    found = delivery(record((20, "a"), (60, "b"), usage=3))
    assert [burst.tokens for burst in found.bursts] == [1, 1]


def test_without_a_count_every_chunk_is_a_token_and_the_source_says_so():
    assert delivery(record((20, "a"), (60, "b"))).source == "output events"
    assert delivery(record((20, "a"), (60, "b"), timings=ServerTimings(predicted_n=2))).source == "timings"


def test_a_stall_is_a_gap_of_more_than_three_times_the_median():
    steady = record((10, "a"), (20, "b"), (30, "c"), (40, "d"), (70, "e"), usage=5)  # 10 10 10 30
    stalled = record((10, "a"), (20, "b"), (30, "c"), (40, "d"), (71, "e"), usage=5)  # 10 10 10 31
    assert stalls(view(Trial("a", 1, "done", 0, (steady,)))) == 0
    values = summarize(Trial("a", 1, "done", 0, (stalled,))).values
    assert values["stalls"] == 1
    assert values["stall_time_percent"] == pytest.approx(100 * 31 / 61)
    assert values["tokens_per_burst"] == 1


def test_the_seeds_artefact_is_in_the_chunk_gaps_and_not_in_the_time_per_token():
    """Bursts of five: the median gap between chunks is almost zero and the P99 five times a token's time."""
    chunks = [(50 * step + 0.02 * token, "x") for step in range(1, 21) for token in range(5)]
    values = summarize(Trial("a", 1, "done", 0, (record(*chunks, usage=100),))).values
    assert values["median_chunk_gap_ms"] == values["median_itl_ms"] == pytest.approx(0.02)
    assert values["p99_chunk_gap_ms"] == pytest.approx(49.92)
    assert values["median_itl_per_token_ms"] == pytest.approx(10.0)
    assert values["p99_itl_per_token_ms"] == pytest.approx(10.0)


def test_a_failed_request_has_no_delivery():
    assert delivery(RequestRecord(0, "r", True, "refused", None, None, 5)) is None

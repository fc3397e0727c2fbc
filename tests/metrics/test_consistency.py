"""A number that a known fact refutes is named, and honest answers raise nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.record import Event, RequestRecord, ServerTimings, TokenUsage
from inferometer.core.request import Request, user_request
from inferometer.metrics.consistency import contradictions

MS = 1_000_000
WORDS = ("Hello", " world", ",", " this", " is", " a", " test", " of", " it", ".")
ASKED = user_request("r", "Please write a short sentence that is a test.", max_tokens=16)


def answer(*pieces: str, gap_ms: int = 10, done: bool = True, **fields) -> RequestRecord:
    events = [Event((50 + gap_ms * i) * MS, "text", piece) for i, piece in enumerate(pieces or WORDS)]
    if done:
        events.append(Event(events[-1].at_ns, "done"))
    return RequestRecord(1, "r", True, "ok", None, 0, events[-1].at_ns, events=tuple(events), **fields)


def about(record: RequestRecord, request: Request = ASKED) -> set[str]:
    return {found.about for found in contradictions(record, request)}


@pytest.mark.parametrize(
    ("usage", "refuted"),
    [
        (TokenUsage(12, 100), "output_tokens"),  # ten times the truth: more than the limit
        (TokenUsage(12, 0), "output_tokens"),
        (TokenUsage(12, -7), "output_tokens"),
        (TokenUsage(12, 3), "output_tokens"),  # fewer than the pieces of text
        (TokenUsage(0, 10), "prompt_tokens"),
        (TokenUsage(-1, 10), "prompt_tokens"),
        (TokenUsage(4000, 10), "prompt_tokens"),
        (TokenUsage(12, 10, 13), "cached_tokens"),
        (TokenUsage(12, 10, -1), "cached_tokens"),
    ],
)
def test_a_count_that_the_text_or_the_limit_refutes_is_named(usage: TokenUsage, refuted: str):
    assert about(answer(usage=usage)) == {refuted}


def test_more_tokens_than_bytes_are_refuted_without_a_limit_too():
    record = answer("Yes", usage=TokenUsage(12, 60))
    assert about(record, user_request("r", "Is it?")) == {"output_tokens"}


LONG_PROMPT = "Explain in your own words why the sea is salt, and the sky blue."


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (LONG_PROMPT, {"first_token", "token_times"}),
        (f"\n{LONG_PROMPT[:50]}", {"first_token", "token_times"}),
        (f"{LONG_PROMPT}\n\nThe sea", {"first_token", "token_times"}),
        (LONG_PROMPT[:40], set()),
        (f"You ask: {LONG_PROMPT}", set()),
    ],
    ids=["the prompt", "its beginning", "the prompt and more", "a part of a sentence", "a quotation"],
)
def test_an_echo_of_the_prompt_is_no_first_token(first: str, found: set[str]):
    assert about(answer(first, " because", " rain"), user_request("r", LONG_PROMPT)) == found


@pytest.mark.parametrize(
    "numbers",
    [
        {"timings": ServerTimings(99_999, 1)},
        {"usage": TokenUsage(None, 1, 99_999)},
        {"usage": TokenUsage(99_999, 1, 99_999)},
    ],
    ids=["timings", "without the prompt's", "of as many"],
)
def test_more_cached_tokens_than_the_prompt_has_bytes_are_refuted(numbers: dict[str, Any]):
    assert "cached_tokens" in about(answer("Yes", **numbers), user_request("r", "Is it?"))


@pytest.mark.parametrize(
    ("timings", "refuted"),
    [
        (ServerTimings(0, 12, 1.0, 10, 9.0, 8, 9), "draft_counts"),
        (ServerTimings(0, 12, 1.0, 10, 9.0, 8, -7), "draft_counts"),
        (ServerTimings(0, 12, 1.0, 10, 9.0, 40, 20), "draft_counts"),
        (ServerTimings(0, 12, 1.0, 15, 9.0), "output_tokens"),  # usage says 10
        (ServerTimings(-3, 12, 1.0, 10, 9.0), "cached_tokens"),
    ],
)
def test_two_numbers_of_one_server_that_exclude_each_other_are_named(timings: ServerTimings, refuted: str):
    assert about(answer(usage=TokenUsage(12, 10), timings=timings)) == {refuted}


def test_a_prompt_of_which_only_a_part_was_read_is_named():
    long = user_request("r", "word " * 1000)
    assert about(answer(usage=TokenUsage(64, 10)), long) == {"prompt_tokens"}
    assert about(answer(usage=TokenUsage(1030, 10)), long) == set()


def test_text_after_the_end_of_the_stream_is_named():
    record = answer()
    late = (*record.events, Event(300 * MS, "text", "more"))
    assert about(RequestRecord(1, "r", True, "ok", None, 0, 300 * MS, events=late)) == {"token_times"}


@pytest.mark.parametrize("blank", [" ", "\n", "\n\n"])
def test_a_blank_that_only_keeps_the_connection_is_not_a_first_token(blank: str):
    events = [
        Event(10 * MS, "text", blank),
        *(Event((900 + 10 * i) * MS, "text", word) for i, word in enumerate(WORDS)),
    ]
    record = RequestRecord(1, "r", True, "ok", None, 0, 1000 * MS, events=tuple(events))
    assert about(record) == {"first_token"}


@pytest.mark.parametrize(
    "record",
    [
        answer(usage=TokenUsage(12, 10)),
        answer(usage=TokenUsage(12, 11), timings=ServerTimings(0, 12, 1.0, 10, 9.0, 8, 4)),  # the end token counts once
        answer("Yes", usage=TokenUsage(40, 2)),
        answer("\n\n", *WORDS, usage=TokenUsage(12, 11)),  # a model's own line break
        answer(*"Hello world", usage=TokenUsage(12, 2)),  # a proxy that streams characters
        answer("1", "2", "3", usage=TokenUsage(12, 4)),
        answer("你", "好", usage=TokenUsage(12, 3)),
        answer(usage=TokenUsage(12, 10, 12)),
        answer(),
    ],
)
def test_honest_answers_contradict_nothing(record: RequestRecord):
    assert about(record) == set()


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=20), st.integers(0, 2))
def test_one_token_for_each_piece_of_text_is_never_refuted(pieces: list[str], end: int):
    record = answer(*pieces, gap_ms=1, usage=TokenUsage(12, len(pieces) + end))
    assert "output_tokens" not in about(record, user_request("r", "any"))

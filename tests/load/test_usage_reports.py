"""Token counts, reasoning and several answers, as servers of other APIs put them into a stream."""

import json
from typing import Any

import pytest

from inferometer.load.event_decoding import OUTPUT_OF, EventReader

COUNTS = {"prompt_tokens": 7, "completion_tokens": 3}


def choice(delta: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, **fields}]}


def read(*chunks: dict[str, Any]) -> EventReader:
    reader = EventReader()
    reader.read_events([(0, b"", json.dumps(one).encode()) for one in chunks], OUTPUT_OF["openai-chat"], 0)
    return reader


@pytest.mark.parametrize(
    "chunks",
    [
        [{"choices": [], "usage": COUNTS}],
        [{"choices": [], "usage": COUNTS}, {"choices": [], "usage": {}}],
        [{"choices": [], "usage": COUNTS}, {"choices": [], "usage": dict.fromkeys(COUNTS)}],
        [{"choices": [], "x_groq": {"id": "x", "usage": COUNTS}}],
        [choice({}, usage=COUNTS)],
        [choice({}, usage=COUNTS, finish_reason=3)],
        [{"choices": [], "usage": {"input_tokens": 7, "output_tokens": 3}}],
        [{"choices": [], "usage": {"input_tokens": 7}}, {"choices": [], "usage": {"output_tokens": 3}}],
    ],
    ids=["OpenAI", "then empty", "then null", "Groq", "in the choice", "next to an odd reason", "Responses", "in two"],
)
def test_counts_are_read_under_each_name_and_at_each_place(chunks: list[dict[str, Any]]):
    usage = read(choice({"content": "hi"}), *chunks).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_tokens_details": {"cached_tokens": 4}},
        {"input_tokens_details": {"cached_tokens": 4}},
        {"cached_tokens": 4},
        {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 3},
        {"cache_read_input_tokens": 4},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_tokens_from_the_prefix_cache_are_read_under_each_name(fields: dict[str, Any]):
    usage = read(choice({"content": "hi"}), {"choices": [], "usage": {**COUNTS, **fields}}).usage
    assert usage is not None
    assert usage.cached_tokens == 4


@pytest.mark.parametrize(
    "details",
    [
        [{"type": "reasoning.text", "text": "hm"}],
        [{"type": "reasoning.summary", "summary": "h"}, {"type": "reasoning.summary", "summary": "m"}],
        "hm",
    ],
    ids=["text", "summary", "a text alone"],
)
def test_reasoning_in_details_is_output(details: Any):
    events = read(choice({"content": "", "reasoning_details": details}), choice({"content": "yes"})).events()
    assert [(one.kind, one.text) for one in events] == [("reasoning", "hm"), ("text", "yes")]


def said(*indices: int) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": "a"}} for index in indices]}


@pytest.mark.parametrize(
    "chunks",
    [[said(0), said(1), said(0), said(1)], [said(0), said(0), said(1), said(1)], [said(0, 1), said(0, 1)]],
    ids=["in turn", "one after the other", "in one chunk"],
)
def test_several_answers_to_one_prompt_are_no_answer(chunks: list[dict[str, Any]]):
    assert "several answers" in read(*chunks).problem


@pytest.mark.parametrize("indices", [(0, 0, 0), (1, 2, 3), (None, None, 0)], ids=["OpenAI", "TGI", "at the end"])
def test_one_answer_may_have_any_indices(indices: tuple[int | None, ...]):
    reader = read(*(choice({"content": "a"}, index=index) for index in indices), choice({}, index=indices[-1]))
    assert (reader.problem, reader.events().text) == ("", "aaa")

"""A report that is no number is unknown, and the answer's text stays."""

import json
from typing import Any

import pytest

from inferometer.load.event_decoding import OUTPUT_OF, EventReader

TEXT: dict[str, Any] = {"choices": [{"delta": {"content": "hi"}, "finish_reason": None}]}


def read(*chunks: str) -> EventReader:
    reader = EventReader()
    reader.read_events([(0, b"", one.encode()) for one in chunks], OUTPUT_OF["openai-chat"], 0)
    return reader


@pytest.mark.parametrize(
    "count", ["null", '"n/a"', '""', "12.5", "true", "[3]", "1e30", "NaN", "-Infinity", "{}", str(10**40)]
)
def test_a_count_that_is_no_whole_number_is_unknown(count: str):
    reader = read(json.dumps(TEXT), f'{{"choices": [], "usage": {{"completion_tokens": {count}, "prompt_tokens": 7}}}}')
    if count == str(10**40):  # a number, and no machine could reach it
        assert reader.problem
        return
    assert (reader.problem, reader.server_error, reader.events().text) == ("", "", "hi")
    assert reader.usage is not None
    assert (reader.usage.completion_tokens, reader.usage.prompt_tokens) == (None, 7)


@pytest.mark.parametrize(
    "usage", ['"none"', "[]", "0", '{"prompt_tokens_details": []}', '{"prompt_tokens_details": 3}']
)
def test_a_usage_in_another_form_reports_nothing(usage: str):
    reader = read(json.dumps(TEXT), f'{{"choices": [], "usage": {usage}}}')
    assert (reader.problem, reader.events().text) == ("", "hi")


@pytest.mark.parametrize(
    "fields",
    [{"model": 7}, {"model": {"id": "x"}}, {"object": 3}, {"timings": []}, {"timings": {"predicted_n": "x"}}]
    + [{"error": nothing} for nothing in (None, {}, "", False)],
)
def test_odd_fields_next_to_text_leave_the_text(fields: dict[str, Any]):
    reader = read(json.dumps({**TEXT, **fields}))
    assert (reader.problem, reader.server_error, reader.events().text) == ("", "", "hi")


@pytest.mark.parametrize("reason", [1, {"type": 7}, ["stop"]])
def test_a_finish_reason_that_is_no_text_is_unknown(reason: Any):
    reader = read(json.dumps({"choices": [{"delta": {"content": "hi"}, "finish_reason": reason}]}))
    assert (reader.problem, reader.finish_reason, reader.events().text) == ("", None, "hi")

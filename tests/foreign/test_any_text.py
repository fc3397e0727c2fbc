"""Whatever a file holds, a reader gives runs, says that it is none of its tool's, or refuses it in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferometer.base.errors import RequestWrong
from inferometer.core.record import Trial
from inferometer.foreign import readers
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.readers import READERS
from inferometer.metrics.rows import metric_rows
from inferometer.metrics.summary import summarize

RECORDED = {
    path.name: path.read_text()
    for path in sorted((Path(__file__).parent / "recorded").glob("*.json*"))
    if not path.name.startswith("llama-bench-")
}
KEYS = {row.key for row in metric_rows((50, 90, 95, 99, 99.9))}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just(10**400),
)


def read(text: str) -> None:
    """Fails where a reader does anything else than it may."""
    for runs_of in READERS.values():
        try:
            found = runs_of(text, "a")
        except RequestWrong:
            continue
        for run in found or ():
            check(run)


def check(run: ForeignRun) -> None:
    assert run.values.keys() >= run.differs.keys()
    summary = summarize(Trial("", 1, "done", plan_started_ns=0, records=run.records))
    assert not run.records or run.keys_from_records <= KEYS
    assert summary.requests <= len(run.records)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [found for key, one in inner for found in places(one, (*path, key))]


def put(value: Any, path: tuple, new: Any) -> Any:
    """The value with another one at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_file_is_of_one_tool(name):
    found = [tool for tool, runs_of in READERS.items() if runs_of(RECORDED[name], "a") is not None]
    assert [tool.partition("'")[0].lower() for tool in found] == [
        name.partition("-")[0] if not name.startswith("llama") else "llama-benchy"
    ]
    assert {key for run in readers.read(RECORDED[name], "a") or () for key in run.values} <= KEYS


@given(st.text())
def test_any_text_is_of_no_tool_or_refused(text):
    read(text)


@given(st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)))
def test_any_json_is_of_no_tool_or_refused(value):
    read(json.dumps(value))


@pytest.mark.parametrize("name", RECORDED)
@given(data=st.data())
@settings(max_examples=15)
def test_a_file_that_was_cut_off_is_of_no_tool_or_refused(name, data):
    text = RECORDED[name]
    read(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize("name", RECORDED)
@given(data=st.data())
@settings(max_examples=40)
def test_a_file_with_anything_in_any_place_is_read_or_refused(name, data):
    text = RECORDED[name]
    values = [json.loads(text)] if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(values) - 1))
        values[at] = put(values[at], data.draw(st.sampled_from(places(values[at]))), data.draw(ODD))
    read("\n".join(json.dumps(value) for value in values))


def test_a_text_that_is_nested_without_end_is_of_no_tool():
    assert readers.read('{"a":' * 100_000, "a") is None

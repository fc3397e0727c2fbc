"""Servers that send an answer in another form than events with a blank line between: the numbers are the same."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from inferometer.core.schedule import Closed
from inferometer.core.spec import Arm, Spec
from inferometer.core.workload_settings import Builtin
from inferometer.results.read import Study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.testing.scripted_server import (
    Close,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    delta,
    inference_server,
    whole,
)

WORDS = [f" word{i}" for i in range(8)]
GAP_S = 0.02
USAGE = {"prompt_tokens": 40, "completion_tokens": len(WORDS)}
CHUNKS: list[Any] = [
    *(delta(word) for word in WORDS),
    delta(finish="length"),
    {"model": "scripted", "choices": [], "usage": USAGE},
]


def lines(form: Callable[[str], str], content_type: str, last: str = "") -> Callable[[], Iterable[Step]]:
    """Each chunk in a form, paced, until the server closes the connection."""

    def answer() -> Iterable[Step]:
        yield Send(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode())
        for value in CHUNKS:
            yield Wait(GAP_S)
            yield Send(form(json.dumps(value)).encode())
        yield Send(last.encode())
        yield Close()

    return answer


def at_once(content_type: str = "application/json", begin: str = "") -> Callable[[], Iterable[Step]]:
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    body = begin + json.dumps({"model": "scripted", "choices": [choice], "usage": USAGE}, indent=1)
    return lambda: [Wait(8 * GAP_S), whole(200, body, content_type)]


EVENTS = "text/event-stream"
STREAMED = {
    "plain text": lines("data: {}\n\n".format, "text/plain", "data: [DONE]\n\n"),
    "JSON's content type": lines("data: {}\n\n".format, "application/json", "data: [DONE]\n\n"),
    "no blank lines": lines("data: {}\n".format, EVENTS, "data: [DONE]\n"),
    "no blank lines, CRLF": lines("data: {}\r\n".format, EVENTS, "data: [DONE]\r\n"),
    "a JSON object a line": lines("{}\n".format, "application/x-ndjson"),
    "CRLF": lines("data: {}\r\n\r\n".format, EVENTS, "data: [DONE]\r\n\r\n"),
    "no space": lines("data:{}\n\n".format, EVENTS, "data:[DONE]\n\n"),
    "comments": lines(": keep-alive\n\ndata: {}\n\n:\n\n".format, EVENTS, "data: [DONE]\n\n"),
    "comments under another type": lines(":ping\n\ndata: {}\n\n".format, "text/plain"),
    "a byte-order mark": lambda: [
        Send(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\n\r\n\ufeff".encode()),
        *list(lines("data: {}\n\n".format, EVENTS)())[1:],
    ],
    "no [DONE]": lines("data: {}\n\n".format, EVENTS),
    "named events": lines("event: message\ndata: {}\n\n".format, EVENTS),
    "an id and a time to retry": lines("id: 7\nretry: 10\ndata: {}\n\n".format, EVENTS),
}
AT_ONCE = {"JSON": at_once(), "JSON as text": at_once("text/plain"), "JSON with a mark": at_once(begin="\ufeff")}


def study_of(form: Callable[[], Iterable[Step]], folder: Path) -> Study:
    def answer(request: Received) -> Iterable[Step]:
        return inference_server()(request) if request.method == "GET" else form()

    with ScriptedServer(answer) as server:
        spec = Spec(
            arms={"a": Arm(engine="external", url=server.url, model="scripted")},
            workload=Builtin(num_prompts=2, max_tokens=len(WORDS)),
            schedule=Closed(1),
            tokenizer="none",
            trials=1,
            warmups=0,
        )
        list(run := run_study(spec, folder))
    assert run.study is not None
    return run.study


@pytest.mark.parametrize("form", STREAMED)
def test_a_stream_in_another_form_has_the_same_tokens_and_times(form: str, tmp_path: Path):
    study = study_of(STREAMED[form], tmp_path / "s")
    records = [record for record in study.trials[0].records if record.measured]
    assert [record.error for record in records] == ["", ""]
    for record in records:
        assert record.text == "".join(WORDS)
        assert record.usage is not None
        assert record.usage.completion_tokens == len(WORDS)
        assert len(record.outputs_ns) == len(WORDS)
        assert len(set(record.outputs_ns)) > len(WORDS) // 2
        assert record.outputs_ns[0] - (record.sent_ns or 0) < record.outputs_ns[-1] - record.outputs_ns[0]


@pytest.mark.parametrize("form", AT_ONCE)
def test_a_server_that_does_not_stream_has_no_time_per_token_and_a_finding(form: str, tmp_path: Path):
    study = study_of(AT_ONCE[form], tmp_path / "s")
    found = comparison_of([study], "inferometer")
    values = {row.metric: row.values["a"] for row in found.rows}
    assert values["completed"] == 2
    assert (values.get("mean_tpot_ms"), values.get("median_itl_ms")) == (None, None)
    assert (values["output_throughput"] or 0) > 0
    assert "not-streamed" in {one.code for one in found.findings}

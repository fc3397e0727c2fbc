"""The whole load path against a real HTTP server on a script: what is sent, when, and what becomes of each answer."""

import itertools
import socket
import time
from collections.abc import Callable, Iterable

import pytest

from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import Started, play
from inferometer.load.audit import LoadReport
from inferometer.load.worker_pool import local_workers
from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Close,
    Received,
    ScriptedAnswer,
    ScriptedServer,
    Send,
    Step,
    Wait,
    chat_stream,
    chunk,
    delta,
    event,
    inference_server,
    whole,
)


def a_plan(count: int, concurrency: int | None = 1, due_ns: list[int] | None = None, warmups: int = 0) -> Plan:
    items = [PlanItem(i, user_request(f"warm{i}", f"warm {i}", max_tokens=2), None, False) for i in range(warmups)]
    items += [
        PlanItem(warmups + i, user_request(f"r{i}", f"prompt {i}", max_tokens=5), None if due_ns is None else due_ns[i])
        for i in range(count)
    ]
    return Plan(tuple(items), concurrency, seed=1)


def played(
    server_url: str, plan: Plan, sampling: Sampling | None = None, dialect: str = "openai-chat", **endpoint: str
) -> tuple[list[RequestRecord], int, LoadReport]:
    path = endpoint.pop("path", "/v1/chat/completions")
    where = Endpoint(server_url, path, dialect, "scripted", headers=endpoint)
    records: list[RequestRecord] = []
    started, cost = None, None
    with local_workers() as crew:
        for happening in play(plan, where, sampling or Sampling(), time.monotonic_ns(), crew):
            match happening:
                case RequestRecord():
                    records.append(happening)
                case Started():
                    started = happening.at_ns
                case LoadReport():
                    cost = happening
                case _:
                    pass
    assert started is not None
    assert cost is not None
    return sorted(records, key=lambda record: record.index), started, cost


def one(answer: Callable[[Received], Iterable[Step]]) -> RequestRecord:
    """The record of a single request answered by `answer`."""
    with ScriptedServer(answer) as server:
        records, _, _ = played(server.url, a_plan(1))
    assert len(records) == 1
    return records[0]


def test_a_stream_is_recorded_event_by_event_with_its_times():
    record = one(lambda _: chat_stream(["a", "b", "c"], first_s=0.05, gap_s=0.02))
    assert record.outcome == "ok"
    assert record.text == "abc"
    assert [e.kind for e in record.events] == ["role", "text", "text", "text", "empty", "usage", "done"]
    times = [e.at_ns for e in record.events if e.kind == "text"]
    assert times[0] - record.sent_ns >= 50_000_000
    assert all(later - earlier >= 19_000_000 for earlier, later in itertools.pairwise(times))
    assert record.usage is not None
    assert record.usage.completion_tokens == 3
    assert record.finish_reason == "stop"
    assert record.connected_ns < record.sent_ns < record.first_byte_ns <= record.done_ns


def test_warm_ups_are_answered_before_the_clock_starts_and_are_marked():
    with ScriptedServer(inference_server()) as server:
        records, started, _ = played(server.url, a_plan(3, warmups=2))
    assert [record.measured for record in records] == [False, False, True, True, True]
    assert all(record.done_ns < started for record in records[:2])
    assert all(record.sent_ns >= started for record in records[2:])
    assert [r.body["messages"][0]["content"] for r in server.received] == [
        "warm 0",
        "warm 1",
        "prompt 0",
        "prompt 1",
        "prompt 2",
    ]


def test_a_closed_loop_keeps_to_its_concurrency_and_to_its_connections():
    with ScriptedServer(inference_server(tokens=3, first_s=0.02)) as server:
        records, _, _ = played(server.url, a_plan(12, concurrency=3))
    edges = sorted([(r.sent_ns, 1) for r in records] + [(r.done_ns, -1) for r in records])
    under_way = peak = 0
    for _, step in edges:
        under_way += step
        peak = max(peak, under_way)
    assert peak == 3
    assert len({r.connection for r in server.received}) == 3
    assert all(r.outcome == "ok" for r in records)


def test_an_open_loop_sends_when_due_whether_or_not_answers_have_come():
    due = [0, 30_000_000, 40_000_000, 100_000_000]
    with ScriptedServer(inference_server(tokens=2, first_s=0.2)) as server:
        records, started, _ = played(server.url, a_plan(4, concurrency=None, due_ns=due))
    assert [r.due_ns - started for r in records] == due
    assert all(r.sent_ns >= r.due_ns for r in records)
    assert records[3].sent_ns < records[0].done_ns


def test_a_cap_on_concurrency_holds_back_due_requests_and_shows_it():
    with ScriptedServer(inference_server(tokens=1, first_s=0.05)) as server:
        records, _, _ = played(server.url, a_plan(3, concurrency=1, due_ns=[0, 0, 0]))
    assert records[2].sent_ns - records[2].due_ns >= 100_000_000


@pytest.mark.parametrize("dialect", ["openai-chat", "openai"])
def test_the_body_is_what_the_api_asks_for(dialect: str):
    with ScriptedServer(lambda _: chat_stream(["a"])) as server:
        played(server.url, a_plan(1), Sampling(extra_body={"top_k": 1, "ignore_eos": None}), dialect, Authorization="k")
    (request,) = server.received
    assert request.headers["authorization"] == "k"
    assert request.headers["accept-encoding"] == "identity"
    common = {
        "model": "scripted",
        "temperature": 0.0,
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 1,
    }
    if dialect == "openai":
        assert request.body == common | {"prompt": "prompt 0"}
    else:
        messages = [{"role": "user", "content": "prompt 0"}]
        assert request.body == common | {"messages": messages}


CUT = [Send(STREAM_HEAD + chunk(event(delta("a")))), Wait(0.05), Close()]


@pytest.mark.parametrize(
    ("steps", "outcome", "said"),
    [
        (CUT, "cut", "closed in the middle"),
        ([Send(STREAM_HEAD + chunk(event(delta("a")))), Wait(0.05), Close(reset=True)], "cut", "reset"),
        ([Close()], "cut", "without an answer"),
        ([whole(404, '{"error": {"message": "File Not Found"}}')], "http_error", "HTTP 404: File Not Found"),
        ([whole(503, "overloaded", "text/plain")], "http_error", "overloaded"),
        ([whole(200, "<html>hello</html>", "text/html")], "bad_stream", "<html>hello"),
        ([Send(STREAM_HEAD + chunk(b"data: what?\n\n") + STREAM_END)], "bad_stream", "what?"),
        ([Send(STREAM_HEAD + STREAM_END)], "no_tokens", "without a token"),
        (
            [Send(STREAM_HEAD + chunk(event({"error": {"message": "out of slots"}})) + STREAM_END)],
            "server_error",
            "slots",
        ),
        ([Send(b"SSH-2.0-OpenSSH_9.2\r\n"), Close()], "bad_stream", "not HTTP"),
    ],
)
def test_every_bad_answer_has_its_outcome_and_its_evidence(steps: list[Step], outcome: str, said: str):
    record = one(lambda _: steps)
    assert record.outcome == outcome
    assert said in record.error


def test_a_stream_without_done_and_one_that_ends_with_the_connection_are_whole():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    assert one(lambda _: [Send(STREAM_HEAD + chunk(event(delta("a"))) + STREAM_END)]).outcome == "ok"
    assert one(lambda _: [Send(head + event(delta("a")) + event("[DONE]")), Close()]).outcome == "ok"


def test_reasoning_and_tool_calls_are_output():
    def answer(_: Received) -> Iterable[Step]:
        thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
        call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}
        return [Send(STREAM_HEAD + chunk(event(thought)) + chunk(event(call)) + chunk(event("[DONE]")) + STREAM_END)]

    record = one(answer)
    assert [(e.kind, e.text) for e in record.events] == [("reasoning", "hm"), ("tool", "f{}"), ("done", "")]
    assert record.outcome == "ok"
    assert record.text == ""
    assert record.coalesced == 1


def test_timings_and_cached_tokens_are_kept():
    timings = {"cache_n": 2, "prompt_n": 5, "predicted_n": 1, "draft_n": 4, "draft_n_accepted": 3}
    record = one(lambda _: chat_stream(["a"], extra={"timings": timings}))
    assert record.timings is not None
    assert (record.timings.cache_n, record.timings.draft_n, record.timings.draft_n_accepted) == (2, 4, 3)


def test_a_connection_that_the_server_closed_while_idle_costs_no_request():
    def answer(request: Received) -> Iterable[Step]:
        yield from chat_stream(["a"])
        yield Close()

    with ScriptedServer(answer) as server:
        records, _, _ = played(server.url, a_plan(5))
    assert [record.outcome for record in records] == ["ok"] * 5
    assert len(server.received) == 5


def dropping(seconds: float, every: int = 2, *, reset: bool = False) -> ScriptedAnswer:
    """Works for `seconds` on each `every`-th request, and then drops its connection without an answer."""
    seen = itertools.count(1)

    def answer(_: Received) -> Iterable[Step]:
        if next(seen) % every == 0:
            return [Wait(seconds), Close(reset=reset)]
        return chat_stream(["a"])

    return answer


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("seconds", [1.0, 0.15])
def test_a_request_that_the_server_worked_on_and_dropped_has_failed(seconds: float, reset: bool):
    with ScriptedServer(dropping(seconds, reset=reset)) as server:
        records, _, _ = played(server.url, a_plan(4))
    assert [record.outcome for record in sorted(records, key=lambda one: one.index)] == ["ok", "cut"] * 2
    assert len(server.received) == 4
    assert not any(record.resent for record in records)


def test_a_request_that_is_sent_again_was_sent_at_the_first_time():
    with ScriptedServer(dropping(0)) as server:
        records, _, _ = played(server.url, a_plan(2))
    again = max(records, key=lambda one: one.index)
    assert (again.outcome, again.resent, len(server.received)) == ("ok", 1, 3)
    assert again.sent_ns is not None
    assert again.connected_ns is not None
    assert again.sent_ns < again.connected_ns


def test_a_timeout_of_an_idle_connection_answers_no_request():
    """Some servers send 408 before they close an idle connection."""

    def answer(_: Received) -> Iterable[Step]:
        yield from chat_stream(["a"])
        yield Send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        yield Close()

    with ScriptedServer(answer) as server:
        records, _, _ = played(server.url, a_plan(3))
    assert [record.outcome for record in records] == ["ok"] * 3


def test_a_timeout_that_meets_the_next_request_lets_it_be_sent_again():
    seen = itertools.count(1)

    def answer(_: Received) -> Iterable[Step]:
        if next(seen) == 2:
            return [Send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), Close()]
        return chat_stream(["a"])

    with ScriptedServer(answer) as server:
        records, _, _ = played(server.url, a_plan(2))
    assert [(record.outcome, record.resent) for record in sorted(records, key=lambda one: one.index)] == [
        ("ok", 0),
        ("ok", 1),
    ]


def test_nothing_answers():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    records, _, _ = played(f"http://127.0.0.1:{port}", a_plan(3))
    assert [record.outcome for record in records] == ["refused"] * 3


def test_a_stopped_load_accounts_for_every_request():
    with ScriptedServer(inference_server(tokens=1, first_s=5)) as server:
        where = Endpoint(server.url, "/v1/chat/completions", "openai-chat", "scripted")
        records: list[RequestRecord] = []
        with local_workers() as crew:
            for happening in play(a_plan(10, concurrency=2), where, Sampling(), time.monotonic_ns(), crew):
                if isinstance(happening, RequestRecord):
                    records.append(happening)
                if len(server.received) == 2:
                    crew.stop()
    assert sorted(r.index for r in records) == list(range(10))
    assert {r.outcome for r in records} == {"cancelled"}
    assert sum(r.sent_ns is not None for r in records) == 2


def test_a_large_prompt_goes_out_whole():
    plan = Plan((PlanItem(0, user_request("big", "x" * 3_000_000, max_tokens=1), None),), 1, 1)
    with ScriptedServer(inference_server()) as server:
        records, _, _ = played(server.url, plan)
    assert records[0].outcome == "ok"
    assert len(server.received[0].body["messages"][0]["content"]) == 3_000_000


def a_delta(fields: str) -> bytes:
    return chunk(b'data: {"choices":[{"delta":{%s}}]}\n\n' % fields.encode())


@pytest.mark.parametrize(
    ("deltas", "events"),
    [
        # A text that is more than a text: the chunk looks like the others at both ends, and is not.
        (
            ['"content":"a"', '"content":"b","x":"c"', '"content":"d"'],
            [("text", "a"), ("text", "b"), ("text", "d")],
        ),
        (
            ['"content":"a"', '"content":"\\n\\"q\\" \\u00fc"', '"content":"ü"'],
            [("text", "a"), ("text", '\n"q" ü'), ("text", "ü")],
        ),
        # An empty thought is no output, whatever the chunk before it was.
        (
            ['"reasoning":"a"', '"reasoning":""', '"reasoning":"b"'],
            [("reasoning", "a"), ("empty", ""), ("reasoning", "b")],
        ),
    ],
)
def test_chunks_that_only_look_like_the_one_before_are_read_as_they_are(
    deltas: list[str], events: list[tuple[str, str]]
):
    body = b"".join(map(a_delta, deltas)) + chunk(event("[DONE]")) + STREAM_END
    record = one(lambda _: [Send(STREAM_HEAD + body)])
    assert record.outcome == "ok", record.error
    assert [(e.kind, e.text) for e in record.events] == [*events, ("done", "")]

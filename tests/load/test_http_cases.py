"""HTTP as servers speak it: each way of answering ends in the right outcome, through the real load path.

All cases are requests of one plan against one scripted server, so each also shows that the one before left no harm.
"""

import array
import gzip
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import play
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.wire import Exchange
from inferometer.load.worker_pool import local_workers
from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Close,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    chunk,
    delta,
    event,
)

pytestmark = pytest.mark.usefixtures("way")

PLAIN_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
DONE = event("[DONE]")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
A, B, FINISH = event(delta("a")), event(delta("b")), event(delta(finish="stop"))


def choice(**fields: object) -> bytes:
    """An event whose only choice has this delta."""
    return event({"choices": [{"index": 0, "delta": fields}]})


def chunked(*events: bytes, head: bytes = STREAM_HEAD, end: bytes = STREAM_END) -> bytes:
    return head + b"".join(map(chunk, events)) + end


def whole_message(text: str) -> bytes:
    return event({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


def as_lines(*events: bytes) -> bytes:
    return b"".join(one.removeprefix(b"data: ").rstrip() + b"\n" for one in events)


def cut_at(data: bytes, edges: Iterable[int]) -> list[bytes]:
    return [data[a:b] for a, b in itertools.pairwise(sorted({0, len(data), *edges}))]


# --- answers that are whole -----------------------------------------------------------------------


class Good(msgspec.Struct, frozen=True):
    """Steps, the kinds of their events in order by first letters, and the answer's text."""

    steps: list[Step]
    kinds: str = "ttd"
    text: str = "ab"


def slowly(pieces: Iterable[bytes], seconds: float) -> list[Step]:
    return [step for piece in pieces for step in (Send(piece), Wait(seconds))]


ROLE = event(delta(role="assistant"))
LONG = chunked(ROLE, *(event(delta(token)) for token in ["é", " 🙂", "\n", "漢字"]), FINISH, USAGE, DONE)
LONG_KINDS, LONG_TEXT = "rtttteud", "é 🙂\n漢字"
RAW_UTF8 = f"data: {json.dumps(delta('é🙂'), ensure_ascii=False)}\n\n".encode()
CRLF = (A + B + DONE).replace(b"\n", b"\r\n")
TWO_LINES = b'data: {"choices": [{"delta":\ndata:  {"content": "ab"}}]}\n\n'
CALLS = choice(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]) + choice(
    tool_calls=[{"index": 0, "function": {"arguments": '{"x"'}}, {"index": 1, "function": None}]
)
NULLS = event({"choices": [{"delta": None}], "error": None, "usage": None})
HTTP_1_0 = PLAIN_HEAD.replace(b"1.1", b"1.0") + b"\r\n"
UNTIL_CLOSE = PLAIN_HEAD + b"Connection: close\r\n\r\n"

GOOD = {
    "one byte at a time": Good([Send(bytes([byte])) for byte in LONG], LONG_KINDS, LONG_TEXT),
    "random cuts": Good(
        slowly(cut_at(LONG, random.Random(1).sample(range(len(LONG)), 25)), 0.001), LONG_KINDS, LONG_TEXT
    ),
    "chunks that end inside characters": Good(
        [Send(chunked(*cut_at(RAW_UTF8 + DONE, range(0, len(RAW_UTF8), 5))))], "td", "é🙂"
    ),
    "several events in one read": Good([Send(chunked(A, B, DONE))]),
    "several events in one chunk": Good([Send(chunked(A + B + DONE))]),
    "CRLF": Good([Send(chunked(CRLF))]),
    "CRLF cut between its halves": Good(slowly(cut_at(chunked(CRLF), [chunked(CRLF).index(b"\n\r\ndata")]), 0.01)),
    "chunks cut between CRLF's halves": Good([Send(chunked(*cut_at(CRLF, [CRLF.index(b"\n\r\ndata")])))]),
    "LF and CRLF in turn": Good([Send(chunked(A, B.replace(b"\n", b"\r\n"), DONE))]),
    "comments": Good([Send(chunked(b": ping\n\n", A, b":\n\n: and\n", B, b": OPENROUTER PROCESSING\n\n", DONE))]),
    "data in several lines": Good([Send(chunked(TWO_LINES, DONE))], "td"),
    "names, ids and retry times": Good([Send(chunked(b"event: chunk\nid: 1\n" + A, b"retry: 10\n" + B, DONE))]),
    "events without data": Good([Send(chunked(b"data:\n\n", A, b"event: ping\n\n", B, b"data: \n\n", DONE))]),
    "no blank after the colon": Good([Send(chunked(A.replace(b"data: ", b"data:"), B, b"data:[DONE]\n\n"))]),
    "a blank after [DONE]": Good([Send(chunked(A, B, b"data: [DONE] \n\n"))]),
    "no [DONE]": Good([Send(chunked(A, B, FINISH))], "tte"),
    "no last blank line": Good([Send(chunked(A, B, FINISH.rstrip()))], "tte"),
    "usage after the finish chunk": Good([Send(chunked(A, B, FINISH, USAGE, DONE))], "tteud"),
    "usage before the finish chunk": Good([Send(chunked(A, B, USAGE, FINISH, DONE))], "ttued"),
    "reasoning_content": Good([Send(chunked(choice(reasoning_content="hm", content=None), A, B, DONE))], "rttd"),
    "reasoning": Good([Send(chunked(choice(reasoning="hm", content=""), A, B, DONE))], "rttd"),
    "tool calls": Good([Send(chunked(CALLS, DONE))], "ttd", ""),
    "nulls": Good([Send(chunked(NULLS, A, B, DONE))], "ettd"),
    "HTTP/1.0 with [DONE]": Good([Send(HTTP_1_0 + A + B + DONE), Close()]),
    "HTTP/1.0 with a finish reason": Good([Send(HTTP_1_0 + A + B + FINISH), Close()], "tte"),
    "HTTP/1.0 without the last newline": Good([Send(HTTP_1_0 + A + B + FINISH.rstrip()), Close()], "tte"),
    "Connection: close with chunks": Good(
        [Send(chunked(A, B, DONE, head=STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))), Close()]
    ),
    "Connection: close with neither chunks nor length": Good([Send(UNTIL_CLOSE + A + B + DONE), Wait(0.02), Close()]),
    "reset after [DONE]": Good([Send(chunked(A, B, DONE, end=b"")), Wait(0.05), Close(reset=True)]),
    "a length": Good([Send(PLAIN_HEAD + b"Content-Length: %d\r\n\r\n" % len(A + B + DONE) + A + B + DONE)]),
    "chunk extensions": Good([Send(chunked(A, B, DONE).replace(b"\r\ndata", b";token=1\r\ndata"))]),
    "trailers": Good([Send(chunked(A, B, DONE, end=b"0\r\nContent-Type: text/plain\r\nX-Time: 1\r\n\r\n"))]),
    "100 Continue": Good([Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Wait(0.01), Send(chunked(A, B, DONE))]),
    "103 Early Hints": Good([Send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + chunked(A, B, DONE))]),
    "a content type in capitals": Good([Send(chunked(A, B, DONE).replace(b"text/event", b"Text/Event"))]),
    "a mark before each event": Good([Send(chunked(*(b"\xef\xbb\xbf" + one for one in (A, B, DONE))))]),
    "a JSON object a line, named a stream": Good([Send(chunked(as_lines(A, B)))], "tt"),
    "a whole answer, named a stream": Good([Send(chunked(as_lines(whole_message("ab"))))], "t"),
    "[DONE] in quotes": Good([Send(chunked(A, B, b'data: "[done]"\n\n'))]),
    "pings in words": Good(
        [Send(chunked(b"event: ping\ndata: 2026-01-01\n\n", A, b"event: bye\ndata: x\n\n", B))], "tt"
    ),
    "parts": Good([Send(chunked(choice(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])))], "t"),
    "parts that are texts": Good([Send(chunked(choice(content=["a", "b"])))], "t"),
    "thinking": Good([Send(chunked(choice(thinking="hm", content=""), A, B, DONE))], "rttd"),
    "a refusal": Good([Send(chunked(choice(refusal="a", content=None), choice(refusal="b"), DONE))]),
    "a function call": Good([Send(chunked(choice(function_call={"name": "f", "arguments": "{}"}), DONE))], "td", ""),
    "messages in place of deltas": Good([Send(chunked(whole_message("a"), whole_message("b"), DONE))]),
    "the whole message after its deltas": Good([Send(chunked(A, B, whole_message("ab"), DONE))], "tted"),
    "the choices of completions": Good([Send(chunked(event({"choices": [{"text": "a"}]}), B, DONE))]),
    "a named encoding that is none": Good(
        [Send(chunked(A, B, DONE).replace(b"Transfer-", b"Content-Encoding: identity\r\nTransfer-"))]
    ),
}

# --- answers that fail ----------------------------------------------------------------------------


class Bad(msgspec.Struct, frozen=True):
    """Steps, the outcome, and what its error text must hold."""

    steps: list[Step]
    outcome: str
    said: str


def hung_up(data: bytes) -> list[Step]:
    return [Send(data), Wait(0.01), Close()]


def cut(data: bytes) -> Bad:
    return Bad(hung_up(data), "cut", "closed in the middle")


def http_error(said: str, code: int, *headers: str, body: str = '{"error": {"message": "slow down"}}') -> Bad:
    lines = [f"HTTP/1.1 {code} Scripted", *headers, f"Content-Length: {len(body)}", "", body]
    return Bad([Send("\r\n".join(lines).encode())], "http_error", said)


def out_of_slots(*events: bytes) -> Bad:
    return Bad([Send(chunked(A, *events))], "server_error", "out of slots")


def bad_event(said: str, bad: bytes) -> Bad:
    return Bad([Send(chunked(A, bad, DONE))], "bad_stream", said)


def no_token(*events: bytes) -> Bad:
    return Bad([Send(chunked(*events))], "no_tokens", "without a token")


HALF_A_CHARACTER = RAW_UTF8[: RAW_UTF8.index(b"\xc3") + 1]
ERROR = {"message": "out of slots", "code": 500}
OTHER_ERRORS: list[dict[str, object]] = [
    {"code": 500, "msg": "out of slots"},
    {"error_code": 18, "error_msg": "out of slots"},
    {"errorMessage": "out of slots"},
    {"status": "error", "reason": "out of slots"},
    {"success": False, "message": "out of slots"},
    {"detail": [{"loc": ["body"], "msg": "out of slots"}]},
    {"type": "error", "error": ERROR},
    {"usage": None, "error": json.dumps({"error": ERROR})},
    {"exception": "out of slots"},
]
ZIPPED = gzip.compress(A + B + DONE)
ZIPPED = (
    b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED
)

BAD = {
    "closed in the status line": cut(b"HTTP/1.1 20"),
    "closed in the headers": cut(STREAM_HEAD[:-20]),
    "closed after 100 Continue": cut(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "closed after the headers": cut(STREAM_HEAD),
    "closed in a chunk's length": cut(STREAM_HEAD + chunk(A) + b"4"),
    "closed in a chunk": cut(STREAM_HEAD + chunk(A) + chunk(B)[:-20]),
    "closed between chunks": cut(STREAM_HEAD + chunk(A) + chunk(FINISH)),
    "closed in a character": cut(STREAM_HEAD + chunk(A) + chunk(HALF_A_CHARACTER)),
    "closed in a body with a length": cut(PLAIN_HEAD + b"Content-Length: 999\r\n\r\n" + A + B),
    "closed in JSON, without chunks": cut(UNTIL_CLOSE + A + B[:-9]),
    "closed in a character, without chunks": cut(UNTIL_CLOSE + A + HALF_A_CHARACTER),
    "closed after an event, without chunks": cut(UNTIL_CLOSE + A + B),
    "closed in the usage, without chunks": cut(UNTIL_CLOSE + A + FINISH + USAGE[:-9]),
    "closed in the body of an error": cut(b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{"),
    "429": http_error("HTTP 429 (Retry-After: 7): slow down", 429, "Retry-After: 7"),
    "503 with a date": http_error("(Retry-After: Fri, 31 Dec 2027)", 503, "retry-after: Fri, 31 Dec 2027"),
    "503 without a word": http_error("HTTP 503: nothing", 503, body=""),
    "307": http_error("HTTP 307 (Location: http://else/v1)", 307, "Location: http://else/v1", body=""),
    "401 that would colour the terminal": http_error("HTTP 401: no", 401, body='{"error": "\\u001b[31mno"}'),
    "204": Bad([Send(b"HTTP/1.1 204 No Content\r\n\r\n")], "http_error", "HTTP 204"),
    "500 that ends with the connection": Bad(hung_up(b"HTTP/1.1 500 No\r\n\r\nno memory"), "http_error", "no memory"),
    "500 in gzip": Bad([Send(b"HTTP/1.1 500 No\r\n" + ZIPPED)], "http_error", "HTTP 500: a body encoded as gzip"),
    "gzip": Bad([Send(b"HTTP/1.1 200 OK\r\n" + ZIPPED)], "bad_stream", "encoded as gzip"),
    "no chunks where it says so": Bad(hung_up(STREAM_HEAD + b"what?\r\n"), "bad_stream", "not HTTP"),
    "no chunk, and the connection's end": Bad(hung_up(UNTIL_CLOSE + A + event("what?")), "bad_stream", "what?"),
    "JSON that is no UTF-8": bad_event("utf-8", b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'),
    "half a surrogate pair": bad_event("not a chunk of this API", event(delta("\ud83d"))),
    "choices of another kind": bad_event("not a chunk of this API", event({"choices": "none"})),
    "a delta of another kind": bad_event("not a chunk of this API", choice(content=[1])),
    "a list": bad_event("[1, 2]", event([1, 2])),
    "an error object": out_of_slots(event({"error": ERROR})),
    "an error text": out_of_slots(event({"error": "out of slots"}), DONE),
    "an error by name": out_of_slots(b"event: error\n" + event(ERROR)),
    "an error by name, in plain words": out_of_slots(b"event: error\n" + event("out of slots")),
    "an error line as of llama.cpp": out_of_slots(b"error: " + json.dumps(ERROR).encode() + b"\n\n"),
    "an error as of old vLLM": out_of_slots(event({"object": "error", **ERROR}), DONE),
    **{f"an error as {list(body)}": out_of_slots(event(body)) for body in OTHER_ERRORS},
    "an error in a choice": out_of_slots(event({"choices": [{"error": ERROR, "finish_reason": "error"}]}), DONE),
    "a reason that is an object": out_of_slots(event({"choices": [{"finish_reason": {"type": "abort", **ERROR}}]})),
    "an answer that was aborted": Bad([Send(chunked(A, event(delta(finish="abort")), DONE))], "server_error", "abort"),
    "an error by another name": out_of_slots(b"event: Exception\n" + event("out of slots")),
    "an error over several lines": out_of_slots(json.dumps({"error": ERROR}, indent=2).encode()),
    "a proxy's words after a token": Bad([Send(chunked(A, b"502 Bad Gateway\n"))], "bad_stream", "502 Bad Gateway"),
    "an error and the connection's end": Bad(
        hung_up(UNTIL_CLOSE + event({"error": "out of slots"})), "server_error", "out of slots"
    ),
    "a role and no more": no_token(ROLE, FINISH, DONE),
    "usage and no more": no_token(USAGE, DONE),
    "only [DONE]": no_token(DONE),
    "an empty body": Bad([Send(PLAIN_HEAD + b"Content-Length: 0\r\n\r\n")], "no_tokens", "without a token"),
}


@pytest.fixture(scope="module")
def played(way: str) -> tuple[dict[str, RequestRecord], list[Received]]:
    """The record of each case, and all that the server received."""
    steps = {name: case.steps for name, case in itertools.chain(GOOD.items(), BAD.items())}
    items = [PlanItem(i, user_request(name, name, max_tokens=5), None) for i, name in enumerate(steps)]
    with ScriptedServer(lambda request: steps[request.body["messages"][0]["content"]]) as server:
        records = records_of(Plan(tuple(items), 1, seed=1), server)
    return {record.request_id: record for record in records}, server.received


def records_of(plan: Plan, server: ScriptedServer) -> list[RequestRecord]:
    where = Endpoint(server.url, "/v1/chat/completions", "openai-chat", "scripted")
    with local_workers() as crew:
        happenings = play(plan, where, Sampling(), time.monotonic_ns(), crew)
        return [happening for happening in happenings if isinstance(happening, RequestRecord)]


Played = tuple[dict[str, RequestRecord], list[Received]]


@pytest.mark.parametrize("name", GOOD)
def test_a_whole_answer_is_read_as_it_was_meant(played: Played, name: str):
    record = played[0][name]
    assert (record.outcome, record.error) == ("ok", "")
    assert "".join(e.kind[0] for e in record.events) == GOOD[name].kinds
    assert record.text == GOOD[name].text
    assert record.status == 200


@pytest.mark.parametrize("name", BAD)
def test_a_failed_answer_has_its_outcome_and_says_why(played: Played, name: str):
    record = played[0][name]
    assert record.outcome == BAD[name].outcome
    assert BAD[name].said in record.error
    assert record.error.isprintable()


def test_no_answer_makes_a_request_go_out_again(played: Played):
    sent = Counter(request.body["messages"][0]["content"] for request in played[1])
    assert sent == dict.fromkeys([*GOOD, *BAD], 1)


def test_compression_is_refused_in_every_request(played: Played):
    assert {request.headers["accept-encoding"] for request in played[1]} == {"identity"}


def test_details_that_a_stream_brought_are_kept(played: Played):
    records = played[0]
    for name in ("usage before the finish chunk", "usage after the finish chunk"):
        assert records[name].usage.completion_tokens == 2
        assert records[name].finish_reason == "stop"
    assert [e.text for e in records["tool calls"].events] == ["f", '{"x"', ""]
    assert [e.kind for e in records["reasoning"].events] == ["reasoning", "text", "text", "done"]
    assert records["several events in one read"].coalesced == 1
    assert records["an error object"].text == "a"


# --- an answer that does not wait for the whole request -------------------------------------------

REFUSED = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 8\r\n\r\ntoo long"


@pytest.mark.parametrize(
    ("steps", "outcome", "said"),
    [
        ([Send(REFUSED), Wait(0.2), Close()], "http_error", "HTTP 413: too long"),
        ([Send(REFUSED), Close(reset=True)], "http_error", "HTTP 413: too long"),
        (
            [Send(REFUSED.replace(b"Connection: close\r\n", b"")), Wait(0.2), Close()],
            "http_error",
            "HTTP 413: too long",
        ),
        ([Wait(0.05), Close()], "cut", ""),
    ],
    ids=["closes later", "resets at once", "promises to keep the connection", "closes without a word"],
)
def test_an_answer_before_the_whole_request_was_sent_counts(steps: list[Step], outcome: str, said: str):
    items = (
        PlanItem(0, user_request("long", "x" * 30_000_000, max_tokens=5), None),
        PlanItem(1, user_request("short", "short", max_tokens=5), None),
    )

    def answer(request: Received) -> Iterable[Step]:
        return steps if int(request.headers["content-length"]) > 1_000_000 else [Send(chunked(A, B, DONE)), Close()]

    with ScriptedServer(answer, reads_body=False) as server:
        long, short = sorted(records_of(Plan(items, 1, seed=1), server), key=lambda record: record.index)
    assert long.outcome == outcome
    assert said in long.error
    assert (short.outcome, short.text) == ("ok", "ab")
    assert short.resent == 0  # on a connection of its own, not behind half a request


# --- cuts, without a network ----------------------------------------------------------------------


@given(edges=st.lists(st.integers(0, len(LONG)), max_size=12), crlf=st.booleans())
def test_a_record_does_not_depend_on_where_the_network_cut_the_bytes(edges: list[int], crlf: bool):
    raw = chunked(CRLF, RAW_UTF8.replace(b"\n", b"\r\n")) if crlf else LONG
    whole = decoded([raw])
    assert whole.outcome == "ok"
    assert decoded(cut_at(raw, [edge for edge in edges if edge < len(raw)])) == whole


def decoded(reads: list[bytes]) -> RequestRecord:
    """The record of an exchange whose reads all have one stamp."""
    lengths = array.array("I", map(len, reads)).tobytes()
    stamps = array.array("q", [3] * len(reads)).tobytes()
    exchange = Exchange(0, "complete", 0, 1, 2, 4, raw=b"".join(reads), lengths=lengths, read_ns=stamps)
    return decode_record(exchange, arrivals(exchange), PlanItem(0, user_request("r", "p"), 0), "openai-chat", 0)

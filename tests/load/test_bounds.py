"""A server that goes on and on, sends elsewhere or compresses: the request ends with the reason, memory is bounded."""

import gzip
import http.client
import itertools
from collections.abc import Iterable, Iterator

import pytest

from inferometer.core.plan import PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.driver import Driver
from inferometer.load.sse import MAX_EVENT_BYTES, EventTooLarge, events
from inferometer.load.wire import Exchange, Job, WireRequest
from inferometer.net.http_client import MOST_BODY_BYTES, HttpAnswerTooLarge, HttpSession, ask, server_at
from inferometer.net.target import target_of
from inferometer.testing.scripted_server import (
    STREAM_HEAD,
    Received,
    ScriptedServer,
    Send,
    Step,
    chunk,
    delta,
    event,
    whole,
)

MIB = 1024**2
HEAD = b"HTTP/1.1 200 OK\r\n"


def played(steps: Iterable[Step]) -> tuple[Exchange, RequestRecord]:
    """One request to a server that answers so, with bounds of 64 KiB for the head and 1 MiB for the answer."""
    ended: list[Exchange] = []
    with ScriptedServer(lambda _: steps) as server:
        payload = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
        job = Job(target_of(server.url, {}), (), (WireRequest(0, None, payload),), 1, max_answer_bytes=MIB)
        driver = Driver(job, ended.append, lambda _: None, lambda _: None, [], kernel_stamps=False)
        driver.play(job.requests, 0, 1)
        driver.close()
    (exchange,) = ended
    item = PlanItem(0, user_request("r", "hi"), due_ns=None, measured=True)
    return exchange, decode_record(exchange, arrivals(exchange), item, "openai-chat", 0)


def endless(piece: bytes) -> Iterator[Step]:
    return itertools.repeat(Send(piece))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            itertools.chain([Send(STREAM_HEAD)], endless(chunk(event(delta("a")) * 100))),
            "its answer is larger than 1.0 MiB",
        ),
        (
            itertools.chain([Send(HEAD + b"Content-Type: text/event-stream\r\n\r\n")], endless(b"x" * 4096)),
            "its answer is",
        ),
        (itertools.chain([Send(HEAD)], endless(b"X-More: and more\r\n" * 50)), "the headers are larger than 64.0 KiB"),
        (itertools.chain([Send(HEAD + b"X-Long: ")], endless(b"y" * 4096)), "the headers are larger than 64.0 KiB"),
        (endless(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20), "the headers are larger than 64.0 KiB"),
        (itertools.chain([Send(STREAM_HEAD)], endless(b"1;" + b"e" * 4000 + b"\r\nx\r\n")), "its answer is larger"),
    ],
    ids=["events", "one line", "headers", "one header", "words before the answer", "chunk extensions"],
)
def test_an_answer_without_an_end_is_given_up_with_the_reason(steps: Iterable[Step], said: str):
    exchange, record = played(steps)
    assert (record.outcome, exchange.outcome) == ("bad_stream", "too_large")
    assert record.error.startswith(said)
    assert len(exchange.raw) <= MIB + 262_144  # what one read brings on top


def test_an_event_has_a_bound_and_those_before_it_are_given():
    long = b"data: " + b"x" * MAX_EVENT_BYTES
    for cut in ([long], [long[:MIB], *itertools.repeat(b"y" * MIB, 8)], [b"data: " + b"z" * MIB + b"\n"] * 9):
        given = events(enumerate([b"data: first\n\n", *cut, b"\n\n"]))
        assert next(given) == (0, b"", b"first")
        with pytest.raises(EventTooLarge, match=r"8\.0 MiB"):
            list(given)


def test_many_events_in_one_large_piece_are_no_large_event():
    piece = event("x" * 1000) * 20_000
    assert len(list(events([(0, b"d"), (1, b"ata: y\n\n" + piece)]))) == 20_001


def test_a_redirect_is_not_followed_and_named():
    with ScriptedServer(lambda _: [whole(200, "{}")]) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}/v1\r\nContent-Length: 0\r\n\r\n".encode()
        _, record = played([Send(moved)])
        with ScriptedServer(lambda _: [Send(moved)]) as server:
            answer = ask(server_at(server.url, {"Authorization": "Bearer sesame-key"}), "/v1/models", timeout_s=5)
    assert (record.outcome, record.status) == ("http_error", 307)
    assert f"Location: {other.url}/v1" in record.error
    assert (answer.status, answer.location) == (307, f"{other.url}/v1")
    assert other.received == []


def test_what_is_compressed_is_refused_and_not_unpacked():
    bomb = gzip.compress(bytes(50 * MIB))
    head = f"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    _, record = played([Send(HEAD + head + bomb)])
    assert record.outcome == "bad_stream"
    assert "encoded as gzip, although the request accepts no encoding" in record.error
    with ScriptedServer(lambda _: [Send(HEAD + head + bomb)]) as server:
        answer = ask(server_at(server.url, {}), "/props", timeout_s=5)
    assert (len(answer.body), answer.json) == (len(bomb), None)
    assert answer.shown == "a body encoded as gzip, though none was asked for"
    assert server.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("head", [b"Content-Type: a/b\r\n\r\n", b"Content-Length: 99999999999\r\n\r\n"])
def test_a_small_question_takes_no_large_answer(head: bytes):
    def answer(_: Received) -> Iterable[Step]:
        return itertools.chain([Send(HEAD + head)], endless(b"x" * MIB))

    with ScriptedServer(answer) as server, pytest.raises(HttpAnswerTooLarge, match=r"larger than 16\.0 MiB"):
        ask(server_at(server.url, {}), "/", timeout_s=5)
    assert MOST_BODY_BYTES == 16 * MIB


def test_a_small_question_takes_no_head_without_an_end():
    with ScriptedServer(lambda _: itertools.chain([Send(HEAD)], endless(b"X-More: and more\r\n"))) as server:
        with pytest.raises(http.client.HTTPException, match="more than 100 headers"):
            ask(server_at(server.url, {}), "/", timeout_s=5)
        conversation = HttpSession(server_at(server.url, {}), timeout_s=5)
        with pytest.raises(http.client.HTTPException):
            conversation.ask("/")
        conversation.close()


def test_what_a_server_says_of_itself_cannot_drive_a_terminal():
    said = b'{"error": {"message": "\\u001b]0;owned\\u0007\\u202eno"}}'
    head = f"Server: \x1b[2Jx\r\nContent-Length: {len(said)}\r\n\r\n".encode()
    with ScriptedServer(lambda _: [Send(b"HTTP/1.1 500 No\r\n" + head + said)]) as server:
        answer = ask(server_at(server.url, {}), "/", timeout_s=5)
    assert (answer.shown, answer.server) == ("no", "x")

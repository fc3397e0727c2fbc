"""Time limits of a request, through the real load path: which one strikes, what is kept, and who is not touched."""

import time
from collections.abc import Iterable

import pytest

from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling, Timeouts
from inferometer.load import play
from inferometer.load.event_decoding import OUTPUT_PATTERN
from inferometer.load.timeouts import TokenWatch, expired_timeout
from inferometer.load.worker_pool import local_workers
from inferometer.testing.scripted_server import (
    STREAM_HEAD,
    Close,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    chat_stream,
    chunk,
    delta,
    event,
)

STALL = Wait(60.0)
TOKEN = chunk(event(delta("a")))
ROLE = chunk(event(delta(role="assistant")))
PING = chunk(b": ping\n\n")
LIMITS = Timeouts(connect_s=5.0, first_token_s=0.4, between_tokens_s=0.8, request_s=2.5)


def trickled(data: bytes, seconds: float) -> list[Step]:
    return [step for byte in data for step in (Send(bytes([byte])), Wait(seconds))]


CASES: dict[str, tuple[list[Step], str, str, str]] = {
    "no byte": ([STALL], "timeout", "waited 0.4 s for the first token", ""),
    "stalls in the status line": ([Send(b"HTTP/1.1 2"), STALL], "timeout", "waited 0.4 s for the first token", ""),
    "stalls in the headers": ([Send(STREAM_HEAD[:-9]), STALL], "timeout", "waited 0.4 s for the first token", ""),
    "stalls after the role": ([Send(STREAM_HEAD + ROLE), STALL], "timeout", "waited 0.4 s for the first token", ""),
    "pings and no token": (
        [Send(STREAM_HEAD), *[Send(PING), Wait(0.05)] * 100],
        "timeout",
        "waited 0.4 s for the first token",
        "",
    ),
    "stalls after two tokens": (
        [Send(STREAM_HEAD + TOKEN * 2), STALL],
        "timeout",
        "waited 0.8 s for the next token",
        "aa",
    ),
    "stalls in a chunk": ([Send(STREAM_HEAD + TOKEN + TOKEN[:-9]), STALL], "timeout", "waited 0.8 s for", "a"),
    "stalls in a character": (
        [Send(STREAM_HEAD + TOKEN + chunk('data: {"choices":[{"delta":{"content":"é'.encode()[:-1])), STALL],
        "timeout",
        "waited 0.8 s for the next token",
        "a",
    ),
    "pings after a token": (
        [Send(STREAM_HEAD + TOKEN), *[Send(PING), Wait(0.05)] * 100],
        "timeout",
        "waited 0.8 s for the next token",
        "a",
    ),
    "tokens without end": (
        [Send(STREAM_HEAD), *[Send(TOKEN), Wait(0.1)] * 100],
        "timeout",
        "waited 2.5 s for the answer",
        "a" * 20,
    ),
    "a token a byte at a time": (
        [Send(STREAM_HEAD), *trickled(TOKEN, 0.001), Send(TOKEN), STALL],
        "timeout",
        "waited 0.8 s for the next token",
        "aa",
    ),
    "cut after a token": ([Send(STREAM_HEAD + TOKEN), Wait(0.05), Close()], "cut", "closed in the middle", "a"),
    "reset after a token": ([Send(STREAM_HEAD + TOKEN), Wait(0.05), Close(reset=True)], "cut", "reset by peer", "a"),
    "in time": (list(chat_stream(["a"] * 8, first_s=0.1, gap_s=0.05)), "ok", "", "a" * 8),
}


def records_of(plan: Plan, server: ScriptedServer, limits: Timeouts) -> dict[str, RequestRecord]:
    where = Endpoint(server.url, "/v1/chat/completions", "openai-chat", "scripted")
    with local_workers() as crew:
        happenings = list(play(plan, where, Sampling(), time.monotonic_ns(), crew, limits))
    return {h.request_id: h for h in happenings if isinstance(h, RequestRecord)}


def answer_of(request: Received) -> Iterable[Step]:
    return CASES[request.body["messages"][0]["content"]][0]


@pytest.fixture(scope="module")
def played() -> dict[str, RequestRecord]:
    items = tuple(PlanItem(i, user_request(name, name, max_tokens=5), None) for i, name in enumerate(CASES))
    with ScriptedServer(answer_of) as server:
        return records_of(Plan(items, None, seed=1), server, LIMITS)


@pytest.mark.parametrize("name", CASES)
def test_the_limit_that_is_passed_ends_the_request_and_what_came_is_kept(played: dict[str, RequestRecord], name: str):
    _, outcome, said, text = CASES[name]
    record = played[name]
    assert record.outcome == outcome
    assert said in record.error
    assert record.text.startswith(text)
    assert len(record.text) == len(text) or name == "tokens without end"


def test_without_limits_a_slow_server_is_waited_for():
    items = (PlanItem(0, user_request("r", "slow", max_tokens=5), None),)
    with ScriptedServer(lambda request: chat_stream(["a", "b"], first_s=0.6, gap_s=1.0)) as server:
        assert records_of(Plan(items, 1, seed=1), server, Timeouts())["r"].outcome == "ok"


def test_stalled_neighbours_do_not_touch_the_others_times():
    """Twenty answers that stall are ended while one goes on: all of its tokens have the stamps of their arrival."""
    items = tuple(PlanItem(i, user_request(f"r{i}", "stall" if i else "go", max_tokens=5), None) for i in range(21))

    def answer(request: Received) -> Iterable[Step]:
        if request.body["messages"][0]["content"] == "stall":
            return [Send(STREAM_HEAD + TOKEN), STALL]
        return chat_stream(["a"] * 40, gap_s=0.05, on_schedule=True)

    with ScriptedServer(answer) as server:
        records = records_of(Plan(items, None, seed=1), server, LIMITS)
    assert [record.outcome for record in records.values()].count("timeout") == 20
    going = records["r0"]
    assert (going.outcome, len(going.outputs_ns), going.stamp_errors) == ("ok", 40, 0)
    span_s = (going.outputs_ns[-1] - going.outputs_ns[0]) / 1e9
    assert span_s == pytest.approx(39 * 0.05, abs=0.5)  # what a busy machine's server is late by


# --- deciding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "connected", "sent_s", "token_s", "said"),
    [
        (5.0, False, None, None, ""),
        (5.1, False, None, None, "waited 5 s to connect"),
        (9.0, True, None, None, ""),
        (9.4, True, 9.0, None, ""),
        (9.5, True, 9.0, None, "waited 0.4 s for the first token"),
        (9.5, True, 9.0, 9.1, ""),
        (10.0, True, 9.0, 9.1, "waited 0.8 s for the next token"),
        (11.6, True, 9.0, 11.5, "waited 2.5 s for the answer"),
    ],
)
def test_which_limit_is_passed(at_s: float, connected: bool, sent_s: float | None, token_s: float | None, said: str):
    def ns(value: float | None) -> int | None:
        return None if value is None else round(value * 1e9)

    assert expired_timeout(LIMITS, round(at_s * 1e9), 0, connected, ns(sent_s), ns(token_s)) == said


def test_no_limit_is_never_passed():
    assert expired_timeout(Timeouts(None, None, None, None), 10**18, 0, True, 0, 0) == ""
    assert expired_timeout(Timeouts(None, None, None, None), 10**18, 0, False, None, None) == ""


@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
def test_a_token_is_seen_wherever_the_bytes_are_cut(step: int):
    import re

    raw = STREAM_HEAD + ROLE + PING + TOKEN + chunk(event(delta(finish="stop")))
    begins = raw.index(TOKEN)
    watch, seen = TokenWatch(), bytearray()
    for start in range(0, len(raw), step):
        seen += raw[start : start + step]
        watch.update(re.compile(OUTPUT_PATTERN), seen, len(seen))
    assert begins < watch.last_ns <= begins + len(TOKEN) + step

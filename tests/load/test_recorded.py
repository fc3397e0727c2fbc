"""A real server's stream decodes to the same tokens wherever the network cut its bytes."""

import array
import itertools
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.core.plan import PlanItem
from inferometer.core.record import RequestRecord, TokenUsage
from inferometer.core.request import user_request
from inferometer.load import answer_decoding
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.wire import Exchange
from inferometer.testing.scripted_server import STREAM_END, STREAM_HEAD, chunk, event

pytestmark = pytest.mark.usefixtures("way")

RECORDED = Path(__file__).parent / "recorded"
STREAMS = {
    "openai-chat": (RECORDED / "llama-cpp-b11549-chat-draft.http").read_bytes(),
    "openai": (RECORDED / "llama-cpp-b11549-completions-draft.http").read_bytes(),
}
IK_LLAMA = {name: (RECORDED / f"ik_llama-8337e4c-chat-{name}.http").read_bytes() for name in ("draft", "end-token")}


def decoded(dialect: str, cuts: list[int], stream: bytes = b"") -> RequestRecord:
    stream = stream or STREAMS[dialect]
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    lengths = [b - a for a, b in itertools.pairwise(edges)]
    exchange = Exchange(
        index=0,
        outcome="complete",
        due_ns=None,
        connected_ns=100,
        sent_ns=200,
        done_ns=1000 + len(lengths),
        raw=stream,
        lengths=array.array("I", lengths).tobytes(),
        read_ns=array.array("q", range(1000, 1000 + len(lengths))).tobytes(),
    )
    return decode_record(exchange, arrivals(exchange), PlanItem(0, user_request("r", "p"), None), dialect, zero_ns=0)


@pytest.mark.parametrize("dialect", ["openai-chat", "openai"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_the_cuts_change_nothing_but_the_times(dialect: str, cuts: list[int]):
    whole, cut = decoded(dialect, []), decoded(dialect, cuts)
    assert cut.outcome == "ok"
    assert [(e.kind, e.text) for e in cut.events] == [(e.kind, e.text) for e in whole.events]
    assert (cut.usage, cut.timings, cut.finish_reason, cut.model) == (
        whole.usage,
        whole.timings,
        whole.finish_reason,
        whole.model,
    )
    assert [e.at_ns for e in cut.events] == sorted(e.at_ns for e in cut.events)


@pytest.mark.parametrize("dialect", ["openai-chat", "openai"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_the_fast_pass_decodes_the_same_record_as_the_standard_way(dialect: str, cuts: list[int]):
    by_the_fast_pass = decoded(dialect, cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_decoding, "_decode_uniform_stream", lambda *_: None)
        by_the_standard = decoded(dialect, cuts)
    assert by_the_fast_pass == by_the_standard
    assert by_the_fast_pass.outcome == "ok"


@given(cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_ik_llama_states_usage_drafts_and_the_cached_prompt(cuts: list[int]):
    record = decoded("openai-chat", cuts, IK_LLAMA["draft"])
    assert (record.outcome, record.finish_reason, record.events[0].kind) == ("ok", "stop", "role")
    assert record.usage == TokenUsage(11, 16, 0)
    assert record.timings is not None
    assert (record.timings.predicted_n, record.timings.draft_n, record.timings.draft_n_accepted) == (16, 12, 12)


def test_an_answer_that_the_model_s_first_token_ended_names_it():
    record = decoded("openai-chat", [], IK_LLAMA["end-token"])
    assert record.outcome == "no_tokens"
    assert "the model's first token ended it" in record.error


raw_texts = st.one_of(
    st.text(max_size=6).map(lambda text: msgspec.json.encode(text)[1:-1]),
    st.sampled_from(
        (
            b" tok",
            b"",
            b"\\",
            b"a\\",
            b'x","y',
            b'\\"',
            b"\\u00e9",
            b"\n",
            b"\n\n",
            b"\x01",
            b"\x7f",
            b"\xff",
            b"z" * 4100,
        )
    ),
)


@given(st.lists(raw_texts, min_size=1, max_size=12), st.sampled_from((None, None, b"%X", b"0%x", b"%x ", b"zz")))
def test_the_fast_pass_agrees_with_the_standard_way_on_any_text_and_size(texts: list[bytes], form: bytes | None):
    """Texts as servers write them, and bytes that no server should send."""
    parts = [b'data: {"id":"1","choices":[{"delta":{"content":"' + text + b'"}}],"usage":null}\n\n' for text in texts]
    sizes = [b"%x" % len(part) for part in parts]
    if form is not None:
        sizes[-1] = form % len(parts[-1]) if b"%" in form else form
    body = b"".join(size + b"\r\n" + part + b"\r\n" for size, part in zip(sizes, parts, strict=True))
    raw = STREAM_HEAD + body + chunk(event("[DONE]")) + STREAM_END
    exchange = Exchange(
        0, "complete", None, 100, 200, 1000,
        raw=raw,
        lengths=array.array("I", [len(raw) // 2, len(raw) - len(raw) // 2]).tobytes(),
        read_ns=array.array("q", [1000, 2000]).tobytes(),
    )  # fmt: skip
    item = PlanItem(0, user_request("r", "p"), None)
    by_the_fast_pass = decode_record(exchange, arrivals(exchange), item, "openai-chat", zero_ns=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_decoding, "_decode_uniform_stream", lambda *_: None)
        by_the_standard = decode_record(exchange, arrivals(exchange), item, "openai-chat", zero_ns=0)
    assert by_the_fast_pass == by_the_standard


@pytest.mark.parametrize("dialect", ["openai-chat", "openai"])
def test_what_the_server_said_is_all_there(dialect: str):
    found = decoded(dialect, [])
    assert sum(e.kind == "text" for e in found.events) == 16
    assert found.usage is not None
    assert found.usage.completion_tokens == 16
    assert found.timings is not None
    assert (found.timings.draft_n, found.timings.draft_n_accepted) == (12, 12)
    assert found.finish_reason == "length"
    assert found.coalesced == 15  # all in one read here


# --- tokens that an event tells of, written after vLLM's documentation of the two options -----------


def answered(*extras: Mapping[str, object]) -> RequestRecord:
    """A chat answer of a chunk for each of `extras`, merged into the chunk or, `token_ids`, into its choice."""
    chunks: list[dict[str, object]] = []
    for number, extra in enumerate(extras):
        choice: dict[str, object] = {"index": 0, "delta": {"content": f" word{number}"}}
        choice |= {name: value for name, value in extra.items() if name == "token_ids"}
        chunks.append({"choices": [choice], **{k: v for k, v in extra.items() if k != "token_ids"}})
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body = b"".join(chunk(event(one)) for one in (*chunks, "[DONE]"))
    raw = STREAM_HEAD + body + STREAM_END
    read_ns = array.array("q", [1000]).tobytes()
    lengths = array.array("I", [len(raw)]).tobytes()
    exchange = Exchange(0, "complete", None, 100, 200, 1000, raw=raw, lengths=lengths, read_ns=read_ns)
    return decode_record(
        exchange, arrivals(exchange), PlanItem(0, user_request("r", "p"), None), "openai-chat", zero_ns=0
    )


def tokens(found: RequestRecord) -> list[int]:
    return [one.tokens for one in found.events if one.kind == "text"]


def test_a_chunk_tells_its_tokens_by_their_ids():
    assert tokens(answered({"token_ids": [7]}, {"token_ids": [8, 9, 10]}, {"token_ids": [11, 12]})) == [1, 3, 2]


def test_a_chunk_tells_its_tokens_by_a_running_count():
    usage = [{"usage": {"prompt_tokens": 5, "completion_tokens": count}} for count in (1, 4, 6)]
    assert tokens(answered(*usage)) == [1, 3, 2]
    timings = [{"timings": {"predicted_n": count}} for count in (1, 4, 6)]
    assert tokens(answered(*timings)) == [1, 3, 2]


def test_without_a_word_of_the_server_no_event_has_a_count():
    assert tokens(answered({}, {}, {})) == [0, 0, 0]

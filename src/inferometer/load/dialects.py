"""How is a request written for an API, and what do its answer's bytes say? Encode and decode; pure.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang speak them.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from inferometer.endpoint import Endpoint
from inferometer.load.framing import Response, response
from inferometer.load.sse import events as sse_events
from inferometer.load.wire import Exchange
from inferometer.plan import PlanItem
from inferometer.record import Event, EventKind, Outcome, RequestRecord, ServerTimings, Usage, brings_output
from inferometer.request import Request
from inferometer.spec import Sampling

_EVIDENCE_CHARS = 200


# --- encode ---------------------------------------------------------------------------------------


def body(request: Request, sampling: Sampling, dialect: str, model: str) -> dict[str, Any]:
    """The JSON object to send. The length is given under the old and the new name, as engines differ in which they
    obey; `sampling.extra_body` is merged last and a null in it takes a field out."""
    fields: dict[str, Any] = {"model": model}
    if dialect == "openai-chat":
        fields["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        fields["prompt"] = request.prompt
    if sampling.temperature is not None:
        fields["temperature"] = sampling.temperature
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
        if dialect == "openai-chat":
            fields["max_completion_tokens"] = request.max_tokens
    fields |= {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": sampling.ignore_eos}
    fields |= sampling.extra_body
    return {name: value for name, value in fields.items() if value is not None}


def http_request(content: bytes, endpoint: Endpoint) -> bytes:
    """The request as bytes of HTTP/1.1. Compression is refused: it would merge events into blocks."""
    url = urlsplit(endpoint.url)
    target = url.path + (f"?{url.query}" if url.query else "")
    headers = {
        "Host": url.netloc.rpartition("@")[2],
        "User-Agent": "inferometer",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **endpoint.headers,
        "Content-Length": str(len(content)),
    }
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


# --- decode ---------------------------------------------------------------------------------------


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: dict[str, Any] | None = None  # fields differ by engine


class _Chunk(msgspec.Struct):
    """One streamed chunk; what an engine leaves out stays None. Unknown fields are passed over."""

    choices: list[dict[str, Any]] | None = None  # fields differ by API and engine
    usage: _Usage | None = None
    timings: ServerTimings | None = None
    model: str | None = None
    error: Any = None  # an object or a text, as the engine likes


_decode_chunk = msgspec.json.Decoder(_Chunk, strict=False).decode
_decode_any = msgspec.json.Decoder().decode


class _Reading:
    """What the events of one answer have told so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.usage: Usage | None = None
        self.timings: ServerTimings | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.bad = ""
        self.server_error = ""
        self.done = False

    def take(self, at_ns: int, data: bytes, output: Callable[[Mapping[str, Any]], tuple[EventKind, str]]) -> None:
        if data == b"[DONE]":
            self.done = True
            self.events.append(Event(at_ns, "done"))
            return
        try:
            chunk = _decode_chunk(data)
        except msgspec.DecodeError as error:
            self.bad = self.bad or f"an event is no chunk of this API ({error}): {_evidence(data)}"
            return
        if chunk.error is not None:
            self.server_error = _error_text(msgspec.json.encode(chunk.error))
            self.events.append(Event(at_ns, "error"))
            return
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details or {}
            self.usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, details.get("cached_tokens"))
        self.timings = chunk.timings or self.timings
        self.model = chunk.model or self.model
        if not chunk.choices:
            self.events.append(Event(at_ns, "usage"))
            return
        choice = chunk.choices[0]
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.events.append(Event(at_ns, *output(choice)))


def _chat_output(choice: Mapping[str, Any]) -> tuple[EventKind, str]:
    delta: Mapping[str, Any] = choice.get("delta") or {}
    if delta.get("content"):
        return "text", str(delta["content"])
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    if thought:
        return "reasoning", str(thought)
    if delta.get("tool_calls"):
        return "tool", "".join(
            f"{call.get('function', {}).get('name') or ''}{call.get('function', {}).get('arguments') or ''}"
            for call in delta["tool_calls"]
        )
    if "role" in delta:
        return "role", ""
    return ("text" if delta.get("content") == "" else "empty"), ""


def _completion_output(choice: Mapping[str, Any]) -> tuple[EventKind, str]:
    text = choice.get("text")
    return ("text", str(text)) if text else ("empty", "")


_OUTPUT = {"openai-chat": _chat_output, "openai": _completion_output}
DIALECTS = tuple(_OUTPUT)


def record(exchange: Exchange, item: PlanItem, dialect: str, zero_ns: int) -> RequestRecord:
    """What happened to a request, from the bytes that came back. Times are taken relative to `zero_ns`."""
    answer = response(exchange.reads())
    reading = _Reading()
    coalesced = 0
    streamed = answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream")
    if streamed:
        output = _OUTPUT[dialect]
        for at_ns, data in sse_events(answer.pieces):
            reading.take(at_ns - zero_ns, data, output)
        stamps = [event.at_ns for event in reading.events if brings_output(event)]
        coalesced = len(stamps) - len(set(stamps))
    outcome, error = _outcome(exchange, answer, reading, streamed)
    first = next((at_ns for at_ns, _ in exchange.reads()), None)
    return RequestRecord(
        index=item.index,
        request_id=item.request.id,
        measured=item.measured,
        outcome=outcome,
        error=error,
        due_ns=_since(exchange.due_ns, zero_ns),
        connected_ns=_since(exchange.connected_ns, zero_ns),
        sent_ns=_since(exchange.sent_ns, zero_ns),
        first_byte_ns=_since(first, zero_ns),
        done_ns=exchange.done_ns - zero_ns,
        events=tuple(reading.events),
        status=answer.status,
        finish_reason=reading.finish_reason,
        usage=reading.usage,
        timings=reading.timings,
        model=reading.model,
        coalesced=coalesced,
        resent=exchange.resent,
        prompt_tokens=item.request.prompt_tokens,
    )


def _outcome(exchange: Exchange, answer: Response, reading: _Reading, streamed: bool) -> tuple[Outcome, str]:
    """How the request ended, and what shows it."""
    if exchange.outcome in ("refused", "timeout", "cancelled"):
        return exchange.outcome, exchange.error
    if answer.broken:
        return "bad_stream", f"the answer is no HTTP: {answer.broken}"
    whole = answer.ended or (exchange.outcome == "eof" and answer.until_close)
    if not whole and not reading.done:
        return "cut", exchange.error or "the connection was closed in the middle of the answer"
    if answer.status != 200:
        return "http_error", f"HTTP {answer.status}: {_error_text(answer.body)}"
    if not streamed:
        kind = answer.headers.get("content-type", "no content type")
        return "bad_stream", f"the answer is no event stream but {kind}: {_error_text(answer.body)}"
    if reading.server_error:
        return "server_error", reading.server_error
    if reading.bad:
        return "bad_stream", reading.bad
    if not any(brings_output(event) for event in reading.events):
        return "no_tokens", "the answer ended without a token"
    return "ok", ""


def _since(at_ns: int | None, zero_ns: int) -> int | None:
    return None if at_ns is None else at_ns - zero_ns


def _error_text(data: bytes) -> str:
    """An engine's own words from an error body, or the body's beginning."""
    try:
        found = _decode_any(data)
    except msgspec.DecodeError:
        return _evidence(data)
    inner: Any = cast("dict[str, Any]", found).get("error", found) if isinstance(found, dict) else found
    message: Any = cast("dict[str, Any]", inner).get("message") if isinstance(inner, dict) else inner
    return str(message) if message else _evidence(data)


def _evidence(data: bytes) -> str:
    """The beginning of `data`, safe to print."""
    text = data[:_EVIDENCE_CHARS].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).strip() or "nothing"

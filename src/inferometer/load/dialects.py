"""How is a request written for an API, and what do its answer's bytes say? Encode and decode; pure.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang speak them.
"""

import array
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from inferometer.endpoint import Endpoint
from inferometer.load.arrivals import Arrivals, reads
from inferometer.load.framing import Response, response
from inferometer.load.sse import events as sse_events
from inferometer.target import Target
from inferometer.load.wire import Exchange
from inferometer.plan import PlanItem
from inferometer.record import KINDS, OUTPUT_KINDS, EventKind, Events, Outcome, RequestRecord, ServerTimings, Usage
from inferometer.request import Request
from inferometer.spec import Sampling

_EVIDENCE_CHARS = 200
_WAYS_OUT = ("Retry-After", "Location")


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


def http_request(content: bytes, endpoint: Endpoint, target: Target) -> bytes:
    """The request as bytes of HTTP/1.1. Compression is refused: it would merge events into blocks."""
    headers = {
        "Host": target.host_header,
        "User-Agent": "inferometer",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **target.headers,
        **endpoint.headers,
        "Content-Length": str(len(content)),
    }
    lines = [
        f"POST {target.request_target(endpoint.path)} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


# --- decode ---------------------------------------------------------------------------------------


class _PromptTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptTokens | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # JSON as text; some engines send the object


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    """`delta` is of chat, `text` of completions."""

    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """One streamed chunk; what an engine leaves out stays None. Unknown fields are passed over."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: ServerTimings | None = None
    model: str | None = None
    object: str | None = None
    error: Any = None  # an object or a text, as the engine likes


_decode_chunk = msgspec.json.Decoder(_Chunk, strict=False).decode
_decode_any = msgspec.json.Decoder().decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)


class _Reading:
    """What the events of one answer have told so far."""

    def __init__(self) -> None:
        self._at_ns: list[int] = []
        self._kinds = bytearray()
        self._texts: list[str] = []
        self.usage: Usage | None = None
        self.timings: ServerTimings | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.bad = ""
        self.server_error = ""
        self.done = False
        self._like = (b"", b"", 0)  # what stands before and after the text in a chunk, and its kind

    def take_all(
        self,
        events: Iterable[tuple[int, bytes, bytes]],
        output: Callable[[_Choice], tuple[EventKind, str]],
        zero_ns: int,
    ) -> None:
        """Every event. Most chunks of an answer are the same but for their text: of those, only the text is read."""
        at, kinds, texts = self._at_ns.append, self._kinds.append, self._texts.append
        before, after, code = b"", b"", 0
        for at_ns, name, data in events:
            if before and data.startswith(before) and data.endswith(after) and not name:
                raw = data[len(before) : -len(after)]
                if b'"' not in raw and b"\\" not in raw and len(data) >= len(before) + len(after):
                    try:
                        texts(raw.decode())
                    except UnicodeDecodeError:
                        pass  # the slow way says what is wrong
                    else:
                        at(at_ns - zero_ns)
                        kinds(code)
                        continue
            self._take(at_ns - zero_ns, name, data, output)
            before, after, code = self._like

    def events(self) -> Events:
        """All of them, in columns."""
        texts = self._texts
        return Events(
            array.array("q", self._at_ns), bytes(self._kinds), array.array("I", map(len, texts)), "".join(texts)
        )

    def _add(self, at_ns: int, kind: EventKind, text: str = "") -> None:
        self._at_ns.append(at_ns)
        self._kinds.append(KINDS.index(kind))
        self._texts.append(text)

    def _take(self, at_ns: int, name: bytes, data: bytes, output: Callable[[_Choice], tuple[EventKind, str]]) -> None:
        if data.startswith(b"[DONE]"):
            self.done = True
            self._add(at_ns, "done")
            return
        if name == b"error":
            self._fail(at_ns, data)
            return
        try:
            chunk = _decode_chunk(data)
        except _NOT_JSON as error:
            self.bad = self.bad or f"an event is no chunk of this API ({error}): {_evidence(data)}"
            return
        if chunk.error is not None or chunk.object == "error":
            self._fail(at_ns, data)
            return
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details or _PromptTokens()
            self.usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, details.cached_tokens)
        self.timings = chunk.timings or self.timings
        self.model = chunk.model or self.model
        if not chunk.choices:
            self._add(at_ns, "usage")
            return
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        kind, text = output(choice)
        self._add(at_ns, kind, text)
        if kind in OUTPUT_KINDS and text:
            self._learn(kind, text, data)

    def _learn(self, kind: EventKind, text: str, data: bytes) -> None:
        """What stands before and after the text, where the text stands in the chunk once and as it is. A later chunk
        with the same around a text without quotes and escapes is the same JSON but for that text."""
        quoted = b'"' + text.encode() + b'"'
        if b'"' not in quoted[1:-1] and b"\\" not in quoted and data.count(quoted) == 1:
            before, _, after = data.partition(quoted)
            self._like = (before + b'"', b'"' + after, KINDS.index(kind))

    def _fail(self, at_ns: int, data: bytes) -> None:
        self.server_error = self.server_error or _error_text(data)
        self._add(at_ns, "error")


def _chat_output(choice: _Choice) -> tuple[EventKind, str]:
    delta = choice.delta or _Delta()
    if delta.content:
        return "text", delta.content
    thought = delta.reasoning_content or delta.reasoning
    if thought:
        return "reasoning", thought
    if delta.tool_calls:
        functions = [call.function or _Function() for call in delta.tool_calls]
        return "tool", "".join(f"{function.name or ''}{function.arguments or ''}" for function in functions)
    if delta.role is not None:
        return "role", ""
    return ("text" if delta.content == "" else "empty"), ""


def _completion_output(choice: _Choice) -> tuple[EventKind, str]:
    return ("text", choice.text) if choice.text else ("empty", "")


_OUTPUT = {"openai-chat": _chat_output, "openai": _completion_output}
DIALECTS = tuple(_OUTPUT)


def record(exchange: Exchange, arrived: Arrivals, item: PlanItem, dialect: str, zero_ns: int) -> RequestRecord:
    """What happened to a request, from the bytes that came back and when. Times are relative to `zero_ns`."""
    answer = response(reads(exchange, arrived))
    reading = _Reading()
    kind = answer.headers.get("content-type", "").lower()
    streamed = answer.status == 200 and kind.startswith("text/event-stream") and not _encoding(answer)
    if streamed:
        reading.take_all(sse_events(answer.pieces), _OUTPUT[dialect], zero_ns)
    events = reading.events()
    stamps = events.outputs_ns()
    coalesced = len(stamps) - len(set(stamps))
    outcome, error = _outcome(exchange, answer, reading, streamed, bool(stamps))
    first = arrived.at_ns[0] if arrived.at_ns else None
    last = arrived.at_ns[-1] if arrived.at_ns and exchange.outcome == "complete" else exchange.done_ns
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
        done_ns=last - zero_ns,
        events=events,
        status=answer.status,
        finish_reason=reading.finish_reason,
        usage=reading.usage,
        timings=reading.timings,
        model=reading.model,
        coalesced=coalesced,
        stamp_errors=arrived.errors,
        resent=exchange.resent,
        prompt_tokens=item.request.prompt_tokens,
    )


def _outcome(
    exchange: Exchange, answer: Response, reading: _Reading, streamed: bool, has_output: bool
) -> tuple[Outcome, str]:
    """How the request ended, and what shows it."""
    if exchange.outcome in ("refused", "timeout", "cancelled"):
        return exchange.outcome, exchange.error
    if answer.broken:
        return "bad_stream", f"the answer is no HTTP: {answer.broken}"
    if not _whole(exchange, answer, reading, streamed):
        return "cut", exchange.error or "the connection was closed in the middle of the answer"
    if answer.status != 200:
        return "http_error", _status_text(answer)
    if _encoding(answer):
        asked = "though the request accepts none (Accept-Encoding: identity)"
        return "bad_stream", f"the answer is encoded as {_encoding(answer)}, {asked}"
    if not streamed:
        kind = answer.headers.get("content-type", "no content type")
        return "bad_stream", f"the answer is no event stream but {kind}: {_error_text(answer.body)}"
    if reading.server_error:
        return "server_error", reading.server_error
    if reading.bad:
        return "bad_stream", reading.bad
    if not has_output:
        return "no_tokens", "the answer ended without a token"
    return "ok", ""


def _whole(exchange: Exchange, answer: Response, reading: _Reading, streamed: bool) -> bool:
    """Whether all of the answer came. Where the connection's end is the only end that HTTP knows, a stream must have
    told of its own: a server that dies closes the connection too."""
    if answer.ended or reading.done:
        return True
    if exchange.outcome != "eof" or not answer.until_close:
        return False
    if not streamed:
        return True
    if reading.bad:  # no chunk, or only the beginning of one?
        return answer.body.endswith((b"\n", b"\r"))
    return bool(reading.finish_reason or reading.server_error)


def _encoding(answer: Response) -> str:
    """The answer's content encoding, "" for none."""
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    return "" if encoding == "identity" else _printable(encoding)


def _status_text(answer: Response) -> str:
    """A status other than 200 with what the server says of it and of what to do."""
    told = [f"{name}: {answer.headers[name.lower()]}" for name in _WAYS_OUT if name.lower() in answer.headers]
    aside = f" ({_printable(', '.join(told))})" if told else ""
    encoding = _encoding(answer)
    body = f"a body encoded as {encoding}" if encoding else _error_text(answer.body)
    return f"HTTP {answer.status}{aside}: {body}"


def _since(at_ns: int | None, zero_ns: int) -> int | None:
    return None if at_ns is None else at_ns - zero_ns


def _error_text(data: bytes) -> str:
    """An engine's own words from an error body, or the body's beginning."""
    try:
        found = _decode_any(data)
    except _NOT_JSON:
        return _evidence(data)
    inner: Any = cast("dict[str, Any]", found).get("error", found) if isinstance(found, dict) else found
    message: Any = cast("dict[str, Any]", inner).get("message") if isinstance(inner, dict) else inner
    return _printable(str(message)) if message else _evidence(data)


def _evidence(data: bytes) -> str:
    """The beginning of `data`, safe to print."""
    return _printable(data[:_EVIDENCE_CHARS].decode("utf-8", "replace")) or "nothing"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).strip()

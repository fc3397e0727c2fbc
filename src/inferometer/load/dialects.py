"""How is a request written for an API, and what do its answer's bytes say? Encode and decode; pure.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang speak them.
"""

import array
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.base.text import sanitize
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import PlanItem
from inferometer.core.record import (
    KINDS,
    OUTPUT_KINDS,
    EventKind,
    Events,
    Outcome,
    RequestRecord,
    ServerTimings,
    TokenUsage,
)
from inferometer.core.request import Request
from inferometer.core.spec import Sampling
from inferometer.load.arrivals import Arrivals, reads
from inferometer.load.framing import Response, response
from inferometer.load.sse import EventTooLarge
from inferometer.load.sse import events as sse_events
from inferometer.load.wire import Exchange
from inferometer.net.target import Target

_EVIDENCE_CHARS = 200
_NAME_CHARS = 300
_MOST_COUNTED = 2**32 - 1  # tokens of one event, as they are kept
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
    """`delta` is of chat, `text` of completions. `token_ids`: what vLLM adds where `return_token_ids` asks for it."""

    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


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
_decode_text = msgspec.json.Decoder(str).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: brackets without end


_Output = Callable[[_Choice], tuple[EventKind, str]]

EVENT_AND_CHUNK_END = b"\n\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
STREAM_END = EVENT_AND_CHUNK_END + _LAST_CHUNK
_RUNS = 16  # an answer whose form changes more often is read chunk by chunk from there on
_SIZE_DIGITS = 4
_HEX = np.full(256, 1 << 40, np.int64)  # no digit: makes any size wrong
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_HEX[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)


class _Reading:
    """What the events of one answer have told so far."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self._kinds = bytearray()
        self._chars = array.array("I")
        self._texts: list[str] = []
        self._tokens: dict[int, int] = {}  # of the events that told, by place
        self._told = 0  # tokens so far, by the last running count
        self.usage: TokenUsage | None = None
        self.timings: ServerTimings | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.bad = ""
        self.server_error = ""
        self.done = False
        self._like = (b"", b"", 0)  # what stands before and after the text in a chunk, and its kind

    def take_all(self, events: Iterable[tuple[int, bytes, bytes]], output: _Output, zero_ns: int) -> None:
        """Every event as the standard has them."""
        try:
            for at_ns, name, data in events:
                self._take(name, data, output)
                if len(self._kinds) > len(self.at_ns):
                    self.at_ns.append(at_ns - zero_ns)
        except EventTooLarge as error:
            self.bad = self.bad or str(error)

    def sweep(self, raw: bytes, start: int, stop: int, output: _Output) -> list[NDArray[np.int64]] | None:
        """Every event of the chunks in `raw[start:stop]`, each of which ends with the end of an event; the offsets at
        which they were complete, in pieces. None where a chunk is of another form: then nothing that was taken counts.
        Raises ValueError for a size or a text that is none.

        Most chunks of an answer are the same but for their text: of those, only the text is read, many at a time. What
        is the same is learnt from chunks that were decoded as a whole.
        """
        ends: list[NDArray[np.int64]] = []
        offset, tries = start, 0
        while offset < stop:
            mark = raw.find(b"\r", offset)
            if self._like[0] and tries < _RUNS and raw.startswith(self._like[0], mark + len(b"\r\ndata: ")):
                run_ends = self._run(raw[offset:stop])
                tries += 1
                if len(run_ends):
                    ends.append(run_ends + offset - 2)
                    offset += int(run_ends[-1])
                    continue
            end = raw.find(EVENT_AND_CHUNK_END, offset)
            size, _, rest = raw[offset:end].partition(b"\r\n")
            if int(size, 16) != len(rest) + 2:
                return None
            found: list[int] = []
            line_end = end - len(rest)
            for line in rest.split(b"\n\n"):
                line_end += len(line) + 2
                if not line.startswith(b"data: ") or b"\n" in line or b"\r" in line:
                    return None
                self._take(b"", line[6:], output)
                found.append(line_end)
            if self.bad:
                return None
            ends.append(np.array(found, np.int64))
            offset = end + len(EVENT_AND_CHUNK_END)
        return ends

    def _run(self, chunks: bytes) -> NDArray[np.int64]:
        """Takes the chunks at the beginning of `chunks` that are like the one before but for their text; where each
        ends. What is the same before and after the text is put into one byte that no JSON holds, so that what is left
        is short: SIZE 0 text 1 SIZE 0 text 1 …; a chunk counts if its size is right and its text
        is not empty (what an empty one means depends on the API)."""
        before, after, code = self._like
        none = np.zeros(0, np.int64)
        if b"\0" in chunks or b"\1" in chunks:
            return none
        tail = after + EVENT_AND_CHUNK_END
        compact = chunks.replace(tail, b"\1").replace(b"\r\ndata: " + before, b"\0")
        octets = np.frombuffer(compact, np.uint8)
        begins, stops = np.flatnonzero(octets == 0), np.flatnonzero(octets == 1)
        count = min(len(begins), len(stops))
        if count == 0:
            return none
        begins, stops = begins[:count], stops[:count]
        digits = begins - np.concatenate(([0], stops[:-1] + 1))
        lengths = stops - begins - 1
        sizes = np.zeros(count, np.int64)
        for place in range(_SIZE_DIGITS):
            digit = _HEX[octets[np.maximum(begins - 1 - place, 0)]]
            sizes += np.where(place < digits, digit << (4 * place), 0)
        around = len(b"data: ") + len(before) + len(after) + 2
        right = (digits >= 1) & (digits <= _SIZE_DIGITS) & (lengths > 0) & (sizes == lengths + around)
        count = count if right.all() else int(right.argmin())
        self._take_texts(
            [compact[a:b] for a, b in zip((begins[:count] + 1).tolist(), stops[:count].tolist(), strict=True)]
        )
        self._kinds += bytes([code]) * count
        return np.cumsum(digits[:count] + lengths[:count] + around + 4)

    def _take_texts(self, texts: list[bytes]) -> None:
        """The texts as they stand in JSON. Raises ValueError for one that is more than a text."""
        joined = b"".join(texts)
        if joined.isascii() and b'"' not in joined and b"\\" not in joined:
            self._chars.extend(map(len, texts))
            self._texts.append(joined.decode())
            return
        for text in texts:
            self._chars.append(len(found := _decode_text(b'"' + text + b'"')))
            self._texts.append(found)

    def events(self, at_ns: "array.array[int] | None" = None) -> Events:
        """All of them, in columns."""
        at_ns = array.array("q", self.at_ns) if at_ns is None else at_ns
        tokens: array.array[int] | None = None
        if self._tokens:
            tokens = array.array("I", [self._tokens.get(place, 0) for place in range(len(self._kinds))])
        return Events(at_ns, bytes(self._kinds), self._chars, "".join(self._texts), tokens)

    def _add(self, kind: EventKind, text: str = "") -> None:
        self._kinds.append(KINDS.index(kind))
        self._chars.append(len(text))
        self._texts.append(text)

    def _take(self, name: bytes, data: bytes, output: _Output) -> None:
        """One event: adds it, or says what is bad about it."""
        if data.startswith(b"[DONE]"):
            self.done = True
            self._add("done")
            return
        if name == b"error":
            self._fail(data)
            return
        try:
            chunk = _decode_chunk(data)
        except _NOT_JSON as error:
            self.bad = self.bad or f"an event is no chunk of this API ({error}): {_evidence(data)}"
            return
        if chunk.error is not None or chunk.object == "error":
            self._fail(data)
            return
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details or _PromptTokens()
            self.usage = TokenUsage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, details.cached_tokens)
            self.bad = self.bad or _beyond_counting(self.usage, data)
        if chunk.timings is not None:
            self.timings = chunk.timings
            self.bad = self.bad or _beyond_counting(self.timings, data)
        self.model = chunk.model or self.model
        if not chunk.choices:
            self._add("usage")
            return
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        kind, text = output(choice)
        self._add(kind, text)
        if kind in OUTPUT_KINDS and text:
            self._count(chunk, choice)
            self._learn(kind, text, data)

    def _count(self, chunk: _Chunk, choice: _Choice) -> None:
        """The tokens of the event just added, where the chunk tells: by its ids, or by a running count (vLLM's and
        SGLang's `continuous_usage_stats`, llama.cpp's `timings_per_token`)."""
        running = (chunk.usage.completion_tokens if chunk.usage else None) or (
            chunk.timings.predicted_n if chunk.timings else None
        )
        count = len(choice.token_ids) if choice.token_ids is not None else (running or self._told) - self._told
        if running is not None:
            self._told = running
        if 0 < count <= _MOST_COUNTED:
            self._tokens[len(self._kinds) - 1] = count

    def _learn(self, kind: EventKind, text: str, data: bytes) -> None:
        """What stands before and after the text, where the text stands in the chunk once and as it is. A later chunk
        with the same around a text without quotes and escapes is the same JSON but for that text."""
        quoted = b'"' + text.encode() + b'"'
        if b'"' not in quoted[1:-1] and b"\\" not in quoted and data.count(quoted) == 1:
            before, _, after = data.partition(quoted)
            self._like = (before + b'"', b'"' + after, KINDS.index(kind))

    def _fail(self, data: bytes) -> None:
        self.server_error = self.server_error or _error_text(data)
        self._add("error")


def _beyond_counting(told: TokenUsage | ServerTimings, data: bytes) -> str:
    """What is bad about numbers that no machine could have come to; "" where they may be true."""
    values = [value for value in msgspec.structs.astuple(told) if value is not None]
    return f"numbers that cannot be: {_evidence(data)}" if any(abs(value) > 1e15 for value in values) else ""


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
OUTPUT_PATTERN = rb'"(?:content|text|reasoning|reasoning_content|name|arguments)"\s*:\s*"[^"]'
"""What the bytes of an event with output match, and those of no other event, in any of these dialects."""


def record(exchange: Exchange, arrived: Arrivals, item: PlanItem, dialect: str, zero_ns: int) -> RequestRecord:
    """What happened to a request, from the bytes that came back and when. Times are relative to `zero_ns`."""
    reading = _Reading()
    swept = _swept(exchange, arrived, reading, dialect, zero_ns)
    if swept is None:
        reading = _Reading()
        answer = response(reads(exchange, arrived))
        streamed = _is_stream(answer)
        if streamed:
            reading.take_all(sse_events(answer.pieces), _OUTPUT[dialect], zero_ns)
        events = reading.events()
    else:
        answer, events = swept
        streamed = True
    stamps = events.outputs_ns()
    coalesced = len(stamps) - len(set(stamps))
    outcome, error = _outcome(exchange, answer, reading, streamed, bool(stamps))
    first = int(arrived.at_ns[0]) if len(arrived.at_ns) else None
    last = int(arrived.at_ns[-1]) if len(arrived.at_ns) and exchange.outcome == "complete" else exchange.done_ns
    return RequestRecord(
        index=item.index,
        request_id=item.request.id,
        measured=item.measured,
        outcome=outcome,
        error=sanitize(error),
        due_ns=_since(exchange.due_ns, zero_ns),
        connected_ns=_since(exchange.connected_ns, zero_ns),
        sent_ns=_since(exchange.sent_ns, zero_ns),
        first_byte_ns=_since(first, zero_ns),
        done_ns=last - zero_ns,
        events=events,
        status=answer.status,
        finish_reason=None if reading.finish_reason is None else sanitize(reading.finish_reason, _NAME_CHARS),
        usage=reading.usage,
        timings=reading.timings,
        model=None if reading.model is None else sanitize(reading.model, _NAME_CHARS),
        coalesced=coalesced,
        stamp_errors=arrived.errors,
        resent=exchange.resent,
        prompt_tokens=item.request.prompt_tokens,
    )


def _swept(
    exchange: Exchange, arrived: Arrivals, reading: _Reading, dialect: str, zero_ns: int
) -> tuple[Response, Events] | None:
    """The answer and its events by one sweep over the bytes: for a whole stream in chunks that end with an event, as
    engines send them. None where it is anything else."""
    raw = exchange.raw
    start = raw.find(b"\r\n\r\n") + 4
    if start < 4 or not raw.endswith(STREAM_END):
        return None
    answer = response([(0, raw[:start])])
    if not _is_stream(answer) or answer.until_close or "content-length" in answer.headers:
        return None
    try:
        ends = reading.sweep(raw, start, len(raw) - len(_LAST_CHUNK), _OUTPUT[dialect])
        if ends is None:
            return None
        answer.ended = True
        read_ends = np.cumsum(np.frombuffer(exchange.lengths, np.uint32))
        at_ns = arrived.at_ns[np.searchsorted(read_ends, np.concatenate(ends))] - zero_ns
        return answer, reading.events(array.array("q", at_ns.tobytes()))
    except ValueError:  # a size that is none, a text that is no UTF-8
        return None


def _is_stream(answer: Response) -> bool:
    kind = answer.headers.get("content-type", "").lower()
    return answer.status == 200 and kind.startswith("text/event-stream") and not _encoding(answer)


def _outcome(
    exchange: Exchange, answer: Response, reading: _Reading, streamed: bool, has_output: bool
) -> tuple[Outcome, str]:
    """How the request ended, and what shows it."""
    if exchange.outcome in ("refused", "timeout", "cancelled"):
        return exchange.outcome, exchange.error
    if exchange.outcome == "too_large":
        return "bad_stream", exchange.error
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
    return "" if encoding == "identity" else sanitize(encoding)


def _status_text(answer: Response) -> str:
    """A status other than 200 with what the server says of it and of what to do."""
    told = [f"{name}: {answer.headers[name.lower()]}" for name in _WAYS_OUT if name.lower() in answer.headers]
    aside = f" ({sanitize(', '.join(told))})" if told else ""
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
    return sanitize(_text(message)) if message else _evidence(data)


def _text(value: Any) -> str:
    """A text as it is; any other JSON as JSON, which has no limit for numbers."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _evidence(data: bytes) -> str:
    """The beginning of `data`, safe to print."""
    return sanitize(data[:_EVIDENCE_CHARS].decode("utf-8", "replace")) or "nothing"

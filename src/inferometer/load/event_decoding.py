"""Events of a streamed answer: tokens, usage and errors, decoded from the JSON of each event.

Dialects: `openai-chat` (/v1/chat/completions) and `openai` (/v1/completions), as llama.cpp, vLLM and SGLang send them.
"""

import array
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.base.error_message import error_message, is_error_body, is_failed, json_of
from inferometer.base.text import sanitize
from inferometer.core.record import (
    KINDS,
    OUTPUT_KINDS,
    EventKind,
    Events,
    ServerTimings,
    TokenUsage,
)
from inferometer.load.compiled import similar_chunks
from inferometer.load.odd_reports import chunk_without_odd_reports
from inferometer.load.sse import STRAY, EventTooLarge
from inferometer.load.usage_reports import Groq, Usage

_EVIDENCE_CHARS = 200
_CODES = {kind: code for code, kind in enumerate(KINDS)}
_MAX_TOKENS = 2**32 - 1  # tokens of one event, as they are kept


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # JSON as text; some engines send the object


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Part(msgspec.Struct):
    """A part of a text, `{"type": "text", "text": …}`; a part of type `thinking` is reasoning, itself in parts.
    `summary`: of a part of `reasoning_details`."""

    text: str | None = None
    summary: Any = None
    thinking: "str | list[_Part] | None" = None


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | list[_Part | str] | _Part | None = None  # a text, or parts of a text
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    reasoning_details: str | list[_Part | str] | _Part | None = None  # OpenRouter
    refusal: str | None = None
    tool_calls: list[_ToolCall | None] | None = None
    function_call: _Function | None = None  # before tool_calls


class _Choice(msgspec.Struct):
    """`delta` is of chat, `text` of completions. `message`: has the place of `delta` in a whole answer, and in the
    streams of some proxies. `token_ids`: added by vLLM if the request set `return_token_ids`. `usage`: Moonshot states
    it here. `index`: which of several answers to the prompt; in TGI's, which token."""

    index: int | float | str | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    usage: Usage | None = None
    error: Any = None


class _Chunk(msgspec.Struct):
    """One streamed chunk; a field that the engine omits is None. Unknown fields are ignored."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None
    x_groq: Groq | None = None
    timings: ServerTimings | None = None
    model: str | None = None
    object: str | None = None
    type: Any = None  # "error" in the errors of some engines
    error: Any = None  # an object or a text, depending on the engine


_decode_chunk = msgspec.json.Decoder(_Chunk, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_texts = msgspec.json.Decoder(list[str]).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # RecursionError: endless open brackets


_SEVERAL_ANSWERS = "the server wrote several answers to the prompt (`n` above 1): ask for one, whose tokens have times"

Output = Callable[[_Choice], tuple[EventKind, str]]

_ERROR_NAME = re.compile(rb"error|exception|fail|fatal", re.IGNORECASE)
EVENT_AND_CHUNK_END = b"\n\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
STREAM_END = EVENT_AND_CHUNK_END + LAST_CHUNK
_MAX_RUNS = 16  # an answer whose chunks change their form more often is read chunk by chunk from there on
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n((?:data: [^\r\n]*\n\n)+)\r\n").match


@functools.cache
def _sizes() -> dict[bytes, int]:
    """Chunk sizes as servers write them; an answer with larger chunks is read chunk by chunk."""
    return {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}


class EventReader:
    """Decodes the events of one answer, one after another. `problem`: why the answer is unusable, "" if it is valid."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self._kinds = bytearray()
        self._chars = array.array("I")
        self._texts: list[str] = []
        self._tokens: dict[int, int] = {}  # token count by event index, for events that state a count
        self._has_deltas = False
        self._indices: set[Any] = set()  # of the answers with text
        self._running_count = 0  # tokens so far, as the last event with a running count stated
        self.usage: TokenUsage | None = None
        self.timings: ServerTimings | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.problem = ""
        self.server_error = ""
        self.stray = ""  # the beginning of what stood between the events
        self.done = False
        self._template = (b"", b"", 0)  # the bytes before and after the text in a chunk, and the event's kind

    def read_events(self, events: Iterable[tuple[int, bytes, bytes]], output: Output, zero_ns: int) -> None:
        """Decode every event (stamp, name, data)."""
        try:
            for at_ns, name, data in events:
                self._read_event(name, data, output)
                if len(self._kinds) > len(self.at_ns):
                    self.at_ns.append(at_ns - zero_ns)
        except EventTooLarge as error:
            self.problem = self.problem or str(error)

    def read_uniform_chunks(self, raw: bytes, start: int, stop: int, output: Output) -> "array.array[int] | None":
        """Decode the chunks in `raw[start:stop]`, if each chunk ends where an event ends.

        Returns the offsets at which the events were complete (i64). Returns None if a chunk has another form; then this
        reader must be discarded. Raises ValueError for an invalid chunk size or text.

        Most chunks of an answer differ only in their text. Of those only the text is read, many chunks at a time. The
        unchanging bytes around the text (the template) come from the last chunk that was decoded as a whole.
        """
        ends = array.array("q")
        offset, tries, run_end = start, 0, 0
        while offset < stop:
            mark = raw.find(b"\r", offset)
            may_run = self._template[0] and tries < _MAX_RUNS and offset != run_end
            if may_run and raw.startswith(self._template[0], mark + len(b"\r\ndata: ")):
                before = len(ends)
                self._read_similar_chunks(raw, offset, stop, ends)
                tries += 1
                if len(ends) > before:
                    offset = run_end = ends[-1] + len(b"\r\n")
                    continue
            found = _CHUNK(raw, offset)
            if found is None or int(found[1], 16) != len(found[2]):
                return None
            line_end = found.start(2)
            for line in found[2].split(b"\n\n")[:-1]:
                line_end += len(line) + 2
                self._read_event(b"", line[6:], output)
                ends.append(line_end)
            if self.problem:
                return None
            offset = found.end()
        return ends

    def _read_similar_chunks(self, raw: bytes, start: int, stop: int, ends: "array.array[int]") -> None:
        """Read the chunks in `raw[start:stop]` that match the template, up to the first that does not; adds to `ends`
        the offset at which each event was complete.

        A chunk counts if its size is right and its text is not empty (what an empty text means depends on the API).
        """
        before, after, code = self._template
        head, tail = b"\r\ndata: " + before, after + EVENT_AND_CHUNK_END
        found = None if similar_chunks is None else similar_chunks(raw, start, stop, head, tail)
        if found is None:
            chunk_ends = self._split_similar_chunks(raw[start:stop], head, tail)
            ends.frombytes((chunk_ends + start - len(b"\r\n")).tobytes())
            return
        event_ends, chars, texts = found
        ends.frombytes(event_ends)
        self._chars.frombytes(chars)
        self._texts.append(texts.decode())
        self._kinds += bytes([code]) * (len(chars) // 4)

    def _split_similar_chunks(self, chunks: bytes, head: bytes, tail: bytes) -> NDArray[np.int64]:
        """The same in Python, for any text; returns the offset after each chunk."""
        parts = chunks.split(tail)[:-1]
        if not parts:
            return np.zeros(0, np.int64)
        sizes, _, texts = zip(*[part.partition(head) for part in parts], strict=True)
        around = len(head) + len(tail) - 4  # the chunk's data begin after one line end and end before another
        right = [len(text) + around if text else -1 for text in texts]
        stated = list(map(_sizes().get, sizes))
        if right != stated:
            count = next(place for place, size in enumerate(right) if size != stated[place])
            parts, texts = parts[:count], texts[:count]
        self._add_texts(texts)
        self._kinds += bytes([self._template[2]]) * len(parts)
        return np.cumsum(list(map(len, parts)), dtype=np.int64) + len(tail) * np.arange(1, len(parts) + 1)

    def _add_texts(self, texts: Sequence[bytes]) -> None:
        """Add texts in their JSON form. Raises ValueError for one that is not exactly one JSON string."""
        joined = b"".join(texts)
        if b'"' not in joined and b"\\" not in joined and joined.isascii() and (found := joined.decode()).isprintable():
            self._chars.extend(map(len, texts))
            self._texts.append(found)
            return
        if b'"' in joined:
            many = [_decode_text(b'"' + text + b'"') for text in texts]
        else:
            many = _decode_texts(b'["' + b'","'.join(texts) + b'"]') if texts else []
            if len(many) != len(texts):  # a backslash at the end of one
                raise ValueError("a text is not one JSON string")
        self._chars.extend(map(len, many))
        self._texts += many

    def events(self, at_ns: "array.array[int] | None" = None) -> Events:
        """All events, in columns. `at_ns`: their stamps; None: those that `read_events` collected."""
        at_ns = array.array("q", self.at_ns) if at_ns is None else at_ns
        tokens: array.array[int] | None = None
        if self._tokens:
            tokens = array.array("I", [self._tokens.get(place, 0) for place in range(len(self._kinds))])
        return Events(at_ns, bytes(self._kinds), self._chars, "".join(self._texts), tokens)

    def _add(self, kind: EventKind, text: str = "") -> None:
        self._kinds.append(_CODES[kind])
        self._chars.append(len(text))
        self._texts.append(text)

    def _read_event(self, name: bytes, data: bytes, output: Output) -> None:
        """Add one event, or record the problem with it."""
        if data.startswith(b"[DONE]"):
            self._add_done()
            return
        if name and _ERROR_NAME.search(name):
            self._add_error(data)
            return
        if name == STRAY:
            self._read_stray(data)
            return
        try:
            chunk = _decode_chunk(data)
        except _NOT_JSON as error:
            if data.strip(b'" ').upper() == b"[DONE]":
                self._add_done()
                return
            if name not in (b"", b"message") and json_of(data) is None:
                return  # a ping, or a farewell
            found = chunk_without_odd_reports(data, _Chunk)
            if found is None:
                self.problem = self.problem or f"an event is not a chunk of this API ({error}): {evidence(data)}"
                return
            chunk = found
        is_stated = chunk.error is not None and (chunk.error or not chunk.choices)  # next to text, an empty one is none
        if is_stated or chunk.object == "error" or (not chunk.choices and _is_error(chunk, data)):
            self._add_error(data)
            return
        usage = _usage(chunk)
        if usage is not None:
            self.usage = usage.counts(self.usage)
            self.problem = self.problem or _impossible_numbers(self.usage, data)
        if chunk.timings is not None:
            self.timings = chunk.timings
            self.problem = self.problem or _impossible_numbers(self.timings, data)
        self.model = chunk.model or self.model
        if not chunk.choices:
            self._add("usage")
            return
        choice = chunk.choices[0]
        self._has_deltas = self._has_deltas or choice.delta is not None
        if not self._has_deltas and choice.message is not None:
            choice.delta = choice.message  # after deltas, a message repeats their text
        self.finish_reason = choice.finish_reason or self.finish_reason
        if choice.error or is_failed(choice.finish_reason):
            self._add_error(data if choice.error is None else msgspec.json.encode(choice.error))
            return
        kind, text = output(choice)
        self._add(kind, text)
        if kind in OUTPUT_KINDS and text:
            self._note_answers({one.index for one in chunk.choices if output(one)[1]})
            self._count_tokens(chunk, choice)
            self._remember_template(kind, text, data)

    def _count_tokens(self, chunk: _Chunk, choice: _Choice) -> None:
        """Store the token count of the event just added, if the chunk states it: by token ids, or by a running count
        (`continuous_usage_stats` of vLLM and SGLang, `timings_per_token` of llama.cpp)."""
        running = (chunk.usage.completion_tokens if chunk.usage else None) or (
            chunk.timings.predicted_n if chunk.timings else None
        )
        count = (
            len(choice.token_ids)
            if choice.token_ids is not None
            else (running or self._running_count) - self._running_count
        )
        if running is not None:
            self._running_count = running
        if 0 < count <= _MAX_TOKENS:
            self._tokens[len(self._kinds) - 1] = count

    def _note_answers(self, indices: set[Any]) -> None:
        """Record a problem if a chunk has the text of several answers, or if chunks of several come in turn.

        One answer whose index rises with each token, as TGI counts, is one answer.
        """
        again = indices & self._indices
        self._indices |= indices
        if len(indices) > 1 or (again and len(self._indices) > 1):
            self.problem = self.problem or _SEVERAL_ANSWERS

    def _remember_template(self, kind: EventKind, text: str, data: bytes) -> None:
        """Keep the bytes before and after the text as the template, if the chunk holds the text once and unescaped.

        A later chunk with the same bytes around a text without quotes and escapes is the same JSON except for the text.
        """
        quoted = b'"' + text.encode() + b'"'
        if b'"' not in quoted[1:-1] and b"\\" not in quoted and data.count(quoted) == 1:
            before, _, after = data.partition(quoted)
            self._template = (before + b'"', b'"' + after, _CODES[kind])

    def _read_stray(self, data: bytes) -> None:
        """Lines of the stream that belong to no event: an error body without `data:` is an error all the same."""
        body = next((text for text in (data, *data.split(b"\n")) if is_error_body(json_of(text))), None)
        if body is not None:
            self._add_error(body)
        else:
            self.stray = evidence(data)

    def _add_done(self) -> None:
        self.done = True
        self._add("done")

    def _add_error(self, data: bytes) -> None:
        self.server_error = self.server_error or error_text(data)
        self._add("error")


def _usage(chunk: _Chunk) -> Usage | None:
    """The counts in a chunk, wherever the server puts them."""
    if chunk.usage is not None:
        return chunk.usage
    of_groq = chunk.x_groq.usage if chunk.x_groq is not None else None
    return of_groq or (chunk.choices[0].usage if chunk.choices else None)


def _is_error(chunk: _Chunk, data: bytes) -> bool:
    """Whether an event without choices is an error. Usage with a count shows that it is not."""
    usage = _usage(chunk)
    if usage is not None and usage.completion_tokens is not None and chunk.type != "error":
        return False
    return is_error_body(json_of(data))


def _impossible_numbers(numbers: TokenUsage | ServerTimings, data: bytes) -> str:
    """The problem with numbers that no machine could reach; "" if all are possible."""
    for value in msgspec.structs.astuple(numbers):
        if value is not None and abs(value) > 1e15:
            return f"an event states impossible numbers: {evidence(data)}"
    return ""


def _chat_output(choice: _Choice) -> tuple[EventKind, str]:
    delta = choice.delta or _Delta(content=choice.text)
    if delta.content is not None and not isinstance(delta.content, str):
        return _output_of_parts(_parts(delta.content))
    if delta.content:
        return "text", delta.content
    thought = delta.reasoning_content or delta.reasoning or delta.thinking
    if not thought and delta.reasoning_details:
        thought = _text_of(_parts(delta.reasoning_details))
    if thought:
        return "reasoning", thought
    if delta.refusal:
        return "text", delta.refusal
    if delta.tool_calls or delta.function_call:
        calls = [call and call.function for call in delta.tool_calls or ()] + [delta.function_call]
        functions = [function or _Function() for function in calls]
        called = "".join(f"{function.name or ''}{function.arguments or ''}" for function in functions)
        return ("tool", called) if called else ("empty", "")
    if delta.role is not None:
        return "role", ""
    return ("text" if delta.content == "" else "empty"), ""


def _parts(value: str | list[_Part | str] | _Part) -> Sequence[_Part | str]:
    return value if isinstance(value, list) else [value]


def _output_of_parts(parts: Sequence[_Part | str]) -> tuple[EventKind, str]:
    if text := _text_of(parts):
        return "text", text
    thoughts = (part.thinking or "" for part in parts if isinstance(part, _Part))
    thought = "".join(_text_of(found) if isinstance(found, list) else found for found in thoughts)
    return ("reasoning", thought) if thought else ("text", "")


def _text_of(parts: Sequence[_Part | str]) -> str:
    texts = [part if isinstance(part, str) else part.text or part.summary or "" for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _completion_output(choice: _Choice) -> tuple[EventKind, str]:
    if choice.text is None and choice.delta is not None:  # a server with one form for both APIs
        return _chat_output(choice)
    return ("text", choice.text) if choice.text else ("empty", "")


OUTPUT_OF = {"openai-chat": _chat_output, "openai": _completion_output}
OUTPUT_PATTERN = rb'"(?:content|text|reasoning|reasoning_content|thinking|refusal|name|arguments)"\s*:\s*"[^"]'
"""Matches the bytes of an event with output, and of no other event, in any of these dialects."""


def error_text(data: bytes) -> str:
    """The server's own message in an error body, or the beginning of the body."""
    return sanitize(error_message(data)) or evidence(data)


def evidence(data: bytes) -> str:
    """The beginning of `data`, safe to print."""
    return sanitize(data[: 8 * _EVIDENCE_CHARS].decode("utf-8", "replace"), _EVIDENCE_CHARS) or "nothing"

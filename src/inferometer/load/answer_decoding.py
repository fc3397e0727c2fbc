"""The record of a request: outcome, times and tokens, decoded from the bytes of its answer."""

import array
import functools

import numpy as np

from inferometer.base.text import sanitize
from inferometer.core.plan import PlanItem
from inferometer.core.record import OUTPUT_CODES, TEXT_CODE, Events, Outcome, RequestRecord
from inferometer.load import compiled
from inferometer.load.arrivals import Arrivals, timed_reads
from inferometer.load.event_decoding import LAST_CHUNK, OUTPUT_OF, STREAM_END, EventReader, error_text
from inferometer.load.framing import Response, parse_response
from inferometer.load.sse import events as sse_events
from inferometer.load.sse import looks_like_events
from inferometer.load.unstreamed import events_of_json
from inferometer.load.wire import Exchange

_NAME_CHARS = 300
_IS_OUTPUT = np.zeros(256, np.bool_)
_IS_OUTPUT[list(OUTPUT_CODES)] = True
_OUTPUT_BYTES = _IS_OUTPUT.tobytes()
_RETRY_HEADERS = ("Retry-After", "Location")


def decode_record(exchange: Exchange, arrived: Arrivals, item: PlanItem, dialect: str, zero_ns: int) -> RequestRecord:
    """The record of one request, from the bytes of its answer and their stamps. Times are relative to `zero_ns`."""
    answer, reader, events, is_read = _decode_answer(exchange, arrived, dialect, zero_ns)
    has_output, coalesced = _note_outputs(events)
    outcome, error = _outcome(exchange, answer, reader, is_read, has_output)
    first = int(arrived.at_ns[0]) if len(arrived.at_ns) else None
    last = int(arrived.at_ns[-1]) if len(arrived.at_ns) and exchange.outcome == "complete" else exchange.done_ns
    return RequestRecord(
        index=item.index,
        request_id=item.request.id,
        measured=item.measured,
        outcome=outcome,
        error=error and sanitize(error),
        due_ns=_since(exchange.due_ns, zero_ns),
        connected_ns=_since(exchange.connected_ns, zero_ns),
        sent_ns=_since(exchange.sent_ns, zero_ns),
        first_byte_ns=_since(first, zero_ns),
        done_ns=last - zero_ns,
        events=events,
        status=answer.status,
        finish_reason=None if reader.finish_reason is None else _name(reader.finish_reason),
        usage=reader.usage,
        timings=reader.timings,
        model=None if reader.model is None else _name(reader.model),
        coalesced=coalesced,
        stamp_errors=arrived.errors,
        resent=exchange.resent,
        prompt_tokens=item.request.prompt_tokens,
    )


def _note_outputs(events: Events) -> tuple[bool, int]:
    """Keep the arrival time of each event with output (`Events.outputs_ns`), never decreasing. Whether there are any,
    and how many have the time of the one before."""
    if compiled.output_times is not None:
        times, coalesced = compiled.output_times(events.at_ns, events.kinds, events.chars, _OUTPUT_BYTES, TEXT_CODE)
        events.keep_outputs_ns(memoryview(times).cast("q"))
        return len(times) > 0, coalesced
    kinds, chars = np.frombuffer(events.kinds, np.uint8), np.frombuffer(events.chars, np.uint32)
    found = np.frombuffer(events.at_ns, np.int64)[_IS_OUTPUT[kinds] & ((chars > 0) | (kinds != TEXT_CODE))]
    events.keep_outputs_ns(found.data)
    return len(found) > 0, int(np.count_nonzero(found[1:] == found[:-1]))


@functools.lru_cache(maxsize=256)
def _name(text: str) -> str:
    """The same names come with every answer."""
    return sanitize(text, _NAME_CHARS)


def _decode_answer(
    exchange: Exchange, arrived: Arrivals, dialect: str, zero_ns: int
) -> tuple[Response, EventReader, Events, bool]:
    """The HTTP response, the reader that decoded its events, the events, and whether the body is an answer."""
    reader = EventReader()
    uniform = _decode_uniform_stream(exchange, arrived, reader, dialect, zero_ns)
    if uniform is not None:
        return uniform[0], reader, uniform[1], True
    reader = EventReader()
    answer = parse_response(timed_reads(exchange, arrived))
    is_plain = answer.status == 200 and not _encoding(answer)
    if is_plain and (found := events_of_json(answer.pieces)):  # a server that does not stream, whatever type it names
        reader.read_events(found, OUTPUT_OF[dialect], zero_ns)
        return answer, reader, reader.events(), True
    is_read = _is_stream(answer)
    if is_read:
        reader.read_events(sse_events(answer.pieces), OUTPUT_OF[dialect], zero_ns)
    return answer, reader, reader.events(), is_read


def _decode_uniform_stream(
    exchange: Exchange, arrived: Arrivals, reader: EventReader, dialect: str, zero_ns: int
) -> tuple[Response, Events] | None:
    """The answer and its events, decoded in one fast pass: for a complete stream in which each chunk ends where an
    event ends, as engines send it. None for any other answer."""
    raw = exchange.raw
    start = raw.find(b"\r\n\r\n") + 4
    if start < 4 or not raw.endswith(STREAM_END):
        return None
    head = _parsed_head(raw[:start])
    if head is None:
        return None
    answer = Response(head.status, head.headers, [], ended=True)
    try:
        ends = reader.read_uniform_chunks(raw, start, len(raw) - len(LAST_CHUNK), OUTPUT_OF[dialect])
        if ends is None:
            return None
        return answer, reader.events(_event_times(exchange, arrived, ends, zero_ns))
    except ValueError:  # an invalid chunk size, or a text that is not UTF-8
        return None


def _event_times(exchange: Exchange, arrived: Arrivals, ends: "array.array[int]", zero_ns: int) -> "array.array[int]":
    """The time of each event: that of the read in which it was complete."""
    if compiled.event_times is not None:
        return array.array("q", compiled.event_times(arrived.at_ns, exchange.lengths, ends, zero_ns))
    read_ends = np.frombuffer(exchange.lengths, np.uint32).cumsum(dtype=np.int64)
    at_ns = arrived.at_ns[read_ends.searchsorted(np.frombuffer(ends, np.int64))] - zero_ns
    return array.array("q", at_ns.tobytes())


@functools.lru_cache(maxsize=256)
def _parsed_head(head: bytes) -> Response | None:
    """The head of a stream in chunks; None for another answer. Most have the same one, but for the second in their
    date."""
    answer = parse_response([(0, head)])
    is_chunked = not answer.until_close and "content-length" not in answer.headers
    return answer if is_chunked and _is_stream(answer) else None


def _is_stream(answer: Response) -> bool:
    kind = answer.headers.get("content-type", "").lower()
    if answer.status != 200 or _encoding(answer):
        return False
    return kind.startswith("text/event-stream") or looks_like_events(b"".join(p for _, p in answer.pieces[:8]))


def _outcome(
    exchange: Exchange, answer: Response, reader: EventReader, is_read: bool, has_output: bool
) -> tuple[Outcome, str]:
    """How the request ended, and the evidence; "" for a success."""
    if exchange.outcome in ("refused", "timeout", "cancelled"):
        return exchange.outcome, exchange.error
    if exchange.outcome == "too_large":
        return "bad_stream", exchange.error
    if answer.broken:
        return "bad_stream", f"the answer is not HTTP: {answer.broken}"
    if not _is_complete(exchange, answer, reader, is_read):
        return "cut", exchange.error or "the connection was closed in the middle of the answer"
    if answer.status != 200:
        return "http_error", _status_text(answer)
    if _encoding(answer):
        accepted = "although the request accepts no encoding (Accept-Encoding: identity)"
        return "bad_stream", f"the answer is encoded as {_encoding(answer)}, {accepted}"
    if not is_read:
        kind = answer.headers.get("content-type", "no content type")
        return "bad_stream", f"the answer is {kind}, not an event stream: {error_text(answer.body)}"
    if reader.server_error:
        return "server_error", reader.server_error
    if reader.problem:
        return "bad_stream", reader.problem
    if reader.stray and has_output and not (reader.finish_reason or reader.done):
        return "bad_stream", f"the stream ended without a finish reason, and these lines are not events: {reader.stray}"
    if not has_output:
        after = f", after: {reader.stray}" if reader.stray else ""
        if reader.finish_reason == "stop" and reader.usage and reader.usage.completion_tokens == 1:
            after = (
                ": the model's first token ended it. Compare the model's text with another build's or quantisation's"
            )
        return "no_tokens", f"the answer ended without a token{after}"
    return "ok", ""


def _is_complete(exchange: Exchange, answer: Response, reader: EventReader, is_streamed: bool) -> bool:
    """Whether the whole answer arrived.

    If HTTP marks the end only by closing the connection, the stream itself must have stated its end: a server that dies
    closes the connection too.
    """
    if answer.ended or reader.done:
        return True
    if exchange.outcome != "eof" or not answer.until_close:
        return False
    if not is_streamed:
        return True
    if reader.problem:  # an invalid chunk, or a chunk that was cut off
        return answer.body.endswith((b"\n", b"\r"))
    return bool(reader.finish_reason or reader.server_error)


def _encoding(answer: Response) -> str:
    """The answer's content encoding, "" for none."""
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    return "" if encoding in ("", "identity") else sanitize(encoding)


def _status_text(answer: Response) -> str:
    """A status other than 200, with the server's message and its headers about what to do next."""
    hints = [f"{name}: {answer.headers[name.lower()]}" for name in _RETRY_HEADERS if name.lower() in answer.headers]
    aside = f" ({sanitize(', '.join(hints))})" if hints else ""
    encoding = _encoding(answer)
    body = f"a body encoded as {encoding}" if encoding else error_text(answer.body)
    return f"HTTP {answer.status}{aside}: {body}"


def _since(at_ns: int | None, zero_ns: int) -> int | None:
    return None if at_ns is None else at_ns - zero_ns

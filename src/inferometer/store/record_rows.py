"""Conversion of request records to database rows and back."""

import array
import functools
import sys
from collections.abc import Sequence
from operator import contains
from typing import Any, get_args

import msgspec

from inferometer.core.record import Event, Events, Outcome, RequestRecord, ServerTimings, TokenUsage

_SCALARS = (
    "request_id measured outcome due_ns sent_ns done_ns first_byte_ns connected_ns status finish_reason model error "
    "coalesced stamp_errors resent prompt_tokens our_tokens"
).split()
_EVENT_COLUMNS = "event_ns, event_kind, event_chars, event_text, event_tokens"

COLUMNS = f"idx, {', '.join(_SCALARS)}, usage, timings, {_EVENT_COLUMNS}"
"""The columns of a row, in order."""

INT, INT_OR_NONE, FLOAT, TEXT, TEXT_OR_NONE = (int,), (int, type(None)), (float,), (str,), (str, type(None))

_CHARS = {1: "B", 2: "H", 4: "I"}
"""Array type codes of `event_chars` by bytes per entry: entries are as wide as the largest one needs."""

_encode = msgspec.json.encode
_decode_usage = msgspec.json.Decoder(TokenUsage).decode
_decode_timings = msgspec.json.Decoder(ServerTimings).decode


def row_of(record: RequestRecord) -> tuple[object, ...]:
    """The values of COLUMNS."""
    usage = None if record.usage is None else _encode(record.usage).decode()
    timings = None if record.timings is None else _encode(record.timings).decode()
    return (record.index, *(getattr(record, name) for name in _SCALARS), usage, timings, *_columns(record.events))


def append_record(row: tuple[object, ...], found: list[RequestRecord], bad: list[int]) -> None:
    """Appends the record of `row` to `found`, or its index to `bad` if the row holds no valid record."""
    try:
        found.append(record(row))
    except (ValueError, TypeError, msgspec.MsgspecError):
        bad.append(row[0] if isinstance(row[0], int) else -1)


_KINDS: dict[str, tuple[type, ...]] = dict.fromkeys(_SCALARS, INT_OR_NONE) | {
    **dict.fromkeys(("measured", "done_ns", "coalesced", "stamp_errors", "resent"), INT),
    **dict.fromkeys(("request_id", "outcome", "error"), TEXT),
    **dict.fromkeys(("finish_reason", "model"), TEXT_OR_NONE),
}
_OUTCOMES = frozenset(get_args(Outcome))
_ROW_KINDS = [_KINDS[name] for name in _SCALARS]


def record(row: tuple[Any, ...]) -> RequestRecord:
    """Raises ValueError, TypeError or MsgspecError for a row that holds no valid record."""
    types = tuple(map(type, row))
    if types not in _FITTING_TYPES:
        _require_fitting(types)
    index, request_id, measured, outcome, due_ns, sent_ns, done_ns, first_byte_ns, connected_ns, status = row[:10]
    finish_reason, model, error, coalesced, stamp_errors, resent, prompt_tokens, our_tokens = row[10:18]
    if outcome not in _OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}")
    return RequestRecord(
        index,
        request_id,
        measured != 0,
        outcome,
        due_ns,
        sent_ns,
        done_ns,
        first_byte_ns,
        _events(*row[20:]),
        status,
        finish_reason,
        None if row[18] is None else _usage(row[18]),
        None if row[19] is None else _decode_timings(row[19]),
        model,
        error,
        coalesced,
        stamp_errors,
        resent,
        connected_ns,
        prompt_tokens,
        our_tokens,
    )


_FITTING_TYPES: set[tuple[type, ...]] = set()
"""The types of whole rows that were found to fit: few combinations occur."""


def _require_fitting(types: tuple[type, ...]) -> None:
    """Raises TypeError unless these are types that a row may have; remembers those that are."""
    index, *scalars, _, _, _, kinds, _, _, _ = types
    if index is not int or kinds is not bytes or not all(map(contains, _ROW_KINDS, scalars)):
        raise TypeError("a column holds a value of the wrong type")
    _FITTING_TYPES.add(types)


@functools.lru_cache(maxsize=1024)
def _usage(text: str) -> TokenUsage:
    """Many requests have the same counts."""
    return _decode_usage(text)


def fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value has one of the types that the schema states. SQLite does not enforce them."""
    return type(value) in kinds


def _columns(events: Sequence[Event]) -> tuple[bytes, bytes, bytes, str, bytes]:
    """The events as the columns of a record."""
    columns = events if isinstance(events, Events) else Events.of(events)
    most = max(columns.chars, default=0)
    code = next(code for code in _CHARS.values() if most < 1 << (8 * array.array(code).itemsize))
    chars, tokens = _little(array.array(code, columns.chars)), _little(columns.tokens)
    return _little(columns.at_ns).tobytes(), columns.kinds, chars.tobytes(), columns.text, tokens.tobytes()


def _events(at_ns: bytes, kinds: bytes, chars: bytes, text: str, tokens: bytes) -> Events:
    """The events in a record's columns. Raises ValueError if the columns do not fit together."""
    code = _CHARS.get(len(chars) // max(1, len(kinds)), "I")
    counts = _little(array.array("I", tokens)) if tokens else None
    return Events(_little(array.array("q", at_ns)), kinds, _little(array.array(code, chars)), text, counts)


def _little(values: "array.array[int]") -> "array.array[int]":
    """The array converted between little-endian order and this machine's."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values

"""Request records in studies up to format 3, which have one row a request. Those of today are in record_batches."""

import array
import functools
import sys
from collections.abc import Callable, Sequence
from operator import contains
from typing import Any, TypeVar, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Ints, starts_of
from inferometer.core.record import KINDS, Events, Outcome, RequestRecord, ServerTimings, TokenUsage
from inferometer.core.record_columns import (
    NUMBERS,
    OUTCOMES,
    RecordColumns,
    counts_of,
    int_column,
    little_endian,
    steps_of,
)
from inferometer.core.text_columns import Texts, Words

_SCALARS = (
    "request_id measured outcome due_ns sent_ns done_ns first_byte_ns connected_ns status finish_reason model error "
    "coalesced stamp_errors resent prompt_tokens our_tokens"
).split()
_EVENT_COLUMNS = "event_ns, event_kind, event_chars, event_text, event_tokens"

COLUMNS = f"idx, {', '.join(_SCALARS)}, usage, timings, {_EVENT_COLUMNS}"
"""The columns of a row, in order."""
FAST_COLUMNS = COLUMNS.replace("event_text", "CAST(event_text AS BLOB)")
"""As COLUMNS, for `record_columns`: with texts that are not decoded."""

INT, INT_OR_NONE, FLOAT, TEXT, TEXT_OR_NONE = (int,), (int, type(None)), (float,), (str,), (str, type(None))

_CHARS = {1: "B", 2: "H", 4: "I"}
"""Array type codes of `event_chars` by bytes per entry: entries are as wide as the largest one needs."""

_decode_usage = msgspec.json.Decoder(TokenUsage).decode
_decode_timings = msgspec.json.Decoder(ServerTimings).decode


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
_COLUMN_KINDS = {
    "idx": frozenset(INT),
    **{name: frozenset(kinds) for name, kinds in _KINDS.items()},
    **dict.fromkeys(("usage", "timings"), frozenset(TEXT_OR_NONE)),
    **dict.fromkeys(_EVENT_COLUMNS.split(", "), frozenset((bytes,))),
}


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


def record_columns(rows: Sequence[tuple[Any, ...]]) -> RecordColumns:
    """The records of many rows at once; their texts are bytes. Raises ValueError, TypeError, OverflowError or
    MsgspecError if any of them holds no valid record."""
    if not rows:
        return RecordColumns.of(())
    columns: dict[str, Any] = dict(zip(_NAMES, zip(*rows, strict=True), strict=True))
    for name, kinds in _COLUMN_KINDS.items():
        if not kinds.issuperset(map(type, columns[name])):
            raise TypeError(f"the column {name} holds a value of the wrong type")
    at_ns, kinds = b"".join(columns["event_ns"]), b"".join(columns["event_kind"])
    data = b"".join(columns["event_text"])
    counts = _sizes(columns["event_kind"])
    if (_sizes(columns["event_ns"]) != 8 * counts).any():
        raise ValueError("the columns of some events do not fit together")
    chars, starts = _joined_chars(columns["event_chars"], counts), starts_of(counts)
    first_ns, steps = steps_of(little_endian(at_ns, "q"), starts)
    found = RecordColumns(
        numbers={name: int_column(columns["idx" if name == "index" else name]) for name in NUMBERS},
        measured=np.array(columns["measured"], np.int64) != 0,
        outcomes=np.array([_OUTCOME_CODES[outcome] for outcome in columns["outcome"]], np.uint8),
        request_ids=list(columns["request_id"]),
        finish_reasons=Words.of(columns["finish_reason"]),
        models=Words.of(columns["model"]),
        errors=Words.of(columns["error"]),
        **counts_of(_each(columns["usage"], _decode_usages), _each(columns["timings"], _decode_all_timings)),
        first_ns=first_ns,
        steps=steps,
        kinds=np.frombuffer(kinds, np.uint8),
        chars=chars,
        tokens=_joined_tokens(columns["event_tokens"], counts),
        starts=starts,
        texts=Texts.joined(data, _sizes(columns["event_text"])),
    )
    _require_fitting_columns(found)
    return found


_NAMES = ("idx", *_SCALARS, "usage", "timings", *_EVENT_COLUMNS.split(", "))
_OUTCOME_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_decode_usages = msgspec.json.Decoder(list[TokenUsage | None]).decode
_decode_all_timings = msgspec.json.Decoder(list[ServerTimings | None]).decode
_S = TypeVar("_S")


def _each(texts: Sequence[str | None], decode: Callable[[str], list[_S]]) -> list[_S]:
    """The value of each JSON text: all are decoded at once."""
    values = decode(f"[{','.join([text or 'null' for text in texts])}]")
    if len(values) != len(texts):
        raise ValueError("a text holds more than one value")
    return values


def _sizes(blobs: Sequence[bytes]) -> Ints:
    return np.fromiter(map(len, blobs), np.int64, len(blobs))


def _joined_chars(blobs: Sequence[bytes], counts: Ints) -> NDArray[Any]:
    """The widths differ from row to row. Raises ValueError if they do not fit the counts of events."""
    sizes = _sizes(blobs)
    widths = sizes // np.maximum(counts, 1)
    codes: list[int] = np.unique(widths[counts > 0]).tolist()
    if (widths * counts != sizes).any() or not set(codes) <= set(_CHARS):
        raise ValueError("the columns of some events do not fit together")
    code = _CHARS[max(codes, default=1)]
    if len(codes) > 1:
        each = zip(blobs, widths.tolist(), strict=True)
        blobs = [little_endian(blob, _CHARS[width or 1]).astype(f"<{code}").tobytes() for blob, width in each]
    return little_endian(b"".join(blobs), code)


def _joined_tokens(blobs: Sequence[bytes], counts: Ints) -> NDArray[np.uint32] | None:
    sizes = _sizes(blobs)
    if not sizes.any():
        return None
    if ((sizes > 0) & (sizes != 4 * counts)).any():
        raise ValueError("the columns of some events do not fit together")
    pairs = zip(blobs, counts.tolist(), strict=True)
    return little_endian(b"".join(blob or bytes(4 * count) for blob, count in pairs), "I")


def _require_fitting_columns(records: RecordColumns) -> None:
    """Raises ValueError unless all columns of the events have one entry an event, and the texts are UTF-8."""
    data = records.texts.data
    letters = records.texts.sizes
    if not data.isascii():
        data.decode()
        first = np.frombuffer(data, np.uint8) & 0xC0 != 0x80  # bytes that begin a character
        before = starts_of(first)
        letters = before[records.texts.begins + records.texts.sizes] - before[records.texts.begins]
    if int(records.kinds.max(initial=0)) >= len(KINDS) or not np.array_equal(records.characters, letters):
        raise ValueError("the columns of some events do not fit together")


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

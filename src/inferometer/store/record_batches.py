"""Batches of request records as rows of blobs: one row for all requests that one commit stores.

Each column of core.record_columns is one little-endian blob. The text of all answers is the row's last column, which
SQLite does not read unless it is asked for.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Ints, starts_of, summed
from inferometer.core.record import KINDS
from inferometer.core.record_columns import NUMBERS, OUTCOMES, TIMINGS, USAGE, RecordColumns, joined, little_endian
from inferometer.core.text_columns import Texts, TextSource, Words

MOST_REQUESTS = 512
"""Requests in one row: a damaged row loses no more than these."""
NO_TEXT_COLUMNS = "requests, crc, scalars, event_ns, event_kind, event_chars, event_tokens"
COLUMNS = f"{NO_TEXT_COLUMNS}, text"
"""The columns of a row after its id, its trial and the lowest index of its requests."""

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


class _Scalars(msgspec.Struct, array_like=True):
    """Everything about the requests of a batch but their events and texts. Numbers are `_packed`. `numbers`, `usage`
    and `timings`: in the order of NUMBERS, USAGE and TIMINGS. `jumps`: from the last event of the request before to
    the first event of each."""

    numbers: list[bytes]
    measured: bytes
    outcomes: bytes
    request_ids: list[str]
    words: list[tuple[bytes, list[str | None]]]
    has_usage: bytes
    usage: list[bytes]
    has_timings: bytes
    timings: list[bytes]
    event_counts: bytes
    jumps: bytes
    text_sizes: bytes
    text_crc: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Scalars).decode


def row_of(records: RecordColumns) -> tuple[object, ...]:
    """The values of COLUMNS. `records`: as `RecordColumns.of` makes them, with texts that follow each other."""
    some = records.event_counts > 0
    steps = records.steps
    jumps = records.first_ns[some] - np.append(0, records.last_ns[some])[: some.sum()]
    text = records.texts.data
    words = (records.finish_reasons, records.models, records.errors)
    scalars = _Scalars(
        numbers=[_packed(records.numbers[name]) for name in NUMBERS],
        measured=_packed(records.measured),
        outcomes=_packed(records.outcomes),
        request_ids=records.request_ids,
        words=[(_packed(one.codes), list(one.words)) for one in words],
        has_usage=_packed(records.has_usage),
        usage=[_packed(records.usage[name]) for name in USAGE] if records.usage else [],
        has_timings=_packed(records.has_timings),
        timings=[_packed(records.timings[name].view(np.int64)) for name in TIMINGS] if records.timings else [],
        event_counts=_packed(records.event_counts),
        jumps=_packed(jumps),
        text_sizes=_packed(records.texts.sizes),
        text_crc=zlib.crc32(text),
    )
    events = (
        _narrow(steps, 4) if int(steps.min(initial=0)) >= 0 else steps.astype("<i8").tobytes(),
        records.kinds.tobytes(),
        _narrow(records.chars),
        b"" if records.tokens is None else _narrow(records.tokens),
    )
    blobs = (_encode(scalars), *events)
    return len(records), _crc(blobs), *blobs, text


def columns_of(row: tuple[Any, ...]) -> tuple[RecordColumns, int]:
    """The records of the NO_TEXT_COLUMNS of a row, with texts that only have their sizes, and the checksum of the
    texts. Raises ValueError, TypeError or MsgspecError if the row is damaged."""
    requests, crc, *blobs = row
    if not isinstance(requests, int) or not all(isinstance(blob, bytes) for blob in blobs) or _crc(blobs) != crc:
        raise ValueError("the checksum of the batch does not fit")
    scalars = _decode(blobs[0])
    counts = _unpacked(scalars.event_counts, requests)
    starts = starts_of(counts)
    usage = [_unpacked(blob, requests) for blob in scalars.usage]
    timings = [_unpacked(blob, requests).view(np.float64) for blob in scalars.timings]
    words = [Words(_unpacked(codes, requests).astype(np.uint32), tuple(known)) for codes, known in scalars.words]
    kinds = np.frombuffer(blobs[2], np.uint8)
    first_ns, steps = _times(blobs[1], scalars.jumps, counts, starts)
    found = RecordColumns(
        numbers={name: _unpacked(blob, requests) for name, blob in zip(NUMBERS, scalars.numbers, strict=True)},
        measured=_unpacked(scalars.measured, requests) != 0,
        outcomes=_unpacked(scalars.outcomes, requests).astype(np.uint8),
        request_ids=scalars.request_ids,
        finish_reasons=words[0],
        models=words[1],
        errors=words[2],
        has_usage=_unpacked(scalars.has_usage, requests) != 0,
        usage=dict(zip(USAGE, usage, strict=True)) if usage else None,
        has_timings=_unpacked(scalars.has_timings, requests) != 0,
        timings=dict(zip(TIMINGS, timings, strict=True)) if timings else None,
        first_ns=first_ns,
        steps=steps,
        kinds=kinds,
        chars=_wide(blobs[3], len(kinds)),
        tokens=_wide(blobs[4], len(kinds)).astype(np.uint32) if blobs[4] else None,
        starts=starts,
        texts=Texts.joined(b"", _unpacked(scalars.text_sizes, requests)),
    )
    if int(found.kinds.max(initial=0)) >= len(KINDS) or int(found.outcomes.max(initial=0)) >= len(OUTCOMES):
        raise ValueError("the batch was written by a newer version")
    return found, scalars.text_crc


def with_our_tokens(row: Sequence[Any], counts: dict[int, int]) -> tuple[int, bytes]:
    """The checksum and the scalars of a row of NO_TEXT_COLUMNS, with our tokenizer's counts by record index."""
    requests, _, blob, *events = row
    scalars = _decode(blob)
    columns = {name: _unpacked(packed, requests) for name, packed in zip(NUMBERS, scalars.numbers, strict=True)}
    pairs = zip(columns["index"].tolist(), columns["our_tokens"].tolist(), strict=True)
    counted = np.array([counts.get(index, known) for index, known in pairs], np.int64)
    scalars.numbers[NUMBERS.index("our_tokens")] = _packed(counted)
    blob = _encode(scalars)
    return _crc((blob, *events)), blob


def with_texts(row: Sequence[Any], change: Callable[[str], str]) -> tuple[object, ...]:
    """The values of COLUMNS of a row with its texts and errors changed; each keeps its number of code points."""
    *columns, text = row
    records, _ = columns_of(tuple(columns))
    texts = Texts.of(map(change, Texts.joined(text, records.texts.sizes)))
    errors = Words(records.errors.codes, tuple(one if one is None else change(one) for one in records.errors.words))
    return row_of(replace(records, texts=texts, errors=errors))


def joined_batches(parts: Sequence[RecordColumns], texts: "bytes | TextSource") -> RecordColumns:
    """The records of all batches of a trial. `texts`: those of all batches, in order."""
    found = joined(parts)
    return replace(found, texts=Texts.joined(texts, found.texts.sizes))


def _crc(blobs: "Sequence[object]") -> int:
    crc = 0
    for blob in cast("Sequence[bytes]", blobs):
        crc = zlib.crc32(blob, crc)
    return crc


def _packed(column: NDArray[Any]) -> bytes:
    """The lowest number, 8 bytes; then what each number is above it, as narrow as the largest of them needs, nothing
    where all are equal. Numbers more than 2^62 apart are stored as they are, above 0."""
    values = column.astype(np.int64)
    if not len(values):
        return b""
    low, high = int(values.min()), int(values.max())
    if high - low > 1 << 62:
        return bytes(8) + values.astype("<i8").tobytes()
    above = b"" if low == high else _narrow(values - low)
    return low.to_bytes(8, "little", signed=True) + above


def _unpacked(blob: bytes, count: int) -> Ints:
    """Raises ValueError if the blob does not hold `count` numbers."""
    if len(blob) <= 8:
        return np.full(count, int.from_bytes(blob, "little", signed=True))
    values = _wide(blob[8:], count).astype(np.int64)
    return values + int.from_bytes(blob[:8], "little", signed=True)


def _narrow(values: NDArray[Any], least: int = 1) -> bytes:
    """Numbers of at least 0, each with as many bytes as the largest needs, and at least `least`."""
    most = int(values.max(initial=0))
    width = next(width for width in _UNSIGNED if width >= least and most < 1 << 8 * width)
    return values.astype(f"<{_UNSIGNED[width]}").tobytes()


def _wide(blob: bytes, count: int) -> NDArray[Any]:
    """Raises ValueError if the blob does not hold `count` numbers of the same width."""
    width = len(blob) // max(1, count)
    if len(blob) != width * count or (count and width not in _UNSIGNED):
        raise ValueError("the columns of some events do not fit together")
    return little_endian(blob, _UNSIGNED[width] if count else "B")


def _times(blob: bytes, jumps: bytes, counts: Ints, starts: Ints) -> tuple[Ints, NDArray[Any]]:
    """The columns `first_ns` and `steps`."""
    steps = _wide(blob, int(starts[-1]))
    steps = steps.astype(np.int64) if steps.itemsize > 4 else steps
    some, first_ns = counts > 0, np.zeros(len(counts), np.int64)
    between = _unpacked(jumps, int(some.sum()))
    between[1:] += summed(steps, starts)[some][:-1]
    first_ns[some] = np.cumsum(between)
    return first_ns, steps

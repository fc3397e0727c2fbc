"""Request records of a trial in columns: a few arrays for all requests, and one buffer for all texts.

A RecordColumns is a sequence of RequestRecord. Metrics, checks and pictures work on its columns; a record is built when
somebody takes one out.
"""

import array
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, cast, get_args, overload

import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Bools, Ints, gathered, starts_of, summed
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
from inferometer.core.text_columns import Texts, Words, joined_texts, joined_words

UNKNOWN = int(np.iinfo(np.int64).min)
"""In a column of int64: None."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
USAGE = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
TIMINGS = ("cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "draft_n", "draft_n_accepted")
NUMBERS = (
    "index due_ns sent_ns done_ns first_byte_ns connected_ns status coalesced stamp_errors resent prompt_tokens "
    "our_tokens"
).split()
"""Fields of a record that are an int or None."""
_BIGGEST = 1 << 62
_EVENTS_AT_ONCE = 1 << 20
_IS_SILENT = np.array([kind not in OUTPUT_KINDS for kind in KINDS])
_IS_UNSEEN = np.array([kind in ("reasoning", "tool", "error") for kind in KINDS])


@dataclass(frozen=True, eq=False, repr=False)
class RecordColumns(Sequence[RequestRecord]):
    """`numbers`: a column for each of NUMBERS (UNKNOWN: None). `outcomes`: positions in OUTCOMES. `usage` and
    `timings`: a column for each of USAGE and TIMINGS (UNKNOWN and NaN: not stated); None where no request has any.
    `first_ns`: the arrival time of the first event of each request, 0 without one. `steps`, `kinds`, `chars`, `tokens`
    (None: no event states any): of all events, as in `Events`, but times as steps from the event before, 0 for the
    first; `starts`: the first event of each request, and the end of the last. `texts`: all text of each request."""

    numbers: dict[str, Ints]
    measured: Bools
    outcomes: NDArray[np.uint8]
    request_ids: list[str]
    finish_reasons: Words
    models: Words
    errors: Words
    has_usage: Bools
    usage: dict[str, Ints] | None
    has_timings: Bools
    timings: dict[str, NDArray[np.float64]] | None
    first_ns: Ints
    steps: "NDArray[np.uint32] | Ints"
    kinds: NDArray[np.uint8]
    chars: NDArray[np.unsignedinteger[Any]]
    tokens: NDArray[np.uint32] | None
    starts: Ints
    texts: Texts
    made: Sequence[RequestRecord] | None = None
    """The records that these columns were made of, if they are at hand."""

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> "RecordColumns":
        if isinstance(records, cls):
            return records
        made = list(records)
        events = [cast("Events", record.events) for record in made]
        usages, timings = [record.usage for record in made], [record.timings for record in made]
        has_tokens = any(one.tokens for one in events)
        stated = [one.tokens.tobytes() or bytes(4 * len(one.kinds)) for one in events] if has_tokens else []
        starts = starts_of([len(one.kinds) for one in events])
        first_ns, steps = steps_of(np.frombuffer(b"".join(one.at_ns for one in events), np.int64), starts)
        return cls(
            numbers={name: int_column([getattr(record, name) for record in made]) for name in NUMBERS},
            measured=np.array([record.measured for record in made], np.bool_),
            outcomes=np.array([OUTCOMES.index(record.outcome) for record in made], np.uint8),
            request_ids=[record.request_id for record in made],
            finish_reasons=Words.of(record.finish_reason for record in made),
            models=Words.of(record.model for record in made),
            errors=Words.of(record.error for record in made),
            **counts_of(usages, timings),
            first_ns=first_ns,
            steps=steps,
            kinds=np.frombuffer(b"".join(one.kinds for one in events), np.uint8),
            chars=joined_chars([one.chars for one in events]),
            tokens=np.frombuffer(b"".join(stated), np.uint32) if has_tokens else None,
            starts=starts,
            texts=Texts.of(one.text for one in events),
            made=made,
        )

    def chosen(self, wanted: Bools) -> "RecordColumns":
        """The `wanted` records, in the same order."""
        if wanted.all():
            return self
        places = np.flatnonzero(wanted)
        is_range = len(places) > 0 and int(places[-1]) - int(places[0]) + 1 == len(places)
        return self._at(slice(int(places[0]), int(places[-1]) + 1) if is_range else places)

    def by_index(self) -> "RecordColumns":
        """The records in the order of their index."""
        index = self.numbers["index"]
        return self if (np.diff(index) >= 0).all() else self._at(np.argsort(index, kind="stable"))

    def _at(self, places: "Ints | slice") -> "RecordColumns":
        if isinstance(places, slice):
            first = int(self.starts[places.start])
            events = slice(first, int(self.starts[places.stop]))
            starts = self.starts[places.start : places.stop + 1] - first
            steps, kinds, chars, tokens = (None if one is None else one[events] for one in self._of_events)
        else:
            starts = starts_of(self.event_counts[places])
            steps, kinds, chars, tokens = gathered(self._of_events, self.starts[:-1][places], starts)
        listed = range(len(self))[places] if isinstance(places, slice) else cast("list[int]", places.tolist())
        return replace(
            self,
            numbers={name: column[places] for name, column in self.numbers.items()},
            measured=self.measured[places],
            outcomes=self.outcomes[places],
            request_ids=[self.request_ids[place] for place in listed],
            finish_reasons=self.finish_reasons.chosen(places),
            models=self.models.chosen(places),
            errors=self.errors.chosen(places),
            has_usage=self.has_usage[places],
            usage=self.usage and {name: column[places] for name, column in self.usage.items()},
            has_timings=self.has_timings[places],
            timings=self.timings and {name: column[places] for name, column in self.timings.items()},
            first_ns=self.first_ns[places],
            steps=steps,
            kinds=kinds,
            chars=chars,
            tokens=tokens,
            starts=starts,
            texts=self.texts.chosen(places),
            made=None if self.made is None else [self.made[place] for place in listed],
        )

    @property
    def _of_events(self) -> "tuple[NDArray[Any] | None, ...]":
        return self.steps, self.kinds, self.chars, self.tokens

    # --- columns ------------------------------------------------------------------------------------

    @cached_property
    def ok(self) -> Bools:
        """Whether each request ended well."""
        return self.outcomes == OUTCOMES.index("ok")

    @cached_property
    def characters(self) -> Ints:
        """Characters of all text of each request."""
        return self.summed(self.chars)

    @cached_property
    def event_counts(self) -> Ints:
        return np.diff(self.starts)

    def summed(self, of_events: NDArray[Any]) -> Ints:
        """The sum over the events of each request."""
        return summed(of_events, self.starts)

    def used(self, name: str) -> Ints:
        """A column of USAGE."""
        return np.full(len(self), UNKNOWN) if self.usage is None else self.usage[name]

    def timed(self, name: str) -> NDArray[np.float64]:
        """A column of TIMINGS."""
        return np.full(len(self), np.nan) if self.timings is None else self.timings[name]

    def times(self, first: int, last: int) -> Ints:
        """The arrival times of all events of the requests from `first` to before `last`."""
        starts = self.starts[first : last + 1]
        found = np.cumsum(self.steps[starts[0] : starts[-1]], dtype=np.int64)
        counts = np.diff(starts)
        some = counts > 0
        begins_ns = self.first_ns[first:last][some] - found[starts[:-1][some] - starts[0]]
        found += np.repeat(begins_ns, counts[some])
        return found

    def times_at(self, places: Ints, events: Ints) -> Ints:
        """The arrival times of one event of each of these requests, by its position among all events."""
        begins = self.starts[:-1][places] + 1
        starts = starts_of(events + 1 - begins)
        (steps,) = gathered((self.steps,), begins, starts)
        return self.first_ns[places] + summed(cast("Ints", steps), starts)

    @cached_property
    def last_ns(self) -> Ints:
        """The arrival time of the last event of each request."""
        return self.first_ns + self.summed(self.steps)

    def count_of(self, kind: EventKind) -> Ints:
        """Events of this kind of each request."""
        if kind not in self._counts_of:
            self._counts_of[kind] = self.summed(self.kinds == KINDS.index(kind))
        return self._counts_of[kind]

    @cached_property
    def _counts_of(self) -> dict[EventKind, Ints]:
        return {}

    def has(self, kind: EventKind) -> Bools:
        """Whether each request has an event of this kind."""
        return self.count_of(kind) > 0

    # --- records ------------------------------------------------------------------------------------

    @cached_property
    def _has_unseen(self) -> Bools:
        return self._has_of(_IS_UNSEEN, with_text=False)

    @cached_property
    def has_silent_text(self) -> Bools:
        """Whether some text of each request is not output."""
        return self._has_of(_IS_SILENT, with_text=True)

    def _has_of(self, wanted: Bools, *, with_text: bool) -> Bools:
        """Whether each request has an event of the `wanted` kinds, which are rare, with text if so asked."""
        found = np.zeros(len(self), np.bool_)
        for begin in range(0, len(self.kinds), _EVENTS_AT_ONCE):
            events = begin + np.flatnonzero(wanted[self.kinds[begin : begin + _EVENTS_AT_ONCE]])
            events = events[self.chars[events] > 0] if with_text else events
            found[np.searchsorted(self.starts, events, "right") - 1] = True
        return found

    def answer(self, place: int) -> str:
        """`RequestRecord.text` of one record."""
        return self.record(place).text if self._has_unseen[place] else self.texts[place]

    def all_output(self, place: int) -> str:
        """`Events.all_output` of one record."""
        return self._events(place).all_output() if self.has_silent_text[place] else self.texts[place]

    def record(self, place: int) -> RequestRecord:
        """One record."""
        if self.made is not None:
            return self.made[place]
        numbers: dict[str, Any] = {
            name: None if (value := int(column[place])) == UNKNOWN else value for name, column in self.numbers.items()
        }
        return RequestRecord(
            **numbers,
            request_id=self.request_ids[place],
            measured=bool(self.measured[place]),
            outcome=OUTCOMES[int(self.outcomes[place])],
            events=self._events(place),
            finish_reason=self.finish_reasons[place],
            usage=self._usage(place),
            timings=self._timings(place),
            model=self.models[place],
            error=self.errors[place] or "",
        )

    def _events(self, place: int) -> Events:
        start, end = int(self.starts[place]), int(self.starts[place + 1])
        chars = self.chars[start:end]
        tokens = None if self.tokens is None else self.tokens[start:end]
        return Events(
            array.array("q", self.times(place, place + 1).tobytes()),
            self.kinds[start:end].tobytes(),
            array.array(chars.dtype.char, chars.tobytes()),
            self.texts[place],
            array.array("I", tokens.tobytes()) if tokens is not None and tokens.any() else None,
        )

    def _usage(self, place: int) -> TokenUsage | None:
        if not self.has_usage[place] or self.usage is None:
            return None
        values = (int(self.usage[name][place]) for name in USAGE)
        return TokenUsage(*(None if value == UNKNOWN else value for value in values))

    def _timings(self, place: int) -> ServerTimings | None:
        if not self.has_timings[place] or self.timings is None:
            return None
        stated: dict[str, Any] = {
            name: value if name.endswith("_ms") else int(value)
            for name in TIMINGS
            if not np.isnan(value := float(self.timings[name][place]))
        }
        return ServerTimings(**stated)

    def __len__(self) -> int:
        return len(self.outcomes)

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RequestRecord]: ...

    def __getitem__(self, index: int | slice) -> RequestRecord | Sequence[RequestRecord]:
        if isinstance(index, slice):
            return tuple(self.record(place) for place in range(*index.indices(len(self))))
        return self.record(range(len(self))[index])

    def __iter__(self) -> Iterator[RequestRecord]:
        return map(self.record, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(cast("Sequence[RequestRecord]", other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def joined(parts: Sequence[RecordColumns]) -> RecordColumns:
    """The records of all parts, in order."""
    if not parts:
        return RecordColumns.of(())
    if len(parts) == 1:
        return parts[0]
    found: dict[str, Any] = {}
    for field in fields(RecordColumns):
        columns = [getattr(part, field.name) for part in parts]
        found[field.name] = _JOINS[field.name](columns) if field.name in _JOINS else np.concatenate(columns)
    for name, missing in (("usage", np.int64(UNKNOWN)), ("timings", np.float64("nan"))):
        found[name] = _joined_tables([getattr(part, name) for part in parts], list(map(len, parts)), missing)
    if found["tokens"] is not None:
        lists = [np.zeros(len(part.kinds), np.uint32) if part.tokens is None else part.tokens for part in parts]
        found["tokens"] = np.concatenate(lists)
    return RecordColumns(**found)


def _joined_tables(tables: "list[dict[str, Any] | None]", sizes: list[int], missing: Any) -> "dict[str, Any] | None":
    names = next((list(table) for table in tables if table), None)
    if names is None:
        return None
    return {
        name: np.concatenate(
            [
                np.full(size, missing) if table is None else table[name]
                for table, size in zip(tables, sizes, strict=True)
            ]
        )
        for name in names
    }


def _joined_starts(columns: Sequence[Ints]) -> Ints:
    return starts_of(np.concatenate([np.diff(starts) for starts in columns]))


_JOINS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "numbers": lambda tables: {name: np.concatenate([table[name] for table in tables]) for name in NUMBERS},
    "request_ids": lambda lists: [name for names in lists for name in names],
    **dict.fromkeys(("finish_reasons", "models", "errors"), joined_words),
    **dict.fromkeys(("usage", "timings"), lambda tables: None),
    "tokens": lambda lists: None if all(one is None for one in lists) else lists,
    "starts": _joined_starts,
    "texts": joined_texts,
    "made": lambda lists: None,
}


def steps_of(at_ns: Ints, starts: Ints) -> "tuple[Ints, NDArray[np.uint32] | Ints]":
    """The columns `first_ns` and `steps` of these arrival times."""
    some = starts[1:] > starts[:-1]
    begins = starts[:-1][some]
    first_ns = np.zeros(len(some), np.int64)
    first_ns[some] = at_ns[begins]
    steps = np.diff(at_ns, prepend=0)
    steps[begins] = 0
    fits = int(steps.min(initial=0)) >= 0 and int(steps.max(initial=0)) < 1 << 32
    return first_ns, steps.astype(np.uint32) if fits else steps


def int_column(values: Sequence[int | None]) -> Ints:
    """UNKNOWN for None. Numbers beyond 2^62, which only a broken server reports, become 2^62."""
    try:
        if None not in values:
            return np.array(values, np.int64)
        if not any(value is not None for value in values):
            return np.full(len(values), UNKNOWN)
        return np.array([UNKNOWN if value is None else value for value in values], np.int64)
    except OverflowError:
        near = [None if value is None else max(-_BIGGEST, min(_BIGGEST, value)) for value in values]
        return int_column(near)


def counts_of(usages: Sequence[TokenUsage | None], timings: Sequence[ServerTimings | None]) -> dict[str, Any]:
    """The columns of the servers' counts."""
    usage: dict[str, Ints] | None = None
    times: dict[str, NDArray[np.float64]] | None = None
    if any(one is not None for one in usages):  # one pass for each column
        usage = {name: int_column([None if one is None else getattr(one, name) for one in usages]) for name in USAGE}
    if any(one is not None for one in timings):
        values = {name: [None if one is None else getattr(one, name) for one in timings] for name in TIMINGS}
        times = {
            name: np.array([np.nan if value is None else value for value in column], np.float64)
            for name, column in values.items()
        }
    return {
        "has_usage": np.array([one is not None for one in usages], np.bool_),
        "usage": usage,
        "has_timings": np.array([one is not None for one in timings], np.bool_),
        "timings": times,
    }


def joined_chars(columns: "Sequence[array.array[int]]") -> NDArray[np.unsignedinteger[Any]]:
    """All in one, as wide as the widest."""
    codes = {column.typecode for column in columns if len(column)} or {"B"}
    widest = max(codes, key=lambda code: array.array(code).itemsize)
    if len(codes) == 1:
        return np.frombuffer(b"".join(column for column in columns if len(column)), widest)
    return np.frombuffer(b"".join(array.array(widest, column) for column in columns), widest)


def little_endian(data: bytes, code: str) -> NDArray[Any]:
    """The numbers in a little-endian blob."""
    found = np.frombuffer(data, np.dtype(code).newbyteorder("<"))
    return found if sys.byteorder == "little" else found.astype(code)

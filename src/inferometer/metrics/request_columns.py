"""Times and token counts of all requests of a trial at once, in columns.

`request_timing` and `consistency` define the same numbers for one request; a property test holds both to the same
results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Bools, Ints, ranges, starts_of, summed
from inferometer.core.record import KINDS, OUTPUT_CODES, TEXT_CODE
from inferometer.core.record_columns import UNKNOWN, RecordColumns
from inferometer.core.request import Request
from inferometer.core.spec import Api
from inferometer.core.text_columns import Texts
from inferometer.metrics import consistency
from inferometer.metrics.consistency import Contradiction, contradictions
from inferometer.metrics.request_timing import MOST_PIECE_CHARACTERS, MetricDialect, TokenSource, request_timing
from inferometer.metrics.shared_waits import NO_WAITS, AfterBlank, Waits, waits_of

SOURCES: tuple[TokenSource | None, ...] = (None, *get_args(TokenSource))
"""Who counted tokens, by code."""

_IS_OUTPUT = np.zeros(256, np.bool_)
_IS_OUTPUT[list(OUTPUT_CODES)] = True
_BLANK = np.zeros(256, np.bool_)
_BLANK[list(b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f")] = True
_MAY_BEGIN_BLANK = np.zeros(256, np.bool_)
_MAY_BEGIN_BLANK[[0xC2, 0xE1, 0xE2, 0xE3, 0xEF]] = True  # first bytes of Unicode's other blanks
_HEAD_BYTES = 16


class OutputPart(msgspec.Struct, frozen=True):
    """Every event with output of several requests, in order: `at_ns`, `chars` and `stated` tokens (0 if not stated).
    `starts`: where each request begins, and where the last one ends."""

    at_ns: Ints
    chars: NDArray[np.unsignedinteger[Any]]
    stated: Ints | None
    starts: Ints

    @property
    def counts(self) -> Ints:
        """Number of outputs of each request."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """The position of each output's request."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)


class OutputColumns(msgspec.Struct, frozen=True):
    """The outputs of the requests in `records` (see `core.record.OUTPUT_KINDS`). Of each request: `counts`, the number
    of its outputs; the times of the first and the last, 0 without one; and the `characters` of all."""

    records: RecordColumns
    counts: Ints
    first_ns: Ints
    last_ns: Ints
    characters: Ints

    def parts(self) -> "Iterator[tuple[int, OutputPart]]":
        """The outputs of some requests at once: the position of the first request, and the outputs. Of millions of
        events, no copy is kept."""
        return _output_parts(self.records)


_EVENTS_AT_ONCE = 1 << 20


def _output_parts(records: RecordColumns) -> Iterator[tuple[int, OutputPart]]:
    """Each part has about `_EVENTS_AT_ONCE` events of whole requests."""
    for first, last in ranges(records.starts, _EVENTS_AT_ONCE):
        own = slice(int(records.starts[first]), int(records.starts[last]))
        kinds, chars = records.kinds[own], records.chars[own]
        chosen = _IS_OUTPUT[kinds] & ((chars > 0) | (kinds != TEXT_CODE))
        stated = None if records.tokens is None else records.tokens[own][chosen].astype(np.int64)
        starts = starts_of(summed(chosen, records.starts[first : last + 1] - own.start))
        yield first, OutputPart(records.times(first, last)[chosen], chars[chosen], stated, starts)


def output_columns(records: RecordColumns) -> OutputColumns:
    """The outputs of these records (see `core.record.OUTPUT_KINDS`)."""
    counts, first_ns, last_ns, characters = (np.zeros(len(records), np.int64) for _ in range(4))
    for first, part in _output_parts(records):
        own = slice(first, first + len(part.counts))
        counts[own], characters[own] = part.counts, summed(part.chars, part.starts)
        some = np.flatnonzero(part.counts)
        first_ns[first + some] = part.at_ns[part.starts[:-1][some]]
        last_ns[first + some] = part.at_ns[part.starts[1:][some] - 1]
    return OutputColumns(records, counts, first_ns, last_ns, characters)


class Asked(msgspec.Struct, frozen=True):
    """What each request asked: `requests` (None: unknown), the bytes of its prompt, and its limit (UNKNOWN: none)."""

    requests: Sequence[Request | None]
    known: Bools
    prompt_bytes: Ints
    max_tokens: Ints


class Requests(dict[int, Request]):
    """What each request of a plan asks, by index. The columns of all trials of the plan are made of `sizes`."""

    @cached_property
    def sizes(self) -> tuple[Ints, Ints, Ints]:
        """The indices, rising; the bytes of the prompt of each; and its limit, UNKNOWN without one."""
        ordered = sorted(self.items())
        limits = [UNKNOWN if one.max_tokens is None else one.max_tokens for _, one in ordered]
        columns = ([index for index, _ in ordered], [consistency.prompt_bytes(one) for _, one in ordered], limits)
        index, prompt_bytes, max_tokens = (np.array(column, np.int64) for column in columns)
        return index, prompt_bytes, max_tokens

    @cached_property
    def keys_by_index(self) -> dict[int, int]:
        """A number of 64 bits for the messages of each request and how often the plan asked them before, by index.
        Equal in every study of one process that asks the same."""
        asked: dict[int, int] = {}
        found: dict[int, int] = {}
        for index, request in sorted(self.items()):
            messages = hash(request.messages)
            before = asked.get(messages, 0)
            asked[messages] = before + 1
            found[index] = hash((messages, before))
        return found


def asked_of(records: RecordColumns, requests: Mapping[int, Request]) -> Asked:
    """`requests`: the plan's, by index."""
    wanted = records.numbers["index"]
    found = list(map(requests.get, wanted.tolist()))
    index, prompt_bytes, max_tokens = (requests if isinstance(requests, Requests) else Requests(requests)).sizes
    if not len(index):
        return Asked(
            found, np.zeros(len(wanted), np.bool_), np.zeros(len(wanted), np.int64), np.full(len(wanted), UNKNOWN)
        )
    places = np.minimum(np.searchsorted(index, wanted), len(index) - 1)
    known = index[places] == wanted
    return Asked(found, known, np.where(known, prompt_bytes[places], 0), np.where(known, max_tokens[places], UNKNOWN))


class TimingColumns(msgspec.Struct, frozen=True):
    """The fields of `RequestTiming` of each request; meaningless where not `timed`: the request failed by the dialect's
    rules. UNKNOWN: no count. Sources are positions in SOURCES."""

    timed: Bools
    ttft_ns: Ints
    latency_ns: Ints
    output_tokens: Ints
    prompt_tokens: Ints
    output_source: NDArray[np.uint8]
    prompt_source: NDArray[np.uint8]

    @property
    def tpot_ns(self) -> NDArray[np.float64]:
        """See `RequestTiming.tpot_ns`; NaN for None."""
        several = self.timed & (self.output_tokens >= 2)
        times = (self.latency_ns - self.ttft_ns) / np.where(several, self.output_tokens - 1, 1)
        return np.where(several, times, np.nan)

    def total_output_tokens(self) -> int | None:
        """Over the timed requests; None if the count of any is unknown."""
        return _total(self.output_tokens[self.timed])

    def total_prompt_tokens(self) -> int | None:
        """Over the timed requests; None if the count of any is unknown."""
        return _total(self.prompt_tokens[self.timed])


def _total(counts: Ints) -> int | None:
    return None if (counts == UNKNOWN).any() else int(counts.sum())


def timing_columns(
    records: RecordColumns, outputs: OutputColumns, asked: Asked, dialect: MetricDialect, api: Api
) -> TimingColumns:
    """See `request_timing`."""
    if dialect != "inferometer":
        return _one_by_one(records, asked, dialect, api)
    sent_ns = records.numbers["sent_ns"]
    timed = records.ok & (sent_ns != UNKNOWN) & (outputs.counts > 0)
    ttft_ns = np.where(timed, outputs.first_ns - sent_ns, 0)
    latency_ns = np.where(timed, outputs.last_ns - sent_ns, 0)
    output_tokens, output_source = _output_counts(records, outputs, asked)
    prompt_tokens, prompt_source = _prompt_counts(records, asked)
    by_pieces = output_source == SOURCES.index("output events")
    if (timed & (output_source == 0)).any():  # pieces of one answer are too long to be tokens
        output_tokens[by_pieces], output_source[by_pieces] = UNKNOWN, 0
    return TimingColumns(timed, ttft_ns, latency_ns, output_tokens, prompt_tokens, output_source, prompt_source)


def _one_by_one(records: RecordColumns, asked: Asked, dialect: MetricDialect, api: Api) -> TimingColumns:
    pairs = zip(records, asked.requests, strict=True)
    found = [request_timing(record, dialect, api, request) for record, request in pairs]

    def column(name: str) -> Ints:
        values = [UNKNOWN if one is None or (value := getattr(one, name)) is None else value for one in found]
        return np.array(values, np.int64)

    def sources(name: str) -> NDArray[np.uint8]:
        return np.array([0 if one is None else SOURCES.index(getattr(one, name)) for one in found], np.uint8)

    return TimingColumns(
        np.array([one is not None for one in found], np.bool_),
        column("ttft_ns"),
        column("latency_ns"),
        column("output_tokens"),
        column("prompt_tokens"),
        sources("output_source"),
        sources("prompt_source"),
    )


def _from_timings(column: NDArray[np.float64]) -> Ints:
    return np.where(np.isnan(column), UNKNOWN, np.nan_to_num(column)).astype(np.int64)


def _output_counts(records: RecordColumns, outputs: OutputColumns, asked: Asked) -> tuple[Ints, NDArray[np.uint8]]:
    """The first count of the output that no known fact refutes, and its source."""
    by_ids = np.full(len(records), UNKNOWN)
    if records.tokens is not None:
        stated = records.summed(records.tokens)
        by_ids = np.where(stated > 0, stated, UNKNOWN)
    known: dict[TokenSource, Ints] = {
        "usage": records.used("completion_tokens"),
        "timings": _from_timings(records.timed("predicted_n")),
        "token ids": by_ids,
        "our tokenizer": records.numbers["our_tokens"],
    }
    counts, sources = _first_known(known, lambda count: _refuted_output(records, outputs, asked, count))
    nobody = np.logical_and.reduce([count == UNKNOWN for count in known.values()])
    pieces = outputs.counts
    short = nobody & (records.summed(records.chars) <= MOST_PIECE_CHARACTERS * pieces)
    counts[short], sources[short] = pieces[short], SOURCES.index("output events")
    return counts, sources


def _prompt_counts(records: RecordColumns, asked: Asked) -> tuple[Ints, NDArray[np.uint8]]:
    known: dict[TokenSource, Ints] = {
        "usage": records.used("prompt_tokens"),
        "timings": _from_timings(records.timed("prompt_n") + records.timed("cache_n")),
        "our tokenizer": records.numbers["prompt_tokens"],
    }
    return _first_known(known, lambda count: _refuted_prompt(asked, count))


def _first_known(
    known: "Mapping[TokenSource, Ints]", refuted: "Callable[[Ints], Bools]"
) -> tuple[Ints, NDArray[np.uint8]]:
    size = len(next(iter(known.values())))
    counts, sources = np.full(size, UNKNOWN), np.zeros(size, np.uint8)
    for source, count in known.items():
        if (count == UNKNOWN).all():
            continue
        chosen = (sources == 0) & (count != UNKNOWN) & ~refuted(count)
        counts[chosen], sources[chosen] = count[chosen], SOURCES.index(source)
    return counts, sources


def _refuted_output(records: RecordColumns, outputs: OutputColumns, asked: Asked, count: Ints) -> Bools:
    """Whether `consistency` refutes each count; also where it is UNKNOWN."""
    size, pieces = records.texts.sizes, outputs.counts
    tools = records.count_of("tool")
    beyond = count > size + consistency.UNSEEN_TOKENS + consistency.UNSEEN_TOOL_TOKENS * tools
    over = (asked.max_tokens != UNKNOWN) & (count > asked.max_tokens + 1)
    split = (count < 0.9 * pieces - 1) & (size >= consistency.PIECE_BYTES * pieces)
    found = (count <= 0) | beyond | over | split | _leaves_thoughts_out(records, outputs, count)
    for place in np.flatnonzero(~found & _may_be_more_than_text(records, outputs, count)).tolist():
        found[place] = consistency.mostly_letters(records.texts[place])
    return found


def _leaves_thoughts_out(records: RecordColumns, outputs: OutputColumns, count: Ints) -> Bools:
    """Whether each count is of the text without the reasoning that was streamed with it."""
    is_thought = records.kinds == KINDS.index("reasoning")
    if not is_thought.any():
        return np.zeros(len(count), np.bool_)
    thoughts, all_chars = records.summed(np.where(is_thought, records.chars, 0)), outputs.characters
    pieces, chars = outputs.counts - records.summed(is_thought), all_chars - thoughts
    only_pieces = (count <= pieces + consistency.TWO_COUNTS) & (chars >= consistency.PIECE_BYTES * pieces)
    long = all_chars / consistency.TEXT_PER_TOKEN > count
    return (thoughts >= consistency.THOUGHT_CHARACTERS) & (only_pieces | long)


def _may_be_more_than_text(records: RecordColumns, outputs: OutputColumns, count: Ints) -> Bools:
    """Whether each count is of more than the text, if the text is mostly letters."""
    thoughts, pieces = records.used("reasoning_tokens"), outputs.counts
    seen = count.astype(np.float64) - np.where(thoughts == UNKNOWN, 0, thoughts)
    many = (pieces >= consistency.HIDDEN_LEAST_PIECES) & (seen > 1.5 * pieces + consistency.UNSEEN_TOKENS)
    return many & (records.characters < consistency.LETTERS_PER_TOKEN * seen)


def _refuted_prompt(asked: Asked, count: Ints) -> Bools:
    """Whether `consistency` refutes each count; also where it is UNKNOWN."""
    size = asked.prompt_bytes
    empty = (count <= 0) & (size > 0)
    beyond = count > size + consistency.TEMPLATE_TOKENS
    cut = (size >= consistency.LEAST_PROMPT_BYTES) & (count < size / consistency.MOST_BYTES_PER_TOKEN)
    return np.where(asked.known, empty | beyond | cut, count < 0)


# --- contradictions ---------------------------------------------------------------------------------


def contradictions_of(
    records: RecordColumns, outputs: OutputColumns, asked: Asked
) -> dict[int, tuple[Contradiction, ...]]:
    """See `consistency.contradictions`: of each request that contradicts anything, by position. Only requests that may
    are examined one by one."""
    found: dict[int, tuple[Contradiction, ...]] = {}
    late, waits = _late_after_blank(records, outputs)
    blank = records.ok & late
    for place in np.flatnonzero(records.ok & (blank | _may_contradict(records, outputs, asked))).tolist():
        if reasons := contradictions(records.record(place), asked.requests[place], waits):
            found[place] = reasons
    if 2 * blank.sum() > records.ok.sum():
        _add_blank_first(found, np.flatnonzero(records.ok).tolist())
    return found


def _add_blank_first(found: dict[int, tuple[Contradiction, ...]], places: Sequence[int]) -> None:
    """No first token is known where most answers begin with a blank that only kept the connection open."""
    for place in places:
        known = found.get(place, ())
        if not any(one.about == "first_token" for one in known):
            found[place] = (*known, consistency.BLANK_FIRST)


def _may_contradict(records: RecordColumns, outputs: OutputColumns, asked: Asked) -> Bools:
    suspect = _echoes(records, asked) | _text_after_end(records)
    suspect |= records.used("reasoning_tokens") >= consistency.HIDDEN_TOKENS
    by_usage, by_timings = records.used("completion_tokens"), _from_timings(records.timed("predicted_n"))
    for count in (by_usage, by_timings):
        if (count != UNKNOWN).any():
            suspect |= (count != UNKNOWN) & _refuted_output(records, outputs, asked, count)
    suspect |= (by_usage != UNKNOWN) & (by_timings != UNKNOWN) & (by_usage != by_timings)
    read = _from_timings(records.timed("prompt_n") + records.timed("cache_n"))
    used = records.used("prompt_tokens")
    for count in (used, read):
        suspect |= (count != UNKNOWN) & _refuted_prompt(asked, count)
    cached = records.used("cached_tokens")
    cached = np.where(cached == UNKNOWN, _from_timings(records.timed("cache_n")), cached)
    total = np.where(used == UNKNOWN, read, used)
    beyond = asked.known & (cached > asked.prompt_bytes + consistency.TEMPLATE_TOKENS)
    suspect |= (cached != UNKNOWN) & (beyond | (cached < 0) | ((total != UNKNOWN) & (cached > total)))
    return suspect | _odd_drafts(records)


def _echoes(records: RecordColumns, asked: Asked) -> Bools:
    """Whether the first text of each request is its prompt."""
    found = np.zeros(len(records), np.bool_)
    first_chars = _first_chars(records)
    for place in np.flatnonzero(first_chars >= consistency.ECHO_CHARACTERS).tolist():
        request = asked.requests[place]
        first = records.texts[place][: first_chars[place]]
        found[place] = request is not None and consistency.is_echo(first, request)
    return found


def _odd_drafts(records: RecordColumns) -> Bools:
    if records.timings is None:
        return np.zeros(len(records), np.bool_)
    drafted, accepted = (np.nan_to_num(records.timed(name)) for name in ("draft_n", "draft_n_accepted"))
    predicted = records.timed("predicted_n")
    return (drafted < 0) | (accepted < 0) | (accepted > drafted) | ((accepted > 0) & (accepted >= predicted))


def _text_after_end(records: RecordColumns) -> Bools:
    """Whether text came after [DONE]."""
    late = np.zeros(len(records), np.bool_)
    ends = np.flatnonzero(records.kinds == KINDS.index("done"))
    owners = np.searchsorted(records.starts, ends, "right") - 1
    stops = records.starts[1:][owners]
    after = ends + 1 < stops  # events follow
    if after.any():
        bounds = np.stack((ends[after] + 1, stops[after]), axis=1).ravel()
        chars = np.append(records.chars, records.chars[:0].dtype.type(0))
        late[owners[after][np.add.reduceat(chars, bounds, dtype=np.int64)[::2] > 0]] = True
    return late


def _late_after_blank(records: RecordColumns, outputs: OutputColumns) -> tuple[Bools, Waits]:
    """Whether the text of each request begins with blanks, and visible text came late for its pace; and the waits of
    all answers, if any came late without them."""
    found, first_visible = np.zeros(len(records), np.bool_), _first_visible(records, outputs)
    alone = list(_late_alone(records, outputs, *first_visible))
    if not alone:
        return found, NO_WAITS
    visible_ns = np.full(len(records), UNKNOWN)
    places, own_ns = first_visible
    visible_ns[places] = own_ns
    sent_ns = records.numbers["sent_ns"]
    waits = waits_of(
        (part.at_ns, part.starts, sent_ns[own], visible_ns[own])
        for first, part in outputs.parts()
        for own in (slice(first, first + len(part.counts)),)
    )
    for place, blank in alone:
        found[place] = consistency.is_late(blank, consistency.BLANK_USUAL_NS, waits)
    return found, waits


def _late_alone(
    records: RecordColumns, outputs: OutputColumns, places: Ints, visible_ns: Ints
) -> "Iterator[tuple[int, AfterBlank]]":
    """The requests whose visible text came late after blanks, by what the request itself shows. `places`,
    `visible_ns`: of `_first_visible`."""
    waits_ns = visible_ns - outputs.first_ns[places]
    slow = waits_ns > consistency.BLANK_USUAL_NS
    places, visible_ns, waits_ns = places[slow], visible_ns[slow], waits_ns[slow]
    for first, part in outputs.parts() if len(places) else ():
        begin, end = np.searchsorted(places, (first, first + len(part.counts)))
        own, own_ns, own_waits_ns = places[begin:end] - first, visible_ns[begin:end], waits_ns[begin:end]
        may = own_waits_ns > consistency.BLANK_GAPS * _least_gaps(part, own, own_ns)
        for place, visible in zip(own[may].tolist(), own_ns[may].tolist(), strict=True):
            at_ns = part.at_ns[part.starts[place] : part.starts[place + 1]]
            gaps, sent_ns = np.diff(at_ns[at_ns >= visible]), int(records.numbers["sent_ns"][first + place])
            blank = AfterBlank(
                None if sent_ns == UNKNOWN else sent_ns,
                int(at_ns[0]),
                visible,
                _median(gaps) if len(gaps) else 0.0,
                at_ns,
            )
            if consistency.is_late(blank, consistency.BLANK_USUAL_NS, NO_WAITS):
                yield first + place, blank


def _least_gaps(part: OutputPart, places: Ints, visible_ns: Ints) -> Ints:
    """The shortest gap of each of these requests from its first visible output on; -1 without one."""
    if not len(places):
        return places
    visible_from = np.full(len(part.counts), np.iinfo(np.int64).max)
    visible_from[places] = visible_ns
    gaps = np.diff(part.at_ns, append=0)
    most = np.iinfo(np.int64).max
    gaps[part.starts[1:][part.counts > 0] - 1] = most  # from the last output of a request
    gaps[part.at_ns < np.repeat(visible_from, part.counts)] = most
    least = np.minimum.reduceat(gaps, part.starts[:-1][places])  # each of them has outputs
    return np.where(least == most, -1, least)


def _median(values: Ints) -> float:
    middle = len(values) // 2
    ordered = np.partition(values, (middle - 1, middle) if middle else 0)
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def _first_visible(records: RecordColumns, outputs: OutputColumns) -> tuple[Ints, Ints]:
    """The requests with output whose text begins with blanks, if it is not blank as a whole; and the time of the event
    that brings the first visible text of each."""
    heads = records.texts.heads(_HEAD_BYTES)
    blanks = np.argmin(_BLANK[heads], axis=1)  # at the beginning
    after = heads[np.arange(len(heads)), blanks]
    unclear = _BLANK[after] | _MAY_BEGIN_BLANK[after]
    blank = _BLANK[heads[:, 0]] & ((blanks >= _first_chars(records)) | (after >= 0x80) | _BLANK[after])
    places = np.flatnonzero(outputs.counts.astype(np.bool_) & (blank | _MAY_BEGIN_BLANK[heads[:, 0]]))
    leading = blanks[places]
    for number in np.flatnonzero(unclear[places]).tolist():
        text = records.texts[int(places[number])]
        leading[number] = len(text) - len(consistency.without_blanks(text))
    visible = (leading < records.characters[places]) & (leading > 0)
    places, leading = places[visible], leading[visible]
    return places, _times_after(records, places, leading)


def _times_after(records: RecordColumns, places: Ints, characters: Ints) -> Ints:
    """The time of the event of each of these requests that brings the first character after this many."""
    event, left = records.starts[:-1][places], characters.copy()
    some = np.arange(len(places))
    while len(some):  # few events are blank: few rounds
        brought = records.chars[event[some]]
        some, brought = some[brought <= left[some]], brought[brought <= left[some]]
        left[some] -= brought
        event[some] += 1
    return records.times_at(places, event)


def _first_chars(records: RecordColumns) -> Ints:
    """Characters of the first event with text; 0 without one."""
    found = np.zeros(len(records), np.int64)
    starts, ends = records.starts[:-1].copy(), records.starts[1:]
    left = np.flatnonzero(starts < ends)
    while len(left):  # events without text stand at the beginning of an answer: few rounds
        found[left] = records.chars[starts[left]]
        starts[left] += 1
        left = left[(found[left] == 0) & (starts[left] < ends[left])]
    return found


# --- texts ------------------------------------------------------------------------------------------


def equal_texts(one: Texts, other: Texts, ones: Ints, twos: Ints) -> Bools:
    """Whether the texts at each pair of positions are equal."""
    same = one.sizes[ones] == other.sizes[twos]
    left = np.flatnonzero(same)
    heads = one.chosen(ones[left]).heads(_HEAD_BYTES) == other.chosen(twos[left]).heads(_HEAD_BYTES)
    same[left] = heads.all(axis=1)
    for place in np.flatnonzero(same).tolist():
        same[place] = one.raw(ones[place]) == other.raw(twos[place])
    return same


def first_differences(one: Texts, other: Texts, ones: Ints, twos: Ints) -> Ints:
    """The character at which the texts at each pair of positions differ first; the shorter one's length if it is the
    other's beginning."""
    shorter = np.minimum(one.sizes[ones], other.sizes[twos])
    found = np.zeros(len(ones), np.int64)
    read = [np.frombuffer(texts.data or b"\0", np.uint8) for texts in (one, other)]
    begins = one.begins[ones], other.begins[twos]
    left, offset, width = np.arange(len(ones)), 0, _HEAD_BYTES
    while len(left):
        places = offset + np.arange(width)
        first, second = (
            data[np.minimum(begin[left, None] + places, len(data) - 1)]
            for data, begin in zip(read, begins, strict=True)
        )
        ends = (first != second) | (places >= shorter[left, None])
        decided = ends.any(axis=1)
        end = np.where(decided, np.argmax(ends, axis=1), width)
        begun = np.cumsum(first & 0xC0 != 0x80, axis=1)  # characters that begin up to each byte
        found[left] += np.where(end > 0, begun[np.arange(len(left)), end - 1], 0)
        cut = (decided & (offset + end < one.sizes[ones[left]])).nonzero()[0]  # perhaps inside a character
        found[left[cut]] -= (first[cut, end[cut]] & 0xC0 == 0x80).astype(np.int64)
        left, offset, width = left[~decided], offset + width, min(_MOST_WINDOW, 2 * width)
    return found


_MOST_WINDOW = 1024

"""Times and token counts of one request, by our own definitions or vLLM's.

A *metric dialect* is a tool's set of definitions: our own, or those of vLLM's serving benchmark 0.6.5 or 0.33. All of
them can be computed from the events of a record.
"""

import array
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal, cast

import msgspec

from inferometer.core.record import OUTPUT_KINDS, Event, Events, RequestRecord
from inferometer.core.request import Request
from inferometer.core.spec import Api
from inferometer.metrics.consistency import refuted

MetricDialect = Literal["inferometer", "vllm-0.6.5", "vllm-0.33"]

TokenSource = Literal["usage", "timings", "token ids", "our tokenizer", "output events"]


MOST_PIECE_CHARACTERS = 12
"""Pieces of text that are longer on average are not one token each: the vocabularies in use have 4 to 5 characters a
token in prose, and up to 8 in code."""

Stamps = Sequence[int]
"""An array or a view of one: an int object takes 32 bytes, and a trial has millions of stamps."""


class RequestTiming(msgspec.Struct, frozen=True):
    """Times of one successful request, from its sending, by the rules of a dialect.

    `ttft_ns`: to the first event that counts. `counted_ns`: the time of each event that counts, one per chunk and not
    per token. `gaps_ns`: the gaps between them, for a dialect that drops some. `latency_ns`: to the end, which is the
    last event that counts in our own dialect and 0.33, and [DONE] in 0.6.5. Token counts and their sources are None if
    neither the server nor a tokenizer counted.
    """

    ttft_ns: int
    counted_ns: Stamps
    latency_ns: int
    output_tokens: int | None
    prompt_tokens: int | None
    output_source: TokenSource | None
    prompt_source: TokenSource | None
    dialect: MetricDialect = "inferometer"
    gaps_ns: Stamps | None = None

    @property
    def itl_ns(self) -> tuple[int, ...]:
        """The gaps between events that count."""
        if self.gaps_ns is not None:
            return tuple(self.gaps_ns)
        return tuple(after - before for before, after in pairwise(self.counted_ns))

    @property
    def tpot_ns(self) -> float | None:
        """Time per output token after the first; None for fewer than two tokens."""
        if self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.latency_ns - self.ttft_ns) / (self.output_tokens - 1)


def request_timing(
    record: RequestRecord,
    dialect: MetricDialect = "inferometer",
    api: Api = "openai-chat",
    asked: Request | None = None,
) -> RequestTiming | None:
    """The times and token counts of one request by a dialect's rules; None if the request failed by these rules.

    vLLM's rules are those of its released sources: backend_request_func.py of 0.6.5 and
    vllm/benchmarks/lib/endpoint_request_func.py of 0.33.0. Both start their clock before connecting; ours starts at
    `sent_ns`, so that no dialect's TTFT includes connecting.
    """
    if record.sent_ns is None:
        return None
    if dialect == "vllm-0.6.5":
        times = _times_065(record, record.sent_ns, api)
    elif dialect == "vllm-0.33":
        times = _times_of(record, _counts_033(api)) if record.outcome in ("ok", "no_tokens") else None
    else:
        times = _times_from(cast("Events", record.events).outputs_ns()) if record.ok else None
    if times is None:
        return None
    counted_ns, gaps_ns, first_ns, end_ns = times
    output_tokens, output_source = _first_known(_output_counts(record, dialect, asked))
    prompt_tokens, prompt_source = _first_known(_prompt_counts(record, dialect, asked))
    return RequestTiming(
        ttft_ns=first_ns - record.sent_ns,
        counted_ns=counted_ns,
        gaps_ns=gaps_ns,
        latency_ns=end_ns - record.sent_ns,
        output_tokens=output_tokens,
        prompt_tokens=prompt_tokens,
        output_source=output_source,
        prompt_source=prompt_source,
        dialect=dialect,
    )


_Times = tuple[Stamps, Stamps | None, int, int]  # events that count, gaps if some are dropped, first event, end


def _times_of(record: RequestRecord, counts: Callable[[Event], bool]) -> _Times | None:
    """From the events that count; None if there are none."""
    return _times_from(array.array("q", [event.at_ns for event in record.events if counts(event)]))


def _times_from(stamps: Stamps) -> _Times | None:
    return (stamps, None, stamps[0], stamps[-1]) if len(stamps) else None


def _counts_033(api: Api) -> Callable[[Event], bool]:
    """Whether an event counts in 0.33. Chat: content, reasoning, tool calls, and `content: ""` without a role (here: an
    empty `text`). Completions: every chunk with choices, including empty chunks and the finish chunk."""
    kinds = OUTPUT_KINDS if api == "openai-chat" else OUTPUT_KINDS | {"empty", "role"}
    return lambda event: event.kind in kinds


def _times_065(record: RequestRecord, sent_ns: int, api: Api) -> _Times | None:
    """Times by the rules of 0.6.5. Only text counts. In chat every parsed chunk moves the start of the next gap, so
    that a gap which ends in an empty chunk is dropped. The end is [DONE]; a stream without [DONE] failed.

    0.6.5 did not request a usage chunk and would fail on one; here the usage chunk is ignored. In chat an answer
    without text has a TTFT of 0 and counts as a success.
    """
    is_chat = api == "openai-chat"
    done_ns = next((event.at_ns for event in record.events if event.kind == "done"), None)
    if done_ns is None or not (record.ok or (is_chat and record.outcome == "no_tokens")):
        return None
    first_ns: int | None = None
    previous_ns = sent_ns
    gaps_ns: list[int] = []
    for event in record.events:
        if event.kind in ("usage", "done", "error"):
            continue
        brings_text = event.kind == "text" and event.text != ""
        if brings_text and first_ns is None:
            first_ns = event.at_ns
        elif brings_text:
            gaps_ns.append(event.at_ns - previous_ns)
        if brings_text or is_chat:
            previous_ns = event.at_ns
    if first_ns is None:
        return (_NO_STAMPS, None, sent_ns, done_ns) if is_chat else None
    return _NO_STAMPS, array.array("q", gaps_ns), first_ns, done_ns


_NO_STAMPS = array.array("q")
_Count = tuple[int | None, TokenSource]


def _output_counts(record: RequestRecord, dialect: MetricDialect, asked: Request | None) -> Iterable[_Count]:
    """Counts of the output and their sources, in the dialect's order of preference; by our own rules without
    what a known fact refutes."""
    by_usage: _Count = (record.usage.completion_tokens if record.usage else None, "usage")
    by_us: _Count = (record.our_tokens, "our tokenizer")
    if dialect == "vllm-0.6.5":
        return [by_us, by_usage]
    if dialect == "vllm-0.33":
        return [(by_usage[0] or None, "usage"), by_us]  # a usage of 0 is replaced by the tokenizer's count
    by_timings: _Count = (record.timings.predicted_n if record.timings else None, "timings")
    by_ids: _Count = (sum(cast("Events", record.events).tokens) or None, "token ids")
    known: list[_Count] = [by_usage, by_timings, by_ids, by_us]
    if any(count is not None for count, _ in known):
        return (one for one in known if not refuted(record, asked, "output_tokens", one[0]))
    events = cast("Events", record.events)
    pieces = len(events.outputs_ns())
    if len(events.text) > MOST_PIECE_CHARACTERS * pieces:
        return []  # pieces this long hold several tokens each
    return [(pieces, "output events")]


def _prompt_counts(record: RequestRecord, dialect: MetricDialect, asked: Request | None) -> Iterable[_Count]:
    """Counts of the prompt and their sources, in the dialect's order of preference; by our own rules without
    what a known fact refutes."""
    by_usage: _Count = (record.usage.prompt_tokens if record.usage else None, "usage")
    by_us: _Count = (record.prompt_tokens, "our tokenizer")
    if dialect == "vllm-0.6.5":
        return [by_us, by_usage]
    if dialect == "vllm-0.33":
        return [by_usage, by_us]
    timings = record.timings
    read = None
    if timings is not None and timings.prompt_n is not None and timings.cache_n is not None:
        read = timings.prompt_n + timings.cache_n
    by_timings: _Count = (read, "timings")
    known = [by_usage, by_timings, by_us]
    return (one for one in known if not refuted(record, asked, "prompt_tokens", one[0]))


def _first_known(counts: Iterable[_Count]) -> tuple[int | None, TokenSource | None]:
    for count, source in counts:
        if count is not None:
            return count, source
    return None, None

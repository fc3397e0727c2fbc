"""Measures of one request: its latencies, gaps between chunks and tokens, lateness and token counts.

Each function that takes a `RequestView` returns the values of one request (`measures.Values`): none, one or many.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from inferometer.core.record import Events, RequestRecord
from inferometer.metrics import trial_columns
from inferometer.metrics.measures import RequestView, in_columns
from inferometer.metrics.request_timing import RequestTiming
from inferometer.metrics.token_latency import AT_ONCE_NS, Delivery, delivery


@in_columns(trial_columns.ttft)
def ttft_ns(request: RequestView) -> Sequence[float]:
    """To the first token; empty if a known fact says that it was not one."""
    if request.timing is None or any(one.about == "first_token" for one in request.contradictions):
        return []
    return [request.timing.ttft_ns]


@in_columns(trial_columns.tpot)
def tpot_ns(request: RequestView) -> Sequence[float]:
    """Time per output token of a request with at least two tokens. Every request has the same weight.

    By our own rules the first burst is left out of both the time and the tokens: the tokens that come with the first
    one took no time by themselves. An end token that is counted and brings no text is after the last output, and left
    out too. Empty if the answer came all at once.
    """
    timing = request.timing
    if timing is None or timing.tpot_ns is None:
        return []
    if timing.dialect != "inferometer":
        return [timing.tpot_ns]
    found = request_delivery(request)
    if found is None or found.at_once or timing.output_tokens is None:
        return []
    if len(found.at_ns) < 2:  # more than 1,000 tokens a second
        return [timing.tpot_ns] if found.span_ns >= AT_ONCE_NS else []
    tokens = min(timing.output_tokens, sum(found.tokens)) - found.tokens[0]
    return [(found.at_ns[-1] - found.at_ns[0]) / tokens] if tokens > 0 else []


@in_columns(trial_columns.itl)
def itl_ns(request: RequestView) -> Sequence[float]:
    """Gaps between the events that count by the dialect: one per chunk, not per token. By our own rules empty if the
    answer came all at once."""
    timing = request.timing
    if timing is None or request.times_refuted:
        return []
    if timing.dialect == "inferometer" and (d := request_delivery(request)) and d.at_once:
        return []
    return timing.itl_ns


@in_columns(trial_columns.latency)
def latency_ns(request: RequestView) -> Sequence[float]:
    """Sending to last output event."""
    return [request.timing.latency_ns] if request.timing else []


@in_columns(trial_columns.chunk_gaps)
def chunk_gap_ns(request: RequestView) -> Sequence[float]:
    """Gaps between chunks with output, by our own rules in every dialect: what a screen shows."""
    stamps = request.record.outputs_ns if request.record.ok else []
    return [after - before for before, after in pairwise(stamps)]


@in_columns(trial_columns.token_gaps)
def token_gap_ns(request: RequestView) -> Sequence[float]:
    """Inter-token latency per token: each gap between bursts, divided by the tokens of the later burst."""
    found = request_delivery(request)
    return [] if found is None else found.token_gaps_ns


@in_columns(trial_columns.burst_tokens)
def burst_tokens(request: RequestView) -> Sequence[float]:
    """Tokens of each burst after the first. The first burst comes from the prefill."""
    found = request_delivery(request)
    return [] if found is None else found.tokens[1:]


@in_columns(trial_columns.burst_gap_totals)
def burst_gap_total_ns(request: RequestView) -> Sequence[float]:
    """Total of the gaps between bursts."""
    found = request_delivery(request)
    return [] if found is None else [sum(found.gaps_ns)]


@in_columns(trial_columns.stall_totals)
def stall_total_ns(request: RequestView) -> Sequence[float]:
    """Total of the gaps between bursts that are stalls."""
    found = request_delivery(request)
    return [] if found is None else [sum(found.stalls_ns)]


@in_columns(trial_columns.ttft_from_due)
def ttft_from_due_ns(request: RequestView) -> Sequence[float]:
    """From the due time to the first token: what a user waits. Only for requests with a due time."""
    return [late_ns + timing.ttft_ns for late_ns, timing in _lateness_and_timing(request)]


@in_columns(trial_columns.latency_from_sent)
def latency_from_sent_ns(request: RequestView) -> Sequence[float]:
    """As `latency_ns`, only for requests with a due time: comparable with `latency_from_due_ns`."""
    return [timing.latency_ns for _, timing in _lateness_and_timing(request)]


@in_columns(trial_columns.latency_from_due)
def latency_from_due_ns(request: RequestView) -> Sequence[float]:
    """From the due time to the last token: what a user waits."""
    return [late_ns + timing.latency_ns for late_ns, timing in _lateness_and_timing(request)]


@in_columns(trial_columns.lateness)
def request_lateness_ns(request: RequestView) -> Sequence[float]:
    """Sent − due, for every request that had a due time and was sent, failed requests included."""
    late_ns = lateness_ns(request.record)
    return [] if late_ns is None else [late_ns]


def lateness_ns(record: RequestRecord) -> int | None:
    """From due to sent, ns: the client's delay and the wait for a free slot. None without a due time or if never
    sent."""
    if record.due_ns is None or record.sent_ns is None:
        return None
    return record.sent_ns - record.due_ns


@in_columns(trial_columns.success)
def success(request: RequestView) -> Sequence[float]:
    """1 for a successful request: the sum is the number of successful requests."""
    return [1.0] if request.timing else []


@in_columns(trial_columns.output_tokens)
def output_tokens(request: RequestView) -> Sequence[float]:
    """Output tokens of the answer; 0 if their number is unknown."""
    return [request.timing.output_tokens or 0] if request.timing else []


@in_columns(trial_columns.output_characters)
def output_characters(request: RequestView) -> Sequence[float]:
    """Of all output, reasoning and tool calls included: needs no tokenizer."""
    return [float(sum(cast("Events", request.record.events).outputs()[1]))] if request.timing else []


@in_columns(trial_columns.prompt_and_output_tokens)
def prompt_and_output_tokens(request: RequestView) -> Sequence[float]:
    """Tokens of prompt and answer; an unknown number counts as 0."""
    timing = request.timing
    return [(timing.prompt_tokens or 0) + (timing.output_tokens or 0)] if timing else []


def cached_tokens(record: RequestRecord) -> int | None:
    """Prompt tokens that the server took from its prefix cache; None if the server did not report them."""
    if record.timings is not None and record.timings.cache_n is not None:
        return record.timings.cache_n
    return record.usage.cached_tokens if record.usage else None


def request_delivery(request: RequestView) -> Delivery | None:
    """The bursts of an ok request, computed once per request; None if it failed or if its times are refuted."""
    if not request.record.ok or request.times_refuted:
        return None
    return request.cached(lambda record: delivery(record, request.asked))


def _lateness_and_timing(request: RequestView) -> list[tuple[int, RequestTiming]]:
    """Lateness and timing of a successful request with a due time; empty for others."""
    late_ns = lateness_ns(request.record)
    return [] if late_ns is None or request.timing is None else [(late_ns, request.timing)]

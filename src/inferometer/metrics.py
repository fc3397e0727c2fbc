"""What do a trial's records say in numbers? One row of `METRICS` and one function for each; docs/metrics.md says more.

A *metric dialect* is a tool's set of definitions: our own, or those of vLLM's serving benchmark 0.6.5 or 0.33. The
events of a record are enough for all of them. Keys are those of vLLM's result file where vLLM has the metric.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.record import (
    OUTPUT_KINDS,
    Event,
    RequestRecord,
    Sample,
    ServerTimings,
    Trial,
)
from inferometer.spec import Api
from inferometer.units import NS_PER_S, gib, ms, seconds

MetricDialect = Literal["inferometer", "vllm-0.6.5", "vllm-0.33"]

TokenSource = Literal["usage", "timings", "our tokenizer", "output events"]


class RequestTiming(msgspec.Struct, frozen=True):
    """One successful request as a dialect sees it, from its sending.

    `ttft_ns`: to the first event that counts. `itl_ns`: the gaps between events that count, one per chunk and not per
    token. `latency_ns`: to the end, which our own dialect and 0.33 put at the last event that counts and 0.6.5 at
    [DONE]. Token counts are None where nobody counted, and their sources with them.
    """

    ttft_ns: int
    itl_ns: tuple[int, ...]
    latency_ns: int
    output_tokens: int | None
    prompt_tokens: int | None
    output_source: TokenSource | None
    prompt_source: TokenSource | None

    @property
    def tpot_ns(self) -> float | None:
        """Time per output token after the first; None for fewer than two tokens."""
        if self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.latency_ns - self.ttft_ns) / (self.output_tokens - 1)


class RequestView(msgspec.Struct, frozen=True):
    """A record and its timing; `timing` None: the request failed, as the dialect sees it."""

    record: RequestRecord
    timing: RequestTiming | None


class TrialView(msgspec.Struct, frozen=True):
    """The measured requests of a trial, in the plan's order, as one dialect sees them: what metrics are made of."""

    trial: Trial
    dialect: MetricDialect
    requests: tuple[RequestView, ...]
    series: dict[Any, NDArray[np.float64]] = {}  # what was computed once: several statistics are taken of each series

    @property
    def timings(self) -> list[RequestTiming]:
        """Of the successful requests."""
        return [request.timing for request in self.requests if request.timing is not None]


class Metric(msgspec.Struct, frozen=True):
    """A row of the table. `value` gives None where the metric is undefined or unknown, never 0 in its place.

    `better`: which way is an improvement; None where neither is. Rows of the group `vllm` are there for vLLM's block
    and result file and in no comparison.
    """

    key: str
    label: str
    unit: str
    value: Callable[[TrialView], float | None]
    better: Literal["higher", "lower"] | None
    group: str


class TrialSummary(msgspec.Struct, frozen=True):
    """A trial in numbers: `values` by metric key. `memory_quantity`: which sample Memory Usage is made of."""

    arm: str
    number: int
    values: dict[str, float | None]
    notes: tuple[str, ...] = ()
    dialect: MetricDialect = "inferometer"
    percentiles: tuple[float, ...] = (99,)
    state: Literal["running", "done", "failed"] = "done"
    draft_asked: bool = False
    memory_quantity: str | None = None


def metric_rows(percentiles: Sequence[float] = (99,)) -> tuple[Metric, ...]:
    """All metrics in the order in which they are shown, with these percentiles."""
    return (
        Metric("memory_gib", "Memory Usage (GiB)", "GiB", memory_gib, "lower", "memory"),
        Metric("completed", "Successful requests", "requests", completed, "higher", "requests"),
        Metric("duration", "Benchmark duration (s)", "s", duration_s, "lower", "requests"),
        Metric("total_input_tokens", "Total input tokens", "tok", total_input_tokens, None, "requests"),
        Metric("total_output_tokens", "Total generated tokens", "tok", total_output_tokens, None, "requests"),
        Metric("request_throughput", "Request throughput (req/s)", "req/s", request_rate_per_s, "higher", "rate"),
        Metric("output_throughput", "Output token throughput (tok/s)", "tok/s", output_rate_per_s, "higher", "rate"),
        Metric("total_token_throughput", "Total Token throughput (tok/s)", "tok/s", token_rate_per_s, "higher", "rate"),
        Metric("mean_ttft_ms", "Mean TTFT (ms)", "ms", partial(_mean_ms, ttfts_ns), "lower", "ttft"),
        Metric("median_ttft_ms", "Median TTFT (ms)", "ms", partial(_median_ms, ttfts_ns), "lower", "ttft"),
        *(_percentile_row("ttft", ttfts_ns, p) for p in percentiles),
        Metric("mean_tpot_ms", "Mean TPOT (ms)", "ms", partial(_mean_ms, tpots_ns), "lower", "tpot"),
        Metric("median_tpot_ms", "Median TPOT (ms)", "ms", partial(_median_ms, tpots_ns), "lower", "tpot"),
        *(_percentile_row("tpot", tpots_ns, p) for p in percentiles),
        Metric("mean_itl_ms", "Mean ITL (ms)", "ms", partial(_mean_ms, itls_ns), "lower", "itl"),
        Metric("median_itl_ms", "Median ITL (ms)", "ms", partial(_median_ms, itls_ns), "lower", "itl"),
        *(_percentile_row("itl", itls_ns, p) for p in percentiles),
        Metric("failed", "Failed requests", "requests", failed, "lower", "requests"),
        *_open_loop_rows("ttft_from_due", "TTFT from due", ttfts_from_due_ns, percentiles),
        *_open_loop_rows("latency_from_sent", "E2E latency from sent", latencies_from_sent_ns, percentiles),
        *_open_loop_rows("latency_from_due", "E2E latency from due", latencies_from_due_ns, percentiles),
        *_open_loop_rows("lateness", "Lateness", latenesses_ns, percentiles),
        Metric("drafted_tokens", "Drafted tokens", "tok", drafted_tokens, None, "draft"),
        Metric("accepted_tokens", "Accepted tokens", "tok", accepted_tokens, None, "draft"),
        Metric("acceptance_rate_percent", "Acceptance rate (%)", "%", acceptance_rate_percent, "higher", "draft"),
        Metric("mean_accepted_length", "Mean accepted length (tok)", "tok/step", accepted_length, "higher", "draft"),
        Metric("cached_prompt_tokens", "Cached prompt tokens", "tok", cached_prompt_tokens, None, "cache"),
        Metric("std_ttft_ms", "Std TTFT (ms)", "ms", partial(_std_ms, ttfts_ns), "lower", "vllm"),
        Metric("std_tpot_ms", "Std TPOT (ms)", "ms", partial(_std_ms, tpots_ns), "lower", "vllm"),
        Metric("std_itl_ms", "Std ITL (ms)", "ms", partial(_std_ms, itls_ns), "lower", "vllm"),
        Metric("mean_e2el_ms", "Mean E2EL (ms)", "ms", partial(_mean_ms, latencies_ns), "lower", "vllm"),
        Metric("median_e2el_ms", "Median E2EL (ms)", "ms", partial(_median_ms, latencies_ns), "lower", "vllm"),
        Metric("std_e2el_ms", "Std E2EL (ms)", "ms", partial(_std_ms, latencies_ns), "lower", "vllm"),
        *(_percentile_row("e2el", latencies_ns, p, "vllm") for p in percentiles),
        Metric("max_output_tokens_per_s", "Peak output token throughput (tok/s)", "chunks", peak_chunks, None, "vllm"),
        Metric("max_concurrent_requests", "Peak concurrent requests", "requests", peak_requests, None, "vllm"),
    )


def view(trial: Trial, dialect: MetricDialect = "inferometer", api: Api = "openai-chat") -> TrialView:
    """The trial's measured records as `dialect` sees them; `api`: the one they were asked through."""
    measured = sorted((record for record in trial.records if record.measured), key=lambda record: record.index)
    return TrialView(trial, dialect, tuple(RequestView(r, request_timing(r, dialect, api)) for r in measured))


def summarize(
    trial: Trial,
    dialect: MetricDialect = "inferometer",
    percentiles: Sequence[float] = (99,),
    api: Api = "openai-chat",
) -> TrialSummary:
    """Every metric of a trial, over its measured records."""
    return summarize_view(view(trial, dialect, api), percentiles)


def summarize_view(trial_view: TrialView, percentiles: Sequence[float] = (99,)) -> TrialSummary:
    """Every metric of a trial seen before."""
    trial = trial_view.trial
    return TrialSummary(
        arm=trial.arm,
        number=trial.number,
        values={metric.key: metric.value(trial_view) for metric in metric_rows(percentiles)},
        notes=tuple(_notes(trial_view)),
        dialect=trial_view.dialect,
        percentiles=tuple(percentiles),
        state=trial.state,
        draft_asked=trial.draft_asked,
        memory_quantity=memory_quantity(trial.samples),
    )


# --- one request ----------------------------------------------------------------------------------


def request_timing(
    record: RequestRecord, dialect: MetricDialect = "inferometer", api: Api = "openai-chat"
) -> RequestTiming | None:
    """The times and token counts of one request by a dialect's rules; None where it failed by them.

    vLLM's rules are those of its released sources: backend_request_func.py of 0.6.5 and
    vllm/benchmarks/lib/endpoint_request_func.py of 0.33.0. Both start their clock before connecting; ours starts at
    `sent_ns`, so that connecting is in no dialect's TTFT.
    """
    if record.sent_ns is None:
        return None
    if dialect == "vllm-0.6.5":
        times = _times_065(record, record.sent_ns, api)
    elif dialect == "vllm-0.33":
        times = _times_of(record, _counts_033(api)) if record.outcome in ("ok", "no_tokens") else None
    else:
        times = _times_at(record.outputs_ns) if record.ok else None
    if times is None:
        return None
    first_ns, gaps_ns, end_ns = times
    output_tokens, output_source = _first_known(_output_counts(record, dialect))
    prompt_tokens, prompt_source = _first_known(_prompt_counts(record, dialect))
    return RequestTiming(
        ttft_ns=first_ns - record.sent_ns,
        itl_ns=tuple(gaps_ns),
        latency_ns=end_ns - record.sent_ns,
        output_tokens=output_tokens,
        prompt_tokens=prompt_tokens,
        output_source=output_source,
        prompt_source=prompt_source,
    )


_Times = tuple[int, list[int], int]  # first event that counts, gaps, end


def _times_of(record: RequestRecord, counts: Callable[[Event], bool]) -> _Times | None:
    """From the events that count; None where none does."""
    return _times_at([event.at_ns for event in record.events if counts(event)])


def _times_at(stamps: list[int]) -> _Times | None:
    return (stamps[0], [after - before for before, after in pairwise(stamps)], stamps[-1]) if stamps else None


def _counts_033(api: Api) -> Callable[[Event], bool]:
    """Chat: content, reasoning and tool calls, and `content: ""` without a role (here: `text` that is empty).
    Completions: every chunk with choices, empty ones and the finish chunk too."""
    kinds = OUTPUT_KINDS if api == "openai-chat" else OUTPUT_KINDS | {"empty", "role"}
    return lambda event: event.kind in kinds


def _times_065(record: RequestRecord, sent_ns: int, api: Api) -> _Times | None:
    """Only text counts; in chat every parsed chunk moves the start of the next gap, so that a gap which ends in an
    empty chunk is dropped. The end is [DONE]; a stream without it has failed.

    0.6.5 did not ask for a usage chunk and would fail on one; it is passed over. In chat an answer without text has a
    TTFT of 0 and counts as a success.
    """
    is_chat = api == "openai-chat"
    done_ns = next((event.at_ns for event in record.events if event.kind == "done"), None)
    if done_ns is None or not (record.ok or (is_chat and record.outcome == "no_tokens")):
        return None
    first_ns: int | None = None
    recent_ns = sent_ns
    gaps_ns: list[int] = []
    for event in record.events:
        if event.kind in ("usage", "done", "error"):
            continue
        brings_text = event.kind == "text" and event.text != ""
        if brings_text and first_ns is None:
            first_ns = event.at_ns
        elif brings_text:
            gaps_ns.append(event.at_ns - recent_ns)
        if brings_text or is_chat:
            recent_ns = event.at_ns
    if first_ns is None:
        return (sent_ns, [], done_ns) if is_chat else None
    return first_ns, gaps_ns, done_ns


_Count = tuple[int | None, TokenSource]


def _output_counts(record: RequestRecord, dialect: MetricDialect) -> list[_Count]:
    """Who counted the output, the dialect's first choice first."""
    by_usage: _Count = (record.usage.completion_tokens if record.usage else None, "usage")
    by_us: _Count = (record.our_tokens, "our tokenizer")
    if dialect == "vllm-0.6.5":
        return [by_us, by_usage]
    if dialect == "vllm-0.33":
        return [(by_usage[0] or None, "usage"), by_us]  # a usage of 0 is counted again
    by_timings: _Count = (record.timings.predicted_n if record.timings else None, "timings")
    by_events: _Count = (len(record.outputs_ns), "output events")
    return [by_usage, by_timings, by_us, by_events]


def _prompt_counts(record: RequestRecord, dialect: MetricDialect) -> list[_Count]:
    """Who counted the prompt, the dialect's first choice first."""
    by_usage: _Count = (record.usage.prompt_tokens if record.usage else None, "usage")
    by_us: _Count = (record.prompt_tokens, "our tokenizer")
    if dialect == "vllm-0.6.5":
        return [by_us, by_usage]
    if dialect == "vllm-0.33":
        return [by_usage, by_us]
    timings = record.timings
    by_timings: _Count = (_sum_if_all_known((timings.prompt_n, timings.cache_n)) if timings else None, "timings")
    return [by_usage, by_timings, by_us]


def _first_known(counts: Iterable[_Count]) -> tuple[int | None, TokenSource | None]:
    for count, source in counts:
        if count is not None:
            return count, source
    return None, None


# --- the trial ------------------------------------------------------------------------------------


def completed(trial: TrialView) -> int:
    return len(trial.timings)


def failed(trial: TrialView) -> int:
    return len(trial.requests) - len(trial.timings)


def duration_ns(trial: TrialView) -> int | None:
    """From the start of the plan to the end of the last measured response, failed ones too."""
    started_ns = trial.trial.plan_started_ns
    if started_ns is None or not trial.requests:
        return None
    return max(request.record.done_ns for request in trial.requests) - started_ns


def duration_s(trial: TrialView) -> float | None:
    return _of(seconds, duration_ns(trial))


def total_input_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None where one of them was counted by nobody."""
    return _sum_if_all_known(timing.prompt_tokens for timing in trial.timings)


def total_output_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None where one of them was counted by nobody."""
    return _sum_if_all_known(timing.output_tokens for timing in trial.timings)


def request_rate_per_s(trial: TrialView) -> float | None:
    return _per_s(completed(trial), trial)


def output_rate_per_s(trial: TrialView) -> float | None:
    return _per_s(total_output_tokens(trial), trial)


def token_rate_per_s(trial: TrialView) -> float | None:
    """Input and output tokens per second."""
    return _per_s(_sum_if_all_known((total_input_tokens(trial), total_output_tokens(trial))), trial)


def ttfts_ns(trial: TrialView) -> list[float]:
    return [timing.ttft_ns for timing in trial.timings]


def tpots_ns(trial: TrialView) -> list[float]:
    """One per request of two tokens or more: every request weighs the same."""
    return [timing.tpot_ns for timing in trial.timings if timing.tpot_ns is not None]


def itls_ns(trial: TrialView) -> list[float]:
    """All gaps of all requests together."""
    return [gap_ns for timing in trial.timings for gap_ns in timing.itl_ns]


def latencies_ns(trial: TrialView) -> list[float]:
    return [timing.latency_ns for timing in trial.timings]


def ttfts_from_due_ns(trial: TrialView) -> list[float]:
    """What a user waits for the first token: the wait for being sent included. Of requests with a due time."""
    return [late_ns + timing.ttft_ns for late_ns, timing in _due(trial)]


def latencies_from_sent_ns(trial: TrialView) -> list[float]:
    """As `latencies_ns`, but of requests with a due time: to stand beside those from due."""
    return [timing.latency_ns for _, timing in _due(trial)]


def latencies_from_due_ns(trial: TrialView) -> list[float]:
    """What a user waits for the last token."""
    return [late_ns + timing.latency_ns for late_ns, timing in _due(trial)]


def latenesses_ns(trial: TrialView) -> list[float]:
    """Sent − due of every request that was due at a time and was sent, failed ones too."""
    late_ns = (lateness_ns(request.record) for request in trial.requests)
    return [found for found in late_ns if found is not None]


def lateness_ns(record: RequestRecord) -> int | None:
    """From due to sent: the client's part, and the wait for a free slot. None where it was not due at a time or was
    never sent."""
    if record.due_ns is None or record.sent_ns is None:
        return None
    return record.sent_ns - record.due_ns


def memory_gib(trial: TrialView) -> float | None:
    """The highest sum over processes and devices at one moment; `memory_quantity` says of what."""
    samples = trial.trial.samples
    quantity = memory_quantity(samples)
    at_once: defaultdict[int, float] = defaultdict(float)
    for sample in samples:
        if sample.quantity == quantity:
            at_once[sample.at_ns] += sample.value
    return gib(max(at_once.values())) if at_once else None


def memory_quantity(samples: Iterable[Sample]) -> str | None:
    """Which quantity Memory Usage is made of: GPU memory where it was sampled, else PSS, else RSS."""
    sampled = {sample.quantity for sample in samples}
    return next((quantity for quantity in _MEMORY_NOTES if quantity in sampled), None)


def drafted_tokens(trial: TrialView) -> int | None:
    """By the server's timings; None where it told of no drafting."""
    return _sum_of_known(timings.draft_n for timings in _timings_of_ok(trial))


def accepted_tokens(trial: TrialView) -> int | None:
    return _sum_of_known(timings.draft_n_accepted for timings in _timings_of_ok(trial))


def acceptance_rate_percent(trial: TrialView) -> float | None:
    drafted, accepted = drafted_tokens(trial), accepted_tokens(trial)
    return 100 * accepted / drafted if drafted and accepted is not None else None


def accepted_length(trial: TrialView) -> float | None:
    """Tokens per decode step of the target, its own included, over requests with drafting.

    The first token comes from the prompt's pass. Each later step yields the draft tokens it accepted and one of the
    target's own, so that steps = (predicted - 1) - accepted.
    """
    tokens = steps = 0
    for timings in _timings_of_ok(trial):
        if timings.draft_n is not None and timings.draft_n_accepted is not None and timings.predicted_n is not None:
            tokens += timings.predicted_n - 1
            steps += timings.predicted_n - 1 - timings.draft_n_accepted
    return tokens / steps if steps > 0 else None


def cached_prompt_tokens(trial: TrialView) -> int | None:
    """Prompt tokens that the server took from its prefix cache, over ok requests; None where it told of none."""
    return _sum_of_known(_cached(request.record) for request in trial.requests if request.record.ok)


def peak_chunks(trial: TrialView) -> int:
    """vLLM's "peak output token throughput": the most chunks, not tokens, in a whole second from the first sending."""
    stamps = [at for sent, timing in _sent(trial) for at in accumulate(timing.itl_ns, initial=sent + timing.ttft_ns)]
    return int(np.bincount(np.asarray(stamps) // NS_PER_S).max()) if stamps else 0


def peak_requests(trial: TrialView) -> int:
    """vLLM's "peak concurrent requests": the most that were under way at some time of the same whole second."""
    changes = Counter(sent // NS_PER_S for sent, _ in _sent(trial))
    changes.subtract((sent + timing.latency_ns) // NS_PER_S + 1 for sent, timing in _sent(trial))
    return max(accumulate(change for _, change in sorted(changes.items())), default=0)


# --- parts ----------------------------------------------------------------------------------------

_Series = Callable[[TrialView], list[float]]
_Values = NDArray[np.float64]


def percentile(values: _Values | Sequence[float], percent: float) -> float:
    """By linear interpolation between the two nearest ranks; `values` is not empty."""
    return float(np.percentile(values, percent))


def percentile_word(percent: float) -> str:
    """99 for 99.0, 99.9 for 99.9: as in vLLM's labels and keys."""
    return str(int(percent)) if int(percent) == percent else str(percent)


def _percentile_row(name: str, series: _Series, percent: float, group: str | None = None) -> Metric:
    word = percentile_word(percent)
    value = partial(_percentile_ms, series, percent)
    return Metric(f"p{word}_{name}_ms", f"P{word} {name.upper()} (ms)", "ms", value, "lower", group or name)


def _open_loop_rows(key: str, label: str, series: _Series, percentiles: Sequence[float]) -> Iterable[Metric]:
    """Rows of our own dialect, unknown where nothing was due at a time."""

    def row(statistic_key: str, statistic_label: str, value: Callable[[TrialView], float | None]) -> Metric:
        own = partial(_own, value)
        return Metric(f"{statistic_key}_{key}_ms", f"{statistic_label} {label} (ms)", "ms", own, "lower", "open_loop")

    yield row("mean", "Mean", partial(_mean_ms, series))
    yield row("median", "Median", partial(_median_ms, series))
    for percent in percentiles:
        word = percentile_word(percent)
        yield row(f"p{word}", f"P{word}", partial(_percentile_ms, series, percent))


def _own(value: Callable[[TrialView], float | None], trial: TrialView) -> float | None:
    """None in the dialects of others, which have no such metric."""
    return value(trial) if trial.dialect == "inferometer" else None


def _mean_ms(series: _Series, trial: TrialView) -> float | None:
    return _statistic_ms(np.mean, series, trial)


def _median_ms(series: _Series, trial: TrialView) -> float | None:
    return _statistic_ms(np.median, series, trial)


def _std_ms(series: _Series, trial: TrialView) -> float | None:
    """Of the population, as numpy.std."""
    return _statistic_ms(np.std, series, trial)


def _percentile_ms(series: _Series, percent: float, trial: TrialView) -> float | None:
    return _statistic_ms(partial(percentile, percent=percent), series, trial)


def _statistic_ms(statistic: Callable[[_Values], Any], series: _Series, trial: TrialView) -> float | None:
    """None where there is nothing to take it of; vLLM's dialects say 0."""
    values = trial.series.get(series)
    if values is None:
        values = trial.series[series] = np.asarray(series(trial), np.float64)
    if not len(values):
        return None if trial.dialect == "inferometer" else 0.0
    return ms(float(statistic(values)))


def _per_s(count: int | None, trial: TrialView) -> float | None:
    duration = duration_s(trial)
    return count / duration if count is not None and duration else None


def _of(convert: Callable[[float], float], value: float | None) -> float | None:
    return None if value is None else convert(value)


def _sum_if_all_known(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _sum_of_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _timings_of_ok(trial: TrialView) -> list[ServerTimings]:
    return [r.record.timings for r in trial.requests if r.record.ok and r.record.timings is not None]


def _cached(record: RequestRecord) -> int | None:
    if record.timings is not None and record.timings.cache_n is not None:
        return record.timings.cache_n
    return record.usage.cached_tokens if record.usage else None


def _due(trial: TrialView) -> list[tuple[int, RequestTiming]]:
    """Successful requests that were due at a time, with their lateness."""
    found = ((lateness_ns(request.record), request.timing) for request in trial.requests)
    return [(late_ns, timing) for late_ns, timing in found if late_ns is not None and timing is not None]


def _sent(trial: TrialView) -> list[tuple[int, RequestTiming]]:
    """Successful requests with their sending, ns from the first of them."""
    sent = [(r.record.sent_ns, r.timing) for r in trial.requests if r.timing and r.record.sent_ns is not None]
    first_ns = min((at_ns for at_ns, _ in sent), default=0)
    return [(at_ns - first_ns, timing) for at_ns, timing in sent]


# --- notes ----------------------------------------------------------------------------------------

_MEMORY_NOTES = {
    "gpu_memory_bytes": "Memory Usage: peak GPU memory of the engine's processes",
    "pss_bytes": "Memory Usage: peak PSS of the engine's process tree",
    "rss_bytes": "Memory Usage: peak RSS of the engine's process tree; pages that processes share count more than once",
}

_SOURCE_WORDS: dict[TokenSource | None, str] = {
    "usage": "by the server (usage)",
    "timings": "by the server (timings)",
    "our tokenizer": "by our tokenizer",
    "output events": "as one token per output event, for want of a count",
    None: "by nobody: neither the server nor a tokenizer told",
}


def _notes(trial: TrialView) -> Iterable[str]:
    """Where a number comes from, where that is not plain."""
    for fact in trial.trial.facts:
        if fact.name in ("model_name", "draft_name") and fact.value.startswith("stand-in"):
            yield f"The {fact.name.removesuffix('_name')} is no real model but a {fact.value}"
    quantity = memory_quantity(trial.trial.samples)
    if quantity is not None:
        yield _MEMORY_NOTES[quantity]
    expected: TokenSource = "our tokenizer" if trial.dialect == "vllm-0.6.5" else "usage"
    sources_by_row: dict[str, list[TokenSource | None]] = {
        "Total input tokens": [timing.prompt_source for timing in trial.timings],
        "Total generated tokens": [timing.output_source for timing in trial.timings],
    }
    for name, sources in sources_by_row.items():
        for source, count in Counter(sources).items():
            if source != expected:
                yield f"{name}: counted {_SOURCE_WORDS[source]} in {count} of {len(trial.timings)} requests"


METRICS = metric_rows()
"""All metrics, with the 99th percentile."""

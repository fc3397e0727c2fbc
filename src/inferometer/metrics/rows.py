"""What do a trial's records say in numbers? One row of `METRICS` for each; docs/metrics.md says more.

Keys are those of vLLM's result file where vLLM has the metric.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal

import msgspec
import numpy as np

from inferometer.base.units import NS_PER_MS, NS_PER_S, gib
from inferometer.core import quantities
from inferometer.core.record import RequestRecord, Sample, Trial
from inferometer.core.spec import Api
from inferometer.metrics import acceptance
from inferometer.metrics.energy import energy_j, energy_notes, mean_power_w, per_token
from inferometer.metrics.measures import (
    Deviation,
    Duration,
    FirstAvailable,
    Mean,
    Measure,
    Percentile,
    Rate,
    Ratio,
    RequestView,
    TrialValue,
    TrialView,
    Values,
)
from inferometer.metrics.memory import held_bytes
from inferometer.metrics.phases import Phase, peaks, phases_of
from inferometer.metrics.request_timing import MetricDialect, RequestTiming, TokenSource, request_timing
from inferometer.metrics.statistics import Floats, least_count
from inferometer.metrics.token_latency import Delivery, delivery


class Metric(msgspec.Struct, frozen=True):
    """A row of the table.

    `better`: which way is an improvement; None where neither is. `own`: the dialects of others have no such metric.
    `group`: one of GROUPS; rows of the group `vllm` are there for vLLM's block and result file and in no comparison.
    """

    key: str
    label: str
    unit: str
    measure: Measure
    better: Literal["higher", "lower"] | None
    group: str
    own: bool = False

    def value(self, trial: TrialView) -> float | None:
        """None where the metric is undefined or unknown, never 0 in its place."""
        return self.measure.value(trial) if self._is_of(trial) else None

    def replicates(self, trial: TrialView) -> Floats | None:
        """See `measures`."""
        return self.measure.replicates(trial) if self._is_of(trial) and self.group != "vllm" else None

    def _is_of(self, trial: TrialView) -> bool:
        return trial.dialect == "inferometer" or not self.own


class TrialSummary(msgspec.Struct, frozen=True):
    """A trial in numbers: `values` by metric key, and `replicates` of those that prompts bear on (see `measures`).

    `counts`: how many values a percentile is of, by metric key. `requests`: how many were measured. `study` and `plan`
    tell which trials are pairs: those of one study and number; and which played the same prompts. `memory_quantity`:
    which sample Memory Usage is made of. `tool`: whose numbers these are, "" where they are ours; `differs`: of its
    metrics that are not quite ours, how they differ.
    """

    arm: str
    number: int
    values: dict[str, float | None]
    notes: tuple[str, ...] = ()
    dialect: MetricDialect = "inferometer"
    percentiles: tuple[float, ...] = (99,)
    state: Literal["running", "done", "failed"] = "done"
    memory_quantity: str | None = None
    replicates: dict[str, Floats] = {}
    counts: dict[str, int] = {}
    requests: int = 0
    study: str = ""
    plan: str = ""
    tool: str = ""
    differs: dict[str, str] = {}


GROUPS = {
    "memory": "Memory",
    "requests": "Requests",
    "rate": "Throughput",
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "tokens": "Bursts and stalls",
    "open_loop": "From the due time",
    "draft": "Speculation",
    "cache": "Prompt cache",
    "phase": "Memory by phase",
    "energy": "Energy",
}
"""What each group is called over its rows; the latencies as in vLLM's block."""

_DETAILS = frozenset(
    {
        *("request_throughput", "total_token_throughput", "mean_ttft_ms", "median_tpot_ms", "mean_itl_ms"),
        *("chunk_gap_ms", "stalls", "latency_from_sent_ms", "mean_ttft_from_due_ms", "mean_latency_from_due_ms"),
        *("lateness_ms", "drafted_tokens", "accepted_tokens", "cached_prompt_tokens", "energy_j"),
        *(f"memory_{phase}_gib" for phase in ("load", "idle", "prefill", "decode")),
    }
)
"""Rows that say in another way what a row beside them says, or make it up: by key, or by all but its first word."""


def is_detail(key: str) -> bool:
    """Whether a reader can do without that row at first."""
    return not _DETAILS.isdisjoint((key, key.partition("_")[2]))


_MEMORY_LABELS: dict[Phase, str] = {
    "load": "Memory while loading",
    "idle": "Memory when idle",
    "prefill": "Memory in prefill",
    "decode": "Memory in decode",
}


def metric_rows(percentiles: Sequence[float] = (99,)) -> tuple[Metric, ...]:
    """All metrics in the order in which they are shown, with these percentiles."""
    return (
        Metric("memory_gib", "Memory Usage (GiB)", "GiB", TrialValue(memory_gib), "lower", "memory"),
        Metric("completed", "Successful requests", "requests", TrialValue(completed), "higher", "requests"),
        Metric("duration", "Benchmark duration (s)", "s", Duration(), "lower", "requests"),
        Metric("total_input_tokens", "Total input tokens", "tok", TrialValue(total_input_tokens), None, "requests"),
        Metric(
            "total_output_tokens", "Total generated tokens", "tok", TrialValue(total_output_tokens), None, "requests"
        ),
        Metric("request_throughput", "Request throughput (req/s)", "req/s", Rate(completed, _one), "higher", "rate"),
        Metric(
            "output_throughput",
            "Output token throughput (tok/s)",
            "tok/s",
            Rate(total_output_tokens, _output_tokens),
            "higher",
            "rate",
        ),
        Metric(
            "total_token_throughput",
            "Total Token throughput (tok/s)",
            "tok/s",
            Rate(_total_tokens, _all_tokens),
            "higher",
            "rate",
        ),
        *_latency_rows("ttft", "TTFT", ttft_ns, percentiles),
        *_latency_rows("tpot", "TPOT", tpot_ns, percentiles),
        *_latency_rows("itl", "ITL", itl_ns, percentiles),
        Metric("failed", "Failed requests", "requests", TrialValue(failed), "lower", "requests"),
        *_own_rows("chunk_gap", "chunk gap", chunk_gap_ns, percentiles, "tokens", means=False),
        *_own_rows("itl_per_token", "ITL per token", token_gap_ns, percentiles, "tokens", means=False),
        Metric("tokens_per_burst", "Tokens per burst", "tok/step", Mean(burst_tokens, 1), None, "tokens"),
        Metric("stalls", "Stalls", "stalls", TrialValue(stalls), "lower", "tokens"),
        Metric("stall_time_percent", "Time in stalls (%)", "%", Ratio(stall_ns, gap_ns, 100), "lower", "tokens"),
        *_open_loop_rows("ttft_from_due", "TTFT from due", ttft_from_due_ns, percentiles),
        *_open_loop_rows("latency_from_sent", "E2E latency from sent", latency_from_sent_ns, percentiles),
        *_open_loop_rows("latency_from_due", "E2E latency from due", latency_from_due_ns, percentiles),
        *_open_loop_rows("lateness", "Lateness", lateness_of, percentiles),
        Metric(
            "drafted_tokens",
            "Drafted tokens",
            "tok",
            FirstAvailable(TrialValue(drafted_tokens), TrialValue(acceptance.drafted_counted)),
            None,
            "draft",
        ),
        Metric(
            "accepted_tokens",
            "Accepted tokens",
            "tok",
            FirstAvailable(TrialValue(accepted_tokens), TrialValue(acceptance.accepted_counted)),
            None,
            "draft",
        ),
        Metric(
            "acceptance_rate_percent",
            "Acceptance rate (%)",
            "%",
            FirstAvailable(Ratio(acceptance.accepted, acceptance.drafted, 100), TrialValue(acceptance.rate_counted)),
            "higher",
            "draft",
        ),
        Metric(
            "mean_accepted_length",
            "Mean accepted length (tok)",
            "tok/step",
            FirstAvailable(Ratio(acceptance.decoded, acceptance.steps), TrialValue(acceptance.length_counted)),
            "higher",
            "draft",
        ),
        Metric("cached_prompt_tokens", "Cached prompt tokens", "tok", TrialValue(cached_prompt_tokens), None, "cache"),
        *(
            Metric(
                f"memory_{phase}_gib",
                f"{label} (GiB)",
                "GiB",
                TrialValue(partial(_memory_in_gib, phase)),
                "lower",
                "phase",
            )
            for phase, label in _MEMORY_LABELS.items()
        ),
        Metric("energy_j", "Energy (J)", "J", TrialValue(_energy_j), "lower", "energy"),
        Metric(
            "energy_j_per_token", "Energy per token (J/tok)", "J/tok", TrialValue(_energy_per_token), "lower", "energy"
        ),
        Metric("mean_power_w", "Mean power (W)", "W", TrialValue(_mean_power_w), "lower", "energy"),
        Metric("std_ttft_ms", "Std TTFT (ms)", "ms", Deviation(ttft_ns, NS_PER_MS), "lower", "vllm"),
        Metric("std_tpot_ms", "Std TPOT (ms)", "ms", Deviation(tpot_ns, NS_PER_MS), "lower", "vllm"),
        Metric("std_itl_ms", "Std ITL (ms)", "ms", Deviation(itl_ns, NS_PER_MS), "lower", "vllm"),
        *_latency_rows("e2el", "E2EL", latency_ns, percentiles, "vllm"),
        Metric("std_e2el_ms", "Std E2EL (ms)", "ms", Deviation(latency_ns, NS_PER_MS), "lower", "vllm"),
        Metric(
            "max_output_tokens_per_s",
            "Peak output token throughput (tok/s)",
            "chunks",
            TrialValue(peak_chunks),
            None,
            "vllm",
        ),
        Metric(
            "max_concurrent_requests", "Peak concurrent requests", "requests", TrialValue(peak_requests), None, "vllm"
        ),
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


def summarize_view(
    trial_view: TrialView,
    percentiles: Sequence[float] = (99,),
    *,
    study: str = "",
    plan: str = "",
    draws_again: bool = False,
) -> TrialSummary:
    """Every metric of a trial seen before. `study` and `plan` as in TrialSummary; `draws_again`: with the replicates,
    which only a comparison needs."""
    trial = trial_view.trial
    rows = metric_rows(percentiles)
    replicates = {row.key: row.replicates(trial_view) for row in rows} if draws_again else {}
    return TrialSummary(
        arm=trial.arm,
        number=trial.number,
        values={row.key: row.value(trial_view) for row in rows},
        notes=tuple(_notes(trial_view)),
        dialect=trial_view.dialect,
        percentiles=tuple(percentiles),
        state=trial.state,
        memory_quantity=memory_quantity(trial.samples),
        replicates={key: found for key, found in replicates.items() if found is not None},
        counts={
            row.key: len(trial_view.series(row.measure.of).values)
            for row in rows
            if isinstance(row.measure, Percentile)
        },
        requests=len(trial_view.requests),
        study=study,
        plan=plan,
    )


def least_values(metric: Metric) -> int:
    """How many values an interval of it needs; 1 where that is not a matter of counts."""
    return least_count(metric.measure.percent) if isinstance(metric.measure, Percentile) else 1


# --- one request ----------------------------------------------------------------------------------


def ttft_ns(request: RequestView) -> Sequence[float]:
    return [request.timing.ttft_ns] if request.timing else []


def tpot_ns(request: RequestView) -> Sequence[float]:
    """Of a request of two tokens or more: every request weighs the same."""
    tpot = request.timing.tpot_ns if request.timing else None
    return [] if tpot is None else [tpot]


def itl_ns(request: RequestView) -> Sequence[float]:
    """Every gap, one per chunk."""
    return request.timing.itl_ns if request.timing else []


def latency_ns(request: RequestView) -> Sequence[float]:
    return [request.timing.latency_ns] if request.timing else []


def chunk_gap_ns(request: RequestView) -> Sequence[float]:
    """Between chunks that brought output, by our own rules in every dialect: what a screen shows."""
    stamps = request.record.outputs_ns if request.record.ok else []
    return [after - before for before, after in pairwise(stamps)]


def token_gap_ns(request: RequestView) -> Sequence[float]:
    """Inter-token latency per token: each gap between bursts, shared by the tokens that it brought."""
    found = _delivery(request)
    return [] if found is None else found.token_gaps_ns


def burst_tokens(request: RequestView) -> Sequence[float]:
    """Of each burst after the first, which the prompt's pass brought."""
    found = _delivery(request)
    return [] if found is None else found.tokens[1:]


def gap_ns(request: RequestView) -> Sequence[float]:
    """Between bursts, in all."""
    found = _delivery(request)
    return [] if found is None else [sum(found.gaps_ns)]


def stall_ns(request: RequestView) -> Sequence[float]:
    """Of that, in stalls."""
    found = _delivery(request)
    return [] if found is None else [sum(found.stalls_ns)]


def ttft_from_due_ns(request: RequestView) -> Sequence[float]:
    """What a user waits for the first token: the wait for being sent included. Of requests with a due time."""
    return [late_ns + timing.ttft_ns for late_ns, timing in _due(request)]


def latency_from_sent_ns(request: RequestView) -> Sequence[float]:
    """As `latency_ns`, but of requests with a due time: to stand beside those from due."""
    return [timing.latency_ns for _, timing in _due(request)]


def latency_from_due_ns(request: RequestView) -> Sequence[float]:
    """What a user waits for the last token."""
    return [late_ns + timing.latency_ns for late_ns, timing in _due(request)]


def lateness_of(request: RequestView) -> Sequence[float]:
    """Sent − due of every request that was due at a time and was sent, failed ones too."""
    late_ns = lateness_ns(request.record)
    return [] if late_ns is None else [late_ns]


def lateness_ns(record: RequestRecord) -> int | None:
    """From due to sent: the client's part, and the wait for a free slot. None where it was not due at a time or was
    never sent."""
    if record.due_ns is None or record.sent_ns is None:
        return None
    return record.sent_ns - record.due_ns


def _due(request: RequestView) -> list[tuple[int, RequestTiming]]:
    """A successful request that was due at a time, with its lateness."""
    late_ns = lateness_ns(request.record)
    return [] if late_ns is None or request.timing is None else [(late_ns, request.timing)]


def _delivery(request: RequestView) -> Delivery | None:
    return request.remembered(delivery) if request.record.ok else None


def _one(request: RequestView) -> Sequence[float]:
    return [1.0] if request.timing else []


def _output_tokens(request: RequestView) -> Sequence[float]:
    return [request.timing.output_tokens or 0] if request.timing else []


def _all_tokens(request: RequestView) -> Sequence[float]:
    timing = request.timing
    return [(timing.prompt_tokens or 0) + (timing.output_tokens or 0)] if timing else []


# --- the trial ------------------------------------------------------------------------------------


def completed(trial: TrialView) -> int:
    return len(trial.timings)


def failed(trial: TrialView) -> int:
    return len(trial.requests) - len(trial.timings)


def total_input_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None where one of them was counted by nobody."""
    return _sum_if_all_known(timing.prompt_tokens for timing in trial.timings)


def total_output_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None where one of them was counted by nobody."""
    return _sum_if_all_known(timing.output_tokens for timing in trial.timings)


def _total_tokens(trial: TrialView) -> int | None:
    """Input and output tokens."""
    return _sum_if_all_known((total_input_tokens(trial), total_output_tokens(trial)))


def stalls(trial: TrialView) -> int | None:
    """How many gaps between bursts are more than `STALL_MULTIPLE` times the request's median one."""
    found = [delivered for request in trial.requests if (delivered := _delivery(request)) is not None]
    return sum(len(delivered.stalls_ns) for delivered in found) if found else None


def memory_gib(trial: TrialView) -> float | None:
    """The highest sum over processes and devices at one moment; `memory_quantity` says of what."""
    samples = trial.trial.samples
    held = held_bytes(samples, memory_quantity(samples))
    return gib(max(held.values())) if held else None


def _energy_j(trial: TrialView) -> float | None:
    return energy_j(trial.trial)


def _mean_power_w(trial: TrialView) -> float | None:
    return mean_power_w(trial.trial)


def _memory_in_gib(phase: Phase, trial: TrialView) -> float | None:
    """As `memory_gib`, of one phase."""
    samples = trial.trial.samples
    peak = peaks(held_bytes(samples, memory_quantity(samples)), phases_of(trial.trial)).get(phase)
    return None if peak is None else gib(peak)


def _energy_per_token(trial: TrialView) -> float | None:
    return per_token(energy_j(trial.trial), total_output_tokens(trial))


def memory_quantity(samples: Iterable[Sample]) -> str | None:
    """Which quantity Memory Usage is made of: GPU memory where it was sampled, else PSS, else RSS."""
    sampled = {sample.quantity for sample in samples}
    return next((quantity for quantity in _MEMORY_NOTES if quantity in sampled), None)


def drafted_tokens(trial: TrialView) -> int | None:
    """By the server's timings; None where it told of no drafting."""
    return _sum_or_none(trial, acceptance.drafted)


def accepted_tokens(trial: TrialView) -> int | None:
    return _sum_or_none(trial, acceptance.accepted)


def cached_prompt_tokens(trial: TrialView) -> int | None:
    """Prompt tokens that the server took from its prefix cache, over ok requests; None where it told of none."""
    return _sum_of_known(cached_tokens(request.record) for request in trial.requests if request.record.ok)


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


def percentile_word(percent: float) -> str:
    """99 for 99.0, 99.9 for 99.9: as in vLLM's labels and keys."""
    return str(int(percent)) if int(percent) == percent else str(percent)


def _latency_rows(
    key: str, label: str, of: Values, percentiles: Sequence[float], group: str | None = None
) -> Iterable[Metric]:
    """Mean, median and percentiles in ms."""
    yield Metric(f"mean_{key}_ms", f"Mean {label} (ms)", "ms", Mean(of, NS_PER_MS), "lower", group or key)
    yield Metric(f"median_{key}_ms", f"Median {label} (ms)", "ms", Percentile(of, 50, NS_PER_MS), "lower", group or key)
    for percent in percentiles:
        word, measure = percentile_word(percent), Percentile(of, percent, NS_PER_MS)
        yield Metric(f"p{word}_{key}_ms", f"P{word} {label} (ms)", "ms", measure, "lower", group or key)


def _open_loop_rows(key: str, label: str, of: Values, percentiles: Sequence[float]) -> Iterable[Metric]:
    """Rows of our own dialect, unknown where nothing was due at a time."""
    return _own_rows(key, label, of, percentiles, "open_loop")


def _own_rows(
    key: str, label: str, of: Values, percentiles: Sequence[float], group: str, *, means: bool = True
) -> Iterable[Metric]:
    """Rows that the dialects of others do not have; without `means` where these are told by other rows (TPOT)."""
    for row in _latency_rows(key, label, of, percentiles, group):
        if means or not isinstance(row.measure, Mean):
            yield msgspec.structs.replace(row, own=True)


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


def _sum_or_none(trial: TrialView, of: Values) -> int | None:
    """None where no request has a value."""
    values = trial.series(of).values
    return int(values.sum()) if len(values) else None


def cached_tokens(record: RequestRecord) -> int | None:
    if record.timings is not None and record.timings.cache_n is not None:
        return record.timings.cache_n
    return record.usage.cached_tokens if record.usage else None


def _sent(trial: TrialView) -> list[tuple[int, RequestTiming]]:
    """Successful requests with their sending, ns from the first of them."""
    sent = [(r.record.sent_ns, r.timing) for r in trial.requests if r.timing and r.record.sent_ns is not None]
    first_ns = min((at_ns for at_ns, _ in sent), default=0)
    return [(at_ns - first_ns, timing) for at_ns, timing in sent]


# --- notes ----------------------------------------------------------------------------------------

_MEMORY_NOTES = {
    quantities.GPU_MEMORY_BYTES: "Memory Usage: peak GPU memory of the engine's processes",
    quantities.PSS_BYTES: "Memory Usage: peak PSS of the engine's process tree",
    quantities.RSS_BYTES: (
        "Memory Usage: peak RSS of the engine's process tree; pages that processes share count more than once"
    ),
}

_SOURCE_WORDS: dict[TokenSource | None, str] = {
    "usage": "by the server (usage)",
    "timings": "by the server (timings)",
    "token ids": "by the server (ids or counts of its chunks)",
    "our tokenizer": "by our tokenizer",
    "output events": "as one token per output event, for want of a count",
    None: "by nobody: neither the server nor a tokenizer told",
}


def _notes(trial: TrialView) -> Iterable[str]:
    """Where a number comes from, where that is not plain."""
    for fact in trial.trial.facts:
        if fact.name in (quantities.MODEL_NAME, quantities.DRAFT_NAME) and fact.value.startswith("stand-in"):
            yield f"The {fact.name.removesuffix('_name')} is no real model but a {fact.value}"
    quantity = memory_quantity(trial.trial.samples)
    if quantity is not None:
        yield _MEMORY_NOTES[quantity]
    yield from energy_notes(trial.trial)
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

METRICS_BY_KEY = {metric.key: metric for metric in METRICS}

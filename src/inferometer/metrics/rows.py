"""The table of metric rows: key, label, unit, direction and measure of each metric, in display order.

docs/reference/metrics.md explains each row. Keys are those of vLLM's result file where vLLM has the metric.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import msgspec

from inferometer.base.units import NS_PER_MS, NS_PER_S
from inferometer.metrics import acceptance, right_answers
from inferometer.metrics import request_measures as per_request
from inferometer.metrics import trial_measures as per_trial
from inferometer.metrics.intervals import minimum_count
from inferometer.metrics.measures import (
    Deviation,
    Duration,
    FirstAvailable,
    IfAny,
    Mean,
    Measure,
    Percentile,
    Rate,
    Ratio,
    TrialValue,
    TrialView,
    Values,
)
from inferometer.metrics.phases import Phase
from inferometer.metrics.series import Floats


class Metric(msgspec.Struct, frozen=True):
    """A row of the table.

    `better`: the direction of an improvement; None if neither is. `ours_only`: other tools' dialects do not define the
    metric. `group`: one of GROUPS, or "vllm" for rows that only vLLM's block and result file show.
    """

    key: str
    label: str
    unit: str
    measure: Measure
    better: Literal["higher", "lower"] | None
    group: str
    ours_only: bool = False

    def value(self, trial: TrialView) -> float | None:
        """None if the metric is undefined or unknown, never 0 instead."""
        return self.measure.value(trial) if self._is_defined_for(trial) else None

    def replicates(self, trial: TrialView) -> Floats | None:
        """See `measures`."""
        return self.measure.replicates(trial) if self._is_defined_for(trial) and self.group != "vllm" else None

    def _is_defined_for(self, trial: TrialView) -> bool:
        return trial.dialect == "inferometer" or not self.ours_only


GROUPS = {
    "memory": "Memory",
    "requests": "Requests",
    "rate": "Throughput",
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "tokens": "Bursts and stalls",
    "text": "Without a tokenizer",
    "open_loop": "From the due time",
    "draft": "Speculation",
    "cache": "Prompt cache",
    "phase": "Memory by phase",
    "energy": "Energy",
    "quality": "Right answers",
}
"""Headings of the groups; the latencies are named as in vLLM's block."""

_DETAILS = frozenset(
    {
        *(
            "output_chars_throughput",
            "mean_latency_ms",
            "request_throughput",
            "total_token_throughput",
            "mean_ttft_ms",
            "median_tpot_ms",
            "mean_itl_ms",
        ),
        *("chunk_gap_ms", "stalls", "latency_from_sent_ms", "mean_ttft_from_due_ms", "mean_latency_from_due_ms"),
        *("lateness_ms", "drafted_tokens", "accepted_tokens", "cached_prompt_tokens", "energy_j", "pass_at_1"),
        *(f"memory_{phase}_gib" for phase in ("load", "idle", "prefill", "decode")),
    }
)
"""Rows that repeat another row in a different form, or are a part of it: by key, or by the key without its first word.
"""


def is_detail(key: str) -> bool:
    """Whether a short table leaves the row out."""
    return not _DETAILS.isdisjoint((key, key.partition("_")[2]))


def minimum_values(metric: Metric) -> int:
    """Number of values that an interval of the metric needs; 1 if the number does not matter."""
    return minimum_count(metric.measure.percent) if isinstance(metric.measure, Percentile) else 1


def percentile_word(percent: float) -> str:
    """99 for 99.0, 99.9 for 99.9: as in vLLM's labels and keys."""
    return str(int(percent)) if int(percent) == percent else str(percent)


def metric_rows(percentiles: Sequence[float] = (99,)) -> tuple[Metric, ...]:
    """All metrics in display order, with these percentiles."""
    return (
        *_total_rows(),
        *_latency_rows("ttft", "TTFT", per_request.ttft_ns, percentiles),
        *_latency_rows("tpot", "TPOT", per_request.tpot_ns, percentiles),
        *_latency_rows("itl", "ITL", per_request.itl_ns, percentiles),
        Metric("failed", "Failed requests", "requests", TrialValue(per_trial.failed), "lower", "requests"),
        *_burst_rows(percentiles),
        *_text_rows(),
        *_open_loop_rows(percentiles),
        *_speculation_rows(),
        *_resource_rows(),
        *_ours_only(_quality_rows()),
        *_vllm_rows(percentiles),
    )


def _total_rows() -> Iterable[Metric]:
    yield Metric("memory_gib", "Memory Usage (GiB)", "GiB", TrialValue(per_trial.memory_gib), "lower", "memory")
    yield Metric("completed", "Successful requests", "requests", TrialValue(per_trial.completed), "higher", "requests")
    yield Metric("duration", "Benchmark duration (s)", "s", Duration(), "lower", "requests")
    tokens_in, tokens_out = TrialValue(per_trial.total_input_tokens), TrialValue(per_trial.total_output_tokens)
    yield Metric("total_input_tokens", "Total input tokens", "tok", tokens_in, None, "requests")
    yield Metric("total_output_tokens", "Total generated tokens", "tok", tokens_out, None, "requests")
    rate = Rate(per_trial.completed, per_request.success)
    yield Metric("request_throughput", "Request throughput (req/s)", "req/s", rate, "higher", "rate")
    rate = Rate(per_trial.total_output_tokens, per_request.output_tokens)
    yield Metric("output_throughput", "Output token throughput (tok/s)", "tok/s", rate, "higher", "rate")
    rate = Rate(per_trial.total_tokens, per_request.prompt_and_output_tokens)
    yield Metric("total_token_throughput", "Total Token throughput (tok/s)", "tok/s", rate, "higher", "rate")


def _burst_rows(percentiles: Sequence[float]) -> Iterable[Metric]:
    """Rows of the tokens' arrival. Means are left out: TPOT states them."""
    rows = (
        *_latency_rows("chunk_gap", "chunk gap", per_request.chunk_gap_ns, percentiles, "tokens"),
        *_latency_rows("itl_per_token", "ITL per token", per_request.token_gap_ns, percentiles, "tokens"),
    )
    yield from _ours_only(row for row in rows if not isinstance(row.measure, Mean))
    yield Metric("tokens_per_burst", "Tokens per burst", "tok/step", Mean(per_request.burst_tokens, 1), None, "tokens")
    yield Metric("stalls", "Stalls", "stalls", TrialValue(per_trial.stalls), "lower", "tokens")
    share = Ratio(per_request.stall_total_ns, per_request.burst_gap_total_ns, 100)
    yield Metric("stall_time_percent", "Time in stalls (%)", "%", share, "lower", "tokens")


def _text_rows() -> Iterable[Metric]:
    """Rows that need no tokenizer: they compare arms whose tokens differ."""
    rate = Rate(per_trial.total_output_characters, per_request.output_characters)
    label = "Output characters (char/s)"
    yield Metric("output_chars_throughput", label, "char/s", rate, "higher", "text", ours_only=True)
    latency = Mean(per_request.latency_ns, NS_PER_MS)
    yield Metric("mean_latency_ms", "Mean time per answer (ms)", "ms", latency, "lower", "text", ours_only=True)


def _open_loop_rows(percentiles: Sequence[float]) -> Iterable[Metric]:
    """Rows of our own dialect, unknown if no request had a due time."""
    measures: tuple[tuple[str, str, Values], ...] = (
        ("ttft_from_due", "TTFT from due", per_request.ttft_from_due_ns),
        ("latency_from_sent", "E2E latency from sent", per_request.latency_from_sent_ns),
        ("latency_from_due", "E2E latency from due", per_request.latency_from_due_ns),
        ("lateness", "Lateness", per_request.request_lateness_ns),
    )
    for key, label, values_of in measures:
        yield from _ours_only(_latency_rows(key, label, values_of, percentiles, "open_loop"))


def _speculation_rows() -> Iterable[Metric]:
    """By the timings of each request where the server sends them, else by the engine's counters."""
    drafted = FirstAvailable(TrialValue(per_trial.drafted_tokens), TrialValue(acceptance.drafted_by_counter))
    accepted = FirstAvailable(TrialValue(per_trial.accepted_tokens), TrialValue(acceptance.accepted_by_counter))
    rate = FirstAvailable(
        Ratio(acceptance.accepted, acceptance.verified, 100), TrialValue(acceptance.acceptance_percent_by_counter)
    )
    length = FirstAvailable(
        IfAny(acceptance.drafted, Ratio(acceptance.decoded, acceptance.steps)),
        TrialValue(acceptance.accepted_length_by_counter),
    )
    yield Metric("drafted_tokens", "Drafted tokens", "tok", drafted, None, "draft")
    yield Metric("accepted_tokens", "Accepted tokens", "tok", accepted, None, "draft")
    yield Metric("acceptance_rate_percent", "Acceptance rate (%)", "%", rate, "higher", "draft")
    per_step = FirstAvailable(
        IfAny(acceptance.drafted, Ratio(acceptance.accepted, acceptance.steps)),
        TrialValue(acceptance.accepted_per_step_by_counter),
    )
    yield Metric("accepted_per_step", "Accepted per step (tok)", "tok/step", per_step, "higher", "draft")
    drafts = TrialValue(acceptance.draft_length)
    yield Metric("mean_draft_length", "Mean draft length (tok)", "tok/draft", drafts, None, "draft")
    yield Metric("mean_accepted_length", "Mean accepted length (tok)", "tok/step", length, "higher", "draft")


def _resource_rows() -> Iterable[Metric]:
    cached = TrialValue(per_trial.cached_prompt_tokens)
    yield Metric("cached_prompt_tokens", "Cached prompt tokens", "tok", cached, None, "cache")
    labels: dict[Phase, str] = {
        "load": "Memory while loading",
        "idle": "Memory when idle",
        "prefill": "Memory in prefill",
        "decode": "Memory in decode",
    }
    for phase, label in labels.items():
        peak = TrialValue(partial(per_trial.phase_memory_gib, phase))
        yield Metric(f"memory_{phase}_gib", f"{label} (GiB)", "GiB", peak, "lower", "phase")
    yield Metric("energy_j", "Energy (J)", "J", TrialValue(per_trial.trial_energy_j), "lower", "energy")
    per_token = TrialValue(per_trial.energy_j_per_token)
    yield Metric("energy_j_per_token", "Energy per token (J/tok)", "J/tok", per_token, "lower", "energy")
    yield Metric("mean_power_w", "Mean power (W)", "W", TrialValue(per_trial.trial_mean_power_w), "lower", "energy")


_PASS_AT = (1, 5, 10, 100)


def _quality_rows() -> Iterable[Metric]:
    """Rows of checked answers. The shares have no verdict here: `analysis.quality` compares them problem by problem."""
    share, base = Mean(right_answers.passed, 0.01), Mean(right_answers.base_passed, 0.01)
    yield Metric("checks_passed_percent", "Checks passed (%)", "%", share, None, "quality")
    yield Metric("base_checks_passed_percent", "Base checks passed (%)", "%", base, None, "quality")
    for k in _PASS_AT:
        found = TrialValue(partial(right_answers.pass_at, k))
        yield Metric(f"pass_at_{k}", f"pass@{k} (%)", "%", found, None, "quality")
    rate = Rate(right_answers.right_answers_times_3600, right_answers.passed)
    yield Metric("correct_per_hour", "Right answers per hour", "1/h", rate, "higher", "quality")
    per_energy = TrialValue(right_answers.right_answers_per_kilojoule)
    yield Metric("correct_per_kilojoule", "Right answers per kilojoule", "1/kJ", per_energy, "higher", "quality")
    time = Ratio(right_answers.checked_time_ns, right_answers.passed, 1 / NS_PER_S)
    yield Metric("seconds_per_correct", "Request time per right answer (s)", "s", time, "lower", "quality")


def _vllm_rows(percentiles: Sequence[float]) -> Iterable[Metric]:
    """Rows for vLLM's block and result file, which no comparison shows."""
    for key, label, values_of in (
        ("ttft", "TTFT", per_request.ttft_ns),
        ("tpot", "TPOT", per_request.tpot_ns),
        ("itl", "ITL", per_request.itl_ns),
    ):
        yield _deviation_row(key, label, values_of)
    yield from _latency_rows("e2el", "E2EL", per_request.latency_ns, percentiles, "vllm")
    yield _deviation_row("e2el", "E2EL", per_request.latency_ns)
    chunks, requests = TrialValue(per_trial.peak_chunks), TrialValue(per_trial.peak_requests)
    yield Metric("max_output_tokens_per_s", "Peak output token throughput (tok/s)", "chunks", chunks, None, "vllm")
    yield Metric("max_concurrent_requests", "Peak concurrent requests", "requests", requests, None, "vllm")


def _latency_rows(
    key: str, label: str, values_of: Values, percentiles: Sequence[float], group: str | None = None
) -> Iterable[Metric]:
    """Mean, median and percentiles in ms. `group` None: the group is called like the key."""
    group = group or key
    yield Metric(f"mean_{key}_ms", f"Mean {label} (ms)", "ms", Mean(values_of, NS_PER_MS), "lower", group)
    median = Percentile(values_of, 50, NS_PER_MS)
    yield Metric(f"median_{key}_ms", f"Median {label} (ms)", "ms", median, "lower", group)
    for percent in percentiles:
        word, measure = percentile_word(percent), Percentile(values_of, percent, NS_PER_MS)
        yield Metric(f"p{word}_{key}_ms", f"P{word} {label} (ms)", "ms", measure, "lower", group)


def _deviation_row(key: str, label: str, values_of: Values) -> Metric:
    return Metric(f"std_{key}_ms", f"Std {label} (ms)", "ms", Deviation(values_of, NS_PER_MS), "lower", "vllm")


def _ours_only(rows: Iterable[Metric]) -> Iterable[Metric]:
    return (msgspec.structs.replace(row, ours_only=True) for row in rows)


METRICS = metric_rows()
"""All metrics, with the 99th percentile."""

METRICS_BY_KEY = {metric.key: metric for metric in METRICS}

"""Output of vLLM's serving benchmark, reproduced by version: its printed block and its result file.

The layout is that of benchmarks/benchmark_serving.py in 0.6.5 and of vllm/benchmarks/serve.py in 0.33.0.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from inferometer.base.units import COUNT_UNITS, NS_PER_S, seconds
from inferometer.core.schedule import Ramp
from inferometer.metrics.measures import RequestView, TrialView
from inferometer.metrics.request_timing import MetricDialect, RequestTiming
from inferometer.metrics.rows import metric_rows, percentile_word
from inferometer.metrics.summary import TrialSummary, summarize_view

DEFAULT_SECTIONS = ("ttft", "tpot", "itl")

_SECTION_TITLES = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
}
_SUMS_065 = (
    "completed",
    "duration",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "output_throughput",
    "total_token_throughput",
)
_OPEN_LOOP = ("ttft_from_due", "latency_from_sent", "latency_from_due", "lateness")
_OWN = (
    "failed",
    "memory_gib",
    "drafted_tokens",
    "accepted_tokens",
    "acceptance_rate_percent",
    "mean_accepted_length",
    "cached_prompt_tokens",
)
_DETAILS_033 = ("input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors")


class ServingArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The benchmark's arguments that its result file repeats.

    `date`: YYYYmmdd-HHMMSS. `request_rate`: per second; infinite if all requests are sent at once or with a ramp.
    `label`, `ramp` and `save_detailed` are for 0.33 only, `best_of` for 0.6.5 only.
    """

    date: str
    backend: str
    model_id: str
    tokenizer_id: str
    num_prompts: int
    best_of: int = 1
    label: str | None = None
    metadata: dict[str, str] = {}
    request_rate: float = math.inf
    burstiness: float = 1.0
    ramp: Ramp | None = None
    max_concurrency: int | None = None
    percentile_metrics: tuple[str, ...] = DEFAULT_SECTIONS
    percentiles: tuple[float, ...] = (99,)
    save_detailed: bool = False


def serving_block(
    summary: TrialSummary,
    *,
    percentile_metrics: Sequence[str] = DEFAULT_SECTIONS,
    max_concurrency: int | None = None,
    request_rate: float = math.inf,
) -> str:
    """The "Serving Benchmark Result" block of the summary's dialect, without a final line break; unknown is n/a.

    `percentile_metrics` choose from ttft, tpot, itl, e2el; they come in vLLM's order, and other names are ignored, as
    in vLLM. `max_concurrency` and `request_rate` are shown by 0.33 only. Omitted from 0.33's block, because we do not
    measure them: goodput, RTFx, probe requests, client-side queueing, diffusion; and for speculative decoding the
    acceptance length, the drafts and the rates by position. Our own dialect has 0.6.5's block and below it a section of
    further metrics.
    """
    is_033 = summary.dialect == "vllm-0.33"
    lines = ["{:=^50}".format(" Serving Benchmark Result ")]
    lines += _sums_033(summary, max_concurrency, request_rate) if is_033 else _lines(summary, _SUMS_065)
    for name, title in _SECTION_TITLES.items():
        if name in percentile_metrics:
            lines += [f"{title:-^50}", *_lines(summary, _statistic_keys(name, summary.percentiles))]
    if is_033 and summary.values.get("drafted_tokens"):
        lines += [
            f"{'Speculative Decoding':-^50}",
            _line("Acceptance rate (%):", _value(summary, "acceptance_rate_percent"), "%"),
        ]
        lines += [_line("Draft tokens:", _value(summary, "drafted_tokens"), "tok")]
        lines += [_line("Accepted tokens:", _value(summary, "accepted_tokens"), "tok")]
    if summary.dialect == "inferometer":
        open_loop = [key for name in _OPEN_LOOP for key in _statistic_keys(name, summary.percentiles)]
        known = [key for key in (*_OWN, *open_loop) if _value(summary, key) is not None]
        lines += [f"{'Not in vLLM':-^50}", *_lines(summary, known)] if known else []
    return "\n".join([*lines, "=" * 50])


def result_json(trial_view: TrialView, arguments: ServingArguments) -> dict[str, Any]:
    """The result file of `--save-result`: the version's keys in its order; our own dialect writes 0.6.5's.

    Lists cover all requests in the order of the plan; a failed one has 0, "" or [] and its error. Keys of 0.33 that
    come from vLLM's /metrics (server_*, spec_decode_*, diffusion_*) and from probes are omitted, as 0.33 does if a
    server reports none. Its `queue_times` run from the due time, or from the start if all requests are sent at once.
    """
    summary = summarize_view(trial_view, arguments.percentiles)
    is_033 = trial_view.dialect == "vllm-0.33"
    setup: dict[str, Any] = {"date": arguments.date}
    if is_033:
        setup |= {"endpoint_type": arguments.backend, "backend": arguments.backend, "label": arguments.label}
    else:
        setup |= {"backend": arguments.backend}
    setup |= {"model_id": arguments.model_id, "tokenizer_id": arguments.tokenizer_id}
    if not is_033:
        setup |= {"best_of": arguments.best_of}
    setup |= {"num_prompts": arguments.num_prompts, **arguments.metadata}
    setup |= {
        "request_rate": "inf" if math.isinf(arguments.request_rate) else arguments.request_rate,
        "burstiness": "inf" if math.isinf(arguments.burstiness) else arguments.burstiness,
        "max_concurrency": arguments.max_concurrency,
    }
    if is_033 and (ramp := arguments.ramp) is not None:
        setup |= {
            "ramp_up_strategy": ramp.strategy,
            "ramp_up_start_rps": ramp.start_per_s,
            "ramp_up_end_rps": ramp.end_per_s,
        }
    result = setup | _sums(summary, is_033) | _lists(trial_view, arguments, is_033)
    if is_033:
        result |= {key: summary.values[key] for key in ("max_output_tokens_per_s", "max_concurrent_requests")}
        result |= {"rtfx": 0.0}
    for name in _SECTION_TITLES:
        if name in arguments.percentile_metrics:
            keys = [f"{statistic}_{name}_ms" for statistic in ("mean", "median", "std")]
            result |= {key: summary.values[key] for key in (*keys, *_percentile_keys(name, arguments.percentiles))}
    return result


def result_filename(arguments: ServingArguments, dialect: MetricDialect = "vllm-0.6.5") -> str:
    """The default name of the result file."""
    begin = (arguments.label or arguments.backend) if dialect == "vllm-0.33" else arguments.backend
    limit = "" if arguments.max_concurrency is None else f"-concurrency{arguments.max_concurrency}"
    model = arguments.model_id.split("/")[-1]
    rate = f"{float(arguments.request_rate)}qps"
    if dialect == "vllm-0.33" and (ramp := arguments.ramp) is not None:
        rate = f"ramp-up-{ramp.strategy}-{ramp.start_per_s:g}qps-{ramp.end_per_s:g}qps"
    return f"{begin}-{rate}{limit}-{model}-{arguments.date}.json"


# --- the block ------------------------------------------------------------------------------------


def _sums_033(summary: TrialSummary, max_concurrency: int | None, request_rate: float) -> list[str]:
    lines = _lines(summary, ("completed", "failed"))
    if max_concurrency is not None:
        lines.append(_line("Maximum request concurrency:", max_concurrency, "requests"))
    if not math.isinf(request_rate):
        lines.append(_line("Request rate configured (RPS):", request_rate, "req/s"))
    lines += _lines(summary, _SUMS_065[1:-1])
    peak_chunks, peak_requests = (
        _value(summary, key) for key in ("max_output_tokens_per_s", "max_concurrent_requests")
    )
    return [
        *lines,
        _line("Peak output token throughput (tok/s):", peak_chunks, "tok/s"),
        _line("Peak concurrent requests:", peak_requests, "req/s"),  # vLLM prints it with two decimals
        _line("Total token throughput (tok/s):", _value(summary, "total_token_throughput"), "tok/s"),
    ]


def _lines(summary: TrialSummary, keys: Iterable[str]) -> list[str]:
    rows = {metric.key: metric for metric in metric_rows(summary.percentiles)}
    return [_line(f"{rows[key].label}:", _value(summary, key), rows[key].unit) for key in keys]


def _line(label: str, value: float | None, unit: str) -> str:
    """Label and value, padded with the same trailing blanks as in vLLM."""
    if value is None:
        return f"{label:<40} {'n/a':<10}"
    return f"{label:<40} {round(value):<10}" if unit in COUNT_UNITS else f"{label:<40} {value:<10.2f}"


def _value(summary: TrialSummary, key: str) -> float | None:
    return summary.values.get(key)


def _statistic_keys(name: str, percentiles: Iterable[float]) -> list[str]:
    return [f"mean_{name}_ms", f"median_{name}_ms", *_percentile_keys(name, percentiles)]


def _percentile_keys(name: str, percentiles: Iterable[float]) -> list[str]:
    return [f"p{percentile_word(percent)}_{name}_ms" for percent in percentiles]


# --- the result file ------------------------------------------------------------------------------


def _sums(summary: TrialSummary, is_033: bool) -> dict[str, Any]:
    values = summary.values
    failed = {"failed": values["failed"]} if is_033 else {}
    goodput = {"request_goodput" if is_033 else "request_goodput:": None}  # 0.6.5 has the colon in the key
    before, after = ("total_input_tokens", "total_output_tokens", "request_throughput"), _SUMS_065[5:]
    return (
        {"duration": values["duration"], "completed": values["completed"]}
        | failed
        | {key: values[key] for key in before}
        | goodput
        | {key: values[key] for key in after}
    )


def _lists(trial_view: TrialView, arguments: ServingArguments, is_033: bool) -> dict[str, Any]:
    requests = trial_view.requests
    timings = [request.timing for request in requests]
    lists: dict[str, Any] = {
        "input_lens": [
            timing.prompt_tokens if timing else r.record.prompt_tokens
            for r, timing in zip(requests, timings, strict=True)
        ],
        "output_lens": [timing.output_tokens if timing else 0 for timing in timings],
        "ttfts": [seconds(timing.ttft_ns) if timing else 0.0 for timing in timings],
        "itls": [_gaps_s(timing) if timing else [] for timing in timings],
    }
    if is_033:
        start_ns = trial_view.trial.plan_started_ns if math.isinf(arguments.request_rate) else None
        lists["latencies"] = [seconds(timing.latency_ns) if timing else 0.0 for timing in timings]
        lists["start_times"] = [seconds(request.record.sent_ns or 0) for request in requests]
        lists["queue_times"] = [_queue_time_s(request, start_ns) for request in requests]
    lists["generated_texts"] = [request.record.text if request.timing else "" for request in requests]
    lists["errors"] = ["" if request.timing else request.record.error for request in requests]
    if is_033 and not arguments.save_detailed:
        return {key: found for key, found in lists.items() if key not in _DETAILS_033}
    return lists


def _gaps_s(timing: RequestTiming) -> list[float]:
    """`RequestTiming.itl_ns` in seconds, for millions of tokens."""
    gaps = np.diff(np.asarray(timing.counted_ns, np.int64)) if timing.gaps_ns is None else timing.gaps_ns
    return (np.asarray(gaps, np.int64) / NS_PER_S).tolist()


def _queue_time_s(request: RequestView, arrival_ns: int | None) -> float:
    """Time from due to sent, or from `arrival_ns` if the request had no due time; 0 if one of them is unknown."""
    due_ns = arrival_ns if request.record.due_ns is None else request.record.due_ns
    sent_ns = request.record.sent_ns
    return 0.0 if due_ns is None or sent_ns is None else seconds(sent_ns - due_ns)

"""Reader of NVIDIA AIPerf's files: `profile_export_aiperf.json`, and `profile_export.jsonl` with one request per line.

Based on the source of 0.13.0. AIPerf's inter-token latency is our TPOT, its inter-chunk latency is our ITL. The file
with requests has no totals: its values are computed from the records, by our definitions.
"""

from collections.abc import Sequence
from typing import Any

from inferometer.base.units import NS_PER_MS
from inferometer.core.record import RequestRecord, TokenUsage, Trial
from inferometer.foreign.chunk_times import (
    ALWAYS,
    CHUNKS,
    SENDING,
    answer_record,
    chunks_after,
    keys_of_families,
    known_bursts,
)
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import (
    JsonValue,
    count,
    differences_by_key,
    field,
    items,
    ns_of,
    number,
    objects,
    settings,
    text_of,
    unreadable,
)
from inferometer.metrics.summary import summarize

_LATENCIES = {
    "time_to_first_token": ("ttft",),
    "inter_token_latency": ("tpot",),
    "inter_chunk_latency": ("itl", "chunk_gap"),
    "request_latency": ("e2el",),
}
_SUMS = {
    "benchmark_duration": "duration",
    "request_count": "completed",
    "error_request_count": "failed",
    "total_isl": "total_input_tokens",
    "total_osl": "total_output_tokens",
    "request_throughput": "request_throughput",
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_token_throughput",
}
_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3, "s": 1e3}
_SECONDS = {unit: in_ms / 1e3 for unit, in_ms in _MS.items()}

_CLIENT = "counted by the client's tokenizer, unless the server's counts were requested"
_PHASE = "over the observed phase, which is longer than the benchmark duration"
_DIFFERS = {
    "duration": "from the first request sent",
    "total_input_tokens": f"{_CLIENT}; without the chat template",
    "total_output_tokens": _CLIENT,
    "request_throughput": _PHASE,
    "output_throughput": f"{_PHASE}; tokens {_CLIENT}",
    "total_token_throughput": f"{_PHASE}; tokens {_CLIENT}",
    "ttft": "connecting is in it",
    "tpot": f"tokens {_CLIENT}",
    "itl": "a gap between chunks, whatever their content",
    "chunk_gap": "a gap between chunks, whatever their content",
}
_OF_RECORDS = ("ttft",)


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run, from either file; None for other files."""
    found = objects(text)
    if not found:
        return None
    if len(found) == 1 and "aiperf_version" in found[0]:
        return [_profile(found[0], name)]
    if all(number(field(one, "metadata", "request_start_ns")) is not None and "metrics" in one for one in found):
        return [_requests(found, name)]
    return None


# --- the profile ----------------------------------------------------------------------------------


def _profile(source: JsonValue, name: str) -> ForeignRun:
    if number(field(source, "request_count", "avg")) is None:
        version = text_of(source["aiperf_version"]) or "unknown"
        raise unreadable("AIPerf", name, f"version {version} has no number for `request_count.avg`")
    values: dict[str, float | None] = {
        key: found * _SECONDS.get(text_of(field(source, told, "unit")), 1.0) if key == "duration" else found
        for told, key in _SUMS.items()
        if (found := number(field(source, told, "avg"))) is not None
    }
    if number(field(source, "error_request_count", "avg")) is None:
        values["failed"] = 0.0  # AIPerf leaves it out if nothing failed
    for told, keys in _LATENCIES.items():
        for key in keys:
            values |= _statistics(key, field(source, told))
    return ForeignRun(
        name=name,
        tool="aiperf",
        values=values,
        differs=differences_by_key(values, _DIFFERS),
        settings=_settings(source),
    )


def _statistics(key: str, told: Any) -> dict[str, float | None]:
    """Mean, median, standard deviation and percentiles of one latency, in ms; empty if the unit is not a time."""
    in_ms = _MS.get(text_of(field(told, "unit")))
    if in_ms is None:
        return {}
    names = {"p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
    names |= {} if key == "chunk_gap" else {"avg": "mean", "std": "std"}
    return {
        f"{ours}_{key}_ms": found * in_ms
        for theirs, ours in names.items()
        if (found := number(field(told, theirs))) is not None
    }


def _settings(source: JsonValue) -> dict[str, str]:
    phases = items(field(source, "input_config", "phases"))
    phase = next((one for one in phases if field(one, "kind") == "profiling"), None)
    models = items(field(source, "input_config", "models", "items"))
    return settings(
        version=source["aiperf_version"],
        date=source.get("start_time"),
        model=field(models[0], "name") if models else None,
        tokenizer=field(source, "input_config", "tokenizer", "name"),
        num_prompts=field(phase, "requests"),
        concurrency=field(phase, "concurrency"),
        rate_per_s=field(phase, "rate"),
    )


# --- each request ---------------------------------------------------------------------------------


def _requests(found: list[JsonValue], name: str) -> ForeignRun:
    found = sorted(found, key=lambda one: number(field(one, "metadata", "request_start_ns")) or 0)
    start_ns = _wall_ns(found[0], "request_start_ns") or 0
    records = tuple(_record(index, one, start_ns) for index, one in enumerate(found))
    keys_from_records = keys_of_families(ALWAYS | CHUNKS | SENDING | known_bursts(records))
    summary = summarize(Trial("", 1, "done", plan_started_ns=0, records=records), percentiles=(90, 95, 99))
    values = {key: value for key, value in summary.values.items() if key in keys_from_records}
    return ForeignRun(
        name=name,
        tool="aiperf",
        values=values,
        differs=differences_by_key(values, {key: _DIFFERS[key] for key in _OF_RECORDS}),
        records=records,
        keys_from_records=keys_from_records,
    )


def _record(index: int, one: JsonValue, start_ns: int) -> RequestRecord:
    sent_ns = (_wall_ns(one, "request_start_ns") or start_ns) - start_ns
    end_ns = _wall_ns(one, "request_end_ns")
    first_ns = _metric_ns(one, "time_to_first_token")
    in_ns = _unit_ns(one, "inter_chunk_latency")
    gaps_ns = [ns_of(gap, in_ns) or 0 for gap in items(field(one, "metrics", "inter_chunk_latency", "value"))]
    status = count(field(one, "error", "code"))
    cancelled = field(one, "metadata", "was_cancelled") is True
    return answer_record(
        index,
        sent_ns,
        chunks_after(sent_ns + first_ns, gaps_ns) if first_ns else [],
        request_id=text_of(field(one, "metadata", "x_request_id")),
        end_ns=None if end_ns is None else end_ns - start_ns,
        error=_error(one),
        outcome="cancelled" if cancelled else "http_error" if status and _error(one) else None,
        status=status,
        measured=field(one, "metadata", "benchmark_phase") != "warmup",
        prompt_tokens=_metric_count(one, "input_sequence_length"),
        our_tokens=_metric_count(one, "output_sequence_length"),
        usage=TokenUsage(
            _metric_count(one, "usage_prompt_tokens"),
            _metric_count(one, "usage_completion_tokens"),
        ),
    )


def _error(one: JsonValue) -> str:
    error = one.get("error")
    return "" if error is None else text_of(field(one, "error", "message")) or "failed"


def _wall_ns(one: JsonValue, name: str) -> int | None:
    return ns_of(field(one, "metadata", name), 1)


def _unit_ns(one: JsonValue, name: str) -> int:
    return round(_MS.get(text_of(field(one, "metrics", name, "unit")), 1.0) * NS_PER_MS)


def _metric_ns(one: JsonValue, name: str) -> int | None:
    return ns_of(field(one, "metrics", name, "value"), _unit_ns(one, name))


def _metric_count(one: JsonValue, name: str) -> int | None:
    return count(field(one, "metrics", name, "value"))

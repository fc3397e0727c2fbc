"""Reader of GuideLLM's JSON: one run per benchmark. Based on the source of 0.8.1.

GuideLLM's inter-token latency of one request is our TPOT: last token minus first, over the tokens minus one; its
statistics weight a request by these tokens. Its time per output token includes the wait for the first token and has no
counterpart here. Its percentiles are observed values, while ours interpolate. Of each answer it stores only the times
of the first and the last token, by the wall clock.
"""

from collections.abc import Sequence
from typing import Any

from inferometer.base.units import NS_PER_S
from inferometer.core.record import Outcome, RequestRecord, TokenUsage
from inferometer.foreign.chunk_times import ALWAYS, DUE, SENDING, answer_record, keys_of_families
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import (
    JsonValue,
    count,
    family,
    field,
    items,
    ns_of,
    number,
    objects,
    objects_in,
    settings,
    text_of,
    unreadable,
)

_RATES = {
    "requests_per_second": "request_throughput",
    "output_tokens_per_second": "output_throughput",
    "tokens_per_second": "total_token_throughput",
}
_TOTALS = {"prompt_token_count": "total_input_tokens", "output_token_count": "total_output_tokens"}
_LATENCIES = {
    "time_to_first_token_ms": ("ttft", 1.0),
    "inter_token_latency_ms": ("tpot", 1.0),
    "request_latency": ("e2el", 1000.0),
}
_STATISTICS = {
    ("mean",): "mean",
    ("median",): "median",
    ("std_dev",): "std",
    ("percentiles", "p90"): "p90",
    ("percentiles", "p95"): "p95",
    ("percentiles", "p99"): "p99",
    ("percentiles", "p999"): "p99.9",
}
_BY_FAMILY = {
    "duration": "of the time between warm-up and cool-down",
    "ttft": "connecting is in it",
    "tpot": "a request counts as often as it has tokens after the first",
    "e2el": "ends when the response does, not at the last token",
}
_OUTCOMES: dict[str, Outcome | None] = {"successful": None, "errored": "server_error", "incomplete": "cancelled"}


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run per element of `benchmarks`; None for other files."""
    found = objects(text)
    if found is None or len(found) != 1:
        return None
    benchmarks = objects_in(found[0].get("benchmarks"))
    version = text_of(field(found[0], "metadata", "guidellm_version"))
    if not version and not any(text_of(one.get("type_")).startswith("generative_benchmark") for one in benchmarks):
        return None
    if not benchmarks:
        raise unreadable("GuideLLM", name, f"version {version or 'unknown'} has no benchmark")
    return [_run(one, version, name if len(benchmarks) == 1 else f"{name} {_label(one)}") for one in benchmarks]


def _run(one: JsonValue, version: str, name: str) -> ForeignRun:
    completed = number(field(one, "metrics", "request_totals", "successful"))
    if completed is None:
        what = f"version {version or 'unknown'} has no number for `metrics.request_totals.successful`"
        raise unreadable("GuideLLM", name, what)
    values = _values(one, completed)
    records = _records(one)
    complete = sum(record.ok for record in records) == completed
    families = frozenset({"ttft", "tpot", "e2el"})
    families |= ALWAYS | SENDING if complete else frozenset[str]()
    families |= DUE if any(record.due_ns is not None for record in records) else frozenset[str]()
    return ForeignRun(
        name=name,
        tool="guidellm",
        values=values,
        differs=_differs(values),
        settings=_settings(one, version),
        records=records,
        keys_from_records=keys_of_families(families if records else ()),
    )


def _values(one: JsonValue, completed: float) -> dict[str, float | None]:
    totals = {name: number(field(one, "metrics", "request_totals", name)) for name in ("errored", "incomplete")}
    values: dict[str, float | None] = {"completed": completed, "failed": sum(n or 0.0 for n in totals.values())}
    duration_s = number(one.get("duration"))
    if duration_s is not None:
        values["duration"] = duration_s
    for told, key in _TOTALS.items():
        if (found := number(field(one, "metrics", told, "successful", "total_sum"))) is not None:
            values[key] = found
    for told, key in _RATES.items():
        if (found := number(field(one, "metrics", told, "successful", "mean"))) is not None:
            values[key] = found
    for told, (key, in_ms) in _LATENCIES.items():
        summary = field(one, "metrics", told, "successful")
        if number(field(summary, "count")):  # without requests the statistics are 0
            for path, statistic in _STATISTICS.items():
                if (found := number(field(summary, *path))) is not None:
                    values[f"{statistic}_{key}_ms"] = found * in_ms
    return values


def _differs(values: dict[str, float | None]) -> dict[str, str]:
    """Differences by key; a percentile can have two: of the latency, and of percentiles."""
    found: dict[str, str] = {}
    for key in values:
        clauses = [_BY_FAMILY[family(key)]] if family(key) in _BY_FAMILY else []
        if key.startswith(("median", "p9")):
            clauses.append("an observed value, not interpolated")
        if clauses:
            found[key] = "; ".join(clauses)
    return found


def _label(one: JsonValue) -> str:
    """Name of a benchmark as in GuideLLM's tables: concurrent@2."""
    strategy = field(one, "config", "strategy")
    kind, size = (field(strategy, key) for key in ("type_", "streams"))
    size = size if number(size) is not None else field(strategy, "rate")
    found = number(size)
    return (text_of(kind) or "benchmark") + ("" if found is None else f"@{found:g}")


def _settings(one: JsonValue, version: str) -> dict[str, str]:
    strategy = {key: field(one, "config", "strategy", key) for key in ("type_", "streams", "rate", "max_concurrency")}
    return settings(
        version=version,
        model=field(one, "config", "backend", "model"),
        schedule=strategy["type_"],
        concurrency=strategy["streams"],
        rate_per_s=strategy["rate"],
        max_concurrency=strategy["max_concurrency"] if strategy["rate"] is not None else None,
        seed=field(one, "config", "seed", "value"),
    )


# --- each request ---------------------------------------------------------------------------------


def _records(one: JsonValue) -> tuple[RequestRecord, ...]:
    """The requests in the file, in the order of their sending. `sample_size` may have left some out."""
    told = [
        (request, status)
        for status in _OUTCOMES
        for request in items(field(one, "requests", status))
        if _time_s(request, "request_start") is not None
    ]
    told.sort(key=lambda pair: _time_s(pair[0], "request_start") or 0.0)
    start_s = number(one.get("start_time"))
    first_s = _time_s(told[0][0], "request_start") if told else None
    start_of_run_s = min(start_s if start_s is not None else 9e18, first_s or 0.0)
    is_open = field(one, "config", "strategy", "type_") in ("constant", "poisson", "trace")
    return tuple(_record(i, request, status, start_of_run_s, is_open) for i, (request, status) in enumerate(told))


def _record(index: int, request: Any, status: str, start_of_run_s: float, is_open: bool) -> RequestRecord:
    sent_ns = _after_ns(request, "request_start", start_of_run_s) or 0
    targeted_s, sent_s = _time_s(request, "targeted_start"), _time_s(request, "request_start") or 0.0
    wait_ns = ns_of(sent_s - targeted_s, NS_PER_S) if is_open and targeted_s is not None else None
    stamps = [_after_ns(request, f"{which}_token_iteration", start_of_run_s) for which in ("first", "last")]
    chunks = [at for at in stamps if at is not None]
    if len(chunks) == 2 and (
        count(field(request, "info", "timings", "token_iterations")) == 1 or chunks[0] >= chunks[1]
    ):
        chunks = chunks[:1]
    output_tokens = count(field(request, "output_tokens"))
    return answer_record(
        index,
        sent_ns,
        chunks,
        request_id=text_of(field(request, "request_id")),
        due_ns=None if wait_ns is None else sent_ns - wait_ns,
        end_ns=_after_ns(request, "request_end", start_of_run_s),
        text=text_of(field(request, "output")),
        error=text_of(field(request, "info", "error")) or ("" if status == "successful" else status),
        outcome=_OUTCOMES[status],
        usage=TokenUsage(count(field(request, "prompt_tokens")), output_tokens),
        tokens=(1, output_tokens - 1) if len(chunks) == 2 and output_tokens else (),  # times of the first and last
    )


def _time_s(request: Any, name: str) -> float | None:
    return number(field(request, "info", "timings", name))


def _after_ns(request: Any, name: str, start_of_run_s: float) -> int | None:
    """Time from the benchmark's start, ns."""
    at_s = _time_s(request, name)
    return None if at_s is None else ns_of(at_s - start_of_run_s, NS_PER_S)

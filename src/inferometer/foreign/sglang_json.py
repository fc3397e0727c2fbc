"""Reader of the JSONL of SGLang's serving benchmark: one run per line. Based on the source of 0.5.23.

The Python and the Rust client write the same fields. With `--backend sglang` (`/generate`) ITL is a chunk's gap shared
by its tokens; over the OpenAI routes it is a gap between chunks, unless the server speculates.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from inferometer.base.errors import RequestWrong
from inferometer.base.units import NS_PER_S
from inferometer.core.record import RequestRecord, TokenUsage
from inferometer.foreign.chunk_times import ALWAYS, CHUNKS, answer_record, chunks_after, keys_of_families, known_bursts
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import (
    JsonValue,
    count,
    differences_by_key,
    family,
    field,
    items,
    ns_of,
    number,
    objects,
    settings,
    text_of,
    unreadable,
)

_SUMS = {
    "duration": "duration",
    "completed": "completed",
    "total_input_tokens": "total_input_tokens",
    "total_output_tokens": "total_output_tokens",
    "request_throughput": "request_throughput",
    "output_throughput": "output_throughput",
    "total_throughput": "total_token_throughput",
    "accept_length": "mean_accepted_length",
}
_LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e_latency": "e2el"}
_OF_2024 = {
    f"{statistic}_{latency}": f"{statistic}_{latency}_ms"
    for statistic in ("mean", "median", "p99")
    for latency in ("ttft", "tpot", "itl", "e2e_latency")
}
"""Names of fields that had no unit then."""
_SUMS_OVER_TIME = {
    "request_throughput": ("completed",),
    "total_token_throughput": ("total_input_tokens", "total_output_tokens"),
}
"""Rates that old files lack, and what they are sums of."""
_COLUMNS = ("input_lens", "output_lens", "itls", "generated_texts", "errors")

_DIFFERS = {
    "total_input_tokens": "counted by the client's tokenizer, without the chat template",
    "total_token_throughput": "input counted by the client's tokenizer, without the chat template",
    "ttft": "connecting is in it",
    "tpot": "ends at [DONE], not at the last token",
    "e2el": "ends at [DONE], not at the last token",
    "mean_accepted_length": "by the server, since it started",
}
_REQUESTED = "the requested length, if the server sends no usage"
_OVER_OPENAI = {
    "total_output_tokens": _REQUESTED,
    "output_throughput": _REQUESTED,
    "itl": "a gap between chunks, whatever their content",
    "chunk_gap": "a gap between chunks, whatever their content",
}


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run per line; None for other files."""
    found = objects(text)
    if not found or not all(_is_sglang(one) for one in found):
        return None
    return [_run(one, name if len(found) == 1 else f"{name} {number}") for number, one in enumerate(found, start=1)]


def _is_sglang(source: JsonValue) -> bool:
    """By fields that vLLM's files have not. `server_info` and `total_throughput` came after 2025."""
    is_new = "server_info" in source and "total_throughput" in source
    return "backend" in source and (is_new or "total_output_tokens_retokenized" in source)


def _run(source: JsonValue, name: str) -> ForeignRun:
    source = {_OF_2024.get(key, key): value for key, value in source.items()}
    if number(source.get("completed")) is None or number(source.get("duration")) is None:
        raise unreadable("SGLang", name, "has no number for `completed` or `duration`")
    per_token = _is_per_token(source)
    records = _records(source)
    values = _values(source, per_token)
    by_family = _DIFFERS | ({} if _is_native(source) else _OVER_OPENAI)
    by_family["itl_per_token"] = (
        "a chunk's gap shared by its tokens; chunks that arrived together are not merged"
        if _is_native(source)
        else "a chunk's gap shared by its tokens, which the client's tokenizer counted"
    )
    return ForeignRun(
        name=name,
        tool="sglang",
        values=values,
        differs=differences_by_key(values, by_family),
        settings=_settings(source),
        records=records,
        keys_from_records=keys_of_families(ALWAYS | CHUNKS | known_bursts(records) if records else ()),
    )


def _is_native(source: JsonValue) -> bool:
    return source["backend"] in ("sglang", "sglang-native")


def _is_per_token(source: JsonValue) -> bool:
    """Whether its ITL is a time per token: of `/generate`, and over SGLang's OpenAI routes where it speculates."""
    speculates = bool(number(source.get("accept_length")))
    return _is_native(source) or (speculates and source["backend"] in ("sglang-oai", "sglang-oai-chat"))


def _values(source: JsonValue, per_token: bool) -> dict[str, float | None]:
    values: dict[str, float | None] = {
        key: found for told, key in _SUMS.items() if (found := number(source.get(told))) is not None
    }
    for key, parts in _SUMS_OVER_TIME.items():
        known = [found for part in parts if (found := values.get(part)) is not None]
        if key not in values and len(known) == len(parts) and values.get("duration"):
            values[key] = sum(known) / (values["duration"] or 1.0)
    for told in source:
        latency = _LATENCIES.get(family(told))
        if latency is None or told == family(told):
            continue
        nothing = not number(source.get(f"mean_{family(told)}_ms"))  # 0 there
        value = None if nothing else number(source[told])
        key = told.replace(family(told), latency)
        is_mean = key.startswith(("mean", "std"))
        if latency == "itl" and per_token:
            values |= {} if is_mean else {key.replace("itl", "itl_per_token"): value}
        else:
            values[key] = value
        if latency == "itl" and not per_token and not is_mean:
            values[key.replace("itl", "chunk_gap")] = value
    return values


def _settings(source: JsonValue) -> dict[str, str]:
    is_open = number(source.get("request_rate")) is not None
    concurrency = "max_concurrency" if is_open else "concurrency"
    return settings(
        backend=source["backend"],
        workload=source.get("dataset_name"),
        model=field(source, "server_info", "model_path"),
        tag=source.get("tag"),
        rate_per_s=source.get("request_rate") if is_open else None,
        **{concurrency: source.get("max_concurrency")},
    )


# --- each request ---------------------------------------------------------------------------------


def _records(source: JsonValue) -> tuple[RequestRecord, ...]:
    """The requests, with `--output-details`. The file has no send times: all are 0."""
    ttfts = items(source.get("ttfts"))
    column = {key: items(source.get(key)) for key in _COLUMNS}
    unequal = [key for key, found in column.items() if found and len(found) != len(ttfts)]
    if unequal:
        raise RequestWrong(f"SGLang's results have {len(ttfts)} ttfts, but {len(column[unequal[0]])} {unequal[0]}.")
    return tuple(
        _record(i, {key: found[i] if found else None for key, found in column.items()}, ttft, _is_native(source))
        for i, ttft in enumerate(ttfts)
    )


def _record(index: int, row: dict[str, Any], ttft: Any, is_native: bool) -> RequestRecord:
    first_ns = ns_of(ttft, NS_PER_S) or 0
    output = count(row["output_lens"])
    gaps_ns, tokens = _chunks(items(row["itls"]), output) if is_native else (_gaps(items(row["itls"])), [])
    return answer_record(
        index,
        0,
        chunks_after(first_ns, gaps_ns) if first_ns else [],
        text=text_of(row["generated_texts"]),
        tokens=tokens,
        error=text_of(row["errors"]),
        prompt_tokens=count(row["input_lens"]),
        usage=TokenUsage(completion_tokens=output),
    )


def _gaps(itls: list[Any]) -> list[int]:
    return [ns_of(gap, NS_PER_S) or 0 for gap in itls]


def _chunks(itls: list[Any], output: int | None) -> tuple[list[int], list[int]]:
    """The gaps between chunks and the tokens of each, where the file has n times the gap ÷ n for a chunk of n tokens.

    Times of two chunks that are equal to the nanosecond do not happen; the first chunk has the tokens that are left.
    """
    chunks = [(value, len(list(same))) for value, same in groupby(itls)]
    gaps_ns = [ns_of((number(value) or 0.0) * tokens, NS_PER_S) or 0 for value, tokens in chunks]
    return gaps_ns, [max(0, (output or 0) - len(itls)), *(tokens for _, tokens in chunks)]

"""Reader of the JSON of vLLM's serving benchmark, 0.6 to 0.33. Files do not state their version; their fields show it.

Based on the sources of 0.6.5, 0.7.3, 0.8.5, 0.9.2 and 0.33.0; `recorded/` has files of four of them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.units import NS_PER_S, ms
from inferometer.core.record import RequestRecord, TokenUsage
from inferometer.foreign.chunk_times import (
    ALWAYS,
    CHUNKS,
    DUE,
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
    family,
    items,
    ns_of,
    number,
    objects,
    settings,
    statistics,
    text_of,
    unreadable,
)

_SUMS = (
    "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
    "output_throughput", "total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests",
)  # fmt: skip
_SPECULATION = {
    "spec_decode_acceptance_rate": "acceptance_rate_percent",
    "spec_decode_acceptance_length": "mean_accepted_length",
    "spec_decode_draft_tokens": "drafted_tokens",
    "spec_decode_accepted_tokens": "accepted_tokens",
}
_LATENCIES = ("ttft", "tpot", "itl", "e2el")


class _Format(msgspec.Struct, frozen=True):
    """Versions whose files have the same fields, and how their numbers differ from ours, by families of keys: `chat`
    over /v1/chat/completions, `completions` over the other. `counted_by_client`: output tokens too."""

    versions: str
    chat: dict[str, str] = {}
    completions: dict[str, str] = {}
    both: dict[str, str] = {}
    counted_by_client: bool = False

    def differs(self, is_chat: bool) -> dict[str, str]:
        return self.both | (self.chat if is_chat else self.completions)


_CLIENT_INPUT = "counted by the client's tokenizer, without the chat template"
_CLIENT_OUTPUT = "output counted again by the client's tokenizer"
_BY_CLIENT = {
    "total_input_tokens": _CLIENT_INPUT,
    "total_output_tokens": _CLIENT_OUTPUT,
    "output_throughput": _CLIENT_OUTPUT,
    "total_token_throughput": f"{_CLIENT_OUTPUT}; input without the chat template",
}
_DONE = "ends at [DONE], not at the last token"
_ROLE = "the chunk that names the speaker counts as the first token"
_TWO_GAPS = "a gap between chunks, with one before the first token and one after the last"
_USAGE = "ends at the chunk with the usage, not at the last token"
_ISSUED = "from when the client's loop reached the request, which may be later than due"
_EMPTY = "a chunk without text counts too"

_FORMATS = {
    "to 0.6.3": _Format(
        "0.6.0 to 0.6.3",
        both=_BY_CLIENT | {"tpot": _DONE, "e2el": _DONE, "ttft": "connecting is in it"},
        chat={"itl": "a gap between chunks; one that ends in a chunk without text is left out"},
        counted_by_client=True,
    ),
    "to 0.7.3": _Format(
        "0.6.4 to 0.7.3",
        both=_BY_CLIENT
        | {"tpot": f"{_DONE} (0.7.3: at the usage)", "e2el": f"{_DONE} (0.7.3: at the usage)"}
        | dict.fromkeys(("total_output_tokens", "output_throughput"), f"{_CLIENT_OUTPUT} (0.7.3: by the server)"),
        chat={
            "ttft": f"connecting is in it; in 0.7.3 {_ROLE}",
            "itl": "a gap between chunks; one that ends in a chunk without text is left out (0.7.3: counts)",
        },
        completions={"ttft": "connecting is in it"},
        counted_by_client=True,
    ),
    "to 0.9.1": _Format(
        "0.8.0 to 0.9.1",
        both={"total_input_tokens": _CLIENT_INPUT, "total_token_throughput": f"input {_CLIENT_INPUT}"}
        | {"tpot": _USAGE, "e2el": _USAGE},
        chat={"ttft": f"connecting is in it; {_ROLE}", "itl": _TWO_GAPS},
        completions={"ttft": f"connecting is in it; {_EMPTY}", "itl": f"a gap between chunks; {_EMPTY}"},
    ),
    "to 0.11.1": _Format(
        "0.9.2 to 0.11.1",
        both={"total_input_tokens": _CLIENT_INPUT, "total_token_throughput": f"input {_CLIENT_INPUT}"}
        | {"tpot": _USAGE, "e2el": _USAGE},
        chat={"ttft": f"connecting is in it (0.10.2: where it had to); {_ROLE}", "itl": _TWO_GAPS},
        completions={"ttft": f"connecting is in it; {_EMPTY}", "itl": f"a gap between chunks; {_EMPTY}"},
    ),
    "to 0.29": _Format(
        "0.11.2 to 0.29",
        both={
            "total_input_tokens": f"before 0.26 {_CLIENT_INPUT}",
            "total_token_throughput": f"input before 0.26 {_CLIENT_INPUT}",
            "max_output_tokens_per_s": "counts chunks, not tokens",
        }
        | {"tpot": _USAGE, "e2el": _USAGE},
        chat={"ttft": _ROLE, "itl": _TWO_GAPS},
        completions={"ttft": _EMPTY, "itl": f"a gap between chunks; {_EMPTY}"},
    ),
    "from 0.30": _Format(
        "0.30 to 0.33",
        both={"max_output_tokens_per_s": "counts chunks, not tokens"}
        | dict.fromkeys(("lateness", "ttft_from_due", "latency_from_due"), _ISSUED),
        chat={
            "ttft": f"before 0.33 {_ROLE}",
            "itl": f"a gap between chunks; before 0.33 {_TWO_GAPS.partition(', ')[2]}",
            "tpot": "before 0.33 from the chunk that names the speaker to the finish chunk",
            "e2el": "before 0.33 to the finish chunk",
        },
        completions={
            "ttft": _EMPTY,
            "itl": "a gap between chunks; the finish chunk counts",
            "tpot": "ends at the finish chunk",
            "e2el": "ends at the finish chunk",
        },
    ),
}


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run; with `--append-result` one run per line; None for other files."""
    found = objects(text)
    if not found or not all("model_id" in one and "num_prompts" in one and "duration" in one for one in found):
        return None
    return [_run(one, name if len(found) == 1 else f"{name} {number}") for number, one in enumerate(found, start=1)]


def _run(source: JsonValue, name: str) -> ForeignRun:
    era = _FORMATS[_format_name(source)]
    values = _values(source, name)
    records = _records(source, era)
    is_chat = "chat" in text_of(source.get("backend")) + text_of(source.get("endpoint_type"))
    differs = era.differs(is_chat)
    for told, key in _SPECULATION.items():
        values |= {key: found} if (found := number(source.get(told))) is not None else {}
    by_family = differs | ({"chunk_gap": differs["itl"]} if "itl" in differs else {})
    by_family["mean_accepted_length"] = "1 + accepted ÷ drafts: only steps that drafted count"
    sent_known = bool(items(source.get("start_times")))
    families = ALWAYS | CHUNKS | known_bursts(records) | (SENDING if sent_known else frozenset[str]())
    if sent_known and _is_open(source) and items(source.get("queue_times")):
        families |= DUE
    return ForeignRun(
        name=name,
        tool="vllm",
        values=values,
        differs=differences_by_key(values, by_family),
        settings=_settings(source, era),
        records=records,
        keys_from_records=keys_of_families(families if records else ()),
    )


def _format_name(source: JsonValue) -> str:
    """The format, by fields that were added and removed. Every version that has such a field always writes it."""
    if "latencies" in source:
        return "from 0.30"
    if "failed" in source:
        return "to 0.29"
    if "request_goodput" in source:
        return "to 0.11.1"
    if "request_goodput:" in source:  # the colon was a typo in vLLM
        return "to 0.7.3" if "best_of" in source else "to 0.9.1"
    return "to 0.6.3"


def _values(source: JsonValue, name: str) -> dict[str, float | None]:
    if number(source.get("completed")) is None or number(source["duration"]) is None:
        raise unreadable("vLLM", name, "has no number for `completed` or `duration`")
    values: dict[str, float | None] = {key: found for key in _SUMS if (found := number(source.get(key))) is not None}
    for key in source:
        if family(key) in _LATENCIES and key != family(key):
            values[key] = number(source[key])
    if _format_name(source) == "to 0.6.3" and {"mean_e2el_ms", "median_e2el_ms"} <= values.keys():  # vLLM swapped them
        values["mean_e2el_ms"], values["median_e2el_ms"] = values["median_e2el_ms"], values["mean_e2el_ms"]
    for key in list(values):
        if family(key) in _LATENCIES and not values.get(f"mean_{family(key)}_ms", 1):
            values[key] = None  # vLLM writes 0 for a statistic without values
    gaps = {key.replace("_itl_", "_chunk_gap_"): value for key, value in values.items() if family(key) == "itl"}
    values |= {key: value for key, value in gaps.items() if not key.startswith(("mean", "std"))}
    return values | _from_due(source)


def _is_open(source: JsonValue) -> bool:
    return number(source.get("request_rate")) is not None or "ramp_up_strategy" in source


def _from_due(source: JsonValue) -> dict[str, float | None]:
    """Values from the due time: 0.30 and later write each request's latency and its wait between due and sent."""
    latencies = [ns_of(value, NS_PER_S) for value in items(source.get("latencies"))]
    waits = [ns_of(value, NS_PER_S) for value in items(source.get("queue_times"))]
    if not _is_open(source) or not waits or len(waits) != len(latencies):
        return {}
    answered = [(at, wait) for at, wait in zip(latencies, waits, strict=True) if at and wait is not None]
    return (
        statistics("lateness", [ms(wait) for wait in waits if wait is not None])
        | statistics("latency_from_sent", [ms(at) for at, _ in answered])
        | statistics("latency_from_due", [ms(at + wait) for at, wait in answered])
    )


def _settings(source: JsonValue, era: _Format) -> dict[str, str]:
    concurrency = "max_concurrency" if _is_open(source) else "concurrency"
    return settings(
        version=f"{era.versions}, by its fields",
        date=source.get("date"),
        model=source["model_id"],
        tokenizer=source.get("tokenizer_id"),
        backend=source.get("backend") or source.get("endpoint_type"),
        num_prompts=source["num_prompts"],
        rate_per_s=source.get("request_rate") if _is_open(source) else None,
        burstiness=source.get("burstiness") if _is_open(source) else None,
        **{concurrency: source.get("max_concurrency")},
    )


# --- each request ---------------------------------------------------------------------------------


def _records(source: JsonValue, era: _Format) -> tuple[RequestRecord, ...]:
    """The requests, with `--save-detailed` (before 0.9.2 always). Files before 0.19 have no send times: all are 0."""
    ttfts, itls = items(source.get("ttfts")), items(source.get("itls"))
    if not ttfts or len(ttfts) != len(itls):
        return ()
    column = {key: items(source.get(key)) for key in _COLUMNS}
    unequal = [key for key, found in column.items() if found and len(found) != len(ttfts)]
    if unequal:
        raise RequestWrong(f"vLLM's results have {len(ttfts)} ttfts, but {len(column[unequal[0]])} {unequal[0]}.")
    rows = [{key: found[i] if found else None for key, found in column.items()} for i in range(len(ttfts))]
    starts_ns = [ns_of(row["start_times"], NS_PER_S) or 0 for row in rows]
    waits_ns = [ns_of(row["queue_times"], NS_PER_S) or 0 for row in rows]
    plan_ns = min(start - wait for start, wait in zip(starts_ns, waits_ns, strict=True))
    is_open = _is_open(source) and bool(column["start_times"]) and bool(column["queue_times"])
    return tuple(
        _record(i, row, ttft, gaps, start_ns - plan_ns, start_ns - plan_ns - wait_ns if is_open else None, era)
        for i, (row, ttft, gaps, start_ns, wait_ns) in enumerate(
            zip(rows, ttfts, itls, starts_ns, waits_ns, strict=True)
        )
    )


_COLUMNS = ("input_lens", "output_lens", "latencies", "start_times", "queue_times", "generated_texts", "errors")


def _record(
    index: int, row: dict[str, Any], ttft: Any, gaps: Any, sent_ns: int, due_ns: int | None, era: _Format
) -> RequestRecord:
    first_ns = ns_of(ttft, NS_PER_S) or 0
    gaps_ns = [ns_of(gap, NS_PER_S) or 0 for gap in items(gaps)]
    output, prompt = count(row["output_lens"]), count(row["input_lens"])
    latency_ns = ns_of(row["latencies"], NS_PER_S)
    return answer_record(
        index,
        sent_ns,
        chunks_after(sent_ns + first_ns, gaps_ns) if first_ns else [],
        due_ns=due_ns,
        end_ns=None if latency_ns is None else sent_ns + latency_ns,
        text=text_of(row["generated_texts"]),
        error=text_of(row["errors"]),
        prompt_tokens=prompt,
        our_tokens=output if era.counted_by_client else None,
        usage=None
        if era.counted_by_client
        else TokenUsage(prompt if era.versions.startswith("0.30") else None, output),
    )

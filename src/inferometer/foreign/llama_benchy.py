"""Reader of llama-benchy's JSON (`--format json`): one run per test. Based on the source of 0.4.0.

Its speeds exclude waiting: pp is prompt tokens over the time to the first response minus a network latency, tg covers
the time from the first token on. Neither is a throughput by our definition. The reciprocal of a request's tg speed is
its TPOT.
"""

from collections.abc import Sequence
from typing import Any

from inferometer.base.units import NS_PER_MS, NS_PER_S
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.tool_json import (
    JsonValue,
    differences_by_key,
    field,
    items,
    number,
    objects,
    objects_in,
    settings,
    statistics,
    text_of,
    unreadable,
)

_DIFFERS = {"tpot": "tokens that arrived with the first one do not count, if the server sends token ids"}


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run per element of `benchmarks`; None for other files."""
    found = objects(text)
    if found is None or len(found) != 1 or "benchmarks" not in found[0] or "latency_mode" not in found[0]:
        return None
    runs = [_run(found[0], one, name) for one in objects_in(found[0]["benchmarks"])]
    if not runs:
        raise unreadable("llama-benchy", name, "has no benchmark")
    return runs


def _run(source: JsonValue, one: JsonValue, name: str) -> ForeignRun:
    if "e2e_ttft" not in one and "tg_req_throughput" not in one:
        version = text_of(source.get("version")) or "unknown"
        raise unreadable("llama-benchy", name, f"version {version} has neither `e2e_ttft` nor `tg_req_throughput`")
    speeds = [speed for speed in _numbers(field(one, "tg_req_throughput", "values")) if speed > 0]
    values = statistics("ttft", _numbers(field(one, "e2e_ttft", "values")))
    values |= statistics("tpot", [NS_PER_S / NS_PER_MS / speed for speed in speeds])
    return ForeignRun(
        name=f"{text_of(source.get('model')) or name} {_test(one)}",
        tool="llama-benchy",
        values=values,
        differs=differences_by_key(values, _DIFFERS),
        settings=settings(
            version=source.get("version"),
            date=source.get("timestamp"),
            model=source.get("model"),
            concurrency=one.get("concurrency"),
            prompt_tokens=one.get("prompt_size"),
            output_tokens=one.get("response_size"),
            depth=one.get("context_size"),
        ),
    )


def _test(one: JsonValue) -> str:
    """Name of a test as in llama-benchy's tables, with both halves: pp2048 tg32 @ d4096 (c2)."""
    depth, concurrency = number(one.get("context_size")), number(one.get("concurrency"))
    phase = "context " if one.get("is_context_prefill_phase") is True else ""
    parts = [f"{phase}pp{_whole(one.get('prompt_size'))} tg{_whole(one.get('response_size'))}"]
    parts += [f"@ d{depth:g}"] if depth else []
    parts += [f"(c{concurrency:g})"] if concurrency is not None and concurrency > 1 else []
    return " ".join(parts)


def _whole(value: Any) -> str:
    found = number(value)
    return "?" if found is None else f"{found:g}"


def _numbers(values: Any) -> list[float]:
    return [found for value in items(values) if (found := number(value)) is not None]

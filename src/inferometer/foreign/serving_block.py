"""Reader of "Serving Benchmark Result" blocks: vLLM's and SGLang's, old and new, and our own.

A block does not state its version; its lines identify it. Their meaning is based on the sources of vLLM 0.6.5
(benchmarks/benchmark_serving.py), vLLM 0.33.0 (vllm/benchmarks/serve.py) and SGLang (python/sglang/bench_serving.py).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from inferometer.base.units import BYTES_PER_GIB, BYTES_PER_MIB
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.metrics.rows import metric_rows, percentile_word

TITLE = "Serving Benchmark Result"
_HEAD = re.compile(rf"(?P<prefix>[^=]*)={{5,}} *{TITLE} *={{5,}}")
_END = "=" * 10
_PERCENTILE = re.compile(r"p(?P<percent>\d+(?:\.\d+)?) (?P<what>.*)")
_MEMORY = re.compile(r"(?P<number>\d{1,9}(?:[.,]\d{1,9})?) ?(?P<unit>GiB|MiB|GB|MB)\b", re.IGNORECASE)
_SAYS_MEMORY = re.compile(r"memory|vram|mem\b|gpu", re.IGNORECASE)
_BYTES = {"gib": BYTES_PER_GIB, "mib": BYTES_PER_MIB, "gb": 1e9, "mb": 1e6}
_LINES_BENEATH = 4
"""Memory may be noted this many lines below a block."""

_LABELS = {row.label.casefold(): row.key for row in metric_rows((99,))} | {
    "total throughput (tok/s)": "total_token_throughput",  # SGLang of 2024
    "draft tokens": "drafted_tokens",
    "acceptance length": "mean_accepted_length",
    "accept length": "mean_accepted_length",
}
_SETTINGS = {
    "backend": "backend",
    "traffic request rate": "request_rate",
    "request rate configured (rps)": "request_rate",
    "maximum request concurrency": "concurrency",
    "max request concurrency": "concurrency",
    "max reqeuest concurrency": "concurrency",  # so spelled by SGLang of 2025
}
_FLAGS = {
    "--num-prompts": "requests",
    "--max-concurrency": "concurrency",
    "--request-rate": "request_rate",
    "--seed": "seed",
    "--model": "model",
    "--dataset-name": "dataset",
    "--dataset-path": "dataset_path",
}
_FLAG = re.compile(rf"({'|'.join(_FLAGS)})[ =](?:\"([^\"]{{0,500}})\"|'([^']{{0,500}})'|(\S{{1,500}}))")

_Form = Literal["vllm-0.6.5", "vllm-0.33", "sglang", "inferometer"]
_TOOLS: dict[_Form, str] = {
    "vllm-0.6.5": "vLLM's block (as of 0.6.5)",
    "vllm-0.33": "vLLM's block (as of 0.33)",
    "sglang": "SGLang's block",
    "inferometer": "Inferometer's block",
}
_CONNECTS = "connecting is in it"
_TO_DONE = "ends at [DONE], not at the last token"
_E2EL_TO_DONE = f"{_TO_DONE}; {_CONNECTS}"
_BY_CLIENT = "counted by the client's tokenizer"
_WITHOUT_TEMPLATE = f"{_BY_CLIENT}, without the chat template"
_NOT_TOLD = "tokens counted by the server or as asked for; the block does not state which"
_DIFFERS: dict[_Form, dict[str, str]] = {
    "vllm-0.6.5": {
        "ttft": _CONNECTS,
        "tpot": _TO_DONE,
        "itl": "gaps between chunks with text, without those that end in an empty chunk",
        "e2el": _E2EL_TO_DONE,
        "total_input_tokens": _WITHOUT_TEMPLATE,
        "total_output_tokens": _BY_CLIENT,
        "output_throughput": _BY_CLIENT,
        "total_token_throughput": _WITHOUT_TEMPLATE,
    },
    "vllm-0.33": {
        "ttft": _CONNECTS,
        "itl": "gaps between chunks, in completions with that before the finish chunk",
        "e2el": _CONNECTS,
        "mean_accepted_length": "1 + accepted ÷ drafts, which leaves out steps without a draft",
    },
    "sglang": {
        "ttft": _CONNECTS,
        "tpot": _TO_DONE,
        "itl": "gaps between chunks, or these shared by a chunk's tokens; it depends on version and backend, and the "
        "block does not say",
        "e2el": _E2EL_TO_DONE,
        "total_output_tokens": _NOT_TOLD,
        "output_throughput": _NOT_TOLD,
        "total_token_throughput": _NOT_TOLD,
        "mean_accepted_length": "the server's own average, which may have other requests in it",
    },
    "inferometer": {},
}
_RATES = {
    "request_throughput": ("completed",),
    "output_throughput": ("total_output_tokens",),
    "total_token_throughput": ("total_input_tokens", "total_output_tokens"),
}
"""Each rate is the sum of these over the duration, in every tool."""


def block_prefix(line: str) -> str | None:
    """The prefix of a block's first line, which all its lines have ("" usually, "# " in a commented script); None if no
    block starts here."""
    found = _HEAD.match(line)
    return None if found is None else found["prefix"]


def is_block_end(line: str) -> bool:
    """Whether this is a block's last line, or the end of a code fence."""
    return line.rstrip().endswith(_END) or line.lstrip().startswith("```")


def run_of(
    name: str, block: Iterable[str], requested: Mapping[str, str], memory_gib: float | None
) -> ForeignRun | None:
    """The run of a block's lines, without their prefix; None if no line is known. `requested`: settings from outside
    the block, which those in the block override."""
    values: dict[str, float | None] = {}
    settings = dict(requested)
    is_our_own, is_033 = False, False
    for line in block:
        is_our_own |= "Not in vLLM" in line
        label, colon, value = (part.strip() for part in line.partition(": "))
        if not colon:
            continue
        label = label.casefold()
        is_033 |= label in ("failed requests", "peak concurrent requests", "maximum request concurrency")
        key = _key(label)
        if key is not None:
            values[key] = _number(value)
        elif label in _SETTINGS and value != "not set":
            settings[_SETTINGS[label]] = value
    if not any(value is not None for value in values.values()):
        return None
    form: _Form = "vllm-0.33" if is_033 else "vllm-0.6.5"
    form = "sglang" if "backend" in settings else "inferometer" if is_our_own else form
    values |= _unrounded_rates(values)
    if memory_gib is not None and values.get("memory_gib") is None:
        values = {"memory_gib": memory_gib, **values}
    differs = {key: text for key in values if (text := _difference(form, key))}
    if form != "inferometer" and "memory_gib" in values:
        differs["memory_gib"] = "as noted in the file; what was measured, and how, is unknown"
    dialect = form if form != "sglang" else ""
    return ForeignRun(name, _TOOLS[form], values, differs, settings, dialect=dialect)


def settings_of(lines: Iterable[str]) -> dict[str, str]:
    """Settings from a command line of the benchmark among the lines; from the last one if there are several."""
    settings: dict[str, str] = {}
    for line in lines:
        if "benchmark_serving" in line or "bench_serving" in line or "bench serve" in line:
            settings = {_FLAGS[flag]: quoted or single or word for flag, quoted, single, word in _FLAG.findall(line)}
    return settings


def memory_below(lines: Sequence[str]) -> float | None:
    """GiB, from one of the first lines below a block that has nothing else or mentions memory; None if there is none.
    Decimal and binary units are distinguished."""
    below = [line for line in lines if line.strip().strip("`")][:_LINES_BENEATH]
    for line in below:
        found = _MEMORY.search(line)
        if found is None:
            continue
        around = (line[: found.start()] + line[found.end() :]).strip(" \t-*+•~≈.:()")
        if not around or _SAYS_MEMORY.search(around):
            return float(found["number"].replace(",", ".")) * _BYTES[found["unit"].lower()] / BYTES_PER_GIB
    return None


def _key(label: str) -> str | None:
    """The key of a label. Our labels are vLLM's; any percentile is handled like the 99th."""
    label = label.replace("e2e latency (ms)", "e2el (ms)")  # SGLang
    found = _PERCENTILE.fullmatch(label)
    if found is None:
        return _LABELS.get(label)
    key = _LABELS.get(f"p99 {found['what']}")
    return None if key is None else f"p{percentile_word(float(found['percent']))}{key.removeprefix('p99')}"


def _unrounded_rates(values: Mapping[str, float | None]) -> dict[str, float]:
    """Rates with more digits than the block's two decimals, from the block's sums, if these round to the printed rate.
    Rounding matters: printed rates of 0.05 and 0.07 req/s differ by 40%, while the runs may differ by 60%."""
    duration_s = values.get("duration")
    found: dict[str, float] = {}
    for key, parts in _RATES.items():
        printed, sums = values.get(key), [values.get(part) for part in parts]
        known = [part for part in sums if part is not None]
        if printed is None or not duration_s or len(known) < len(sums):
            continue
        rate = sum(known) / duration_s
        if abs(rate - printed) < 0.0051:  # half of the last decimal, plus the rounding of the duration
            found[key] = rate
    return found


def _number(text: str) -> float | None:
    """None for n/a and the like."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _difference(form: _Form, key: str) -> str:
    """How the definition of a value differs from ours; "" if it does not."""
    by_measure = _DIFFERS[form]
    latency = re.fullmatch(r"[a-z]+[\d.]*_(ttft|tpot|itl|e2el)_ms", key)
    return by_measure.get(latency[1] if latency else key, "")

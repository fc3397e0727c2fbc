"""Reader of "Serving Benchmark Result" blocks: vLLM's and SGLang's, old and new, and our own.

A block does not state its version; its lines identify it. Their meaning is based on the sources of vLLM 0.6.5
(benchmarks/benchmark_serving.py), vLLM 0.33.0 (vllm/benchmarks/serve.py) and SGLang (python/sglang/bench_serving.py).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from inferometer.base.units import BYTES_PER_GIB, BYTES_PER_MIB
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.log_heads import remover, without_head
from inferometer.metrics.rows import metric_rows, percentile_word

TITLE = "Serving Benchmark Result"
_ENDS = re.compile(r"={10}[\s`*]*(?:</\w{1,20}>\s*)*$")
_RULE = "=" * 3
_AS_HEADING = re.compile(r"(?:#{1,6}|\*\*|__)$")
_CLOSES = ("```", "~~~", "</pre", "</details", "</code")
_PERCENTILE = re.compile(r"p(?P<percent>\d+(?:\.\d+)?) (?P<what>.*)")
_NUMBER = re.compile(
    r"[*_`~+]{0,3}(?P<number>-?(?:\d{1,3}(?:(?P<group>[, '’_])\d{3}(?!\d))(?:(?P=group)\d{3}(?!\d))*|\d{1,18})"
    r"(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?)"
    r"(?P<unit>ms|s|%|tok/s|req/s|tokens?/s|requests?)?(?=$|[\s*`|(#/;<±]|_+(?:$|\s)|,(?!\d))",
)
_COUNTS = re.compile(
    r"(?:successful|failed) requests|total (?:input|generated) tokens|(?:drafted|draft|accepted) tokens"
)
_TWO_NUMBERS = re.compile(r"\s*(?:->|→|=>|/|vs\b|[*_`]*\s+[|]?\s*-?\d)")
_NOT_TOLD_WORDS = ("nan", "inf", "-inf", "n/a", "na", "none", "null", "-", "not set", "")
_LEFT_OUT = re.compile(
    r"position \d+|per-position acceptance \(%\)|drafts|concurrency|cache hit rate|burstiness factor|"
    r"total input (?:text|vision|audio) tokens|total generated tokens \(retokenized\)|total cached tokens|"
    r"(?:input|peak input) token throughput \(tok/s\)|average (?:input|output) length|request goodput \(req/s\)|"
    r"(?:max|min|std) (?:itl|ttft|tpot|e2el|e2e latency) \(ms\)|request throughput \(rps\)"
)
"""Labels in blocks of known tools and forks for which we have no metric."""
_SECTION = re.compile(r"-{3,}[^-]{0,80}-{3,}")
_BREAKS_OFF = 8
"""This many lines in a row without a known label mean that the block was cut off before them."""

_MEMORY = re.compile(r"(?P<number>\d{1,9}(?:[.,]\d{1,9})?) ?(?P<unit>GiB|MiB|GB|MB)\b", re.IGNORECASE)
_PLACE = r"(?:memory|vram|mem|rss)"
_USED = re.compile(
    rf"(?:peak|used)\s+(?:gpu\s+|device\s+|cuda\s+)?{_PLACE}\b"
    rf"|\b{_PLACE}\s+(?:\(?(?:gib|mib|gb|mb)\)?\s*)?(?:usage|used|in use|consumption|consumed|footprint|peak|allocated)"
    rf"|\b(?:uses|used|took|takes|consumes|consumed|occupies)\s+(?:about\s+|~\s*)?[\d.,]+ ?(?:gib|mib|gb|mb)"
    rf"\s+(?:of\s+)?(?:gpu\s+)?{_PLACE}\b",
    re.IGNORECASE,
)
_ONLY_MEMORY = re.compile(rf"(?:gpu\s+)?{_PLACE}", re.IGNORECASE)
_SOLD_SIZES = frozenset(
    {4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 36, 40, 48, 64, 72, 80, 94, 96, 128, 141, 144, 180, 192, 256, 288, 384, 512}
)
"""Sizes of cards and memory modules, GB: `VRAM: 24 GB` describes a card."""
_USED_OF_ALL = re.compile(r"(?:gib|mib|gb|mb)\s*/\s*[\d.,]+ ?(?:gib|mib|gb|mb)", re.IGNORECASE)
_NOT_ENGINES = re.compile(
    r"\bkv\b|cache|\bmodel\b|weights?\b|\btotal\b|\bavailable\b|\bfree\b|ddr\d?|\bsystem\b|\bcards?\b|\bfile\b|"
    r"\blimit\b|\bswap\b|\bdisk\b|\bhost\b|utili[sz]ation",
    re.IGNORECASE,
)
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
_SAYS_MEMORY = re.compile(rf"\b{_PLACE}\b|nvidia-smi|\bgpu\b", re.IGNORECASE)
_ONE_LINE = re.compile(
    "(?<=[ =-])(?:"
    + "|".join(sorted((re.escape(label) for label in (*_LABELS, *_SETTINGS)), key=len, reverse=True))
    + r"|(?:p\d{1,3}(?:\.\d+)?|mean|median) (?:e2e latency|\w{3,5}) \(ms\)|-{5,}[^-]{1,60}-{5,}|={10,})",
    re.IGNORECASE,
)

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
    """The prefix of a block's first line ("" usually, "# " in a commented script, a time in a log); None if no block
    starts here."""
    at = line.find(TITLE)
    if at < 0:
        return None
    left, right = line[:at].rstrip(" "), line[at + len(TITLE) :].lstrip(" ")
    if _AS_HEADING.search(left) and not right.strip("*_# "):
        return _AS_HEADING.sub("", left)
    prefix = left.rstrip("=")
    return prefix if len(left) - len(prefix) >= len(_RULE) and right.startswith(_RULE) else None


def is_block_end(line: str) -> bool:
    """Whether this is a block's last line, or the end of a code fence."""
    return _ENDS.search(line[-200:]) is not None or line.lstrip("> ").startswith(_CLOSES)


def lines_of(line: str) -> list[str]:
    """The lines of a block that was pasted as one line; any other line unchanged."""
    at = line.find(TITLE)
    rest = line[at + len(TITLE) :].lstrip(" =")
    if at < 0 or ": " not in rest:
        return [line]
    head = line[: len(line) - len(rest)].rstrip()
    cut = _ONE_LINE.sub(lambda found: "\n" + found[0].strip() + ("\n" if found[0].lstrip()[:1] in "-=" else ""), rest)
    return [head, *(part.strip() for part in cut.splitlines() if part.strip())]


class Block(msgspec.Struct, frozen=True):
    """Content of a block. `length`: number of its lines. `not_understood`: those of its lines that have another
    form."""

    values: dict[str, float | None]
    settings: dict[str, str]
    form: "_Form"
    length: int
    not_understood: tuple[str, ...]


def block_of(prefix: str, lines: Sequence[str]) -> Block:
    """The block whose first line, with this prefix, is directly above `lines`."""
    removed = remover(prefix)
    values: dict[str, float | None] = {}
    settings: dict[str, str] = {}
    odd: list[tuple[int, str]] = []
    is_our_own, is_033, length = False, False, 0
    for at, line in enumerate(lines):
        if block_prefix(line) is not None or at - length >= _BREAKS_OFF:
            break
        ways = [way for way in (removed(line), without_head(line), line) if way is not None]
        if is_block_end(ways[0]) or is_block_end(line):
            length = at + 1
            break
        is_our_own |= "Not in vLLM" in line
        told = next((told for way in ways if (told := _told(way)) is not None), None)
        if told is None:
            if _SECTION.search(line):
                length = at + 1
            elif ways[0].strip(" -*>|`~"):
                odd.append((at, line.strip()))
            continue
        length = at + 1
        label, key, text = told
        is_033 |= label in ("failed requests", "peak concurrent requests", "maximum request concurrency")
        if label in _SETTINGS and text != "not set":
            settings[_SETTINGS[label]] = text.partition(" #")[0].partition(" (")[0].strip()
        elif key is not None:
            values[key], is_understood = _number(text, label)
            odd += [] if is_understood else [(at, line.strip())]
    form: _Form = "vllm-0.33" if is_033 else "vllm-0.6.5"
    form = "sglang" if "backend" in settings else "inferometer" if is_our_own else form
    kept = tuple(text for at, text in odd if at < length)
    return Block(values, settings, form, length, kept)


def run_of(name: str, block: Block, requested: Mapping[str, str], memory_gib: float | None) -> ForeignRun | None:
    """The run of a block; None if it has no value. `requested`: settings from outside the block, which those in the
    block override."""
    values, form = dict(block.values), block.form
    if not any(value is not None for value in values.values()):
        return None
    values |= _unrounded_rates(values)
    if memory_gib is not None and values.get("memory_gib") is None:
        values = {"memory_gib": memory_gib, **values}
    differs = {key: text for key in values if (text := _difference(form, key))}
    if form != "inferometer" and "memory_gib" in values:
        differs["memory_gib"] = "as noted in the file; what was measured, and how, is unknown"
    dialect = form if form != "sglang" else ""
    settings = {**requested, **block.settings}
    return ForeignRun(name, _TOOLS[form], values, differs, settings, dialect=dialect)


def memory_below(lines: Sequence[str]) -> float | None:
    """GiB, from one of the first lines below a block that has nothing else or mentions memory in use; None if there is
    none. The size of a card, a model or a cache is not used. Decimal and binary units are distinguished."""
    beneath = [line for line in lines if line.strip().strip("`~")][:_LINES_BENEATH]
    for line in beneath:
        found = _MEMORY.search(line)
        if found is None:
            continue
        around = (line[: found.start()] + line[found.end() :]).strip(" \t-*+•~≈.:()`_")
        is_used = _USED.search(line) or (_SAYS_MEMORY.search(line) and _USED_OF_ALL.search(line))
        is_size_of_a_part = float(found["number"].replace(",", ".")) in _SOLD_SIZES
        if (
            not around
            or (_ONLY_MEMORY.fullmatch(around) and not is_size_of_a_part)
            or (is_used and not _NOT_ENGINES.search(line))
        ):
            return float(found["number"].replace(",", ".")) * _BYTES[found["unit"].lower()] / BYTES_PER_GIB
    return None


def _told(line: str) -> tuple[str, str | None, str] | None:
    """Label, key and text of a line in a block of a known tool; the key is None if we have no such metric."""
    label, colon, text = line.partition(":")
    label = label.strip(" \t*_`>|•+-").casefold()
    if not colon or len(label) > 80:
        return None
    key = _key(label)
    if key is None and label not in _SETTINGS and not _LEFT_OUT.fullmatch(label):
        return None
    return label, key, text.strip().strip("*_`| ").strip()


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


def _number(text: str, label: str) -> tuple[float | None, bool]:
    """The number at the start of a value, and whether the text was understood. A remark may follow: `12.3 (+2%)`,
    `12.3 ms`, `12.3 # note`. None for n/a and the like, and if the text has two numbers (`12.3 -> 9.8`)."""
    if text.casefold().split(" (")[0].split(" #")[0].strip() in _NOT_TOLD_WORDS:
        return None, True
    found = _NUMBER.match(text)
    if found is None or _TWO_NUMBERS.match(text[found.end() :]):
        return None, False
    unit = found["unit"] or next(iter(re.findall(r"^\s*(ms|s)\b", text[found.end() :])), "")
    if unit in ("ms", "s") and f"({unit})" not in label:
        return None, False
    number = float(re.sub(r"[, '’_]", "", found["number"]))
    if "." in found["number"] and _COUNTS.fullmatch(label) and not number.is_integer():
        return None, False  # 899.100 requests: a point between thousands
    return (number, True) if math.isfinite(number) else (None, True)


def _difference(form: _Form, key: str) -> str:
    """How the definition of a value differs from ours; "" if it does not."""
    by_measure = _DIFFERS[form]
    latency = re.fullmatch(r"[a-z]+[\d.]*_(ttft|tpot|itl|e2el)_ms", key)
    return by_measure.get(latency[1] if latency else key, "")

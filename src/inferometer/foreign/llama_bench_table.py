"""Reader of llama-bench's Markdown tables, with the columns of any version.

Supported are tables from 2023 (no size, `pp 512`) to build 11434, ik_llama.cpp's, and those of our engine-bench.
"""

import re
from collections.abc import Sequence

import msgspec

from inferometer.base.units import BYTES_PER_GIB, BYTES_PER_MIB
from inferometer.foreign.llama_bench_output import engine_of
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.llama_bench.sheet import SETTING_COLUMNS

RATE = "t/s"
"""The column that every such table has."""
_OTHER_RATES = ("tok/s", "tokens/s", "avg t/s", "t/s (avg)")
"""Its head where somebody has copied the table."""
_NO_RATES = ("", "-", "n/a", "na", "none")
_FIELDS = {column.head: name for name, column in SETTING_COLUMNS.items()} | {
    name: name
    for name in (
        *SETTING_COLUMNS, "poll", "cpu_mask", "cpu_strict", "prio", "delay", "ot", "rpc", "n_threads_batch", "dio",
        "mmap", "fitt", "fitc", "no_host",
        "mla", "amb", "fmoe", "rtr", "ser", "ger", "gr", "rcache", "thp", "mqkv", "muge", "khad", "vhad", "smf", "cuda",
    )
}  # fmt: skip
"""Columns that are settings, by their heads: llama.cpp's, and in the last line ik_llama.cpp's. Others hold values."""
_FIELDS["mmap"] = "use_mmap"
_OWN_COLUMNS = frozenset({"model", "size", "params", "backend", "test", RATE, "by [5]"})
_TEST = re.compile(
    r"(?:pp ?(?P<prompt>\d{1,9}))?\+?(?:tg ?(?P<generated>\d{1,9}))?"
    r"(?: ?@ ?d ?(?P<depth>\d{1,9})|@pp(?P<after>\d{1,9}))?",
    re.IGNORECASE,
)
"""`tg64@pp512` is ik_llama.cpp's way to write 64 tokens generated after a prompt of 512."""
_ROW_TEST = re.compile(r"(?:pp|tg) ?\d{1,9}[^|]{0,20}\|", re.IGNORECASE)
_FIRST_HEAD = re.compile(r"\|\s*[*`]{0,2}model[*`]{0,2}\s*\|", re.IGNORECASE)
_EMPHASIS = " *`"
_NO_TABLE = ("```", "~~~", "</")
_RATE = re.compile(
    r"(?P<rate>\d{1,3}(?:(?P<group>[, '’_])\d{3}(?!\d))(?:(?P=group)\d{3}(?!\d))*(?:\.\d+)?|\d{1,12}(?:\.\d+)?)"
    r"(?!['’_ ]?[\d,.]*\d)"
    r"(?: *(?:±|\+/?-|Â±|\ufffd+|\?) *(?P<deviation>\d{1,12}(?:\.\d+)?))?"
)
_QUANTITY = re.compile(r"(?P<number>\d{1,12}(?:\.\d+)?) (?P<unit>\w+)")
_UNITS = {"MiB": BYTES_PER_MIB, "GiB": BYTES_PER_GIB, "M": 1_000_000, "B": 1_000_000_000}
_BUILD = re.compile(r"build: (?P<commit>\S+) \((?P<number>\d{1,9})\)")
_DEVICE = re.compile(r"\s*Device \d+: (?P<name>[^,]+), ")


def heads_of(line: str) -> list[str] | None:
    """The column headings if the line is the head of such a table; else None."""
    cells = [low if (low := cell.casefold()) in _FIELDS or low in _OWN_COLUMNS else cell for cell in _cells(line)]
    if RATE not in cells:
        cells = [RATE if cell.casefold() in _OTHER_RATES else cell for cell in cells]
    return cells if {"model", "test"} <= set(cells) and cells.count(RATE) == 1 else None


def prefix_of(line: str) -> str:
    """The text before the first cell of the table's head: a log's or a quotation's prefix."""
    found = _FIRST_HEAD.search(line)
    if found is None:
        return line[: line.casefold().index("model")]
    return line[: found.start()]


def looks_like_row(line: str) -> bool:
    """Whether the line looks like a row of such a table, with or without its head."""
    return "|" in line and _ROW_TEST.search(line) is not None


def other_columns(heads: Sequence[str]) -> list[str]:
    """Columns that are neither llama-bench's own nor a known setting."""
    return [head for head in heads if head not in _FIELDS and head not in _OWN_COLUMNS and "[" not in head]


def row_of(heads: Sequence[str], line: str) -> BenchRow | None:
    """A line of the table; None for any other line. Size and parameters are rounded as in the table."""
    tight = _cells(line, _BAR_AFTER_BLANK)
    entry = _entry(heads, tight if len(tight) == len(heads) else _cells(line))
    if entry is None:
        return None
    test, rate = _TEST.fullmatch(entry["test"]), _RATE.match(entry[RATE])
    if test is None or not (test["prompt"] or test["generated"]):
        return None
    by_server = entry.get("by [5]") == "server"
    size, parameters = _quantity(entry.get("size", "")), _quantity(entry.get("params", ""))
    settings = {_FIELDS[head]: cell for head, cell in entry.items() if head in _FIELDS and cell}
    return BenchRow(
        test=BenchTest(int(test["prompt"] or 0), int(test["generated"] or 0), int(test["depth"] or test["after"] or 0)),
        way="server" if by_server else "llama-bench",
        clock="server" if by_server else "llama-bench",
        engine="llama-bench",
        model="",
        description=entry["model"],
        size_bytes=size,
        parameters=parameters,
        backend=entry.get("backend", ""),
        settings=settings,
        reported_rate_per_s=float(re.sub(r"[, '’_]", "", rate["rate"])) if rate else None,
        reported_deviation_per_s=float(rate["deviation"]) if rate and rate["deviation"] else None,
    )


def odd_rate(heads: Sequence[str], line: str) -> bool:
    """Whether the rate in a line of the table is a text that was not understood."""
    cells = _cells(line)
    text = cells[heads.index(RATE)] if len(cells) == len(heads) else ""
    return text.casefold() not in _NO_RATES and _RATE.match(text) is None


def is_table_end(line: str) -> bool:
    """Whether the table has ended before this line. llama-bench's own log may stand between its rows."""
    stripped = line.strip()
    return not stripped or stripped.startswith((*_NO_TABLE, "#", "build:"))


def with_build(rows: Sequence[BenchRow], before: Sequence[str], after: Sequence[str]) -> list[BenchRow]:
    """The rows with the GPUs from the lines `before` their table and the build from the lines `after` it."""
    devices = tuple(found["name"] for line in before if (found := _DEVICE.match(line)))
    build = next((found for line in after if (found := _BUILD.search(line))), None)
    engine = engine_of(build["commit"], int(build["number"])) if build else "llama-bench"
    return [msgspec.structs.replace(row, devices=devices, engine=engine) for row in rows]


def _cells(line: str, bar: re.Pattern[str] | None = None) -> list[str]:
    """The cells of a table's line, with or without a bar at its ends; empty for any other line."""
    stripped = line.strip().lstrip("> ")
    if "|" not in stripped:
        return []
    cells = [cell.strip(_EMPHASIS).replace("\\|", "|") for cell in (bar or _BAR).split(stripped)]
    first, last = (0 if cells[0] else 1), (len(cells) if cells[-1] else -1)
    return cells[first:last]


_BAR = re.compile(r"(?<!\\)\|")
_BAR_AFTER_BLANK = re.compile(r"(?:^|(?<= ))\|")
"""`CUDA0|CUDA1` is one cell of a table whose bars have blanks around them."""
_TEXTS = ("model", "backend", "dev", "sm", "ts", "ot")
"""Columns whose cells may have an unescaped bar, the likeliest first."""


def _entry(heads: Sequence[str], cells: Sequence[str]) -> dict[str, str] | None:
    """The cells by their heads. If their number differs, cells are joined or filled up so that test and rate are in
    their columns; None if that is impossible."""
    missing = len(heads) - len(cells)
    if missing > 0:
        cells = [*cells, *([""] * missing)]
    ways = [list(cells)] if missing >= 0 else []
    for head in _TEXTS if missing < 0 else ():
        if head in heads:
            at = heads.index(head)
            ways.append([*cells[:at], " | ".join(cells[at : at + 1 - missing]), *cells[at + 1 - missing :]])
    ways += [list(cells[: len(heads)])] if missing < 0 else []  # somebody's remark after the last column
    for way in ways:
        entry = dict(zip(heads, way, strict=True))
        is_sized = "size" not in entry or not entry["size"] or _quantity(entry["size"]) is not None
        if _TEST.fullmatch(entry["test"]) and _RATE.match(entry[RATE]) and is_sized:
            return entry
    return dict(zip(heads, ways[0], strict=True)) if missing == 0 else None


def _quantity(text: str) -> int | None:
    found = _QUANTITY.fullmatch(text)
    return round(float(found["number"]) * _UNITS[found["unit"]]) if found and found["unit"] in _UNITS else None

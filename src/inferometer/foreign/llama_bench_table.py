"""Reader of llama-bench's Markdown tables, with the columns of any version.

Supported are tables from 2023 (no size, `pp 512`) to build 11434, and those of our engine-bench.
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
_FIELDS = {column.head: name for name, column in SETTING_COLUMNS.items()}
_NO_SETTING = frozenset({"model", "size", "params", "backend", "test", RATE})
_TEST = re.compile(r"(?:pp ?(?P<prompt>\d{1,9}))?\+?(?:tg ?(?P<generated>\d{1,9}))?(?: @ d(?P<depth>\d{1,9}))?")
_RATE = re.compile(r"(?P<rate>\d{1,12}(?:\.\d+)?)(?:\D+(?P<deviation>\d{1,12}(?:\.\d+)?))?")
_QUANTITY = re.compile(r"(?P<number>\d{1,12}(?:\.\d+)?) (?P<unit>\w+)")
_UNITS = {"MiB": BYTES_PER_MIB, "GiB": BYTES_PER_GIB, "M": 1_000_000, "B": 1_000_000_000}
_BUILD = re.compile(r"build: (?P<commit>\S+) \((?P<number>\d{1,9})\)")
_DEVICE = re.compile(r"\s*Device \d+: (?P<name>[^,]+), ")


def heads_of(line: str) -> list[str] | None:
    """The column headings if the line is the head of such a table; else None."""
    cells = _cells(line)
    return cells if {"model", "test", RATE} <= set(cells) else None


def row_of(heads: Sequence[str], line: str) -> BenchRow | None:
    """A line of the table; None for any other line. Size and parameters are rounded as in the table."""
    cells = _cells(line)
    if len(cells) != len(heads):
        return None
    entry = dict(zip(heads, cells, strict=True))
    test, rate = _TEST.fullmatch(entry["test"]), _RATE.match(entry[RATE])
    if test is None or not (test["prompt"] or test["generated"]):
        return None
    by_server = entry.get("by [5]") == "server"
    size, parameters = _quantity(entry.get("size", "")), _quantity(entry.get("params", ""))
    settings = {
        _FIELDS.get(head, head): cell for head, cell in entry.items() if head not in _NO_SETTING and "[" not in head
    }
    return BenchRow(
        test=BenchTest(*(int(test[part] or 0) for part in ("prompt", "generated", "depth"))),
        way="server" if by_server else "llama-bench",
        clock="server" if by_server else "llama-bench",
        engine="llama-bench",
        model="",
        description=entry["model"],
        size_bytes=size,
        parameters=parameters,
        backend=entry.get("backend", ""),
        settings=settings,
        reported_rate_per_s=float(rate["rate"]) if rate else None,
        reported_deviation_per_s=float(rate["deviation"]) if rate and rate["deviation"] else None,
    )


def is_table_end(line: str) -> bool:
    """Whether the table has ended before this line. llama-bench's own log may stand between its rows."""
    return not line.strip() or line.lstrip().startswith(("```", "#"))


def with_build(rows: Sequence[BenchRow], before: Sequence[str], after: Sequence[str]) -> list[BenchRow]:
    """The rows with the GPUs from the lines `before` their table and the build from the lines `after` it."""
    devices = tuple(found["name"] for line in before if (found := _DEVICE.match(line)))
    build = next((found for line in after if (found := _BUILD.search(line))), None)
    engine = engine_of(build["commit"], int(build["number"])) if build else "llama-bench"
    return [msgspec.structs.replace(row, devices=devices, engine=engine) for row in rows]


def _cells(line: str) -> list[str]:
    """The cells of a table's line; empty for any other line."""
    stripped = line.strip().lstrip("> ")
    if not stripped.startswith("|"):
        return []
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", stripped.strip("|"))]


def _quantity(text: str) -> int | None:
    found = _QUANTITY.fullmatch(text)
    return round(float(found["number"]) * _UNITS[found["unit"]]) if found and found["unit"] in _UNITS else None

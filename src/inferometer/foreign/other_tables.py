"""Reader of other tables with results: llama-batched-bench, llama-sweep-bench, llama-bench with several rates in a row,
and metrics with a column for each run, as comparisons are posted and as `compare --format md` writes them.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from inferometer.foreign import llama_bench_table, serving_block
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.llama_bench.row import BenchRow, BenchTest

_RULE = re.compile(r"[\s:|+-]*")
_RATE_OF = re.compile(r"t/s[ _-]*\(?(?P<after>[^()]+?)\)?|(?P<before>[^()]+?)[ _-]*\(?t/s\)?", re.IGNORECASE)
_BATCHED = ("PP", "TG", "N_KV", "S_PP t/s", "S_TG t/s")
_METRIC_HEADS = ("metric", "metrics", "measure", "")
_NO_RUN = re.compile(
    r"%|diff|delta|change|speed-?up|ratio|factor|Δ|^units?$|verdict|^notes?$|better|improvement", re.IGNORECASE
)
"""Heads of columns that compare runs."""
_LEAST_METRICS = 2


def table_at(lines: Sequence[str], name: str) -> tuple[list[ForeignRun], int] | None:
    """The runs of the table that starts at the first line, and the number of its lines; None for any other table."""
    heads = _cells(lines[0])
    if len(heads) < 3:
        return None
    length = next((i for i, line in enumerate(lines) if "|" not in line), len(lines))
    rows = [_cells(line) for line in lines[1:length] if not _RULE.fullmatch(line)]
    rows = [row for row in rows if len(row) == len(heads)]
    if set(_BATCHED) <= set(heads):
        runs = _batched(heads, rows, name)
    elif {"model", "test"} <= {head.casefold() for head in heads}:
        runs = _several_rates(heads, rows)
    elif heads[0].casefold() in _METRIC_HEADS:
        runs = _compared(heads, rows)
    else:
        return None
    return (runs, length) if runs else None


def _cells(line: str) -> list[str]:
    stripped = line.strip().lstrip("> ")
    if not stripped.startswith("|"):
        return []
    return [cell.strip(" *`") for cell in stripped.strip().strip("|").split("|")]


def _batched(heads: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> list[ForeignRun]:
    """llama-batched-bench (with a column B) and llama-sweep-bench: two rates in a row, of prompts and of generation."""
    tool = "llama-batched-bench" if "B" in heads else "llama-sweep-bench"
    found: list[BenchRow] = []
    for row in rows:
        cell = dict(zip(heads, row, strict=True))
        try:
            prompt, generated = int(cell["PP"]), int(cell["TG"])
            rates = float(cell["S_PP t/s"]), float(cell["S_TG t/s"])
            depth = 0 if "B" in heads else int(cell["N_KV"])
        except ValueError:
            continue
        tests = BenchTest(prompt, 0, depth), BenchTest(0, generated, prompt if "B" in heads else depth)
        settings = {"n_parallel": cell["B"]} if "B" in heads else {}
        found += [
            _bench_row(tool, test, rate, settings) for test, rate in zip(tests, rates, strict=True) if test.tokens
        ]
    return [ForeignRun(name, tool, rows=tuple(found))] if found else []


def _bench_row(tool: str, test: BenchTest, rate_per_s: float, settings: dict[str, str]) -> BenchRow:
    return BenchRow(
        test=test,
        way="llama-bench",
        clock="llama-bench",
        engine=tool,
        model="",
        description="",
        size_bytes=None,
        parameters=None,
        backend="",
        settings=settings,
        reported_rate_per_s=rate_per_s,
    )


def _several_rates(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[ForeignRun]:
    """A run for each column of rates, `t/s (main)` and `t/s (PR)`, named by what its head adds."""
    matches = {i: at for i, head in enumerate(heads) if (at := _RATE_OF.fullmatch(head))}
    rates = {i: str(at["after"] or at["before"]).strip() for i, at in matches.items()}
    if len(rates) < 2:
        return []
    runs: list[ForeignRun] = []
    for place, called in rates.items():
        kept = [i for i, head in enumerate(heads) if i == place or (i not in rates and not _NO_RUN.search(head))]
        known = llama_bench_table.heads_of(_line(llama_bench_table.RATE if i == place else heads[i] for i in kept))
        found = [llama_bench_table.row_of(known, _line(row[i] for i in kept)) for row in rows] if known else []
        if whole := tuple(row for row in found if row is not None):
            runs.append(ForeignRun(called, "llama-bench", rows=whole))
    return runs


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _compared(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[ForeignRun]:
    """A run for each column of values. Which tool measured is unknown, so its definitions are unknown too."""
    runs: list[ForeignRun] = []
    for place, head in list(enumerate(heads))[1:]:
        if _NO_RUN.search(head):
            continue
        block = serving_block.block_of("", [f"{row[0].rstrip(':')}: {row[place]}" for row in rows])
        run = serving_block.run_of(head, block, {}, None)
        if run is None:
            continue
        differs = dict.fromkeys(run.values, _UNKNOWN)
        runs.append(msgspec.structs.replace(run, tool="a table of metrics", dialect="", differs=differs))
    most = max((sum(value is not None for value in run.values.values()) for run in runs), default=0)
    return runs if len(runs) > 1 and most >= _LEAST_METRICS else []


_UNKNOWN = "as the table states it; what measured it, and how, is unknown"

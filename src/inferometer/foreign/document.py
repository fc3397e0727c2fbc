"""Reader of texts with serving blocks and llama-bench tables, each named by its headings."""

from collections.abc import Sequence
from itertools import takewhile

from inferometer.base.text import sanitize_lines
from inferometer.foreign import llama_bench_table, serving_block
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.headings import lines_with_headings
from inferometer.llama_bench.row import BenchRow

HEADING_SEPARATOR = " > "
"""Separates the headings in a run's name."""

_SIGNS = (serving_block.TITLE, llama_bench_table.RATE)
"""A text without either has no result. Most other files are rejected by this test."""
_Lines = Sequence[tuple[tuple[str, ...], str]]


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """Runs in the text's order, each named by the path of its headings, or `name` without headings; None without
    runs."""
    if not any(sign in text for sign in _SIGNS):
        return None
    lines = list(lines_with_headings(sanitize_lines(text)))
    runs: list[ForeignRun] = []
    at = previous_end = 0
    while at < len(lines):
        path, line = lines[at]
        run_name = HEADING_SEPARATOR.join(path) or name
        prefix, heads = serving_block.block_prefix(line), llama_bench_table.heads_of(line)
        if prefix is not None:
            end = _block_end(lines, at + 1)
            block = [later.removeprefix(prefix.rstrip()) for _, later in lines[at + 1 : end]]
            requested = serving_block.settings_of(later for _, later in lines[previous_end:at])
            found = serving_block.run_of(
                run_name, block, requested, serving_block.memory_below(_lines_below(lines, end))
            )
        elif heads is not None:
            rows, end = _table(lines, at, heads)
            rows = llama_bench_table.with_build(
                rows, [earlier for _, earlier in lines[previous_end:at]], _lines_below(lines, end)
            )
            found = ForeignRun(run_name, "llama-bench", rows=tuple(rows)) if rows else None
        else:
            at += 1
            continue
        at = previous_end = end
        runs += [found] if found is not None else []
    return runs or None


def _block_end(lines: _Lines, start: int) -> int:
    """Index after a block's last line. A block that was cut off ends at the next block or at the end of a code
    fence."""
    for at in range(start, len(lines)):
        line = lines[at][1]
        if serving_block.block_prefix(line) is not None:
            return at
        if serving_block.is_block_end(line):
            return at + 1
    return len(lines)


def _table(lines: _Lines, start: int, heads: list[str]) -> tuple[list[BenchRow], int]:
    rows: list[BenchRow] = []
    at = start + 1
    while at < len(lines) and not llama_bench_table.is_table_end(lines[at][1]):
        row = llama_bench_table.row_of(heads, lines[at][1])
        rows += [row] if row is not None else []
        at += 1
    return rows, at


def _lines_below(lines: _Lines, start: int) -> list[str]:
    """The lines below a result and under the same headings, up to the next result."""
    path = lines[start - 1][0]
    below = takewhile(
        lambda line: (
            line[0] == path
            and serving_block.block_prefix(line[1]) is None
            and llama_bench_table.heads_of(line[1]) is None
        ),
        lines[start : start + 12],
    )
    return [line for _, line in below]

"""Which results stand in a text, and under which headings? Serving blocks, and tables of llama-bench."""

from collections.abc import Sequence
from itertools import takewhile

from inferometer.base.text import sanitize_lines
from inferometer.foreign import llama_bench_table, serving_block
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.headings import placed_lines
from inferometer.llama_bench.row import BenchRow

BETWEEN = " > "
"""Stands between the headings of a run's name."""

_SIGNS = (serving_block.TITLE, llama_bench_table.RATE)
"""A text without either holds nothing to read, and most files that are no text of ours end here."""
_Placed = Sequence[tuple[tuple[str, ...], str]]


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """In the text's order, each named by the path of its headings, or `name` where it has none."""
    if not any(sign in text for sign in _SIGNS):
        return None
    lines = list(placed_lines(sanitize_lines(text)))
    runs: list[ForeignRun] = []
    at = since = 0  # since: the line after the last run
    while at < len(lines):
        path, line = lines[at]
        called = BETWEEN.join(path) or name
        prefix, heads = serving_block.begins(line), llama_bench_table.heads_of(line)
        if prefix is not None:
            end = _block_end(lines, at + 1)
            block = [later.removeprefix(prefix.rstrip()) for _, later in lines[at + 1 : end]]
            asked = serving_block.settings_of(later for _, later in lines[since:at])
            found = serving_block.run_of(called, block, asked, serving_block.memory_beneath(_beneath(lines, end)))
        elif heads is not None:
            rows, end = _table(lines, at, heads)
            rows = llama_bench_table.with_build(rows, [earlier for _, earlier in lines[since:at]], _beneath(lines, end))
            found = ForeignRun(called, "llama-bench", rows=tuple(rows)) if rows else None
        else:
            at += 1
            continue
        at = since = end
        runs += [found] if found is not None else []
    return runs or None


def _block_end(lines: _Placed, start: int) -> int:
    """The place after a block's last line; a block that was cut off ends where another or a fence's end begins."""
    for at in range(start, len(lines)):
        line = lines[at][1]
        if serving_block.begins(line) is not None:
            return at
        if serving_block.ends(line):
            return at + 1
    return len(lines)


def _table(lines: _Placed, start: int, heads: list[str]) -> tuple[list[BenchRow], int]:
    rows: list[BenchRow] = []
    at = start + 1
    while at < len(lines) and not llama_bench_table.ends(lines[at][1]):
        row = llama_bench_table.row_of(heads, lines[at][1])
        rows += [row] if row is not None else []
        at += 1
    return rows, at


def _beneath(lines: _Placed, start: int) -> list[str]:
    """The lines that stand below a result and under the same headings, up to the next result."""
    path = lines[start - 1][0]
    below = takewhile(
        lambda placed: (
            placed[0] == path
            and serving_block.begins(placed[1]) is None
            and llama_bench_table.heads_of(placed[1]) is None
        ),
        lines[start : start + 12],
    )
    return [line for _, line in below]

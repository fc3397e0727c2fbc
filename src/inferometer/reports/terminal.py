"""How is a comparison shown in a terminal? The table, then what to know; without colours where it is no terminal."""

import io
from textwrap import fill

from inferometer.compare import Comparison
from inferometer.reports.table import table, words

_WIDE = 130
"""Columns from which on there is room for the interval of each arm's own value."""


def render(comparison: Comparison, *, width: int = 99, terminal: bool = False) -> str:
    """At most `width` columns; long heads are wrapped, and more than three arms stand in several tables, each with the
    first arm. `terminal`: with colours. Ends with a line break."""
    from rich import box  # 40 ms, and only this needs it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = box.Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)
    said = words(comparison)
    tables = [
        (part, table(part, with_halves=width >= _WIDE), " → ".join(part.arms) if comparison.pairs else None)
        for part in comparison.parts()
    ]
    grids: list[Table] = []
    for content, title, places in [
        (one, title, places) for part, one, title in tables for places in _parts(len(part.arms), len(one.columns))
    ]:
        grid = Table(
            box=box.SIMPLE_HEAD if terminal else plain,
            header_style="bold",
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            title=None if title is None else Text(title, "bold"),
            title_justify="left",
            caption=None if title is None else Text(content.caption),
            caption_justify="left",
        )
        for i in places:
            column, is_label = content.columns[i], i == 0
            is_kept = is_label or column in ("95% interval", "Verdict") or any("[" in row[i] for row in content.rows)
            head = column if is_label or not is_kept else fill(column, 19, break_on_hyphens=False)
            grid.add_column(Text(head), justify="left" if is_label else "right", no_wrap=is_kept, overflow="fold")
        for row in content.rows:
            grid.add_row(*(Text(row[i]) for i in places))
        grids.append(grid)
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        highlight=False,
        legacy_windows=False,
    )
    for line in said.invalid:
        console.print(Text("Not valid: ", "bold red").append(line, "not bold"))
    if said.invalid:
        console.print(Text("No verdict is given.\n"))
    for grid in grids:
        console.print(grid)
        if grid is not grids[-1]:
            console.print()
    if not comparison.pairs:
        console.print(Text(tables[0][1].caption))
    for line in said.headlines:
        console.print(Text(line, "bold"))
    for title, lines in (("Design", said.design), ("Speculation", said.speculation)):
        for line in lines:
            console.print(Text(f"{title}: {line}"))
    for line in said.warnings:
        console.print(Text("Warning: ", "bold yellow").append(line, "not bold"))
    for line in said.notes:
        console.print(Text(f"Note: {line}", "dim"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _parts(arms: int, columns: int) -> list[list[int]]:
    """Which columns stand in which table: the labels, the first arm, two further arms, and these two's differences."""
    if arms <= 3:
        return [list(range(columns))]
    further = [list(range(i, min(i + 2, arms))) for i in range(1, arms, 2)]
    return [[0, 1, *(arm + 1 for arm in chunk), *(arms + arm for arm in chunk)] for chunk in further]

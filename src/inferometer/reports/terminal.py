"""How is a comparison shown in a terminal? The table, then what to know; without colours where it is no terminal."""

import io

from inferometer.compare import Comparison
from inferometer.reports.table import table


def render(comparison: Comparison, *, width: int = 99, terminal: bool = False) -> str:
    """At most `width` columns; long heads are wrapped. `terminal`: with colours. Ends with a line break."""
    from rich import box  # 40 ms, and only this needs it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    content = table(comparison)
    grid = Table(box=box.SIMPLE_HEAD if terminal else box.ASCII, header_style="bold", show_edge=False, pad_edge=False)
    for i, column in enumerate(content.columns):
        is_label = i == 0
        grid.add_column(Text(column), justify="left" if is_label else "right", no_wrap=is_label, overflow="fold")
    for row in content.rows:
        grid.add_row(*map(Text, row))
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(grid)
    console.print(Text(content.caption))
    for warning in comparison.warnings:
        console.print(Text("Warning: ", "bold yellow").append(warning, "not bold"))
    for note in comparison.notes:
        console.print(Text(f"Note: {note}", "dim"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

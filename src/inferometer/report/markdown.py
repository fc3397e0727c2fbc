"""How is a comparison written as Markdown? As the table of the study this project began with, then what to know."""

from collections.abc import Collection, Iterable, Sequence

from inferometer.analysis.comparison import Comparison
from inferometer.base.text import escape_for_markdown
from inferometer.report.table import FIRST_ROWS, Shown, Table, table, words


def render(comparison: Comparison, shown: Shown = FIRST_ROWS) -> str:
    """What makes the comparison invalid, the verdict, the table, and below it what to know; ends with a line break.

    Plain enough for GitHub and Reddit alike: no HTML, no line break in a cell, groups as rows of their own.
    """
    said = words(comparison)
    parts = _listed("Not valid", said.invalid)
    judged = any(comparison.trials.values()) and _is_judged(comparison)
    parts += [f"**{escape_for_markdown(line)}**" for line in said.headlines if judged]
    for part in comparison.parts():
        content = table(part, shown)
        parts += [f"**{escape_for_markdown(' → '.join(part.arms))}**"] if comparison.pairs else []
        parts += [_grouped(content), escape_for_markdown(content.caption)]
        parts += [escape_for_markdown(line) for line in content.below]
        legend = content.legend("**bold**")
        parts += [legend] if legend else []
    for title, lines in (
        ("Design", said.design),
        ("Speculation", said.speculation),
        ("Warnings", said.warnings),
        ("Notes", said.notes),
    ):
        parts += _listed(title, lines)
    return "\n\n".join(parts) + "\n"


def _is_judged(comparison: Comparison) -> bool:
    """Whether any difference has an interval, so that there is more to say than the table does."""
    row = comparison.primary_row
    return row is not None and any(found.low_percent is not None for found in row.differences)


def _grouped(content: Table) -> str:
    """The table with a row for the name of each group, where there are several."""
    rows: list[Sequence[str]] = [content.columns]
    bold: set[tuple[int, int]] = set()
    has_groups = len(set(content.groups)) > 1
    group = ""
    for cells, name, marks in zip(content.rows, content.groups, content.marks, strict=True):
        if has_groups and name != group:
            bold.add((len(rows), 0))
            rows.append([name, *[""] * (len(cells) - 1)])
        group = name
        bold |= {(len(rows), place) for place, mark in enumerate(marks) if mark == "best"}
        rows.append(cells)
    return pipe_table(rows, bold)


def pipe_table(rows: Sequence[Sequence[str]], bold: Collection[tuple[int, int]] = ()) -> str:
    """The first row is the head. Columns are padded, the first aligned left, the others right, and a number's column
    is two wider than its head. `bold`: cells by row and column."""
    escaped = [
        [f"**{escape_for_markdown(cell, cell=True)}**" if (r, c) in bold else escape_for_markdown(cell, cell=True)
         for c, cell in enumerate(row)]
        for r, row in enumerate(rows)
    ]  # fmt: skip
    widths = [max([len(head) + 2, *map(len, cells)]) for head, *cells in zip(*escaped, strict=True)]
    head, *body = [_line([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in escaped]
    rule = "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([head, rule, *body])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"**{title}**\n\n" + "\n".join(f"- {escape_for_markdown(line)}" for line in lines)] if lines else []

"""The Markdown report of a comparison: headlines, the table, then its commentary."""

from collections.abc import Collection, Iterable, Sequence

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.quantisation_ladder import ladder
from inferometer.base.text import escape_for_markdown
from inferometer.report.ladder_table import ladder_rows
from inferometer.report.seed_table import seed_rows
from inferometer.report.table import DEFAULT_ROWS, RowSelection, Table, commentary, table


def render(comparison: Comparison, shown: RowSelection = DEFAULT_ROWS) -> str:
    """What makes the comparison invalid, the verdict, the table, and the commentary below it; ends with a line break.

    Works on GitHub and on Reddit: no HTML, no line break in a cell, a separate row for each group's name.
    """
    around = commentary(comparison)
    parts = _listed("Not valid", around.invalid)
    if shown.layout == "seed":
        return "\n\n".join([*parts, pipe_table(seed_rows(comparison))]) + "\n"
    judged = any(comparison.trials.values()) and _is_judged(comparison)
    parts += [f"**{escape_for_markdown(line)}**" for line in around.headlines if judged]
    if (rungs := ladder(comparison)) is not None:
        parts.append(pipe_table(ladder_rows(comparison, rungs)))
    for part in comparison.parts():
        content = table(part, shown)
        parts += [f"**{escape_for_markdown(' → '.join(part.arms))}**"] if comparison.pairs else []
        parts += [_grouped(content), escape_for_markdown(content.caption)]
        parts += [escape_for_markdown(line) for line in content.below]
        legend = content.legend("**bold**")
        parts += [legend] if legend else []
    for title, lines in (
        ("Set-ups", set_up_lines(comparison) if len(comparison.arms) > 1 else ()),
        ("Design", around.design),
        ("Speculation", around.speculation),
        ("Answers", around.answers),
        ("Warnings", around.warnings),
        ("Notes", around.notes),
    ):
        parts += _listed(title, lines)
    return "\n\n".join(parts) + "\n"


def set_up_lines(comparison: Comparison) -> list[str]:
    """Engine, model, differing settings and command of each arm."""
    lines: list[str] = []
    for arm in comparison.set_ups:
        what = ", ".join(filter(None, (f"{arm.engine} {arm.version}".strip(), arm.model)))
        differs = f"differs in {', '.join(arm.differs)}" if arm.differs else ""
        parts = (what, differs, f"command {arm.command}" if arm.command else "")
        lines.append(f"{arm.arm}: {'; '.join(filter(None, parts))}")
    return lines


def _is_judged(comparison: Comparison) -> bool:
    """Whether any difference of the primary metric has an interval, so that there is a verdict."""
    row = comparison.primary_row
    return row is not None and any(found.low_percent is not None for found in row.differences)


def _grouped(content: Table) -> str:
    """The table, with a row for the name of each group if there are several groups."""
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
    """A Markdown table; the first row is the head. Columns are padded: the first is aligned left, the others right, and
    each is at least two wider than its head. `bold`: cells by row and column."""
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

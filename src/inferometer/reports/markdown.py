"""How is a comparison written as Markdown? As the table of the study this project began with, then what to know."""

from collections.abc import Iterable, Sequence

from inferometer.compare import Comparison
from inferometer.reports.table import table, words


def render(comparison: Comparison) -> str:
    """What makes the comparison invalid, the verdict, the table, and below it what to know; ends with a line break."""
    said = words(comparison)
    parts = _listed("Not valid", said.invalid)
    parts += [f"**{line}**" for line in said.headlines if any(comparison.trials.values()) and _is_judged(comparison)]
    for part in comparison.parts():
        content = table(part)
        parts += [f"**{' → '.join(part.arms)}**"] if comparison.pairs else []
        parts += [pipe_table([content.columns, *content.rows]), content.caption]
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


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head. Columns are padded, the first aligned left, the others right, and a number's column
    is two wider than its head."""
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max([len(head) + 2, *map(len, cells)]) for head, *cells in zip(*escaped, strict=True)]
    head, *body = [_line([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in escaped]
    rule = "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([head, rule, *body])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"**{title}**\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []

"""Rows of llama-bench as text: the Markdown table that llama-bench prints, with more columns, or a terminal table."""

from inferometer.base.text import escape_for_display, escape_for_markdown
from inferometer.llama_bench.sheet import Sheet, SheetColumn


def markdown(content: Sheet) -> str:
    """The table and its footnotes; ends with a line break. Columns are at least as wide as llama-bench makes them."""
    cells = [[_escaped(cell) for cell in row] for row in content.rows]
    columns = content.columns
    widths = [max(column.width, len(column.head), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    heads = _line([_padded(column.head, width, column) for column, width in zip(columns, widths, strict=True)])
    rule = _line([_rule(width, column) for column, width in zip(columns, widths, strict=True)])
    lines = [_line([_padded(*part) for part in zip(row, widths, columns, strict=True)]) for row in cells]
    notes = "".join(f"- {_escaped(note)}\n" for note in content.notes)
    return "\n".join([heads, rule, *lines]) + f"\n\n{notes}"


def terminal(content: Sheet) -> str:
    """Aligned columns of minimal width without rules, and the footnotes; ends with a line break."""
    columns = content.columns
    table = [[column.head for column in columns], *([escape_for_display(cell) for cell in row] for row in content.rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    lines = ["  ".join(_padded(*part) for part in zip(row, widths, columns, strict=True)).rstrip() for row in table]
    notes = "".join(f"{escape_for_display(note)}\n" for note in content.notes)
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]) + f"\n\n{notes}"


def _padded(text: str, width: int, column: SheetColumn) -> str:
    return text.ljust(width) if column.left else text.rjust(width)


def _rule(width: int, column: SheetColumn) -> str:
    """llama-bench's form of a rule: it ends with a dash for left, with a colon for right."""
    return "-" * (width - 1) + ("-" if column.left else ":")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return escape_for_markdown(text, cell=True)

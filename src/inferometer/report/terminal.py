"""The terminal report of a comparison: the table, then its commentary. Colours only if the output is a terminal."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from inferometer.analysis.comparison import Comparison
from inferometer.base.text import cells_wide, escape_for_display
from inferometer.report.table import DEFAULT_ROWS, Highlight, RowSelection, Table, commentary, no_verdict_line, table

_GAP = "  "
_NAME_PARTS = re.compile(r"[^-_/.+:@]*[-_/.+:@]|[^-_/.+:@]+")
_MIN_HEAD_WIDTH = 10
"""A long name over a narrow column is broken to this width."""
_STYLES: dict[Highlight, str] = {"best": "1", "better": "32", "worse": "31", "": ""}
BOLD, _DIM, _RED, _YELLOW = "1", "2", "1;31", "1;33"


def render(
    comparison: Comparison, shown: RowSelection = DEFAULT_ROWS, *, width: int = 99, terminal: bool = False
) -> str:
    """At most `width` columns wide. Arms that do not fit side by side go into several tables, each with the labels and
    the first arm. `terminal`: with colours. Ends with a line break."""
    paint = Painter(terminal)
    around = commentary(comparison)
    lines: list[str] = []
    for line in around.invalid:
        lines += _titled("Not valid: ", line, width, paint, _RED)
    if around.invalid:
        lines += [*_wrapped(no_verdict_line(comparison), width), ""] if no_verdict_line(comparison) else [""]
    for place, part in enumerate(comparison.parts()):
        content, blocks = _layout(part, shown, width)
        lines += [""] if place else []
        lines += [paint(f"{' → '.join(map(escape_for_display, part.arms))}", BOLD)] if comparison.pairs else []
        for number, places in enumerate(blocks):
            lines += [""] if number else []
            lines += _table_lines(content, places, paint)
        for line in filter(None, (content.caption, *content.below, content.legend("*"))):
            lines += _wrapped(line, width)
    for line in around.headlines:
        lines += [paint(part, BOLD) for part in _wrapped(line, width)]
    for title, section in (
        ("Design: ", around.design),
        ("Speculation: ", around.speculation),
        ("Answers: ", around.answers),
    ):
        for line in section:
            lines += _wrapped(title + line, width)
    for line in around.warnings:
        lines += _titled("Warning: ", line, width, paint, _YELLOW)
    for line in around.notes:
        lines += [paint(part, _DIM) for part in _wrapped(f"Note: {line}", width)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


class Painter:
    """Colours a text with an ANSI style (`1;32`), if colours are on."""

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._is_on and style and text.strip() else text


# --- layout ---------------------------------------------------------------------------------------


def _layout(comparison: Comparison, shown: RowSelection, width: int) -> tuple[Table, list[list[int]]]:
    """As many arms side by side as fit, with the intervals of their values if these fit too. For two arms, the columns
    of the difference are stacked into one before the table gets wider than the terminal."""
    arms = len(comparison.arms)
    forms = [(False, True), (False, False)] + ([(True, True), (True, False)] if arms == 2 else [])
    contents = [table(comparison, shown, with_halves=halves, short=True, stacked=one) for one, halves in forms]
    for count in range(max(1, arms - 1), 0, -1):
        for content in contents:
            blocks = _blocks(arms, len(content.columns), count)
            if all(_width(content, places) <= width for places in blocks):
                return content, blocks
    return contents[-1], _blocks(arms, len(contents[-1].columns), 1)


def _blocks(arms: int, columns: int, count: int) -> list[list[int]]:
    """The columns of each table: the labels, the first arm, at most `count` further arms, and their differences. The
    arms are spread evenly over the tables."""
    if arms <= count + 1:
        return [list(range(columns))]
    tables = math.ceil((arms - 1) / count)
    each = math.ceil((arms - 1) / tables)
    further = [range(i, min(i + each, arms)) for i in range(1, arms, each)]
    return [[0, 1, *(arm + 1 for arm in chunk), *(arms + arm for arm in chunk)] for chunk in further]


def _width(content: Table, places: Sequence[int]) -> int:
    return sum(_widths(content, places)) + len(_GAP) * (len(places) - 1)


def _widths(content: Table, places: Sequence[int]) -> list[int]:
    cells = [_body_width(content, i) for i in places]
    heads = [_head(content.columns[i], width) for i, width in zip(places, cells, strict=True)]
    return [max(width, *map(cells_wide, head)) for width, head in zip(cells, heads, strict=True)]


def _body_width(content: Table, i: int) -> int:
    lines = [cells_wide(line) for row in _marked(content) for line in row[i].split("\n")]
    return max(lines, default=0)


def _marked(content: Table) -> Iterator[list[str]]:
    """The cells of each row; a best value gets a star."""
    for cells, marks in zip(content.rows, content.marks, strict=True):
        yield [("*" if mark == "best" else "") + cell for cell, mark in zip(cells, marks, strict=True)]


def _head(text: str, body_width: int) -> list[str]:
    """The text in lines no wider than the column's cells or `_MIN_HEAD_WIDTH`: broken between words; a word that is too
    long is broken at the joints of a name (`-`, `_`, `/` …), else anywhere."""
    most = max(body_width, _MIN_HEAD_WIDTH)
    lines = [""]
    for word in escape_for_display(text).split():
        joined = f"{lines[-1]} {word}".lstrip()
        if cells_wide(joined) <= most:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for piece in _NAME_PARTS.findall(word):
            lines += [""] if lines[-1] and cells_wide(lines[-1] + piece) > most else []
            for letter in piece:
                lines += [""] if cells_wide(lines[-1] + letter) > most else []
                lines[-1] += letter
    return lines


# --- lines ----------------------------------------------------------------------------------------


def _table_lines(content: Table, places: Sequence[int], paint: Painter) -> list[str]:
    widths = _widths(content, places)
    across = sum(widths) + len(_GAP) * (len(places) - 1)
    heads = [_head(content.columns[i], _body_width(content, i)) for i in places]
    deepest = max(map(len, heads))
    heads = [[""] * (deepest - len(head)) + head for head in heads]
    lines = [paint(_line(row, widths), BOLD) for row in zip(*heads, strict=True)]
    has_groups = len(set(content.groups)) > 1
    lines += [] if has_groups else ["-" * across]
    group = ""
    for cells, marks, name in zip(_marked(content), content.marks, content.groups, strict=True):
        if has_groups and name != group:
            lines.append(paint(f"-- {name} ".ljust(across, "-"), _DIM))
        group = name
        styles = [_STYLES[marks[i]] for i in places]
        split = [cells[i].split("\n") for i in places]
        lines += [_line(row, widths, paint, styles) for row in zip_longest(*split, fillvalue="")]
    lines.append("-" * across)
    return lines


def _line(cells: Iterable[str], widths: Sequence[int], paint: Painter | None = None, styles: Sequence[str] = ()) -> str:
    padded = [
        text + " " * (width - cells_wide(text)) if i == 0 else " " * (width - cells_wide(text)) + text
        for i, (text, width) in enumerate(zip(cells, widths, strict=True))
    ]
    if paint is not None:
        padded = [paint(text, style) for text, style in zip(padded, styles, strict=True)]
    return _GAP.join(padded)


def _titled(title: str, text: str, width: int, paint: Painter, style: str) -> list[str]:
    """The wrapped text, with its title in colour."""
    first, *others = _wrapped(title + text, width)
    return [paint(title.rstrip(), style) + first[len(title.rstrip()) :], *others]


def _wrapped(text: str, width: int) -> list[str]:
    safe = escape_for_display(text, lines=True)
    return [
        part
        for line in safe.split("\n")
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]

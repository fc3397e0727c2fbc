"""Headings above each line of a text, by Markdown's rules for headings and code blocks."""

import re
from collections.abc import Iterator

_HEADING = re.compile(r" {0,3}(?P<marks>#{1,6})[ \t]")
_UNDERLINE = re.compile(r" {0,3}(?P<mark>=|-)(?P=mark){2,}[ \t]*$")
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<rest>.*)$")
_NO_TITLE = ("|", "-", "*", ">", "#", "`", "~", "=", "    ", "\t")
"""Starts of lines that are not a title even above an underline: tables, lists, quotations, code."""
_BOX = re.compile(r"={5,}[^=]{1,200}={5,}\s*$")
"""The first line of a printed block. The block ends at a line of `=` alone, which is not an underline."""


def lines_with_headings(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each line with the path of headings above it, the outermost first. A `#` inside a fenced code block is not a
    heading."""
    path: list[tuple[int, str]] = []  # level and text
    fence = ""
    before = ""
    in_box = False
    for line in text.splitlines():
        found = _FENCE.match(line)
        in_box = (in_box or _BOX.search(line[-300:]) is not None) and found is None
        level, title = 0, ""
        if fence:
            closes = found is not None and found["fence"].startswith(fence) and not found["rest"].strip()
            fence = "" if closes else fence
        elif found is not None:
            fence = found["fence"]
        elif (heading := _HEADING.match(line)) is not None:
            level, title = len(heading["marks"]), _title(line[heading.end() :])
        elif in_box:
            in_box = not (_UNDERLINE.match(line) and "=" in line)
        elif (under := _UNDERLINE.match(line)) is not None and before.strip() and not before.startswith(_NO_TITLE):
            level, title = (1 if under["mark"] == "=" else 2), before.strip()
        if level:
            path = [*((outer, name) for outer, name in path if outer < level), (level, title)]
        before = "" if level or fence else line
        yield tuple(name for _, name in path), line


def _title(text: str) -> str:
    """A heading's text without surrounding blanks and without closing `#` signs."""
    stripped = text.strip()
    open_ended = stripped.rstrip("#")
    return open_ended.rstrip() if open_ended != stripped and open_ended[-1:] in ("", " ", "\t") else stripped

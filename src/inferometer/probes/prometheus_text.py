"""What does a page in Prometheus's text format say of these names? Pure; the format is that of version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_LINE = re.compile(r'([a-zA-Z_:][\w:]*)\s*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s+(\S+)')
_MOST_CHARACTERS = 8192  # of a line; the labels of a longer one would take the square of its length to find
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class Line(NamedTuple):
    """One value. A histogram's parts are names of their own: `…_bucket`, `…_sum`, `…_count`."""

    name: str
    labels: dict[str, str]
    value: float


def lines_of(page: str, names: Iterable[str]) -> list[Line]:
    """The page's values of these names, in its order; a line that is none of the format's is passed over.

    Pages hold thousands of lines (histograms), of which a few are wanted: the others are not parsed.
    """
    wanted = frozenset(names)
    starts = tuple(wanted)
    found: list[Line] = []
    for line in page.splitlines():
        match = _LINE.match(line) if line.startswith(starts) and len(line) <= _MOST_CHARACTERS else None
        if match is None or match[1] not in wanted:
            continue
        try:
            value = float(match[3])  # NaN and +Inf too
        except ValueError:
            continue
        labels = {name: _unescaped(text) for name, text in _LABEL.findall(match[2] or "")}
        found.append(Line(match[1], labels, value))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), text)

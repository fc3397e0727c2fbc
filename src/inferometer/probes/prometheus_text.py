"""Parser for pages in Prometheus's text format, version 0.0.4. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_LINE = re.compile(r'([a-zA-Z_:][\w:]*)\s*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s+(\S+)')
_MOST_CHARACTERS = 8192  # of a line; the time to find the labels grows with the square of the length
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class MetricLine(NamedTuple):
    """One value. The parts of a histogram have separate names: `…_bucket`, `…_sum`, `…_count`."""

    name: str
    labels: dict[str, str]
    value: float


def metric_lines(page: str, names: Iterable[str]) -> list[MetricLine]:
    """The lines of the page with these names, in the page's order. Malformed lines are skipped.

    Pages hold thousands of lines (histograms); only the lines with these names are parsed.
    """
    wanted = frozenset(names)
    starts = tuple(wanted)
    found: list[MetricLine] = []
    for line in page.splitlines():
        match = _LINE.match(line) if line.startswith(starts) and len(line) <= _MOST_CHARACTERS else None
        if match is None or match[1] not in wanted:
            continue
        try:
            value = float(match[3])  # NaN and +Inf too
        except ValueError:
            continue
        labels = {name: _unescaped(text) for name, text in _LABEL.findall(match[2] or "")}
        found.append(MetricLine(match[1], labels, value))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), text)

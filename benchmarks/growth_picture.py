"""Picture of growth: CPU and memory of each command against the number of requests, both axes logarithmic."""

import itertools
from collections.abc import Mapping, Sequence

from inferometer.report.svg import Scale, bottom_axis, drawing, legend, line, mark, path, scale, standalone, text

Growth = Mapping[str, Sequence[tuple[float, float]]]
"""CPU seconds and peak memory (MB) of each command, one pair for each number of requests."""

_WIDTH, _LEFT, _GAP, _TOP, _HEIGHT = 660.0, 44.0, 66.0, 34.0, 190.0
_PANEL = (_WIDTH - _LEFT - _GAP - 12) / 2


def growth_picture(counts: Sequence[int], found: Growth, limit: float, title: str) -> str:
    """A standalone SVG file. The dashed line grows by `limit` from one number of requests to the next."""
    names = [(name, place) for place, name in enumerate(found)]
    parts, _ = legend(names, _WIDTH)
    for column, unit in enumerate(("CPU, s", "peak memory, MB")):
        left = _LEFT + column * (_PANEL + _GAP)
        values = [[pair[column] for pair in found[name]] for name, _ in names]
        parts += _panel(left, counts, values, limit, unit)
    said = [f"{name} {', '.join(f'{cpu:.2f} s' for cpu, _ in pairs)}" for name, pairs in found.items()]
    alt = f"CPU and memory at {', '.join(f'{count:,}' for count in counts)} requests an arm: {'; '.join(said)}."
    return standalone(drawing(_WIDTH, _TOP + _HEIGHT + 40, parts, alt, ()), title)


def _panel(left: float, counts: Sequence[int], lines: Sequence[Sequence[float]], limit: float, unit: str) -> list[str]:
    bottom = _TOP + _HEIGHT
    highest = max(max(line) for line in lines)
    bar = [max(line[0] for line in lines) * limit**place for place in range(len(counts))]
    along = scale(counts[0], counts[-1], left + 8, left + _PANEL - 8, is_log=True)
    up = scale(min(min(line) for line in lines), max(highest, bar[-1]), bottom, _TOP, is_log=True)
    parts = [*_ticks(up, left, unit), *bottom_axis(along, _TOP, bottom, "requests an arm", left + _PANEL + _GAP / 2)]
    points = [(along(count), up(value)) for count, value in zip(counts, bar, strict=True)]
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        parts.append(line(x1, y1, x2, y2, "one"))
    parts.append(text(points[1][0] - 6, points[1][1] - 4, f"× {limit:g} a step", classes="dim", anchor="end"))
    for arm, values in enumerate(lines):
        points = [(along(count), up(value)) for count, value in zip(counts, values, strict=True)]
        parts.append(path(points, f"line-{arm} dash-{arm % 4}"))
        parts += [mark(x, y, arm) for x, y in points]
    return parts


def _ticks(up: Scale, left: float, unit: str) -> list[str]:
    parts = [text(left, _TOP - 8, unit, classes="dim")]
    for tick in up.ticks():
        parts.append(line(left, up(tick), left + _PANEL, up(tick), "grid"))
        parts.append(text(left - 4, up(tick) + 4, f"{tick:g}", classes="dim", anchor="end"))
    return parts

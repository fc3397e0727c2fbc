"""Which marks and words do several pictures share? Intervals, and where a dot lies beside its line."""

from inferometer.analysis.comparison import Difference
from inferometer.base.units import ratio_text
from inferometer.report.svg import Scale, line, path

WIDTH = 460
"""Of a picture that stands beside another on a screen, and alone on a phone."""
EDGE = 12


def scatter(place: int, count: int) -> float:
    """So far beside its line stands the value of that rank: neighbours lie apart, always in the same way."""
    return 0.0 if count <= 3 else (((place * 7) % 11) - 5) * 2.6


def ends_of(found: Difference) -> tuple[float, float] | None:
    if found.low_percent is None or found.high_percent is None:
        return None
    return 1 + found.low_percent / 100, 1 + found.high_percent / 100


def interval_text(found: Difference | None) -> str:
    ends = ends_of(found) if found else None
    return f"[{ratio_text(ends[0])}, {ratio_text(ends[1])}]".replace("×", "") if ends else ""


def interval(along: Scale, low: float, high: float, y: float) -> list[str]:
    """With end strokes, and an arrow where it goes on beyond the axis."""
    parts = [line(along(low), y, along(high), y, "interval")]
    for end, is_out, way in ((low, low < along.low, 1), (high, high > along.high, -1)):
        x = along(end)
        if is_out:
            parts.append(path([(x + 6 * way, y - 5), (x, y), (x + 6 * way, y + 5)], "interval"))
        else:
            parts.append(line(x, y - 5, x, y + 5, "interval"))
    return parts


def diamond(x: float, y: float) -> str:
    return path([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)], "middle", closed=True)

"""Marks that several pictures share: intervals, diamonds, and dots scattered around a line."""

from inferometer.analysis.comparison import Difference, Estimate
from inferometer.base.units import ratio_text, three_digits_text
from inferometer.report.svg import Scale, line, path

WIDTH = 460
"""Width of a picture that is one of two side by side on a screen, and alone on a phone."""
EDGE = 12


def scatter(place: int, count: int) -> float:
    """The distance of the value of rank `place` from its line, so that neighbours do not overlap. Deterministic."""
    return 0.0 if count <= 3 else (((place * 7) % 11) - 5) * 2.6


def ratio_ends(found: Difference) -> tuple[float, float] | None:
    """The interval's ends as ratios; None without an interval."""
    if found.low_percent is None or found.high_percent is None:
        return None
    return 1 + found.low_percent / 100, 1 + found.high_percent / 100


def interval_text(found: Difference | None) -> str:
    """The interval of a ratio: [0.94, 1.12]; "" without one."""
    ends = ratio_ends(found) if found else None
    return f"[{ratio_text(ends[0])}, {ratio_text(ends[1])}]".replace("×", "") if ends else ""


def span_text(estimate: Estimate, unit: str) -> str:
    """The interval of a value in words; "" without one."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"95% interval {three_digits_text(estimate.low)} to {three_digits_text(estimate.high)} {unit}".rstrip()


def interval(along: Scale, low: float, high: float, y: float, tip: str = "") -> list[str]:
    """A line with end strokes; an arrow instead of an end beyond the axis."""
    parts = [line(along(low), y, along(high), y, "interval", tip)]
    for end, is_out, way in ((low, low < along.low, 1), (high, high > along.high, -1)):
        x = along(end)
        if is_out:
            parts.append(path([(x + 6 * way, y - 5), (x, y), (x + 6 * way, y + 5)], "interval"))
        else:
            parts.append(line(x, y - 5, x, y + 5, "interval"))
    return parts


def diamond(x: float, y: float, tip: str = "") -> str:
    """The mark of a difference."""
    return path([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)], "middle", closed=True, tip=tip)

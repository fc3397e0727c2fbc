"""Picture of a map: gains over concurrency with intervals, one line for each arm or group."""

from collections.abc import Sequence

from inferometer.analysis.break_even import GainAt
from inferometer.report.drawings.interval_marks import EDGE, WIDTH
from inferometer.report.svg import PALETTE, Drawing, bottom_axis, drawing, legend, line, mark, path, scale, text

_LEFT, _HEIGHT = 56.0, 210.0


def gain_map(lines: Sequence[tuple[str, Sequence[GainAt]]]) -> Drawing:
    """`lines`: names and gains; at least one of them has a gain."""
    names, top = legend([(name, place) for place, (name, _) in enumerate(lines)], WIDTH)
    points = [point for _, found in lines for point in found]
    streams = [point.concurrency for point in points]
    ends = [end for point in points for end in point.percent]
    bottom = top + _HEIGHT
    along = scale(min(streams), max(streams), _LEFT + 12, WIDTH - 20, is_log=True)
    up = scale(min(-1.0, *ends), max(1.0, *ends), bottom, top + 8)
    parts = [*names, *bottom_axis(along, top, bottom, "concurrent requests", WIDTH)]
    for tick in up.ticks():
        parts.append(line(_LEFT, up(tick), WIDTH - EDGE, up(tick), "grid"))
        parts.append(text(_LEFT - 6, up(tick) + 4, f"{tick:+g}%", classes="dim", anchor="end"))
    parts.append(line(_LEFT, up(0), WIDTH - EDGE, up(0), "one", "the baseline"))
    rows = [("line", "concurrency", "gain (%)", "95% interval (%)")]
    for place, (name, found) in enumerate(lines):
        style = f"line-{place % PALETTE} dash-{place % 4}"
        parts.append(path([(along(point.concurrency), up(point.percent[0])) for point in found], style))
        for point in found:
            gain, low, high = point.percent
            x, words = along(point.concurrency), f"{name}, {point.concurrency}: {gain:+.1f}%"
            parts += [line(x, up(low), x, up(high), f"line-{place % PALETTE}", words), mark(x, up(gain), place)]
            rows.append((name, str(point.concurrency), f"{gain:+.1f}", f"{low:+.1f} to {high:+.1f}"))
    alt = f"Gain over the baseline by concurrency, from {min(streams)} to {max(streams)} streams."
    return drawing(WIDTH, bottom + 38, parts, alt, rows)

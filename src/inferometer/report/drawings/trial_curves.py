"""Pictures of one trial over time: a curve per arm."""

from collections.abc import Sequence
from statistics import fmean

from inferometer.base.units import three_digits_text, tick_text, value_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH
from inferometer.report.page.over_time import Curve, CurveGroup
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    line,
    mark,
    plot,
    px,
    scale,
    series,
    shortened,
    text,
)


def trial_curves(found: CurveGroup, arms: Sequence[str]) -> Drawing:
    """Each arm's curve in a separate band, all on one scale; a line marks the plan's start if there is earlier data."""
    known = [curve for curve in found.curves if curve.at_s]
    band, room, top, left = 64.0, 24.0, 4.0, 46.0
    bottom = top + (band + room) * len(known)
    along = scale(
        min(0, *(curve.at_s[0] for curve in known)), max(curve.at_s[-1] for curve in known), left, WIDTH - EDGE
    )
    low, high = _value_range([value for curve in known for value in curve.values])
    parts = bottom_axis(along, top, bottom, "s from the start of the plan", WIDTH)
    drawn = [line(along(0), top, along(0), bottom, "one")] if along.low < 0 else []
    for place, curve in enumerate(known):
        y = top + (band + room) * place + room
        up = scale(low, high, y + band - 4, y)
        parts += _band(curve, found, along, up)
        drawn.append(_curve(curve, found, along, up, arms.index(curve.arm)))
    parts.append(plot(along, top, bottom, drawn))
    rows = [
        (curve.arm, *(value_text(value, found.unit) for value in (min(curve.values), fmean(curve.values),
         max(curve.values))), value_text(curve.at_s[0], "s"), value_text(curve.at_s[-1], "s"))
        for curve in known
    ]  # fmt: skip
    summary = "; ".join(f"{row[0]}: from {row[1]} to {row[3]} {found.unit}, mean {row[2]}" for row in rows)
    alt = f"{found.title} over the trial ({found.note}). {summary}."
    head = ("Arm", *(f"{word} ({found.unit})" for word in ("lowest", "mean", "highest")), "from (s)", "to (s)")
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _value_range(values: Sequence[float]) -> tuple[float, float]:
    """Range of the values axis; it begins at 0 unless all values are far from 0."""
    low, high = min(values), max(values)
    if 0 < low < 0.6 * high:
        low = 0.0
    room = (high - low) * 0.06
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _band(curve: Curve, found: CurveGroup, along: Scale, up: Scale) -> list[str]:
    mean = three_digits_text(fmean(curve.values))
    parts = [
        text(left := along.from_px, up.to_px - 8, shortened(curve.arm, 24), classes="strong"),
        text(WIDTH - EDGE, up.to_px - 8, f"mean {mean} {found.unit}", classes="dim", anchor="end"),
    ]
    ticks = up.ticks(3)
    for value in ticks:
        parts.append(line(left, up(value), WIDTH - EDGE, up(value), "grid"))
        parts.append(text(left - 6, up(value) + 4, tick_text(value, ticks), classes="dim", anchor="end"))
    return parts


def _curve(curve: Curve, found: CurveGroup, along: Scale, up: Scale, arm: int) -> str:
    points = list(zip(curve.at_s, curve.values, strict=True))
    if len(points) == 1:
        at_s, value = points[0]
        return mark(along(at_s), up(value), arm, tip=f"{curve.arm}: {three_digits_text(value)} {found.unit}")
    steps = "M" + "L".join(f"{px(along(at_s))} {px(up(value))}" for at_s, value in points)
    values = (f"{at_s:.4g},{value:.4g}" for at_s, value in points)
    return series(steps, f"line-{arm % PALETTE} solid", f"{curve.arm}: {{1}} {found.unit} at {{0}} s", values)

"""Picture of the result: the arms in order of one metric, with intervals and what differs from the first arm."""

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.units import value_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH, interval, ratio_ends, span_text
from inferometer.report.short_cells import MARK_MEANING, difference_of_pair, is_invalid, order, span_cell
from inferometer.report.svg import PALETTE, Drawing, Scale, bottom_axis, drawing, line, rect, scale, shortened, text

_ROOM_FOR_ENDS = 1.25
"""How far beyond the longest bar the axis may go for the end of an interval. Longer ones end in an arrow."""


def ranking_bars(row: ComparisonRow, comparison: Comparison, width: float) -> Drawing:
    """Each arm's value as a bar, the best arm first, with its difference from the baseline.

    The interval on a bar is the one of the verdict: of the difference, at the verdict's level, drawn around the
    baseline's value, which the dashed line marks. A study's only arm has the interval of its value.
    """
    ranked = order(row)
    lane, top = (40.0 if len(ranked) > 4 else 48.0), 2.0
    bottom = top + lane * len(ranked)
    spans = {arm: _span(row, arm, comparison) for arm in ranked}
    longest = max([value for value in row.values.values() if value is not None], default=0.0)
    ends = [min(ends[1], longest * _ROOM_FOR_ENDS) for ends, _ in spans.values() if ends is not None]
    along = scale(0, max([longest, *ends, 1e-9]) * 1.02, EDGE, width - EDGE)
    parts = bottom_axis(along, top, bottom, row.label, width)
    first = row.values[comparison.arms[0]]
    for place, arm in enumerate(ranked):
        y = top + lane * place
        parts += _bar(row, arm, comparison, along, y, lane)
        if first is not None and len(ranked) > 1:  # next to the bar only: above it is the text of the difference
            parts.append(line(along(first), y + 19, along(first), y + lane - 3, "one"))
        ends, words = spans[arm]
        if ends is not None:
            parts += interval(along, *ends, y + 21 + (lane - 26) / 2, f"{arm}: {words}")
    rows = [(arm, *_texts(row, arm, comparison), spans[arm][1]) for arm in ranked]
    summary = "; ".join(f"{arm} {value} {against}".rstrip() for arm, value, against, _ in rows)
    alt = f"{row.label}, the best arm first, with the intervals of the verdicts. {summary}. {MARK_MEANING}"
    head = ("Arm", row.label, f"against {comparison.arms[0]}", "interval")
    return drawing(width, bottom + 38, parts, alt, [head, *rows])


def _bar(row: ComparisonRow, arm: str, comparison: Comparison, along: Scale, y: float, lane: float) -> list[str]:
    right = along.to_px
    value, against = _texts(row, arm, comparison)
    number, length = comparison.arms.index(arm), row.values[arm]
    parts = [text(EDGE, y + 15, shortened(arm, 36 if right > WIDTH else 20), classes="strong", more=value)]
    parts.append(text(right, y + 15, against, classes="ink", anchor="end"))
    if length is not None:
        words = ", ".join(filter(None, (f"{arm}: {value}", _span(row, arm, comparison)[1], against)))
        classes = f"fill-{number % PALETTE} faint"
        parts.append(rect(along(0), y + 21, along(length) - along(0), lane - 26, classes, words))
    return parts


def _span(row: ComparisonRow, arm: str, comparison: Comparison) -> tuple[tuple[float, float] | None, str]:
    """The interval on the arm's bar, in the metric's unit, and in words; None and "" without one."""
    baseline, estimate = comparison.arms[0], row.estimates[arm]
    if len(comparison.arms) == 1:
        ends = None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
        return ends, span_text(estimate, row.unit)
    found, first = difference_of_pair(row, baseline, arm), row.values[baseline]
    ratios = None if found is None else ratio_ends(found)
    if arm == baseline or found is None or ratios is None or first is None or is_invalid(arm, comparison):
        return None, ""
    level = f"{found.confidence_percent or 95:.3g}%"
    return (first * ratios[0], first * ratios[1]), f"{level} interval of the difference from {baseline}"


def _texts(row: ComparisonRow, arm: str, comparison: Comparison) -> tuple[str, str]:
    """The value with its unit, and the difference from the baseline with its interval."""
    estimate, baseline = row.estimates[arm], comparison.arms[0]
    value = "no value" if estimate.value is None else f"{value_text(estimate.value, row.unit)} {row.unit}".strip()
    if is_invalid(arm, comparison):
        return value, "baseline, not valid" if arm == baseline and len(comparison.arms) > 1 else "not valid"
    if arm == baseline:
        return value, "baseline" if len(comparison.arms) > 1 else ""
    return value, span_cell(row, baseline, arm)


def ranking_legend(row: ComparisonRow | None, comparison: Comparison) -> str:
    """What the marks and the intervals of the picture mean, with the intervals' level; "" for a single arm."""
    if row is None or len(comparison.arms) == 1:
        return ""
    against = [found for found in row.differences if found.baseline == comparison.arms[0]]
    levels = sorted({f"{found.confidence_percent or 95:.3g}" for found in against if ratio_ends(found) is not None})
    if not levels:
        return MARK_MEANING
    level, first = " or ".join(levels), comparison.arms[0]
    return f"Interval: the difference from the dashed line ({first}), {level}% as in the verdict. {MARK_MEANING}"

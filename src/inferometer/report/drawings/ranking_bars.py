"""Picture of the result: the arms in order of one metric, with intervals and what differs from the first arm."""

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.units import value_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH, interval, span_text
from inferometer.report.short_cells import MARK_MEANING, order
from inferometer.report.short_result import span_cell
from inferometer.report.svg import PALETTE, Drawing, Scale, bottom_axis, drawing, rect, scale, shortened, text


def ranking_bars(row: ComparisonRow, comparison: Comparison, width: float) -> Drawing:
    """Each arm's value as a bar with its interval, the best arm first, with its difference from the baseline."""
    ranked, baseline = order(row), comparison.arms[0]
    lane, top = (40.0 if len(ranked) > 4 else 48.0), 2.0
    bottom = top + lane * len(ranked)
    known = [value for one in row.estimates.values() for value in (one.value, one.high) if value is not None]
    along = scale(0, max([*known, 1e-9]) * 1.02, EDGE, width - EDGE)
    parts = bottom_axis(along, top, bottom, row.label, width)
    for place, arm in enumerate(ranked):
        parts += _bar(row, arm, comparison, along, top + lane * place, lane)
    rows: list[tuple[str, str, str, str]] = []
    for arm in ranked:
        value, against = _texts(row, arm, comparison)
        rows.append((arm, value, against, span_text(row.estimates[arm], row.unit).removeprefix("95% interval ")))
    summary = "; ".join(f"{arm} {value} {against}".rstrip() for arm, value, against, _ in rows)
    alt = f"{row.label}, the best arm first, with 95% intervals. {summary}. {MARK_MEANING}"
    head = ("Arm", row.label, f"against {baseline}", "95% interval")
    return drawing(width, bottom + 38, parts, alt, [head, *rows])


def _bar(row: ComparisonRow, arm: str, comparison: Comparison, along: Scale, y: float, lane: float) -> list[str]:
    right = along.to_px
    value, against = _texts(row, arm, comparison)
    estimate, number = row.estimates[arm], comparison.arms.index(arm)
    parts = [text(EDGE, y + 15, shortened(arm, 36 if right > WIDTH else 20), classes="strong", more=value)]
    parts.append(text(right, y + 15, against, classes="ink", anchor="end"))
    if estimate.value is not None:
        span = span_text(estimate, row.unit)
        words = ", ".join(filter(None, (f"{arm}: {value}", span, against)))
        height = lane - 26
        parts.append(
            rect(along(0), y + 21, along(estimate.value) - along(0), height, f"fill-{number % PALETTE} faint", words)
        )
        if estimate.low is not None and estimate.high is not None:
            parts += interval(along, estimate.low, estimate.high, y + 21 + height / 2, f"{arm}: {span}")
    return parts


def _texts(row: ComparisonRow, arm: str, comparison: Comparison) -> tuple[str, str]:
    """The value with its unit, and the difference from the baseline with its interval."""
    estimate, baseline = row.estimates[arm], comparison.arms[0]
    value = "no value" if estimate.value is None else f"{value_text(estimate.value, row.unit)} {row.unit}".strip()
    if arm == baseline:
        return value, "baseline" if len(comparison.arms) > 1 else ""
    return value, span_cell(row, baseline, arm)

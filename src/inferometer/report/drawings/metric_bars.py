"""Picture of one metric: a bar per arm with its interval."""

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.analysis.decision import worse_text
from inferometer.base.units import ratio_text, value_text
from inferometer.report.drawings.interval_marks import EDGE, interval, interval_text, span_text
from inferometer.report.svg import PALETTE, Drawing, Scale, bottom_axis, drawing, rect, scale, shortened, text


def metric_bars(row: ComparisonRow, comparison: Comparison) -> Drawing:
    """Each arm's value of one metric as a bar with its interval, and its ratio to the first arm."""
    width, lane, top = 720.0, 64.0, 2.0
    bottom = top + lane * len(comparison.arms)
    known = [value for one in row.estimates.values() for value in (one.value, one.high) if value is not None]
    along = scale(0, max([*known, 1e-9]) * 1.02, EDGE, width - EDGE)
    parts = bottom_axis(along, top, bottom, row.label, width)
    baseline = comparison.arms[0]
    for place, arm in enumerate(comparison.arms):
        parts += _bar(row, arm, baseline, along, top + lane * place, place, width)
    rows = [(arm, *map(str, _bar_texts(row, arm, baseline))) for arm in comparison.arms]
    summary = "; ".join(" ".join(part for part in words if part) for words in rows)
    alt = f"{row.label} of each arm. {summary}. {_caption(row, comparison)}"
    parts.append(text(EDGE, bottom + 52, _caption(row, comparison), classes="dim"))
    return drawing(width, bottom + 60, parts, alt, [("Arm", row.label, "ratio to the first"), *rows])


def _bar(row: ComparisonRow, arm: str, baseline: str, along: Scale, y: float, place: int, width: float) -> list[str]:
    estimate = row.estimates[arm]
    value, against = _bar_texts(row, arm, baseline)
    parts = [text(EDGE, y + 16, shortened(arm, 44), classes="strong", more=value)]
    parts.append(text(width - EDGE, y + 16, against, classes="dim", anchor="end"))
    if estimate.value is not None:
        parts.append(
            rect(
                along(0),
                y + 26,
                along(estimate.value) - along(0),
                26,
                f"fill-{place % PALETTE} faint",
                f"{arm}: {value}",
            )
        )
        if estimate.low is not None and estimate.high is not None:
            parts += interval(along, estimate.low, estimate.high, y + 39, f"{arm}: {span_text(estimate, row.unit)}")
    return parts


def _bar_texts(row: ComparisonRow, arm: str, baseline: str) -> tuple[str, str]:
    estimate = row.estimates[arm]
    value = "no value" if estimate.value is None else f"{value_text(estimate.value, row.unit)} {row.unit}"
    if arm == baseline:
        return value, ""
    found = row.against(baseline, arm)
    if found.ratio is None:
        return value, "" if estimate.value is None else found.reason
    return value, " ".join(part for part in (ratio_text(found.ratio), interval_text(found), found.verdict) if part)


def _caption(row: ComparisonRow, comparison: Comparison) -> str:
    counts = sorted(set(comparison.trials.values()))
    trials = f"{counts[0]} trials per arm" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials per arm"
    found = row.differences[0] if row.differences else None
    basis = f"; 95% intervals cover other {found.basis}" if found and found.basis else ""
    held = " Not valid: see the report." if comparison.invalid else ""
    worse = [arm for arm in comparison.arms[1:] if worse_text(comparison, comparison.arms[0], arm)]
    held += f" Worse answers: {', '.join(worse)}." if worse else ""
    return f"{trials}{basis}.{held}"

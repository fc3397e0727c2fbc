"""Picture of memory: the peak in each phase, a bar per arm."""

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.units import value_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH
from inferometer.report.svg import PALETTE, Drawing, Scale, bottom_axis, drawing, legend, mark, rect, scale, text


def memory_bars(comparison: Comparison) -> Drawing | None:
    """The peak in each phase, one bar per arm; None if memory is unknown."""
    rows = [row for row in comparison.rows if row.unit == "GiB" and any(row.n.values())]
    values = [value for row in rows for value in row.values.values() if value is not None]
    if not values:
        return None
    arms = comparison.arms
    names, top = legend([(arm, i) for i, arm in enumerate(arms)], WIDTH)
    bar, head = 16.0, 22.0
    bottom = top + len(rows) * (head + bar * len(arms) + 6)
    along = scale(0, max(values) * 1.02, EDGE, WIDTH - 76)
    parts = [*names, *bottom_axis(along, top, bottom, "GiB, highest in the phase, mean over trials", WIDTH)]
    y = top
    for row in rows:
        parts.append(text(EDGE, y + 15, _phase(row), classes="strong"))
        y += head
        for i, arm in enumerate(arms):
            parts += _bar(along, y, i, f"{_phase(row)}, {arm}", row.values[arm])
            y += bar
        y += 6
    table = [(_phase(row), *(value_text(row.values[arm], "GiB") for arm in arms)) for row in rows]
    summary = "; ".join(
        f"{line[0]}: " + ", ".join(f"{arm} {value}" for arm, value in zip(arms, line[1:], strict=True))
        for line in table
    )
    alt = f"Memory in each phase, GiB. {summary}."
    return drawing(WIDTH, bottom + 38, parts, alt, [("Phase (GiB)", *arms), *table])


def _phase(row: ComparisonRow) -> str:
    return row.label.partition(" (")[0]


def _bar(along: Scale, y: float, arm: int, name: str, value: float | None) -> list[str]:
    if value is None:
        return [text(EDGE + 4, y + 12, "unknown", classes="dim")]
    shown = f"{value_text(value, 'GiB')} GiB"
    return [
        rect(along(0), y + 1, along(value) - along(0), 12, f"fill-{arm % PALETTE} faint", f"{name}: {shown}"),
        mark(along(value), y + 7, arm),
        text(along(value) + 8, y + 12, shown, classes="dim"),
    ]

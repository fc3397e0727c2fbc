"""What stands in which cell? A comparison as text, before it gets a form; pure."""

import msgspec

from inferometer.compare import Comparison, Row
from inferometer.units import percent_text, value_text


class Table(msgspec.Struct, frozen=True):
    """The first column is of labels, all others of numbers. `caption`: how many trials the numbers are of."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def table(comparison: Comparison) -> Table:
    """One row a metric that any arm has, one column an arm, then one a difference against the first arm."""
    baseline, *others = comparison.arms
    differences = ["% Difference"] if len(others) == 1 else [f"{arm} vs {baseline} (%)" for arm in others]
    return Table(
        columns=("Metric", *comparison.arms, *differences),
        rows=tuple(_cells(row, comparison.arms) for row in comparison.rows if any(row.n.values())),
        caption="Trials: " + ", ".join(f"{arm} {n}" for arm, n in comparison.trials.items()),
    )


def _cells(row: Row, arms: tuple[str, ...]) -> tuple[str, ...]:
    values = (value_text(row.values[arm], row.unit) for arm in arms)
    differences = (percent_text(row.differences_percent[arm]) for arm in arms[1:])
    return (row.label, *values, *differences)

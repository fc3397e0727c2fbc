"""vLLM's serving metrics in the layout that published studies use: one table without groups, two decimals."""

from collections.abc import Sequence

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.units import COUNT_UNITS, percent_text, value_text

SEED_ROWS = (
    "memory_gib", "completed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
    "output_throughput", "total_token_throughput", "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms",
    "median_tpot_ms", "p99_tpot_ms", "mean_itl_ms", "median_itl_ms", "p99_itl_ms",
)  # fmt: skip
"""Memory, then the rows of vLLM's benchmark_serving.py in its order."""


def seed_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The head, then SEED_ROWS: each arm's mean, and the difference of each further arm from the first in percent."""
    others = comparison.arms[1:]
    differences = ["% Difference"] if len(others) == 1 else [f"% Difference {arm}" for arm in others]
    known = {row.metric: row for row in comparison.rows}
    body = [_cells(known[key], comparison.arms) for key in SEED_ROWS if key in known]
    return [("Metric", *comparison.arms, *differences), *body]


def _cells(row: ComparisonRow, arms: Sequence[str]) -> tuple[str, ...]:
    values = (_number(row.values[arm], row.unit) for arm in arms)
    return (row.label, *values, *(percent_text(row.differences_percent[arm]) for arm in arms[1:]))


def _number(value: float | None, unit: str) -> str:
    return value_text(value, unit) if value is None or unit in COUNT_UNITS else f"{value:.2f}"

"""What are a comparison's numbers as one long table? A row for each metric of each trial, arm and pair of arms."""

from collections.abc import Iterator, Sequence
from typing import Any

from inferometer.compare import Comparison, Difference, Estimate, Row
from inferometer.exports.columns import Column, Table
from inferometer.metrics import TrialSummary, metric_rows

METRIC_COLUMNS = (
    Column(
        "row", "text", "trial: a trial's value; arm: the mean of its trials; difference: of the arm from the baseline"
    ),
    Column("arm", "text", "the arm, as study/arm where two studies have it"),
    Column("baseline", "text", "of a difference: what the arm is held against"),
    Column("trial", "int", "of a trial: its number within the arm, from 1"),
    Column("metric", "text", "the metric's key, stable over versions: see docs/metrics.md"),
    Column("label", "text", "the metric's name in the table"),
    Column("value", "float", "in `unit`; not rounded"),
    Column("unit", "text", "of value, low and high; % of the baseline's value for a difference"),
    Column("low", "float", "lower end of the 95% interval"),
    Column("high", "float", "upper end of the 95% interval"),
    Column("n", "int", "of an arm: how many trials have a value"),
    Column("covers", "text", "what the interval covers: other trials, other prompts, or both"),
    Column("better", "text", "higher or lower, where one is better"),
    Column("verdict", "text", "of a difference: what it comes to"),
    Column("p_value", "float", "of a difference, not adjusted"),
    Column("adjusted_p", "float", "what the verdict goes by, but for the study's own metric"),
    Column("reason", "text", "why there is no interval, or no verdict"),
    Column("metric_dialect", "text", "whose definitions these are"),
)


def metric_table(comparison: Comparison, trials: Sequence[TrialSummary]) -> Table:
    """`trials`: those that ended well, called as the comparison calls their arms. What has no value has no row."""
    rows = [*_of_trials(trials), *_of_arms(comparison), *_of_pairs(comparison)]
    names = [column.name for column in METRIC_COLUMNS]
    return Table(METRIC_COLUMNS, iter([[[row.get(name) for row in rows] for name in names]]))


def _of_trials(trials: Sequence[TrialSummary]) -> Iterator[dict[str, Any]]:
    """Every metric, those too that are in no comparison."""
    for trial in trials:
        for metric in metric_rows(trial.percentiles):
            value = trial.values.get(metric.key)
            if value is not None:
                yield {
                    "row": "trial",
                    "arm": trial.arm,
                    "trial": trial.number,
                    "metric": metric.key,
                    "label": metric.label,
                    "value": value,
                    "unit": metric.unit,
                    "better": metric.better,
                    "metric_dialect": trial.dialect,
                }


def _of_arms(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for arm in comparison.arms:
        for row in comparison.rows:
            estimate: Estimate = row.estimates[arm]
            if estimate.value is not None:
                yield _known(row, comparison) | {
                    "row": "arm",
                    "arm": arm,
                    "value": estimate.value,
                    "unit": row.unit,
                    "low": estimate.low,
                    "high": estimate.high,
                    "n": estimate.n,
                    "covers": estimate.basis or None,
                    "reason": estimate.reason or None,
                }


def _of_pairs(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for row in comparison.rows:
        for found in row.differences:
            if found.percent is not None:
                yield _known(row, comparison) | _difference(found)


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "row": "difference",
        "arm": found.arm,
        "baseline": found.baseline,
        "value": found.percent,
        "unit": "%",
        "low": found.low_percent,
        "high": found.high_percent,
        "covers": found.basis or None,
        "verdict": found.verdict or None,
        "p_value": found.p_value,
        "adjusted_p": found.adjusted_p,
        "reason": found.reason or None,
    }


def _known(row: Row, comparison: Comparison) -> dict[str, Any]:
    return {"metric": row.metric, "label": row.label, "better": row.better, "metric_dialect": comparison.dialect}

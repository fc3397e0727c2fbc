"""The metrics of a comparison as one long table: a row for each metric of each trial, arm and pair of arms. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.analysis.decision import worse_text
from inferometer.exports.export_columns import ExportColumn, ExportTable
from inferometer.metrics.rows import metric_rows
from inferometer.metrics.summary import TrialSummary

METRIC_COLUMNS = (
    ExportColumn(
        "row", "text", "trial: a trial's value; arm: the mean of its trials; difference: of the arm from the baseline"
    ),
    ExportColumn("arm", "text", "the arm; study/arm if two studies have it"),
    ExportColumn("baseline", "text", "of a difference: the arm that it is compared with"),
    ExportColumn("trial", "int", "of a trial: its number within the arm, from 1"),
    ExportColumn("metric", "text", "the metric's key, stable over versions: see docs/reference/metrics.md"),
    ExportColumn("label", "text", "the metric's name in the table"),
    ExportColumn("value", "float", "in `unit`; not rounded"),
    ExportColumn("unit", "text", "of value, low and high; % of the baseline's value for a difference"),
    ExportColumn("low", "float", "lower end of the 95% interval, for prompts like these"),
    ExportColumn("high", "float", "upper end of the 95% interval"),
    ExportColumn("n", "int", "of an arm: number of trials with a value"),
    ExportColumn("covers", "text", "what the interval covers: other trials, other prompts, or both"),
    ExportColumn("better", "text", "higher or lower, where one is better"),
    ExportColumn("verdict", "text", "of a difference: faster, slower, more, less, same, inconclusive or unknown"),
    ExportColumn("p_value", "float", "of a difference, not adjusted"),
    ExportColumn("adjusted_p", "float", "adjusted for the verdicts that are given together"),
    ExportColumn("reason", "text", "why there is no interval, or no verdict"),
    ExportColumn("metric_dialect", "text", "the metric definitions used"),
)


def metric_table(comparison: Comparison, trials: Sequence[TrialSummary]) -> ExportTable:
    """`trials`: the completed trials, with arms named as in the comparison. A metric without a value has no row."""
    rows = [*_of_trials(trials), *_of_arms(comparison), *_of_pairs(comparison)]
    names = [column.name for column in METRIC_COLUMNS]
    return ExportTable(METRIC_COLUMNS, iter([[[row.get(name) for row in rows] for name in names]]))


def _of_trials(trials: Sequence[TrialSummary]) -> Iterator[dict[str, Any]]:
    """Every metric, including those that no comparison shows."""
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
                yield _known(row, comparison) | _difference(found, comparison)


def _difference(found: Difference, comparison: Comparison) -> dict[str, Any]:
    """`reason` names answers that are worse, because a verdict on speed alone would hide them."""
    worse = worse_text(comparison, found.baseline, found.arm).removeprefix(", but ")
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
        "reason": "; ".join(filter(None, (found.reason, worse))) or None,
    }


def _known(row: ComparisonRow, comparison: Comparison) -> dict[str, Any]:
    return {"metric": row.metric, "label": row.label, "better": row.better, "metric_dialect": comparison.dialect}

"""What do the arms' trials show beside one another? Estimates, differences, and what to be careful of.

Intervals and verdicts are not made here yet: with them a row gets further fields, and what is here stays.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Literal

import msgspec

from inferometer.metrics import Metric, MetricDialect, TrialSummary, metric_rows

_TOKEN_TOLERANCE_PERCENT = 2.0
_WHERE_KNOWN = frozenset({"open_loop", "phase", "energy"})
"""Groups of rows that are left out where no arm has them."""


class Row(msgspec.Struct, frozen=True):
    """One metric of every arm.

    `values`: the mean over the arm's trials that have the metric, `n` how many these are; None where none has it.
    `differences_percent`: of each further arm against the first; None where either is None or the first is 0.
    """

    metric: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    values: dict[str, float | None]
    n: dict[str, int]
    differences_percent: dict[str, float | None]


class Comparison(msgspec.Struct, frozen=True):
    """The arms in order, the first being the baseline. `trials`: how many done trials each arm has."""

    arms: tuple[str, ...]
    rows: tuple[Row, ...]
    trials: dict[str, int]
    dialect: MetricDialect = "inferometer"
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def compare(summaries: Sequence[TrialSummary], warnings: Iterable[str] = ()) -> Comparison:
    """The comparison of these trials; arms come in the order in which they first appear. Rows from due are there only
    where something was due at a time.

    `warnings` are the caller's own, shown first. Raises ValueError for no trials and for trials of different metric
    dialects or percentiles.
    """
    if not summaries:
        raise ValueError("there is no trial to compare")
    if len({(summary.dialect, summary.percentiles) for summary in summaries}) > 1:
        raise ValueError("trials of different metric dialects or percentiles cannot be compared")
    by_arm: dict[str, list[TrialSummary]] = {summary.arm: [] for summary in summaries}
    for summary in summaries:
        if summary.state == "done":
            by_arm[summary.arm].append(summary)
    first = summaries[0]
    metrics = [metric for metric in metric_rows(first.percentiles) if metric.group != "vllm"]
    found = [(metric.group, _row(metric, by_arm)) for metric in metrics]
    rows = tuple(row for group, row in found if group not in _WHERE_KNOWN or any(row.n.values()))
    return Comparison(
        arms=tuple(by_arm),
        rows=rows,
        trials={arm: len(trials) for arm, trials in by_arm.items()},
        dialect=first.dialect,
        notes=tuple(_notes(by_arm)),
        warnings=(*warnings, *_warnings(summaries, by_arm, {row.metric: row for row in rows})),
    )


def difference_percent(value: float | None, baseline: float | None) -> float | None:
    """Of `value` against `baseline`; None where either is unknown or the baseline is 0."""
    if value is None or baseline is None or baseline == 0:
        return None
    return 100 * (value - baseline) / baseline


def _row(metric: Metric, by_arm: dict[str, list[TrialSummary]]) -> Row:
    known = {
        arm: [value for trial in trials if (value := trial.values.get(metric.key)) is not None]
        for arm, trials in by_arm.items()
    }
    values = {arm: fmean(found) if found else None for arm, found in known.items()}
    baseline, *others = by_arm
    return Row(
        metric=metric.key,
        label=metric.label,
        unit=metric.unit,
        better=metric.better,
        values=values,
        n={arm: len(found) for arm, found in known.items()},
        differences_percent={arm: difference_percent(values[arm], values[baseline]) for arm in others},
    )


def _notes(by_arm: dict[str, list[TrialSummary]]) -> Iterable[str]:
    """Each note once; with its arms where it is not true of all."""
    arms_of: dict[str, list[str]] = {}
    for arm, trials in by_arm.items():
        for note in dict.fromkeys(note for trial in trials for note in trial.notes):
            arms_of.setdefault(note, []).append(arm)
    for note, arms in arms_of.items():
        yield note if len(arms) == len(by_arm) else f"{', '.join(arms)}: {note}"


def _warnings(
    summaries: Sequence[TrialSummary], by_arm: dict[str, list[TrialSummary]], rows: dict[str, Row]
) -> Iterable[str]:
    for summary in summaries:
        if summary.state != "done":
            yield f"{summary.arm}: trial {summary.number} did not end well ({summary.state}) and is left out"
    for arm, trials in by_arm.items():
        failed, succeeded = _total("failed", trials), _total("completed", trials)
        if failed:
            asked = failed + succeeded
            yield f"{arm}: {failed:.0f} of {asked:.0f} requests failed and are in no latency and no token count"
        if any(trial.draft_asked and not trial.values.get("drafted_tokens") for trial in trials):
            yield f"{arm}: a draft was asked for, but the engine reports no drafted token: is it in force at all?"
    for arm, difference in rows["total_output_tokens"].differences_percent.items():
        if difference is not None and abs(difference) > _TOKEN_TOLERANCE_PERCENT:
            yield (
                f"{arm}: generated tokens differ from {next(iter(by_arm))}'s by {difference:+.1f}%: "
                "the arms did not do the same work, so compare rates rather than durations"
            )
    kinds = {trial.memory_quantity for trials in by_arm.values() for trial in trials} - {None}
    if len(kinds) > 1:
        yield "Memory Usage is not of the same kind in all trials: see the notes; its difference means nothing"
    if any(len(trials) == 1 for trials in by_arm.values()):
        yield "An arm has one trial only: there is no interval, and a difference may be chance"


def _total(key: str, trials: Iterable[TrialSummary]) -> float:
    return sum(trial.values.get(key) or 0 for trial in trials)

"""Comparison of the arms of a study from the summaries of their trials."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean

import msgspec

from inferometer.analysis.comparison import (
    EFFECT_PERCENT,
    EQUIVALENCE_PERCENT,
    PRIMARY,
    Comparison,
    ComparisonRow,
    Prompts,
)
from inferometer.analysis.estimates import estimate, evidence
from inferometer.analysis.thresholds import BURST_TOKENS
from inferometer.analysis.verdicts import Judged, Rules, with_definition_marks, with_verdicts
from inferometer.core.record import Finding
from inferometer.metrics.acceptance import Speculation
from inferometer.metrics.rows import Metric, is_detail, metric_rows
from inferometer.metrics.summary import TrialSummary

_OPTIONAL_GROUPS = frozenset({"open_loop", "phase", "energy", "quality"})
"""Groups whose rows are left out if no arm has a value."""

_WITHOUT_TOKENIZER = frozenset({"output_chars_throughput", "mean_latency_ms"})
"""Rows that a short table shows where the arms' tokens cannot be compared."""

_TrialsByArm = dict[str, list[TrialSummary]]


def compare(
    summaries: Sequence[TrialSummary],
    findings: Iterable[Finding] = (),
    *,
    primary: str = PRIMARY,
    effect_percent: float = EFFECT_PERCENT,
    looked_at: bool = False,
    speculation: Sequence[Speculation] = (),
    pairs: Sequence[tuple[str, str]] = (),
    prompts: Prompts = "sampled",
    equivalence_percent: float = EQUIVALENCE_PERCENT,
    starts_sd_percent: float | None = None,
) -> Comparison:
    """The comparison of these trials; arms come in the order in which they first appear. `pairs`: baseline and arm, if
    not every arm is compared with every other. The other arguments as in Comparison.

    Raises ValueError for no trials, for trials of different metric dialects or percentiles, and for an unknown primary
    metric.
    """
    metrics = _metrics(summaries, primary)
    by_arm = _done_by_arm(summaries)
    all_findings = (*findings, *_memory_quantities(by_arm), *_bursts(by_arm))
    compared = tuple(pairs) or tuple(combinations(by_arm, 2))
    rows = [_row(metric, by_arm, compared, sequential=looked_at) for metric in metrics]
    rows = [one for one in rows if one.metric.group not in _OPTIONAL_GROUPS or any(one.row.n.values())]
    rules = Rules(primary, all_findings, prompts, equivalence_percent, effect_percent, starts_sd_percent)
    decided, correction = with_verdicts(rows, rules)
    if any("output_tokens" in finding.withholds for finding in all_findings):
        decided = tuple(
            msgspec.structs.replace(row, detail=False) if row.metric in _WITHOUT_TOKENIZER else row for row in decided
        )
    marked, definitions = with_definition_marks(decided)
    return Comparison(
        arms=tuple(by_arm),
        rows=marked,
        trials={arm: len(trials) for arm, trials in by_arm.items()},
        dialect=summaries[0].dialect,
        primary=primary,
        effect_percent=effect_percent,
        looked_at=looked_at,
        correction=correction,
        notes=(*_notes(by_arm), *definitions),
        findings=all_findings,
        speculation=tuple(speculation),
        pairs=tuple(pairs),
        prompts=prompts,
        equivalence_percent=equivalence_percent,
        starts_sd_percent=starts_sd_percent,
    )


def _metrics(summaries: Sequence[TrialSummary], primary: str) -> list[Metric]:
    """The rows of the comparison: vLLM's own rows only if another tool's file has them. Raises as `compare`."""
    if not summaries:
        raise ValueError("there is no trial to compare")
    if len({(summary.dialect, summary.percentiles) for summary in summaries}) > 1:
        raise ValueError("trials of different metric dialects or percentiles cannot be compared")
    foreign = {
        key for summary in summaries if summary.tool for key, value in summary.values.items() if value is not None
    }
    metrics = [row for row in metric_rows(summaries[0].percentiles) if row.group != "vllm" or row.key in foreign]
    if primary not in {metric.key for metric in metrics}:
        raise ValueError(f"there is no metric {primary!r}")
    return metrics


def _done_by_arm(summaries: Sequence[TrialSummary]) -> _TrialsByArm:
    """The done trials of every arm, also of arms without any."""
    by_arm: _TrialsByArm = {summary.arm: [] for summary in summaries}
    for summary in summaries:
        if summary.state == "done":
            by_arm[summary.arm].append(summary)
    return by_arm


def _row(metric: Metric, by_arm: _TrialsByArm, pairs: Sequence[tuple[str, str]], *, sequential: bool) -> Judged:
    found = [evidence(metric, (base, by_arm[base]), (arm, by_arm[arm]), sequential=sequential) for base, arm in pairs]
    row = ComparisonRow(
        metric=metric.key,
        label=metric.label,
        unit=metric.unit,
        better=metric.better,
        estimates={arm: estimate(metric, trials, sequential=sequential) for arm, trials in by_arm.items()},
        differences=tuple(one.difference for one in found),
        differs={
            arm: text
            for arm, trials in by_arm.items()
            for trial in trials[:1]
            if (text := trial.differs.get(metric.key)) and trial.values.get(metric.key) is not None
        },
        group=metric.group,
        detail=is_detail(metric.key),
    )
    return Judged(metric, row, tuple(found))


# --- notes and findings ---------------------------------------------------------------------------


def _notes(by_arm: _TrialsByArm) -> Iterable[str]:
    """Each note once; preceded by its arms if it does not hold for all arms."""
    arms_of: dict[str, list[str]] = {}
    for arm, trials in by_arm.items():
        for note in dict.fromkeys(note for trial in trials for note in trial.notes):
            arms_of.setdefault(note, []).append(arm)
    for note, arms in arms_of.items():
        yield note if len(arms) == len(by_arm) else f"{', '.join(arms)}: {note}"


def _memory_quantities(by_arm: _TrialsByArm) -> Iterable[Finding]:
    quantities = {trial.memory_quantity for trials in by_arm.values() for trial in trials} - {None}
    if len(quantities) > 1:
        message = "Memory Usage was measured differently between trials, so that its difference is meaningless."
        yield Finding("warning", "memory-kind", message, "See the notes on how it was measured.", withholds=("memory",))


def _bursts(by_arm: _TrialsByArm) -> Iterable[Finding]:
    """One finding per arm whose tokens arrive in bursts, because gaps between chunks mislead there."""
    for arm, trials in by_arm.items():
        known = [size for trial in trials if (size := trial.values.get("tokens_per_burst")) is not None]
        if known and fmean(known) >= BURST_TOKENS:
            message = (
                f"its tokens arrive in bursts of {fmean(known):.2g} on average. ITL and chunk gaps include the gaps "
                "within bursts, which are nearly 0, so that their medians do not show its speed."
            )
            action = "Read TPOT or ITL per token instead."
            yield Finding("note", "bursts", message, action, arm=arm, withholds=("chunk_gaps",))

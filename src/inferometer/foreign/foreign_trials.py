"""Runs of other tools as trials of a comparison, with their own values and how their definitions differ."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from inferometer.core.record import Finding, Trial
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.row_inputs import RowInput
from inferometer.metrics.rows import percentile_word
from inferometer.metrics.summary import TrialSummary, summarize_view, view

_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)_\w+_ms")
_LATENCY = re.compile(r"(?:mean|median|std|p\d+(?:\.\d+)?)_(\w+)_ms")
_SAME_MEASURE = tuple((f"{statistic}_itl_ms", f"{statistic}_chunk_gap_ms") for statistic in ("median", "p99"))
"""By our definitions each pair is the same measure: gaps between chunks."""


def percentiles_of(runs: Iterable[ForeignRun]) -> tuple[float, ...]:
    """The percentiles that any of the runs reports, and the 99th. The 50th is left out, because the median has rows."""
    found = {float(match[1]) for run in runs for key in run.values if (match := _PERCENTILE.fullmatch(key))}
    return tuple(sorted((found | {99.0}) - {50.0}))


def trial_of(
    run: ForeignRun,
    arm: str,
    number: int,
    origin: tuple[str, int],
    dialect: MetricDialect,
    percentiles: Sequence[float],
) -> TrialSummary:
    """The run as the `number`th trial of `arm`. If the file has each request, values are recomputed by
    `dialect`, so that they have intervals over prompts; other values are those of the tool. `origin`: the file and the
    run's number in it."""
    summary = TrialSummary(arm, number, {}, dialect=dialect, percentiles=tuple(percentiles))
    if run.keys_from_records:
        trial = Trial(arm, number, "done", 0, run.records)
        with np.errstate(invalid="ignore", divide="ignore"):  # in metrics that these records cannot give
            summary = summarize_view(view(trial, dialect), percentiles, with_replicates=True)
    recomputed = {
        key: value for key, value in summary.values.items() if value is not None and key in run.keys_from_records
    }
    differs = run.differs | _family_differences(run.differs, recomputed)
    if run.dialect == dialect:  # only memory is not defined by the dialect
        differs = {key: text for key, text in differs.items() if key == "memory_gib"}
    return msgspec.structs.replace(
        summary,
        values=run.values | recomputed,
        replicates={key: drawn for key, drawn in summary.replicates.items() if key in recomputed},
        counts={key: count for key, count in summary.counts.items() if key in recomputed},
        notes=(f"From {origin[0]}: {run.tool}", *run.notes, *summary.notes),
        study=f"{origin[0]}#{origin[1]}",
        plan=f"{origin[0]}#{origin[1]}",
        tool=run.tool,
        differs=differs,
    )


_COPIED_VALUES = 4
_ROUNDED = 0.0051


def is_copy(one: ForeignRun, other: ForeignRun) -> bool:
    """Whether two runs are one: a file given twice, or the printed block and the JSON of one run, which differ by
    rounding to two places. Two runs never share four times and rates."""
    pairs = [(mine, other.values.get(key)) for key, mine in one.values.items()]
    known = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    broken = sum(mine % 1 != 0 for mine, _ in known)
    return broken >= _COPIED_VALUES and all(abs(mine - theirs) < _ROUNDED for mine, theirs in known)


def _family_differences(differs: Mapping[str, str], recomputed: Iterable[str]) -> dict[str, str]:
    """Extend the difference of one statistic of a latency to the statistics recomputed from the same requests."""
    families = {match[1]: text for key, text in differs.items() if (match := _LATENCY.fullmatch(key))}
    found = {key: match[1] for key in recomputed if (match := _LATENCY.fullmatch(key))}
    return {key: families[family] for key, family in found.items() if family in families and key not in differs}


def with_chunk_gaps(summaries: Sequence[TrialSummary]) -> list[TrialSummary]:
    """The trials with other tools' ITL, which is a gap between chunks, also in the rows of chunk gaps, and vice versa,
    if any trial has that row."""
    known = {key for one in summaries for key, value in one.values.items() if value is not None}
    return [_with_chunk_gaps(one, known) if one.tool else one for one in summaries]


def _with_chunk_gaps(summary: TrialSummary, known: set[str]) -> TrialSummary:
    values, differs = dict(summary.values), dict(summary.differs)
    for pair in _SAME_MEASURE:
        for key, other in (pair, pair[::-1]):
            if key in known and values.get(key) is None and values.get(other) is not None:
                values[key] = values[other]
                if other in differs:
                    differs[key] = differs[other]
    return msgspec.structs.replace(summary, values=values, differs=differs)


def single_run_notes(summaries: Sequence[TrialSummary]) -> list[str]:
    """Notes on why a single run of another tool has no interval."""
    counts = Counter(one.arm for one in summaries)
    alone = [one.arm for one in summaries if one.tool and counts[one.arm] == 1 and not one.replicates]
    if not alone:
        return []
    who = "Each column" if len(alone) == len(counts) else ", ".join(alone)
    return [f"{who}: a single run without data per request has no interval, so that there is no verdict"]


def different_work(summaries: Sequence[TrialSummary]) -> list[Finding]:
    """A warning if columns, at least one from another tool, clearly did not do the same work."""
    if not any(one.tool for one in summaries):
        return []
    findings: list[Finding] = []
    for key, what in (("completed", "successful requests"), ("total_input_tokens", "total input tokens")):
        found = {one.arm: value for one in summaries if (value := one.values.get(key)) is not None}
        if len(set(found.values())) > 1:
            by_arm = ", ".join(f"{arm} {percentile_word(value)}" for arm, value in found.items())
            message = f"The columns did different work, or counted it differently: {what} {by_arm}."
            findings.append(Finding("warning", "other-work", message, "Compare runs of the same prompts."))
    return findings


_RATES: tuple[tuple[str, str, RowInput], ...] = (
    ("request_throughput", "completed", "answer_lengths"),
    ("output_throughput", "total_output_tokens", "output_tokens"),
)
_RATE_ERROR = 0.1
"""Tools end a run at its last answer, at its last token or when they stop: rates differ by up to 2% for that."""


def contradicting_rates(summaries: Sequence[TrialSummary]) -> list[Finding]:
    """Rates of other tools' runs that their own totals and durations refute."""
    findings: list[Finding] = []
    for one in filter(lambda summary: summary.tool, summaries):
        duration = one.values.get("duration")
        for rate, total, about in _RATES:
            stated, amount = one.values.get(rate), one.values.get(total)
            if not duration or not stated or not amount or abs(stated * duration / amount - 1) <= _RATE_ERROR:
                continue
            message = (
                f"{rate.replace('_', ' ')} is stated as {stated:.4g}, but {amount:.6g} in {duration:.4g} s are "
                f"{amount / duration:.4g}."
            )
            advice = "One of the three is of something else: look at the tool's version and its settings."
            findings.append(Finding("warning", "refuted-numbers", message, advice, one.arm, one.number, (about,)))
    return findings

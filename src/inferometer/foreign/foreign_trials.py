"""How does what another tool measured stand in a comparison? As a trial, with its own values and what they mean."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from inferometer.core.record import Finding, Trial
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import percentile_word
from inferometer.metrics.summary import TrialSummary, summarize_view, view

_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)_\w+_ms")
_LATENCY = re.compile(r"(?:mean|median|std|p\d+(?:\.\d+)?)_(\w+)_ms")
_SAME_MEASURE = tuple((f"{statistic}_itl_ms", f"{statistic}_chunk_gap_ms") for statistic in ("median", "p99"))
"""By our definitions these pairs are one measure: gaps between chunks."""


def percentiles_of(runs: Iterable[ForeignRun]) -> tuple[float, ...]:
    """The percentiles that any of the runs tells, and the 99th; the 50th has rows of its own, as the median."""
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
    """The run as the `number`th trial of `arm`. Where the file holds each request its numbers are made again by
    `dialect`, so that they have intervals over prompts; what cannot be made again is the tool's own. `origin`: the file
    and the run's number there."""
    summary = TrialSummary(arm, number, {}, dialect=dialect, percentiles=tuple(percentiles))
    if run.of_records:
        trial = Trial(arm, number, "done", 0, run.records)
        with np.errstate(invalid="ignore", divide="ignore"):  # in metrics that the records are not enough for
            summary = summarize_view(view(trial, dialect), percentiles, with_replicates=True)
    own = {key: value for key, value in summary.values.items() if value is not None and key in run.of_records}
    differs = run.differs | _of_family(run.differs, own)
    if run.dialect == dialect:  # then only what no dialect defines is left: memory
        differs = {key: text for key, text in differs.items() if key == "memory_gib"}
    return msgspec.structs.replace(
        summary,
        values=run.values | own,
        replicates={key: drawn for key, drawn in summary.replicates.items() if key in own},
        counts={key: count for key, count in summary.counts.items() if key in own},
        notes=(f"From {origin[0]}: {run.tool}", *summary.notes),
        study=f"{origin[0]}#{origin[1]}",
        plan=f"{origin[0]}#{origin[1]}",
        tool=run.tool,
        differs=differs,
    )


def _of_family(differs: Mapping[str, str], made: Iterable[str]) -> dict[str, str]:
    """What is told of one statistic of a latency holds for those that were made of the same requests."""
    families = {match[1]: text for key, text in differs.items() if (match := _LATENCY.fullmatch(key))}
    found = {key: match[1] for key in made if (match := _LATENCY.fullmatch(key))}
    return {key: families[family] for key, family in found.items() if family in families and key not in differs}


def with_chunk_gaps(summaries: Sequence[TrialSummary]) -> list[TrialSummary]:
    """The trials, where other tools' ITL, which is a gap between chunks, stands in the rows of chunk gaps too, and the
    other way round, if any other trial has that row."""
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


def one_run_notes(summaries: Sequence[TrialSummary]) -> list[str]:
    """Why there is no interval beside another tool's single run."""
    counts = Counter(one.arm for one in summaries)
    alone = [one.arm for one in summaries if one.tool and counts[one.arm] == 1 and not one.replicates]
    if not alone:
        return []
    who = "Each column" if len(alone) == len(counts) else ", ".join(alone)
    return [f"{who}: one run, its requests not told one by one, has no interval; verdicts against it are unknown"]


def unlike_work(summaries: Sequence[TrialSummary]) -> list[Finding]:
    """A warning where columns, one of them another tool's, plainly did not do the same work."""
    if not any(one.tool for one in summaries):
        return []
    findings: list[Finding] = []
    for key, what in (("completed", "successful requests"), ("total_input_tokens", "total input tokens")):
        found = {one.arm: value for one in summaries if (value := one.values.get(key)) is not None}
        if len(set(found.values())) > 1:
            each = ", ".join(f"{arm} {percentile_word(value)}" for arm, value in found.items())
            message = f"The columns are not of the same work, or did not count alike: {what} {each}."
            findings.append(Finding("warning", "other-work", message, "Compare runs of the same prompts."))
    return findings

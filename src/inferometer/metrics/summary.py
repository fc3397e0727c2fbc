"""Summary of a trial: every metric's value, its replicates for intervals, and notes on how it was measured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core import quantities
from inferometer.core.record import Trial
from inferometer.core.record_columns import RecordColumns
from inferometer.core.request import Request
from inferometer.core.spec import Api
from inferometer.metrics.consistency import ReportedNumber
from inferometer.metrics.energy import energy_notes
from inferometer.metrics.measures import Percentile, TrialView
from inferometer.metrics.memory import engine_samples, memory_quantity
from inferometer.metrics.request_columns import SOURCES, asked_of, contradictions_of, output_columns, timing_columns
from inferometer.metrics.request_timing import MetricDialect, TokenSource
from inferometer.metrics.rows import metric_rows
from inferometer.metrics.series import Floats


class TrialSummary(msgspec.Struct, frozen=True):
    """A trial in numbers: `values` by metric key, and `replicates` of the metrics that depend on prompts (`measures`).

    `counts`: number of values that a percentile is taken from, by metric key. `requests`: number of measured requests.
    `study` and `number` identify pairs: trials of different arms with the same study and number. `plan`: equal for
    trials that played the same prompts. `start`: equal for trials of one start of the engine; "" if each trial has a
    separate start, or if that is unknown. `memory_quantity`: the sample that Memory Usage is made of. `tool`: the tool
    that measured these numbers, "" for our own; `differs`: by metric key, how that tool's definition differs from ours.
    """

    arm: str
    number: int
    values: dict[str, float | None]
    notes: tuple[str, ...] = ()
    dialect: MetricDialect = "inferometer"
    percentiles: tuple[float, ...] = (99,)
    state: Literal["running", "done", "failed"] = "done"
    memory_quantity: str | None = None
    replicates: dict[str, Floats] = {}
    counts: dict[str, int] = {}
    requests: int = 0
    study: str = ""
    plan: str = ""
    tool: str = ""
    differs: dict[str, str] = {}
    start: str = ""


def view(
    trial: Trial,
    dialect: MetricDialect = "inferometer",
    api: Api = "openai-chat",
    requests: Mapping[int, Request] = {},
) -> TrialView:
    """The trial's measured records by the rules of `dialect`. `api`: the API that the requests were sent to.
    `requests`: what was asked, by index; numbers that the prompt or the limit refutes are found only with it."""
    records = RecordColumns.of(trial.records)
    records = records.chosen(records.measured).by_index()
    outputs, asked = output_columns(records), asked_of(records, requests)
    return TrialView(
        trial=trial,
        dialect=dialect,
        api=api,
        records=records,
        outputs=outputs,
        asked=asked,
        timing=timing_columns(records, outputs, asked, dialect, api),
        contradictions=contradictions_of(records, outputs, asked),
        checks={check.index: check for check in trial.checks},
        cache={},
    )


def summarize(
    trial: Trial,
    dialect: MetricDialect = "inferometer",
    percentiles: Sequence[float] = (99,),
    api: Api = "openai-chat",
) -> TrialSummary:
    """Every metric of a trial, over its measured records."""
    return summarize_view(view(trial, dialect, api), percentiles)


def summarize_view(
    trial_view: TrialView,
    percentiles: Sequence[float] = (99,),
    *,
    study: str = "",
    plan: str = "",
    with_replicates: bool = False,
) -> TrialSummary:
    """Every metric of a trial view. `study` and `plan` as in TrialSummary. `with_replicates`: also the replicates,
    which only a comparison needs."""
    trial = trial_view.trial
    rows = metric_rows(percentiles)
    values: dict[str, float | None] = {}
    replicates: dict[str, Floats | None] = {}
    for row in rows:  # all of a row at once, because its values in order are kept for one series at a time
        replicates[row.key] = row.replicates(trial_view) if with_replicates else None
        values[row.key] = row.value(trial_view)
    return TrialSummary(
        arm=trial.arm,
        number=trial.number,
        values=values,
        notes=tuple(_notes(trial_view)),
        dialect=trial_view.dialect,
        percentiles=tuple(percentiles),
        state=trial.state,
        memory_quantity=memory_quantity(engine_samples(trial)),
        replicates={key: found for key, found in replicates.items() if found is not None},
        counts={
            row.key: len(trial_view.series(row.measure.values_of).values)
            for row in rows
            if isinstance(row.measure, Percentile)
        },
        requests=trial_view.size,
        study=study,
        plan=plan,
    )


_MEMORY_NOTES = {
    quantities.GPU_MEMORY_BYTES: "Memory Usage: peak GPU memory of the engine's processes",
    quantities.PSS_BYTES: "Memory Usage: peak PSS of the engine's process tree",
    quantities.RSS_BYTES: (
        "Memory Usage: peak RSS of the engine's process tree; pages shared by processes count more than once"
    ),
}

_SOURCE_WORDS: dict[TokenSource | None, str] = {
    "usage": "by the server (usage)",
    "timings": "by the server (timings)",
    "token ids": "by the server (token ids or counts in its chunks)",
    "our tokenizer": "by our tokenizer",
    "output events": "as one token per output event, because no count is available",
    None: "by nobody: neither the server nor a tokenizer gave a count",
}


def _source_notes(
    trial: TrialView, name: str, about: ReportedNumber, sources: NDArray[np.uint8], expected: TokenSource
) -> Iterable[str]:
    """Who counted the tokens of a row, unless it was `expected`."""
    timed = trial.timing.timed
    unused = timed & trial.refuted(about) & (sources == SOURCES.index(None))
    if unused.any():
        yield f"{name}: unknown in {unused.sum()} of {timed.sum()} requests, because the reported count cannot be true"
    codes, first, counts = np.unique(sources[timed & ~unused], return_index=True, return_counts=True)
    for place in np.argsort(first):
        source = SOURCES[codes[place]]
        if source != expected:
            yield f"{name}: counted {_SOURCE_WORDS[source]} in {counts[place]} of {timed.sum()} requests"


def _notes(trial: TrialView) -> Iterable[str]:
    """The source of each number whose source is not the usual one."""
    for fact in trial.trial.facts:
        if fact.name in (quantities.MODEL_NAME, quantities.DRAFT_NAME) and fact.value.startswith("stand-in"):
            yield f"The {fact.name.removesuffix('_name')} is not a real model but a {fact.value}"
    quantity = memory_quantity(engine_samples(trial.trial))
    if quantity is not None:
        yield _MEMORY_NOTES[quantity]
    yield from energy_notes(trial.trial)
    expected: TokenSource = "our tokenizer" if trial.dialect == "vllm-0.6.5" else "usage"
    yield from _source_notes(trial, "Total input tokens", "prompt_tokens", trial.timing.prompt_source, expected)
    yield from _source_notes(trial, "Total generated tokens", "output_tokens", trial.timing.output_source, expected)

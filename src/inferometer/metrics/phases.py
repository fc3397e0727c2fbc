"""Phases of a trial (load, idle, prefill, decode) and the peak of a quantity in each.

Phases come from the client's records, so that every engine has them. *load*: until the engine produced its first token.
*prefill*: while any sent request has no output yet. *decode*: while any other request is in flight. *idle*: otherwise.
Prefill of one request during the decode of others counts as prefill: most engines mix the two in one step.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from inferometer.core import quantities
from inferometer.core.grouped_values import Ints
from inferometer.core.record import Trial
from inferometer.core.record_columns import UNKNOWN, RecordColumns
from inferometer.metrics.request_columns import output_columns

Phase = Literal["load", "idle", "prefill", "decode"]
READY_FACT = quantities.ENGINE_READY_AT_NS
"""Name of the fact with the time, ns on the trial's clock, at which the engine had produced its first token."""

_Span = tuple[int, int]  # start, end (exclusive), ns


class Phases(msgspec.Struct, frozen=True):
    """A trial's spans, each list in order and without overlaps. Times outside all spans are idle."""

    ready_ns: int
    prefill: tuple[_Span, ...]
    in_flight: tuple[_Span, ...]

    def at(self, at_ns: int) -> Phase:
        """The phase at a time of the trial, ns."""
        if at_ns < self.ready_ns:
            return "load"
        if _within(self.prefill, at_ns):
            return "prefill"
        return "decode" if _within(self.in_flight, at_ns) else "idle"


def phases_of(trial: Trial) -> Phases:
    """Warm-ups count too, because the engine works on them. Without READY_FACT the engine counts as ready from the
    start: older studies took samples only after it was ready."""
    ready_ns = [fact.value for fact in trial.facts if fact.name == READY_FACT]
    records = RecordColumns.of(trial.records)
    outputs = output_columns(records)
    sent_ns, done_ns = records.numbers["sent_ns"], records.numbers["done_ns"]
    first_ns, some = done_ns.copy(), outputs.counts > 0
    first_ns[some] = outputs.first_ns[some]
    sent = sent_ns != UNKNOWN
    prefill, in_flight = (_merged(sent_ns[sent], ends[sent]) for ends in (first_ns, done_ns))
    return Phases(int(ready_ns[0]) if ready_ns else 0, prefill, in_flight)


def peaks(values: Mapping[int, float], phases: Phases) -> dict[Phase, float]:
    """The highest value in each phase, of values by time (ns); a phase without values has no entry."""
    highest: dict[Phase, float] = {}
    for at_ns, value in values.items():
        phase = phases.at(at_ns)
        highest[phase] = max(value, highest.get(phase, value))
    return highest


def _merged(begins: Ints, ends: Ints) -> tuple[_Span, ...]:
    """The union of the spans: in order, without overlap or contact."""
    if not len(begins):
        return ()
    order = np.argsort(begins, kind="stable")
    begins, reached = begins[order], np.maximum.accumulate(ends[order])
    new = np.flatnonzero(begins[1:] > reached[:-1]) + 1
    first, last = np.concatenate(([0], new)), np.concatenate((new - 1, [len(begins) - 1]))
    return tuple(zip(begins[first].tolist(), reached[last].tolist(), strict=True))


def _within(spans: Sequence[_Span], at_ns: int) -> bool:
    place = bisect_right(spans, at_ns, key=lambda span: span[0]) - 1
    return place >= 0 and at_ns < spans[place][1]

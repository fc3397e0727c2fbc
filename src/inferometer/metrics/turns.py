"""Turns of a trial: with interleaved requests (`order: requests`), the times in which this arm worked and no other did.

A trial that had no turns to take worked from the start of its plan to the end of its last measured response.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

from inferometer.core import quantities
from inferometer.core.record import Sample, Trial
from inferometer.core.record_columns import RecordColumns

Span = tuple[int, int]
"""Start and end, ns on the trial's clock."""


def turns_of(trial: Trial) -> tuple[Span, ...]:
    """The trial's turns, in order; empty for a trial without turns."""
    turns = [(one.at_ns, one.at_ns + round(one.value)) for one in trial.samples if one.quantity == quantities.TURN_NS]
    return tuple(sorted(turns))


def working_spans(trial: Trial) -> tuple[Span, ...]:
    """Its turns, or the one span of a trial without turns; empty if that is unknown or empty."""
    turns = turns_of(trial)
    if turns:
        return turns
    records = RecordColumns.of(trial.records)
    end_ns = int(records.numbers["done_ns"][records.measured].max(initial=0))
    if trial.plan_started_ns is None or end_ns <= trial.plan_started_ns:
        return ()
    return ((trial.plan_started_ns, end_ns),)


def length_ns(spans: Sequence[Span]) -> int:
    """All of them together."""
    return sum(end - start for start, end in spans)


def waits_of(trial: Trial) -> tuple[Span, ...]:
    """The times between its turns, in which other arms worked."""
    return tuple((one[1], other[0]) for one, other in pairwise(turns_of(trial)) if other[0] > one[1])


def within(spans: Sequence[Span], samples: Sequence[Sample]) -> list[Sample]:
    """The readings made in one of the spans."""
    starts = [start for start, _ in spans]
    found: list[Sample] = []
    for sample in samples:
        place = bisect_right(starts, sample.at_ns) - 1
        if place >= 0 and sample.at_ns <= spans[place][1]:
            found.append(sample)
    return found


def whole_intervals_within(spans: Sequence[Span], samples: Sequence[Sample]) -> list[Sample]:
    """Readings of a quantity that covers the time since the last reading: those that lie in one of the spans together
    with the reading before."""
    starts = [start for start, _ in spans]
    found: list[Sample] = []
    for before, sample in pairwise(sorted(samples, key=lambda one: one.at_ns)):
        place = bisect_right(starts, before.at_ns) - 1
        if place >= 0 and sample.at_ns <= spans[place][1]:
            found.append(sample)
    return found


def working_clock(trial: Trial) -> Callable[[int], int]:
    """A clock that stands still while the arm waits: from ns on the trial's clock to ns of work. Without turns, the
    trial's clock."""
    turns = turns_of(trial)
    if not turns:
        return lambda at_ns: at_ns
    starts = [start for start, _ in turns]
    before = [0]
    for start, end in turns:
        before.append(before[-1] + end - start)

    def worked_ns(at_ns: int) -> int:
        place = bisect_right(starts, at_ns) - 1
        if place < 0:
            return at_ns - starts[0]
        start, end = turns[place]
        return before[place] + min(at_ns, end) - start

    return worked_ns

"""Load shape: did the server keep up with the schedule, and was the asked concurrency reached?"""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.grouped_values import Ints
from inferometer.core.record import Finding
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics.measures import TrialView
from inferometer.metrics.series import Floats
from inferometer.metrics.turns import length_ns, turns_of


class Backlog(msgspec.Struct, frozen=True):
    """Requests of an open loop that were due and not finished, seen by each request as it becomes due.

    `first`, `second`, `last`: the mean over that quarter of the requests. `span_s`: from the first due time to the
    last. `drain_s`: from the last due time to the last answer. `latency_s`: the 75th percentile of the latency, from
    due, of the first half.
    """

    first: float
    second: float
    last: float
    span_s: float
    drain_s: float
    latency_s: float
    arriving_per_s: float
    served_per_s: float


def backlogs(trial: TrialView) -> list[Backlog]:
    """Of the whole trial, or of each of its turns: at the end of a turn nothing waits any more."""
    due_ns, done_ns = trial.records.numbers["due_ns"], trial.records.numbers["done_ns"]
    known = due_ns != UNKNOWN
    turns = turns_of(trial.trial)
    parts = [known & (start <= due_ns) & (due_ns <= end) for start, end in turns] or [known]
    return [found for part in parts if (found := backlog(due_ns[part], done_ns[part])) is not None]


def backlog(due_ns: Ints, done_ns: Ints) -> Backlog | None:
    """Of requests with a due time; None for too few requests."""
    if len(due_ns) < thresholds.SATURATION_LEAST_REQUESTS:
        return None
    order = np.lexsort((done_ns, due_ns))
    due, done = due_ns[order].astype(np.float64), done_ns[order].astype(np.float64)
    span_ns, total_ns = float(due[-1] - due[0]), float(done.max() - due[0])
    if span_ns <= 0:
        return None
    waiting: Floats = np.arange(len(due), dtype=np.float64) - np.searchsorted(np.sort(done), due, side="right")
    quarter = len(due) // 4
    return Backlog(
        first=float(waiting[:quarter].mean()),
        second=float(waiting[quarter : 2 * quarter].mean()),
        last=float(waiting[-quarter:].mean()),
        span_s=span_ns / 1e9,
        drain_s=float(done.max() - due[-1]) / 1e9,
        latency_s=float(np.percentile((done - due)[: len(due) // 2], 75)) / 1e9,
        arriving_per_s=(len(due) - 1) / (span_ns / 1e9),
        served_per_s=len(due) / (total_ns / 1e9),
    )


def is_saturated(found: Backlog) -> bool:
    """Whether the queue grew all along: at the end more requests wait than at the beginning, and the server needs much
    longer to finish them than one request took at first."""
    return (
        found.last - found.first > thresholds.SATURATION_LEAST_BACKLOG
        and found.last > thresholds.SATURATION_GROWTH * found.second
        and found.drain_s > thresholds.SATURATION_GROWTH * found.latency_s
        and found.drain_s > thresholds.SATURATION_DRAIN_SHARE * found.span_s
    )


@for_each_arm
def saturated(case: ArmTrials) -> Iterable[Finding]:
    """An open loop above capacity: its latencies grow with the length of the run."""
    known = [found for trial in case.done for found in backlogs(trial)]
    over = [found for found in known if is_saturated(found)]
    if not over or 2 * len(over) < len(known):
        return
    parts = "turns" if any(turns_of(trial.trial) for trial in case.done) else "trials"
    arriving, served = (fmean(getattr(found, name) for found in over) for name in ("arriving_per_s", "served_per_s"))
    yield case.finding(
        "warning",
        "saturated",
        f"requests arrived at {arriving:.3g}/s and were answered at {served:.3g}/s ({len(over)} of {len(known)} "
        f"{parts}): the queue grew from {fmean(found.first for found in over):.0f} to "
        f"{fmean(found.last for found in over):.0f} requests, so latencies say how long the run was.",
        f"Ask for less than {served:.3g} requests a second, or compare throughput only.",
        withholds=("latency", "first_token"),
    )


def concurrency_held(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """A closed loop that was at the asked concurrency for a part of the run only."""
    for case in cases:
        if case.concurrency is None or case.concurrency < 2:
            continue
        shares = [share for trial in case.done if (share := _share_at(trial, case.concurrency)) is not None]
        if shares and fmean(shares) < thresholds.CONCURRENCY_SHARE:
            yield case.finding(
                "warning" if fmean(shares) < thresholds.CONCURRENCY_LEAST_SHARE else "note",
                "not-steady",
                f"{fmean(shares):.0%} of the time was at the asked concurrency of {case.concurrency}; the rest was the "
                "start and the end of the run.",
                f"Give at least {10 * case.concurrency} prompts.",
            )


def _share_at(trial: TrialView, concurrency: int) -> float | None:
    """The share of a closed loop's time in which as many requests were under way as asked; None for an open loop."""
    sent_ns, done_ns = trial.records.numbers["sent_ns"], trial.records.numbers["done_ns"]
    sent = sent_ns != UNKNOWN
    if not sent.any() or (trial.records.numbers["due_ns"][sent] != UNKNOWN).any():
        return None
    at_ns = np.concatenate((sent_ns[sent], done_ns[sent]))
    change = np.repeat((1, -1), sent.sum())
    order = np.lexsort((change, at_ns))
    at_ns, under_way = at_ns[order], np.cumsum(change[order])
    held = int(np.diff(at_ns)[under_way[:-1] >= concurrency].sum())
    whole = length_ns(turns_of(trial.trial)) or int(at_ns[-1] - at_ns[0])
    return held / whole if whole > 0 else None

"""Load shape: did the server keep up with the schedule, and was the asked concurrency reached?"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.record import Finding, RequestRecord
from inferometer.metrics.measures import TrialView
from inferometer.metrics.statistics import Floats


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


def backlog(trial: TrialView) -> Backlog | None:
    """None for a closed loop, and for too few requests."""
    records = [request.record for request in trial.requests if request.record.due_ns is not None]
    if len(records) < thresholds.SATURATION_LEAST_REQUESTS:
        return None
    rows: Floats = np.array(sorted((record.due_ns or 0, record.done_ns) for record in records), np.float64)
    due, done = rows[:, 0], rows[:, 1]
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
    known = [found for trial in case.done if (found := backlog(trial)) is not None]
    over = [found for found in known if is_saturated(found)]
    if not over or 2 * len(over) < len(known):
        return
    arriving, served = (fmean(getattr(found, name) for found in over) for name in ("arriving_per_s", "served_per_s"))
    yield case.finding(
        "warning",
        "saturated",
        f"requests arrived at {arriving:.3g}/s and were answered at {served:.3g}/s ({len(over)} of {len(known)} "
        f"trials): the queue grew from {fmean(found.first for found in over):.0f} to "
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
    sent = [request.record for request in trial.requests if request.record.sent_ns is not None]
    if not sent or any(record.due_ns is not None for record in sent):
        return None
    edges = sorted(_edges(sent))
    began, ended = edges[0][0], edges[-1][0]
    held = under_way = 0
    for (at_ns, change), (next_ns, _) in pairwise(edges):
        under_way += change
        held += next_ns - at_ns if under_way >= concurrency else 0
    return held / (ended - began) if ended > began else None


def _edges(records: Iterable[RequestRecord]) -> Iterator[tuple[int, int]]:
    for record in records:
        yield record.sent_ns or 0, 1
        yield record.done_ns, -1

"""Arrival times of one request's tokens in every arm: bursts, and the stalls between them."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import msgspec
import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.base.units import ms
from inferometer.metrics.measures import TrialView
from inferometer.metrics.token_latency import STALL_MULTIPLE, Burst, delivery
from inferometer.metrics.trial_columns import longest_stalls_ns
from inferometer.report.page.request_keys import Key, evenly_spaced, keys_of_trial

MOST_REQUESTS = 24
MOST_BURSTS = 1200
"""Limit for one answer; neighbouring bursts of a longer answer are merged."""


class ArmTokens(msgspec.Struct, frozen=True):
    """One arm's answer, times in ms from sending. `bursts`: arrival time and number of tokens. `stalls`: begin and end.
    `joined`: how many neighbouring bursts are merged into one. A failed request has no bursts; see `outcome`."""

    arm: str
    trial: int
    outcome: str
    bursts: tuple[tuple[float, float], ...] = ()
    stalls: tuple[tuple[float, float], ...] = ()
    joined: int = 1

    @property
    def tokens(self) -> float:
        return sum(tokens for _, tokens in self.bursts)


class Timeline(msgspec.Struct, frozen=True):
    """One request in every arm that has it."""

    request: str
    kind: str
    lanes: tuple[ArmTokens, ...]

    @property
    def longest_stall_ms(self) -> float:
        return max((end - begin for lane in self.lanes for begin, end in lane.stalls), default=0.0)


class Timelines(msgspec.Struct, frozen=True):
    """The requests shown, of `total`."""

    shown: tuple[Timeline, ...]
    total: int


def timelines(cases: Sequence[ArmTrials]) -> Timelines:
    """Requests of the arms' first completed trials: a selection over the plan, and each arm's longest stall."""
    order: dict[Key, None] = {}
    of_arm: dict[str, tuple[ArmTrials, TrialView, dict[Key | None, int]]] = {}
    stalled: set[Key] = set()
    for case in cases:
        for trial in case.done[:1]:
            keys = keys_of_trial(case, trial)
            order.update(dict.fromkeys(key for key in keys if key is not None))
            of_arm[case.name] = (case, trial, dict(zip(keys, range(len(keys)), strict=True)))
            stalls_ns = np.array(longest_stalls_ns(trial))
            stalls_ns[[place for place, key in enumerate(keys) if key is None]] = 0
            worst = keys[int(np.argmax(stalls_ns))] if stalls_ns.any() else None
            stalled |= set() if worst is None else {worst}
    evenly = evenly_spaced([key for key in order if key not in stalled], max(1, MOST_REQUESTS - len(stalled)))
    chosen = stalled | set(evenly)
    shown = [_timeline(key, of_arm) for key in order if key in chosen]
    return Timelines(tuple(shown), len(order))


def _timeline(key: Key, of_arm: "dict[str, tuple[ArmTrials, TrialView, dict[Key | None, int]]]") -> Timeline:
    found = [(name, case, trial, places[key]) for name, (case, trial, places) in of_arm.items() if key in places]
    _, case, trial, place = found[0]
    asked = case.requests.get(int(trial.index[place]))
    lanes = tuple(_lane(name, trial, place) for name, _, trial, place in found)
    return Timeline(trial.records.request_ids[place], _kind(asked.tags) if asked else "", lanes)


def _kind(tags: dict[str, str]) -> str:
    return ", ".join(tags[name] for name in ("language", "task") if name in tags)


def _lane(arm: str, view: TrialView, place: int) -> ArmTokens:
    record, trial = view.records.record(place), view.trial.number
    delivered = delivery(record)
    if delivered is None or record.sent_ns is None or not delivered.bursts:
        return ArmTokens(arm, trial, record.outcome)
    limit_ns = STALL_MULTIPLE * median(delivered.gaps_ns) if delivered.gaps_ns else 0.0
    stalls = [
        (ms(before.at_ns - record.sent_ns), ms(after.at_ns - record.sent_ns))
        for before, after in pairwise(delivered.bursts)
        if after.at_ns - before.at_ns > limit_ns
    ]
    shown, joined = _joined(delivered.bursts)
    return ArmTokens(
        arm, trial, record.outcome,
        tuple((ms(burst.at_ns - record.sent_ns), burst.tokens) for burst in shown), tuple(stalls), joined,
    )  # fmt: skip


def _joined(bursts: Sequence[Burst]) -> tuple[list[Burst], int]:
    """At most MOST_BURSTS bursts, and how many neighbours were merged into each."""
    joined = -(-len(bursts) // MOST_BURSTS)
    if joined <= 1:
        return list(bursts), 1
    groups = [bursts[i : i + joined] for i in range(0, len(bursts), joined)]
    return [Burst(group[-1].at_ns, sum(burst.tokens for burst in group)) for group in groups], joined

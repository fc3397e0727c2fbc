"""Which requests of two arms are the same one? Those that asked the same, in whichever study."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import TypeVar

from inferometer.analysis.validity import ArmTrials
from inferometer.metrics.measures import RequestView

_T = TypeVar("_T")
Key = Hashable
"""The messages, and how often they had been asked before in the plan; the place in the plan where that is not known."""


def keys(case: ArmTrials) -> dict[int, Key]:
    """By index in the arm's plan, in its order."""
    asked: Counter[Key] = Counter()
    found: dict[int, Key] = {}
    for index, request in sorted(case.requests.items()):
        found[index] = (request.messages, asked[request.messages])
        asked[request.messages] += 1
    if not found:
        found = {request.record.index: request.record.index for trial in case.trials for request in trial.requests}
    return found


def means(case: ArmTrials, of: Callable[[RequestView], Sequence[float]]) -> dict[Key, float]:
    """The mean of all values of each request over the arm's done trials; no entry where it never had one."""
    known = keys(case)
    values: dict[Key, list[float]] = {}
    for trial in case.done:
        for request in trial.requests:
            if request.record.index in known:
                values.setdefault(known[request.record.index], []).extend(of(request))
    return {key: fmean(own) for key, own in values.items() if own}


def spread_out(things: Sequence[_T], most: int) -> list[_T]:
    """At most so many of them, evenly from the first to the last."""
    if len(things) <= most:
        return list(things)
    if most == 1:
        return [things[0]]
    return [things[i * (len(things) - 1) // (most - 1)] for i in range(most)]

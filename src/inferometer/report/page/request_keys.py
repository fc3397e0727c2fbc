"""Matching requests of different arms and studies: those with the same messages."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import fmean
from typing import TypeVar

from inferometer.analysis.validity import ArmTrials
from inferometer.metrics.measures import RequestView

_T = TypeVar("_T")
Key = Hashable
"""The messages and how often the plan had asked them before; the index in the plan if the messages are unknown."""


def request_keys(case: ArmTrials) -> dict[int, Key]:
    """The key of each request, by index in the arm's plan, in its order."""
    asked: Counter[Key] = Counter()
    found: dict[int, Key] = {}
    for index, request in sorted(case.requests.items()):
        found[index] = (request.messages, asked[request.messages])
        asked[request.messages] += 1
    if not found:
        found = {request.record.index: request.record.index for trial in case.trials for request in trial.requests}
    return found


def means_by_request(case: ArmTrials, of: Callable[[RequestView], Sequence[float]]) -> dict[Key, float]:
    """The mean of each request's values over the arm's completed trials; no entry for a request without values."""
    known = request_keys(case)
    values: dict[Key, list[float]] = {}
    for trial in case.done:
        for request in trial.requests:
            if request.record.index in known:
                values.setdefault(known[request.record.index], []).extend(of(request))
    return {key: fmean(own) for key, own in values.items() if own}


def evenly_spaced(things: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the things, spread evenly from the first to the last."""
    if len(things) <= most:
        return list(things)
    if most == 1:
        return [things[0]]
    return [things[i * (len(things) - 1) // (most - 1)] for i in range(most)]

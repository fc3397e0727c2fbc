"""Matching requests of different arms and studies: those with the same messages."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.metrics.measures import Values

_T = TypeVar("_T")
Key = Hashable
"""The messages and how often the plan had asked them before; the index in the plan if the messages are unknown."""


def request_keys(case: ArmTrials) -> dict[int, Key]:
    """The key of each request, by index in the arm's plan, in its order."""
    return case.trials[0].cached("keys", lambda _: _request_keys(case)) if case.trials else _request_keys(case)


def _request_keys(case: ArmTrials) -> dict[int, Key]:
    asked: Counter[Key] = Counter()
    found: dict[int, Key] = {}
    for index, request in sorted(case.requests.items()):
        found[index] = (request.messages, asked[request.messages])
        asked[request.messages] += 1
    return found or {index: index for trial in case.trials for index in trial.index.tolist()}


def means_by_request(case: ArmTrials, of: Values) -> dict[Key, float]:
    """The mean of each request's values over the arm's completed trials; no entry for a request without values."""
    known = request_keys(case)
    size = 1 + max((int(trial.index.max(initial=-1)) for trial in case.done), default=-1)
    totals, counts = np.zeros(size), np.zeros(size)
    for trial in case.done:
        series = trial.series(of, left_out=True)
        index = trial.index[series.positions]
        totals += np.bincount(index, series.values, size)
        counts += np.bincount(index, minlength=size)
    places = np.flatnonzero(counts)
    means = (totals[places] / counts[places]).tolist()
    return {known[index]: mean for index, mean in zip(places.tolist(), means, strict=True) if index in known}


def evenly_spaced(things: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the things, spread evenly from the first to the last."""
    if len(things) <= most:
        return list(things)
    if most == 1:
        return [things[0]]
    return [things[i * (len(things) - 1) // (most - 1)] for i in range(most)]

"""Matching requests of different arms and studies: those with the same messages."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.core.grouped_values import Ints
from inferometer.metrics.measures import TrialView, Values
from inferometer.metrics.request_columns import Requests
from inferometer.metrics.series import Floats

_T = TypeVar("_T")
Key = int
"""Stands for the messages and how often the plan had asked them before; the index in the plan if the messages are
unknown."""


def request_keys(case: ArmTrials) -> dict[int, Key]:
    """The key of each request, by index in the arm's plan, in its order."""
    known = case.requests if isinstance(case.requests, Requests) else Requests(case.requests)
    return known.keys_by_index or {index: index for trial in case.trials for index in trial.index.tolist()}


def keys_of_trial(case: ArmTrials, trial: TrialView) -> list[Key | None]:
    """The key of each request of a trial; None for a request that the plan does not have."""
    return list(map(request_keys(case).get, trial.index.tolist()))


def means_by_request(case: ArmTrials, of: Values) -> tuple[Ints, Floats]:
    """The key of each request that has values, and the mean of these over the arm's completed trials."""
    known = request_keys(case)
    index = np.fromiter(known, np.int64, len(known))
    size = 1 + max([int(trial.index.max(initial=-1)) for trial in case.done] + [int(index.max(initial=-1))])
    totals, counts = np.zeros(size), np.zeros(size)
    for trial in case.done:
        series = trial.series(of, left_out=True)
        places = trial.index[series.positions]
        totals += np.bincount(places, series.values, size)
        counts += np.bincount(places, minlength=size)
    some = counts[index] > 0
    keys = np.fromiter(known.values(), np.int64, len(known))
    return keys[some], totals[index[some]] / counts[index[some]]


def evenly_spaced(things: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the things, spread evenly from the first to the last."""
    if len(things) <= most:
        return list(things)
    if most == 1:
        return [things[0]]
    return [things[i * (len(things) - 1) // (most - 1)] for i in range(most)]

"""Neighbours of the best settings: one or two parameters moved by a large, a medium or a small step."""

import math
import random
from collections.abc import Collection, Sequence

from inferometer.analysis.search.proposals import Settings
from inferometer.core.search_settings import Parameter, Search, Value

_STEPS = (0.25, 0.12, 0.05)
"""Standard deviations of a move, as shares of the parameter's range."""
_TOWARDS_AN_END = 0.4
"""Probability that a move goes to an end of the range, or halves the distance to it: the best value often lies there,
and a small slope is found only by a long move."""
_TRIES = 50


def neighbours(
    search: Search, leaders: Sequence[Settings], taken: Collection[Settings], count: int, rng: random.Random
) -> list[Settings]:
    """Up to `count` settings near the leaders that are not in `taken`; the first leader gets two of three."""
    found: list[Settings] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        leader = leaders[0] if rng.random() < 2 / 3 else leaders[-1]
        moved = _moved(search, leader, rng)
        if moved not in taken and moved not in found:
            found.append(moved)
    return found


def _moved(search: Search, leader: Settings, rng: random.Random) -> Settings:
    kinds = list(search.parameters.values())
    chosen = rng.sample(range(len(kinds)), min(len(kinds), rng.choice((1, 1, 2))))
    step = rng.choice(_STEPS)
    return tuple(
        _moved_value(kinds[place], value, step, rng) if place in chosen else value for place, value in enumerate(leader)
    )


def _moved_value(one: Parameter, value: Value, step: float, rng: random.Random) -> Value:
    if one.choice is not None:
        return rng.choice([other for other in one.choice if other != value])
    assert isinstance(value, int | float)
    low, high = one.bounds
    if rng.random() < _TOWARDS_AN_END:
        end = rng.choice((low, high))
        return one.rounded(rng.choice((end, (value + end) / 2)))
    move = rng.gauss(0, step)
    if one.scale == "log":
        moved = one.rounded(value * math.exp(move * math.log(high / low)))
    else:
        moved = one.rounded(value + move * (high - low))
    if one.int is not None and moved == value:  # the step was smaller than the next whole number
        moved = one.rounded(value + math.copysign(1, move))
    return moved

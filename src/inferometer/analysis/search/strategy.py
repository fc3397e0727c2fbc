"""The order of a search: which settings play the next rounds, from what was measured so far.

A small space is measured as a full grid. In a large space each generation holds new proposals and the leaders. Half of
the proposals are neighbours of the leaders. Each step plays two rounds with the baseline. Settings that are shown to be
worse leave; of the others the best play on. The search ends when its budget is used, one setting is left, or eight
generations brought nothing better. The same results always give the same steps, so that an interrupted search continues
where it stopped.
"""

import random
from collections.abc import Mapping, Sequence

import msgspec

from inferometer.analysis.search.neighbours import neighbours
from inferometer.analysis.search.proposals import Settings, propose, require_optuna
from inferometer.analysis.search.racing import Race
from inferometer.core.search_settings import Search

GRID = 48
"""The largest space that is measured as a full grid."""
ROUNDS = 2
"""Rounds of one step."""
LEADERS = 2
"""Settings of earlier generations that play with the new ones."""
OVERVIEW = 2
"""Generations that are proposed from the whole space alone."""
PATIENCE = 8
"""Generations without a better leader, after which no new setting is proposed."""
MOST_GENERATIONS = 21
"""Of a large space: about 300 trials with six settings at once."""
FINAL = 4
"""Settings that play the last steps, and the number of these steps."""


class Step(msgspec.Struct, frozen=True):
    """Settings that play `rounds` rounds together with the baseline."""

    settings: tuple[Settings, ...]
    rounds: int


class Strategy:
    """A search under way: `next_step`, then `tell` its results, until `next_step` is None."""

    def __init__(self, search: Search, seed: int) -> None:
        self.race: Race[Settings] = Race()
        self.generations = 0
        self._search = search
        self._seed = seed
        self._is_grid = search.grid_size() <= GRID
        self._waiting = search.grid() if self._is_grid else list[Settings]()
        self._first_seen: dict[Settings, int] = {}
        self._final = 0
        if not self._is_grid:
            require_optuna(search.grid_size(), GRID)

    def next_step(self) -> Step | None:
        """None at the end of the search."""
        if self._waiting:
            return Step(tuple(self._with_leaders(self._waiting)), ROUNDS)
        if not self._is_grid and not self._is_stale() and (found := self._proposed()):
            self._waiting = found
            return self.next_step()
        live = self.race.live[:FINAL]
        return Step(tuple(live), ROUNDS) if len(live) > 1 and self._final < FINAL else None

    def tell(self, step: Step, values: Mapping[Settings, Sequence[float]], dropped: Mapping[Settings, str]) -> None:
        """The results of a step: logarithms over the baseline, by setting; and why a setting cannot be used."""
        self._final += 0 if self._waiting else 1
        self._waiting = [one for one in self._waiting if one not in step.settings]
        self.race.add(values)
        for one in values:
            self._first_seen.setdefault(one, self.generations)
        for one, reason in dropped.items():
            self.race.drop(one, reason)
        self.race.look()
        if not self._waiting:
            self.generations += 1

    def _with_leaders(self, waiting: Sequence[Settings]) -> list[Settings]:
        leaders = [] if self._is_grid else self.race.live[:LEADERS]
        return [*leaders, *waiting[: self._search.at_once - len(leaders)]]

    def _proposed(self) -> list[Settings]:
        unusable = list(self.race.dropped)
        known = {one: self.race.mean(one) for one in self.race.values if one not in unusable}
        count = self._search.at_once - min(LEADERS, len(self.race.live))
        near = self._nearby(count - count // 2, {*known, *unusable})
        unusable = [*unusable, *near]  # so that the estimator proposes others
        return [*near, *propose(self._search, known, unusable, count - len(near), self._seed + self.generations)]

    def _nearby(self, count: int, taken: set[Settings]) -> list[Settings]:
        """Neighbours of the leaders; none in the first generations, which look at the whole space."""
        leaders = self.race.live[:LEADERS]
        if self.generations < OVERVIEW or not leaders:
            return []
        rng = random.Random(f"{self._seed} {self.generations}")
        return neighbours(self._search, leaders, taken, count, rng)

    def _is_stale(self) -> bool:
        """Whether there were enough generations, or the leader is older than the last ones. The values of a time are
        not compared with those of another: the best of few rounds looks better than it is."""
        if self.generations >= MOST_GENERATIONS:
            return True
        leaders = self.race.live[:1]
        newest = max((self._first_seen[one] for one in leaders), default=0)
        return self.generations - newest > PATIENCE

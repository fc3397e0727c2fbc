"""Racing: settings measured in the same rounds as the baseline, and a sequential test by which the worse ones leave.

Each value is the logarithm of a setting's result over the baseline's in the same round. All settings share one
variance, pooled over them, so that two rounds of each are enough to judge many. The test is repeated at every look.
Look number l may err with a probability of α/(l(l+1)), which adds up to α over any number of looks, and that is shared
among the settings (Bonferroni). The best setting therefore leaves a race wrongly with a probability of at most α,
whenever the race ends.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Generic, TypeVar

from scipy import special

_K = TypeVar("_K", bound=Hashable)

ERROR = 0.05
"""α: the probability that the best setting leaves a race wrongly."""
INDIFFERENCE = 0.01
"""A setting leaves once it is shown not to be better than the leader by more than this (1%)."""


class Race(Generic[_K]):
    """Values by setting, and who has left with which reason. Larger values are better."""

    def __init__(self) -> None:
        self.values: dict[_K, list[float]] = {}
        self.left: dict[_K, str] = {}
        self.dropped: set[_K] = set()
        self.looks = 0

    def add(self, values: Mapping[_K, Sequence[float]]) -> None:
        for key, found in values.items():
            self.values.setdefault(key, []).extend(found)

    def drop(self, key: _K, reason: str) -> None:
        """The setting failed, or violates a constraint."""
        self.values.setdefault(key, [])
        self.left.setdefault(key, reason)
        self.dropped.add(key)

    @property
    def live(self) -> list[_K]:
        """The settings that have not left, best mean first."""
        known = [key for key, found in self.values.items() if found and key not in self.left]
        return sorted(known, key=lambda key: -self.mean(key))

    def mean(self, key: _K) -> float:
        return fmean(self.values[key])

    def spread(self) -> tuple[float, int]:
        """The pooled standard deviation of one value, and its degrees of freedom; (inf, 0) before a second round."""
        groups = [found for found in self.values.values() if len(found) > 1]
        freedom = sum(len(found) - 1 for found in groups)
        if not freedom:
            return math.inf, 0
        total = sum((value - fmean(found)) ** 2 for found in groups for value in found)
        return math.sqrt(total / freedom), freedom

    def margin(self, one: _K, other: _K, level: float) -> float:
        """The most by which the difference of two means errs, except with probability `level` (one-sided)."""
        deviation, freedom = self.spread()
        if not freedom:
            return math.inf
        share = 1 / len(self.values[one]) + 1 / len(self.values[other])
        return float(special.stdtrit(freedom, 1 - level)) * deviation * math.sqrt(share)

    def look(self) -> list[_K]:
        """One look: the settings that leave because they are shown to be worse than the leader."""
        live = self.live
        if len(live) < 2:
            return []
        self.looks += 1
        level = ERROR / (self.looks * (self.looks + 1)) / max(1, len(self.values) - 1)
        leader, out = live[0], list[_K]()
        for key in live[1:]:
            behind = self.mean(leader) - self.mean(key)
            if behind > self.margin(leader, key, level) - INDIFFERENCE:
                worse = f"{100 * math.expm1(behind):.1f}% behind the leader after {len(self.values[key])} round(s)"
                self.left[key] = worse
                out.append(key)
        return out

    def interval(self, key: _K, confidence: float = 0.95) -> tuple[float, float]:
        """Around the mean of one setting, with the pooled variance. For pictures of the search, not for a claim."""
        deviation, freedom = self.spread()
        found = self.values[key]
        if not freedom or not found:
            return -math.inf, math.inf
        half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * deviation / math.sqrt(len(found))
        return self.mean(key) - half, self.mean(key) + half


def paired_logs(values: Mapping[str, Sequence[float | None]], baseline: str, sign: int) -> dict[str, list[float]]:
    """Logarithms of each arm's values over the baseline's, by round; rounds without both are left out. `sign`: −1
    where a smaller value is better."""
    base = values[baseline]
    return {
        arm: [sign * math.log(own / other) for own, other in _known(zip(found, base, strict=True))]
        for arm, found in values.items()
        if arm != baseline
    }


def _known(pairs: Iterable[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    return [(own, other) for own, other in pairs if own and other and own > 0 and other > 0]

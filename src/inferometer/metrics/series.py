"""A trial's values, each with the position of its request."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import ranges, starts_of, summed

Floats = NDArray[np.float64]

PART_VALUES = 1 << 20
"""Long series are worked through in parts of this many values: what is computed of a part does not fill the memory."""


class Series(msgspec.Struct, frozen=True):
    """Values of a trial. `owners`: for each value the position of its request; None if the values follow each other in
    the order of the requests (`in_order`). `requests`: number of requests, failed ones included. Values of each token
    are kept as narrow as they fit: as ns in 4 bytes, say."""

    values: NDArray[Any]
    owners: NDArray[np.integer[Any]] | None
    requests: int
    known: dict[str, NDArray[Any]] = {}  # what `totals` and `counts` computed: several metrics use it

    @classmethod
    def in_order(cls, values: NDArray[Any], counts: NDArray[np.int64]) -> "Series":
        """`counts`: the number of values of each request."""
        return cls(values, None, len(counts), {"counts": counts})

    @property
    def positions(self) -> NDArray[np.integer[Any]]:
        """For each value the position of its request."""
        return np.repeat(np.arange(self.requests), self.counts()) if self.owners is None else self.owners

    def parts(self) -> "Iterator[Series]":
        """The values in parts of about `PART_VALUES`: what is computed of a part does not fill the memory. Of values in
        order, each part has whole requests."""
        if self.owners is None:
            starts = starts_of(self.counts())
            for first, last in ranges(starts, PART_VALUES):
                owners = np.repeat(np.arange(first, last), self.counts()[first:last])
                yield Series(self.values[starts[first] : starts[last]], owners, self.requests)
            return
        for begin in range(0, len(self.values), PART_VALUES):
            part = slice(begin, begin + PART_VALUES)
            yield Series(self.values[part], self.owners[part], self.requests)

    def totals(self) -> Floats:
        """The sum of the values of each request."""
        if "totals" not in self.known:
            self.known["totals"] = self._totals()
        return self.known["totals"]

    def _totals(self) -> Floats:
        if self.owners is None and self.values.dtype.kind == "u":
            return summed(self.values, starts_of(self.counts())).astype(np.float64)
        found = np.zeros(self.requests)
        for part in self.parts():
            found += np.bincount(part.positions, part.values, self.requests)
        return found

    def counts(self) -> NDArray[np.int64]:
        """The number of values of each request."""
        if "counts" not in self.known:
            found = self.known["counts"] = np.zeros(self.requests, np.int64)
            for part in self.parts():
                found += np.bincount(part.positions, minlength=self.requests)
        return self.known["counts"]


def percentile_of_sorted(values: Floats, percent: float) -> float:
    """As numpy.percentile, of values in rising order."""
    return interpolated(lambda place: float(values[place]), len(values), percent)


def interpolated(value_at: Callable[[int], float], count: int, percent: float) -> float:
    """By linear interpolation between the two nearest ranks. `value_at`: the value at a place in rising order."""
    place = (count - 1) * (percent / 100)
    below = math.floor(place)
    low, high, share = value_at(below), value_at(min(below + 1, count - 1)), place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def deviation(values: NDArray[Any]) -> float:
    """As numpy.std, which makes two wide copies of all values."""
    if len(values) <= PART_VALUES:
        return float(np.std(values))
    return math.sqrt(_squares(values, float(np.mean(values))) / len(values))


def _squares(values: NDArray[Any], mean: float) -> float:
    """The sum of the squared distances from the mean, added in pairs of halves as numpy adds."""
    if len(values) > PART_VALUES:
        half = len(values) // 2
        half -= half % 8
        return _squares(values[:half], mean) + _squares(values[half:], mean)
    distances = values - mean
    distances *= distances
    return float(distances.sum())

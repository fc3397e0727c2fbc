"""A trial's values, each with the position of its request."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PART_VALUES = 1 << 20
"""Long series are worked through in parts of this many values: what is computed of a part does not fill the memory."""


class Series(msgspec.Struct, frozen=True):
    """Values of a trial, and for each value the position of its request. `requests`: number of requests, failed ones
    included. Values of each token are kept as narrow as they fit: as ns in 4 bytes, say."""

    values: NDArray[Any]
    positions: NDArray[np.integer[Any]]
    requests: int
    known: dict[str, NDArray[Any]] = {}  # what `totals` and `counts` computed: several metrics use it

    def parts(self) -> "Iterator[Series]":
        """The values in parts of `PART_VALUES`: what is computed of a part does not fill the memory."""
        for begin in range(0, len(self.values), PART_VALUES):
            part = slice(begin, begin + PART_VALUES)
            yield Series(self.values[part], self.positions[part], self.requests)

    def totals(self) -> Floats:
        """The sum of the values of each request."""
        if "totals" not in self.known:
            found = self.known["totals"] = np.zeros(self.requests)
            for part in self.parts():
                found += np.bincount(part.positions, part.values, self.requests)
        return self.known["totals"]

    def counts(self) -> NDArray[np.int64]:
        """The number of values of each request."""
        if "counts" not in self.known:
            found = self.known["counts"] = np.zeros(self.requests, np.int64)
            for part in self.parts():
                found += np.bincount(part.positions, minlength=self.requests)
        return self.known["counts"]


def percentile_of_sorted(values: Floats, percent: float) -> float:
    """As numpy.percentile, of values in rising order: by linear interpolation between the two nearest ranks."""
    place = (len(values) - 1) * (percent / 100)
    below = math.floor(place)
    low, high, share = float(values[below]), float(values[min(below + 1, len(values) - 1)]), place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)

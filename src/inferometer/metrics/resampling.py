"""Bootstrap of a trial's requests: means and percentiles of requests that are drawn again."""

import functools
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.metrics.series import Floats, Series, interpolated

REPLICATES = 999
MAX_GROUPS = 400
"""More requests than this are resampled in this many groups: the variance of a sum of groups is that of the sum."""
MAX_RANKS = 2048
"""Quantiles of resampled values are exact up to this many values; beyond, they are exact to one in 2048 ranks."""
_SEED = 20160525


class Resampling:
    """Bootstrap of a trial's requests: drawn with replacement, `REPLICATES` times (Efron 1979). Trials with the same
    number of requests use the same draws, so that pairs stay pairs."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        groups = min(requests, MAX_GROUPS)
        rng = np.random.default_rng(_SEED)
        self._group = np.arange(requests) % groups if groups else np.zeros(0, np.int64)
        share = np.full(groups, 1 / groups) if groups else np.zeros(0)
        drawn = rng.multinomial(groups, share, REPLICATES) if groups else np.zeros((REPLICATES, 0))
        self._weights = drawn.astype(np.float32)
        self._exact_weights = drawn.astype(np.float64)
        self._last: tuple[Series, _Ranked] | None = None
        self._last_ordered: tuple[Series, _Ordered] | None = None

    def totals(self, series: Series) -> Floats:
        """The sum of the values in each replicate."""
        return self._exact_weights @ self._of_groups(series.totals())

    def _of_groups(self, of_requests: NDArray[Any]) -> Floats:
        groups = self._weights.shape[1]
        return np.bincount(self._group, of_requests, groups).astype(np.float64) if groups else np.zeros(0)

    def means(self, series: Series) -> Floats:
        """The mean of the values in each replicate; NaN for a replicate without values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.totals(series) / (self._exact_weights @ self._of_groups(series.counts()))

    def percentile(self, series: Series, percent: float) -> float:
        """As numpy.percentile of the values; of many whole numbers by the order that the replicates use too."""
        if len(series.values) < MAX_RANKS or not _are_whole(series):
            return float(np.percentile(series.values, percent))
        ordered = self._ordered(series)
        return interpolated(lambda place: float(ordered.value(np.array([place]))[0]), len(series.values), percent)

    def forget(self) -> None:
        """Free what is kept of the last series."""
        self._last_ordered = self._last = None

    def _ordered(self, series: Series) -> "_Ordered":
        """The last result is kept: several numbers of the same series are computed one after another."""
        if self._last_ordered is None or self._last_ordered[0] is not series:
            self.forget()
            self._last_ordered = series, _sorted_with_groups(series, self._group)
        return self._last_ordered[1]

    def _ranked(self, series: Series) -> "_Ranked":
        """The last result is kept, as in `_ordered`."""
        if self._last is None or self._last[0] is not series:
            ordered = self._ordered(series)
            self._last = series, self._ranks_of(ordered, len(series.values))
        return self._last[1]

    def _ranks_of(self, ordered: "_Ordered", count: int) -> "_Ranked":
        groups, ranks = self._weights.shape[1], min(count, MAX_RANKS)
        ends = np.arange(1, ranks + 1) * count // ranks
        up_to = np.empty((groups, ranks), np.float32)
        for begin in range(0, ranks, _COARSE):  # some ranks at once: their values fit into the memory
            own = ends[begin : begin + _COARSE]
            first = int(ends[begin - 1]) if begin else 0
            rank = np.repeat(np.arange(len(own)), np.diff(own, prepend=first))
            found = ordered.group(slice(first, int(own[-1]))) + rank * groups
            up_to[:, begin : begin + len(own)] = np.bincount(found, minlength=len(own) * groups).reshape(-1, groups).T
        np.cumsum(up_to, axis=1, out=up_to)
        firsts = np.concatenate(([0], ends[:-1]))
        last = np.minimum(np.arange(_COARSE, ranks + _COARSE, _COARSE), ranks) - 1
        middle = ordered.value((firsts + ends - 1) // 2)
        return _Ranked(middle, up_to, self._weights @ up_to[:, last])

    def quantiles(self, series: Series, percent: float) -> Floats:
        """The percentile in each replicate, by linear interpolation between the two nearest ranks as in numpy; NaN for
        a replicate without values."""
        if not len(series.values):
            return np.full(REPLICATES, np.nan)
        ranked = self._ranked(series)
        drawn = ranked.reached[:, -1]
        position = (drawn - 1) * percent / 100
        low = np.floor(position)
        high = np.minimum(low + 1, drawn - 1)
        first, end = (np.argmax(ranked.reached > limit[:, None], axis=1) for limit in (low, high))
        fine = slice(int(first.min()) * _COARSE, (int(end.max()) + 1) * _COARSE)  # where the percentile may be
        reached, values = self._weights @ ranked.up_to[:, fine], ranked.values[fine]
        below, above = (values[np.argmax(reached > limit[:, None], axis=1)] for limit in (low, high))
        return np.where(drawn > 0, below + (above - below) * (position - low), np.nan)


class _Ranked(msgspec.Struct, frozen=True):
    """`values` by rank; `up_to`: in each group, the number of values up to each rank; `reached`: in each replicate, the
    number of values up to every rank that ends a block of `_COARSE`."""

    values: Floats
    up_to: NDArray[np.float32]
    reached: NDArray[np.float32]


_COARSE = 32


class _Ordered(msgspec.Struct, frozen=True):
    """Values in rising order with the group of each: in one column of integers if they fit, `joined`, because it is
    sorted 10 times faster than two."""

    joined: NDArray[np.int64] | None
    values: Floats
    groups: NDArray[np.int64]

    def value(self, places: NDArray[np.int64]) -> Floats:
        return self.values[places] if self.joined is None else (self.joined[places] >> 9).astype(np.float64)

    def group(self, places: slice) -> NDArray[np.int64]:
        return self.groups[places] if self.joined is None else self.joined[places] & 511  # MAX_GROUPS < 2^9


def _sorted_with_groups(series: Series, group: NDArray[np.int64]) -> _Ordered:
    """`group`: of each request."""
    values, nothing = series.values, np.zeros(0)
    if len(values) >= MAX_RANKS and _are_whole(series):
        joined, end = np.empty(len(values), np.int64), 0
        for part in series.parts():
            begin, end = end, end + len(part.values)
            np.left_shift(part.values, 9, out=joined[begin:end], dtype=np.int64, casting="unsafe")
            joined[begin:end] |= group[part.positions]
        joined.sort()
        return _Ordered(joined, nothing, nothing.astype(np.int64))
    order = np.argsort(values, kind="stable")
    return _Ordered(None, values[order].astype(np.float64), group[series.positions][order])


def _are_whole(series: Series) -> bool:
    """Whether the values are whole numbers of less than 53 bits."""
    if series.values.dtype.kind == "u":
        return True
    return all(
        np.array_equal(part.values.astype(np.int64), part.values) and abs(part.values).max() < 1 << 53
        for part in series.parts()
    )


@functools.lru_cache(maxsize=4)
def resampling(requests: int) -> Resampling:
    """The bootstrap for this number of requests; the same number always gives the same draws."""
    return Resampling(requests)

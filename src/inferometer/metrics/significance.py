"""Significance tests, corrections of p-values for many tests, and a robust line."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferometer.base.lazy import lazy_module

special = lazy_module("scipy.special")
"""scipy.stats takes half a second to import, more than the comparison of a small study: its tests are written here."""

MAX_LINE_POINTS = 1000
"""A robust line through this many points has half a million slopes: 20 ms and 20 MB. Its slope is nearly as sure as
that of a million points: both are far surer than the limits that they are compared with."""
_EXACT_TREND_VALUES = 33


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple comparisons by the false discovery rate (Benjamini and Hochberg 1995, JRSS B 57,
    289-300; for positively dependent metrics Benjamini and Yekutieli 2001, Annals of Statistics 29)."""
    count = len(p_values)
    order = np.argsort(p_values)[::-1]
    scaled = np.asarray(p_values, np.float64)[order] * count / np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that all tests together err in 5% of studies (Holm 1979, Scandinavian Journal of Statistics
    6, 65-70)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - place)))
        adjusted[i] = highest
    return adjusted


def sign_test_p_value(one: int, other: int) -> float:
    """Two-sided, exact: whether cases fall on either side with the same probability. Without cases it is 1."""
    return min(1.0, 2 * float(special.bdtr(min(one, other), one + other, 0.5))) if one + other else 1.0


def fisher_p_value(first: tuple[int, int], second: tuple[int, int], *, less: bool = False) -> float:
    """Fisher's exact test of two shares, each as hits and misses. `less`: one-sided, whether the first is lower."""
    (hits, misses), (other_hits, other_misses) = first, second
    tried, of_all, all_hits = hits + misses, hits + misses + other_hits + other_misses, hits + other_hits
    if 0 in (tried, of_all - tried, all_hits, of_all - all_hits):
        return 1.0
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, of_all + 1)))))  # of the factorials
    possible = np.arange(max(0, tried - (of_all - all_hits)), min(tried, all_hits) + 1)
    chosen = logs[possible] + logs[all_hits - possible] + logs[tried - possible]
    chance = -(chosen + logs[of_all - all_hits - tried + possible])  # up to a constant
    chance = np.exp(chance - chance.max())
    place = hits - possible[0]
    extreme = chance[: place + 1] if less else chance[chance <= chance[place] * (1 + 1e-7)]
    return min(1.0, float(extreme.sum() / chance.sum()))


def trend_p_value(values: Sequence[float]) -> float:
    """Kendall's rank test of a trend over the order of the values (two-sided; NaN if all are equal). Exact for few
    values without ties, else by the normal approximation with its correction for ties (Kendall 1970, Rank Correlation
    Methods, chapters 4 and 5). Of more than `MAX_LINE_POINTS` values, as many evenly spaced ones are tested."""
    found = np.asarray(values, np.float64)
    found = found[_evenly_spaced(len(found))]
    count = len(found)
    ties = np.unique(found, return_counts=True)[1]
    if len(ties) < 2:
        return math.nan
    pairs = count * (count - 1) // 2
    first, second = np.triu_indices(count, 1)
    score = int(np.sign(found[second] - found[first]).sum())
    if len(ties) == count and count <= _EXACT_TREND_VALUES:
        return _exact_trend_p_value(count, (pairs - abs(score)) // 2)
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return math.erfc(abs(score) / math.sqrt(2 * variance))


def _exact_trend_p_value(count: int, inversions: int) -> float:
    """Twice the share of all orders of `count` values that have at most this many inversions, at most 1."""
    orders = np.ones(1)  # the number of orders with 0, 1, … inversions
    for values in range(2, count + 1):
        orders = np.convolve(orders, np.ones(values)) / values
    return min(1.0, 2 * float(orders[: inversions + 1].sum()))


def _evenly_spaced(count: int) -> NDArray[np.int64]:
    """At most `MAX_LINE_POINTS` positions of `count`."""
    return np.linspace(0, count - 1, min(count, MAX_LINE_POINTS)).round().astype(np.int64)


def robust_line(positions: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept by Theil and Sen: the median of all slopes, which a few outliers do not change.

    There are n²/2 slopes: of more than `MAX_LINE_POINTS` points, the slopes of as many evenly spaced ones are used."""
    x, y = np.asarray(positions, np.float64), np.asarray(values, np.float64)
    spread = _evenly_spaced(len(x))
    first, second = np.triu_indices(len(spread), 1)
    run = x[spread[second]] - x[spread[first]]
    rise = y[spread[second]] - y[spread[first]]
    known = run != 0
    slope = float(np.median(rise[known] / run[known])) if known.any() else math.nan
    return slope, float(np.median(y) - slope * np.median(x))

"""Values of groups that follow each other in one array: the begin and the sum of each group, and groups reordered."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_VALUES_AT_ONCE = 1 << 20
_GROUPS_AT_ONCE = 1 << 14


def starts_of(counts: "Sequence[int] | Ints") -> Ints:
    """Where each group begins, and where the last one ends."""
    found = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=found[1:])
    return found


def ranges(starts: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Groups that have at most `most` values together, or one larger group: the first, and the one after the last."""
    first, groups = 0, len(starts) - 1
    while first < groups:
        last = cast("int", np.searchsorted(starts, starts[first] + most, "right")) - 1
        last = min(max(last, first + 1), groups)
        yield first, last
        first = last


def gathered(columns: "Sequence[NDArray[Any] | None]", begins: Ints, starts: Ints) -> "list[NDArray[Any] | None]":
    """Each column with its groups in another order. `begins`: where each group begins in the columns; `starts`: where
    it is to begin, and where the last one ends."""
    found = [None if column is None else np.empty(int(starts[-1]), column.dtype) for column in columns]
    for first, last in ranges(starts, _VALUES_AT_ONCE):
        own = slice(int(starts[first]), int(starts[last]))
        counts = np.diff(starts[first : last + 1])
        places = np.repeat(begins[first:last] - starts[first:last], counts) + np.arange(own.start, own.stop)
        for column, target in zip(columns, found, strict=True):
            if column is not None and target is not None:
                np.take(column, places, out=target[own])
    return found


def summed(values: NDArray[Any], starts: Ints) -> Ints:
    """The sum of each group of values. `starts`: the first value of each group, and the end of the last."""
    if values.dtype == np.bool_:
        return _counted(values[: starts[-1]], starts)
    found = np.zeros(len(starts) - 1, np.int64)
    for first in range(0, len(found), _GROUPS_AT_ONCE):  # numpy makes a wide copy of narrow values
        own = starts[first : first + _GROUPS_AT_ONCE + 1]
        some = np.flatnonzero(own[1:] > own[:-1])
        if len(some):
            part = values[own[0] : own[-1]]
            found[first + some] = np.add.reduceat(part, own[some] - own[0], dtype=np.int64)
    return found


def _counted(chosen: Bools, starts: Ints) -> Ints:
    """The number of `chosen` in each group: mostly none or nearly all are."""
    if 2 * np.count_nonzero(chosen) > len(chosen):
        return np.diff(starts) - _counted(~chosen, starts)
    owners = np.searchsorted(starts, np.flatnonzero(chosen), "right") - 1
    return np.bincount(owners, minlength=len(starts) - 1)

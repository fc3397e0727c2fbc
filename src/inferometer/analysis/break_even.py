"""Break-even: up to which concurrency an arm is faster than the baseline, with an interval.

Between two measured concurrencies the gain (a logarithm) is taken to change linearly with the logarithm of the
concurrency. The interval of the break-even point holds every concurrency at which the gain's own 95% interval contains
0 (the inversion of a test): it contains the true crossing as often as the gain's interval contains the true gain.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from inferometer.analysis.comparison import Difference

_STEPS = 200
"""Places between two measured concurrencies at which the interval is computed."""


class GainAt(msgspec.Struct, frozen=True):
    """Logarithm of an arm's speed over the baseline's at one concurrency, larger is better, and half the width of its
    95% interval."""

    concurrency: int
    gain: float
    half: float

    @property
    def percent(self) -> tuple[float, float, float]:
        """The gain and both ends of its interval in percent."""
        gain, low, high = (100 * math.expm1(one) for one in (self.gain, self.gain - self.half, self.gain + self.half))
        return gain, low, high


class BreakEven(msgspec.Struct, frozen=True):
    """`kind`: `up to`, the arm is faster below `at`; `from`, it is faster above; `always` and `never` within the
    measured range; `open`: the intervals do not show any of these. `low`, `high`: the interval of `at`; None where it
    extends beyond the measured range."""

    kind: Literal["up to", "from", "always", "never", "open"]
    at: float | None = None
    low: float | None = None
    high: float | None = None


def gain_at(concurrency: int, found: Difference, *, lower_is_better: bool) -> GainAt | None:
    """None where the difference has no interval."""
    if found.percent is None or found.low_percent is None or found.high_percent is None:
        return None
    if min(found.percent, found.low_percent) <= -100:
        return None
    sign = -1 if lower_is_better else 1
    mean, low, high = (math.log1p(one / 100) for one in (found.percent, found.low_percent, found.high_percent))
    return GainAt(concurrency, sign * mean, (high - low) / 2)


def break_even(points: Sequence[GainAt]) -> BreakEven:
    """From two or more concurrencies in rising order."""
    if all(one.gain - one.half > 0 for one in points):
        return BreakEven("always")
    if all(one.gain + one.half < 0 for one in points):
        return BreakEven("never")
    places = _between(points)
    crossing = next(
        (place for place, (one, other) in enumerate(itertools.pairwise(places), 1) if one[1] * other[1] <= 0),
        None,
    )
    if crossing is None:
        return BreakEven("open")
    first = last = crossing
    while first > 0 and abs(places[first - 1][1]) <= places[first - 1][2]:
        first -= 1
    while last < len(places) - 1 and abs(places[last + 1][1]) <= places[last + 1][2]:
        last += 1
    return BreakEven(
        "up to" if places[crossing - 1][1] > 0 else "from",
        2 ** places[crossing][0],
        None if first == 0 else 2 ** places[first - 1][0],
        None if last == len(places) - 1 else 2 ** places[last + 1][0],
    )


def _between(points: Sequence[GainAt]) -> list[tuple[float, float, float]]:
    """Logarithm of the concurrency, gain and half-width, at the measured places and between them."""
    found: list[tuple[float, float, float]] = []
    for one, other in itertools.pairwise(points):
        for step in range(_STEPS):
            share = step / _STEPS
            along = (1 - share) * math.log2(one.concurrency) + share * math.log2(other.concurrency)
            half = math.hypot((1 - share) * one.half, share * other.half)
            found.append((along, (1 - share) * one.gain + share * other.gain, half))
    return [*found, (math.log2(points[-1].concurrency), points[-1].gain, points[-1].half)]


def sentence(found: BreakEven, points: Sequence[GainAt]) -> str:
    """`pays up to 6 streams [5, 8]`"""
    first, last = points[0].concurrency, points[-1].concurrency
    if found.at is None:
        words = {
            "always": f"pays at every concurrency from {first} to {last}",
            "never": f"never pays from {first} to {last} streams",
        }
        return words.get(found.kind) or _shown_at(points)
    low = f"under {first}" if found.low is None else f"{found.low:.2g}"
    high = f"over {last}" if found.high is None else f"{found.high:.2g}"
    return f"pays {found.kind} {found.at:.2g} streams [{low}, {high}]"


def _shown_at(points: Sequence[GainAt]) -> str:
    """`costs at 1 and 8 streams, not shown either way at 2 and 4`: where no crossing is shown."""
    pays = [one.concurrency for one in points if one.gain - one.half > 0]
    costs = [one.concurrency for one in points if one.gain + one.half < 0]
    if not pays and not costs:
        return f"is not shown to pay or to cost from {points[0].concurrency} to {points[-1].concurrency} streams"
    open_at = [one.concurrency for one in points if one.concurrency not in (*pays, *costs)]
    parts = [("pays at {} streams", pays), ("costs at {} streams", costs), ("not shown either way at {}", open_at)]
    return ", ".join(words.format(_listed(at)) for words, at in parts if at)


def _listed(numbers: Sequence[int]) -> str:
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last

"""May a study end now? The rule of `until`, for results that are looked at after every round.

Looking again and again, and ending when it looks well, makes 5% errors into many more, unless the intervals allow for
it: here they are a confidence sequence (`stats.anytime_quantile`), which holds the truth in 95% of studies at all looks
together, whenever the study ends.
"""

import msgspec

from inferometer.analysis.compare import Comparison, Difference


class Stop(msgspec.Struct, frozen=True):
    """Whether the study has enough trials, and why in words (also why not yet)."""

    enough: bool
    why: str


def stop(comparison: Comparison, within_percent: float) -> Stop:
    """Enough, for every arm against the first: the 95% interval of the primary metric's difference is within
    ±`within_percent`, or all of it lies at least so far from 0, or prompts alone make it wider, so that no further
    trial helps. The distance from 0 is the same number, fixed before the first trial."""
    row = comparison.primary_row
    baseline = comparison.arms[0]
    found = [] if row is None else [one for one in row.differences if one.baseline == baseline]
    if not found:
        return Stop(False, f"no trial has {comparison.primary} yet")
    states = [_state(one, within_percent) for one in found]
    return Stop(all(state.enough for state in states), "; ".join(state.why for state in states))


def _state(found: Difference, within_percent: float) -> Stop:
    if found.low_percent is None or found.high_percent is None or "trials" not in found.basis:
        return Stop(False, f"{found.arm}: no interval yet ({found.reason or 'too few trials'})")
    half = (found.high_percent - found.low_percent) / 2
    said = f"{found.arm}: {found.low_percent:+.1f}% to {found.high_percent:+.1f}%"
    if half <= within_percent:
        return Stop(True, f"{said}, within ±{within_percent:g}%")
    if found.low_percent >= within_percent or found.high_percent <= -within_percent:
        return Stop(True, f"{said}, all of it {within_percent:g}% or more from 0")
    if found.prompts_percent is not None and found.prompts_percent > within_percent:
        return Stop(
            True,
            f"{said}; ±{found.prompts_percent:.1f}% of that are the prompts' own, and no further trial narrows it: "
            "ask for more prompts",
        )
    return Stop(False, f"{said}, wider than ±{within_percent:g}%")

"""The stopping rule of `until`: whether a study has enough trials, decided after every round.

Stopping as soon as the result looks good makes errors far more frequent than 5%, unless the intervals allow for it.
Here they are a confidence sequence (`statistics.anytime_quantile`): in 95% of studies, all intervals up to the last
round contain the true value, whenever the study ends.
"""

import msgspec

from inferometer.analysis.comparison import Comparison, Difference


class StopDecision(msgspec.Struct, frozen=True):
    """Whether the study has enough trials, and the reason, also if it has not."""

    enough: bool
    reason: str


def stop_decision(comparison: Comparison, within_percent: float) -> StopDecision:
    """Enough trials if for every arm compared with the first one of these holds: the 95% interval of the primary
    metric's difference has a half-width of at most `within_percent`; the whole interval is at least `within_percent`
    away from 0 (the same number, fixed before the first trial); or the prompts alone make the interval wider, so that
    further trials do not help."""
    row = comparison.primary_row
    baseline = comparison.arms[0]
    found = [] if row is None else [difference for difference in row.differences if difference.baseline == baseline]
    if not found:
        return StopDecision(False, f"no trial has {comparison.primary} yet")
    states = [_state(difference, within_percent) for difference in found]
    return StopDecision(all(state.enough for state in states), "; ".join(state.reason for state in states))


def _state(found: Difference, within_percent: float) -> StopDecision:
    if found.low_percent is None or found.high_percent is None or "trials" not in found.basis:
        return StopDecision(False, f"{found.arm}: no interval yet ({found.reason or 'too few trials'})")
    half = (found.high_percent - found.low_percent) / 2
    interval = f"{found.arm}: {found.low_percent:+.1f}% to {found.high_percent:+.1f}%"
    if half <= within_percent:
        return StopDecision(True, f"{interval}, within ±{within_percent:g}%")
    if found.low_percent >= within_percent or found.high_percent <= -within_percent:
        return StopDecision(True, f"{interval}, excludes differences smaller than {within_percent:g}%")
    if found.prompts_percent is not None and found.prompts_percent > within_percent:
        return StopDecision(
            True,
            f"{interval}; the prompts alone make it ±{found.prompts_percent:.1f}%: add prompts, not trials",
        )
    return StopDecision(False, f"{interval}, wider than ±{within_percent:g}%")

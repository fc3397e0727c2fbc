"""The difference in speed between two arms while their study runs, from the prompts that both have answered. Pure.

It is a first look: the verdict also covers how rounds vary, and is corrected for the number of comparisons.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from inferometer.base.lazy import lazy_module

special = lazy_module("scipy.special")

LEAST_PROMPTS = 3
"""Fewer prompts give no useful interval."""


class AnsweredRequest(msgspec.Struct, frozen=True):
    """A measured request that succeeded: its place in the plan, output tokens, and time from sending to the end, ns."""

    index: int
    tokens: int
    took_ns: int


class LiveDifference(NamedTuple):
    """Tokens per second of request time, compared with the baseline, percent, with a 95% interval over the prompts."""

    percent: float
    low_percent: float
    high_percent: float


class _Sums(NamedTuple):
    """Of one prompt or of all: tokens and time, for the baseline and the arm."""

    tokens: int
    took_ns: int
    arm_tokens: int
    arm_took_ns: int

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: "_Sums") -> "_Sums":
        return _Sums(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def log_ratio(self) -> float:
        return math.log(self.arm_tokens / self.arm_took_ns) - math.log(self.tokens / self.took_ns)


class LiveDifferences:
    """The answers of a study so far. Answers of both arms in the same round to the same prompt make a pair."""

    def __init__(self, baseline: str) -> None:
        self._baseline = baseline
        self._answers: dict[str, dict[tuple[int, int], AnsweredRequest]] = {}

    def add(self, arm: str, round_number: int, answers: Iterable[AnsweredRequest]) -> None:
        of_arm = self._answers.setdefault(arm, {})
        of_arm.update({(round_number, one.index): one for one in answers if one.tokens > 0 and one.took_ns > 0})

    def forget(self, arm: str, round_number: int) -> None:
        """Removes the answers of a trial that failed."""
        of_arm = self._answers.get(arm, {})
        for key in [key for key in of_arm if key[0] == round_number]:
            del of_arm[key]

    def of(self, arm: str) -> LiveDifference | None:
        """None for the baseline, and until both arms have answered LEAST_PROMPTS prompts."""
        prompts = {} if arm == self._baseline else self._pairs(arm)
        if len(prompts) < LEAST_PROMPTS:
            return None
        from statistics import fmean, stdev

        total = _Sums(0, 0, 0, 0)
        for sums in prompts.values():
            total = total.plus(sums)
        count = len(prompts)
        # The jackknife over prompts: each prompt's answers of all rounds are left out together.
        pseudo = [count * total.log_ratio - (count - 1) * total.minus(one).log_ratio for one in prompts.values()]
        half = float(special.stdtrit(count - 1, 0.975)) * stdev(pseudo) / math.sqrt(count)
        centre = fmean(pseudo)
        low, middle, high = (100 * math.expm1(min(value, 20.0)) for value in (centre - half, centre, centre + half))
        return LiveDifference(middle, low, high)

    def _pairs(self, arm: str) -> dict[int, _Sums]:
        """The sums of each prompt over the rounds in which both arms have answered it."""
        prompts: dict[int, _Sums] = {}
        mine, theirs = self._answers.get(self._baseline, {}), self._answers.get(arm, {})
        for key in mine.keys() & theirs.keys():
            pair = _Sums(mine[key].tokens, mine[key].took_ns, theirs[key].tokens, theirs[key].took_ns)
            prompts[key[1]] = prompts[key[1]].plus(pair) if key[1] in prompts else pair
        return prompts

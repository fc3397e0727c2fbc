"""Searches whose truth is known: landscapes of gains, measured on a simulated machine in interleaved rounds."""

import math
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from inferometer.analysis.compare import compare
from inferometer.analysis.search.proposals import Settings
from inferometer.analysis.search.racing import ERROR
from inferometer.analysis.search.strategy import Strategy
from inferometer.core.search_settings import Parameter, Search
from inferometer.metrics.series import Floats
from inferometer.testing.simulated import KEYS, Design, Simulated, SimulatedMachine, simulated, summaries

BUSY = SimulatedMachine(busy_share=0.2, prompt_spread=0.03)
"""A machine whose neighbour is busy 20% of the time, with arms that bear on prompts unequally by 3%."""
SEARCH = Search({"n_max": Parameter(int=(1, 32), scale="log"), "p_min": Parameter(float=(0.0, 0.9))})
ALL = [(n, p / 20) for n in range(1, 33) for p in range(19)]
"""The exhaustive search: every whole number, and the thresholds in steps of 0.05."""
EXHAUSTIVE_ROUNDS = 2
"""The fewest rounds that give an interval."""


class Landscape(msgspec.Struct, frozen=True):
    """`gain`: the true logarithm of a setting's throughput over the baseline's. `may_use`: the constraint."""

    gain: Callable[[float, float], float]
    may_use: Callable[[float, float], bool] = lambda n, p: True

    def of(self, settings: Settings) -> float:
        n, p = settings
        return self.gain(float(str(n)), float(str(p)))

    def allows(self, settings: Settings) -> bool:
        n, p = settings
        return self.may_use(float(str(n)), float(str(p)))

    @property
    def best(self) -> float:
        """The gain of the best of all settings, or of the baseline."""
        return max(0.0, *(self.of(one) for one in ALL if self.allows(one)))


def _peak(n: float, p: float) -> float:
    return 0.4 * math.exp(-(((math.log(n) - math.log(8)) / 0.9) ** 2) - ((p - 0.4) / 0.5) ** 2) - 0.05


LANDSCAPES: Mapping[str, Landscape] = {
    "unimodal": Landscape(_peak),
    "plateau": Landscape(lambda n, p: 0.25 * min(1, math.log(n) / math.log(6)) - 0.2 * max(0, p - 0.6)),
    "cliff": Landscape(lambda n, p: (0.012 * n if n <= 20 else -0.5) - 0.1 * p),
    "noise only": Landscape(lambda n, p: 0.0),
    "constraint at the optimum": Landscape(_peak, lambda n, p: n <= 6),
}


class Found(msgspec.Struct, frozen=True):
    """One search. `behind`: true logarithm of the exhaustive best over the chosen setting (the baseline if no setting
    was confirmed). `is_loss`: the chosen setting is slower than the baseline. `covered`: the confirmed interval
    contains the true gain; None without a confirmation. `trials`: with the confirmation."""

    behind: float
    is_loss: bool
    covered: bool | None
    trials: int


def searched(landscape: Landscape, seed: int, machine: SimulatedMachine = BUSY, confirm_rounds: int = 5) -> Found:
    """One simulated search in this landscape, with its confirmation."""
    rng = np.random.default_rng(seed)
    strategy, trials = Strategy(SEARCH, seed), 0
    while (step := strategy.next_step()) is not None:
        usable = [one for one in step.settings if landscape.allows(one)]
        logs = _throughput_logs(simulated(machine, Design(step.rounds, "requests", len(usable) + 1), rng))
        trials += (len(step.settings) + 1) * step.rounds
        values = {
            one: [float(value) + landscape.of(one) for value in logs[place] - logs[0]]
            for place, one in enumerate(usable, 1)
        }
        strategy.tell(step, values, {one: "constraint" for one in step.settings if one not in usable})
    ranked = [one for one in strategy.race.live if strategy.race.mean(one) > 0][:2]
    if not ranked:
        return Found(landscape.best, False, None, trials)
    pays, covered = _confirmed(landscape, ranked, machine, confirm_rounds, rng)
    chosen = landscape.of(ranked[0]) if pays else 0.0
    return Found(landscape.best - chosen, chosen < 0, covered, trials + (len(ranked) + 1) * confirm_rounds)


def _confirmed(
    landscape: Landscape, ranked: list[Settings], machine: SimulatedMachine, rounds: int, rng: np.random.Generator
) -> tuple[bool, bool]:
    """Whether the winner's interval lies above 0, and whether it contains the true gain."""
    found = simulated(machine, Design(rounds, "requests", len(ranked) + 1), rng)
    factors = np.exp([0.0, *(-landscape.of(one) for one in ranked)])[:, None, None]
    scaled = msgspec.structs.replace(found, ttft_s=found.ttft_s * factors, tpot_s=found.tpot_s * factors)
    row = compare(summaries(scaled, KEYS[:1]), primary=KEYS[0]).primary_row
    assert row is not None
    difference = row.differences[0]
    low, high = difference.low_percent, difference.high_percent
    assert low is not None and high is not None
    return low > 0, low <= 100 * math.expm1(landscape.of(ranked[0])) <= high


def _throughput_logs(found: Simulated) -> Floats:
    """By arm and round."""
    return np.log(found.tokens.sum() / found.latency_s.sum(axis=2))


class SearchRates(msgspec.Struct, frozen=True):
    """Of many searches: shares within 2% of the exhaustive best, slower than the baseline, and whose interval contains
    the truth (None if none confirmed anything); trials as a share of the exhaustive search's, mean and largest."""

    near_best: float
    losses: float
    covered: float | None
    trials_share: float
    most_trials_share: float


def search_rates(landscape: Landscape, searches: int, seed: int = 0) -> SearchRates:
    """What happens in this many searches, each with another seed."""
    found = [searched(landscape, seed + number) for number in range(searches)]
    exhaustive = (len(ALL) + 1) * EXHAUSTIVE_ROUNDS
    covered = [one.covered for one in found if one.covered is not None]
    return SearchRates(
        near_best=float(np.mean([one.behind <= -math.log(0.98) for one in found])),
        losses=float(np.mean([one.is_loss for one in found])),
        covered=float(np.mean(covered)) if covered else None,
        trials_share=float(np.mean([one.trials for one in found])) / exhaustive,
        most_trials_share=max(one.trials for one in found) / exhaustive,
    )


def wrongly_left(settings: int, rounds: int, repeats: int, seed: int = 0) -> float:
    """How often the best of several settings leaves a race, all settings but it being 1% slower; the bound is ERROR."""
    from inferometer.analysis.search.racing import Race

    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(repeats):
        race: Race[int] = Race()
        for _ in range(rounds):
            logs = _throughput_logs(simulated(BUSY, Design(2, "requests", settings + 1), rng))
            race.add({one: list(logs[one] - logs[0] - (0.0 if one == 1 else 0.01)) for one in range(1, settings + 1)})
            race.look()
        wrong += 1 in race.left
    assert ERROR > 0
    return wrong / repeats

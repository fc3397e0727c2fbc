"""Estimates of a duet's difference that leave disturbed pairs of requests out. None is used: a stall of one arm is part
of what is measured, and these hide it, or gain little.

A pair is one prompt's requests to both arms in one round. Its residual is its log ratio minus the median of its
prompt's ratios over the rounds; residuals above 2.5 robust standard deviations are disturbances.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inferometer.metrics.series import Floats
from inferometer.testing.simulated import Design, SimulatedMachine, order_of_requests, simulated

METHODS = ("sums (used)", "medians", "limited residuals", "limited, unless a sign test finds one arm", "both arms step")
_LIMIT = 2.5
_LEAST_P = 0.2


def rates(machine: SimulatedMachine, design: Design, studies: int, seed: int) -> list[tuple[float, float]]:
    """For each of METHODS: how often its interval of these prompts contains the truth, and its median half-width in
    percent."""
    rng = np.random.default_rng(seed)
    quantile = float(special.stdtrit(design.rounds - 1, 0.975))
    outcomes: list[list[tuple[bool, float]]] = []
    for _ in range(studies):
        made = simulated(machine, design, rng)
        truth = -np.log(made.ratios["output_throughput"])
        points = differences(np.log(made.latency_s), order_of_requests(design, machine.prompts))
        halves = [quantile * float(np.std(of_rounds, ddof=1)) / design.rounds**0.5 for of_rounds in points]
        outcomes.append(
            [
                (bool(abs(of_rounds.mean() - truth) <= half), half)
                for of_rounds, half in zip(points, halves, strict=True)
            ]
        )
    found = np.array(outcomes)
    return [
        (float(covered), 100 * float(half))
        for covered, half in zip(found[:, :, 0].mean(0), np.median(found[:, :, 1], 0), strict=True)
    ]


def differences(logs: Floats, steps: NDArray[np.int64]) -> list[Floats]:
    """By method, one difference per round. `logs`: of times, by arm, round and prompt; `steps`: when each was sent."""
    ratios = logs[1] - logs[0]
    rounds = len(ratios)
    residuals = ratios - np.median(ratios, axis=0)
    deviation = 1.4826 * float(np.median(np.abs(residuals))) * (rounds / (rounds - 1)) ** 0.5
    excess = residuals - np.clip(residuals, -_LIMIT * deviation, _LIMIT * deviation)
    slow = int((excess > 0).sum())
    tested = float(special.bdtr(min(slow, (excess != 0).sum() - slow), (excess != 0).sum(), 0.5))
    is_even = not excess.any() or 2 * tested > _LEAST_P
    late = np.sign(steps[1] - steps[0])
    stepped = late * _within(late * residuals, _change(logs)) * (excess != 0)
    return [
        _without(logs, 0 * excess),
        np.median(ratios, axis=1),
        _without(logs, excess),
        _without(logs, excess if is_even else 0 * excess),
        _without(logs, stepped),
    ]


def _without(logs: Floats, amount: Floats) -> Floats:
    """The log ratio of each round's sums, with this amount taken from each pair's log ratio."""
    times = np.exp(logs + np.stack([amount / 2, -amount / 2])).sum(axis=2)
    return np.log(times[1] / times[0])


def _change(logs: Floats) -> Floats:
    """What the machine changed from the pair before each pair to the pair after it: the smaller change of the two arms,
    0 if they disagree. A stall of one arm is none."""
    levels = logs - np.median(logs, axis=(0, 1))
    both = np.zeros_like(logs)
    both[:, :, 1:-1] = levels[:, :, 2:] - levels[:, :, :-2]
    is_common = np.sign(both[0]) == np.sign(both[1])
    return np.where(is_common, np.sign(both[0]) * np.abs(both).min(axis=0), 0.0)


def _within(values: Floats, change: Floats) -> Floats:
    """The part of each value that lies between 0 and the change."""
    return np.clip(values, np.minimum(0, change), np.maximum(0, change))

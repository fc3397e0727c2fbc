"""Quantisation ladders whose truth is known: right answers with planted losses, speeds on a simulated machine."""

import math
import re
from collections.abc import Mapping

import msgspec
import numpy as np

from inferometer.analysis.answer_quality import quality_difference
from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.analysis.quantisation_ladder import Ladder, ladder
from inferometer.analysis.set_ups import ArmSetUp
from inferometer.metrics.summary import TrialSummary
from inferometer.testing.simulated import KEYS, Design, SimulatedMachine, simulated, summaries

MACHINE = SimulatedMachine(busy_share=0.2, prompt_spread=0.03)
MARGIN = 2.0
_RIGHT = 0.6
"""Share of the problems that the reference answers right."""
_UNSTABLE = 0.02
"""Share of the problems that every other file loses, and that it gains, without being worse."""


class Planted(msgspec.Struct, frozen=True):
    """The true size (of the reference's), speed (of the reference's) and loss (points) of a file."""

    size: float
    speed: float
    loss: float = 0.0


LADDERS: Mapping[str, dict[str, Planted]] = {
    "two files are worse": {
        "Q8_0": Planted(1.0, 1.0),
        "Q6_K": Planted(0.8, 1.15),
        "Q5_K_M": Planted(0.7, 1.3),
        "Q4_K_M": Planted(0.6, 1.5, 12.0),
        "Q2_K": Planted(0.4, 1.6, 30.0),
    },
    "all files are as good": {
        "Q8_0": Planted(1.0, 1.0),
        "Q6_K": Planted(0.8, 1.0),
        "Q5_K_M": Planted(0.7, 0.9),
        "Q4_K_M": Planted(0.6, 1.2),
    },
    "all files are worse": {"F16": Planted(1.0, 1.0), "Q4_0": Planted(0.3, 2.0, 15.0), "Q2_K": Planted(0.2, 2.2, 40.0)},
}


class LadderRates(msgspec.Struct, frozen=True):
    """Of many ladders: shares whose sentence names the right file with a right statement about its speed; and whose
    statements are all true, also where too small a file is named with the doubt stated."""

    right: float
    true: float


def ladder_rates(planted: Mapping[str, Planted], problems: int, repeats: int, seed: int = 0) -> LadderRates:
    """How often the ladder names the right file and states nothing false, over `repeats` simulated studies."""
    rng = np.random.default_rng(seed)
    expected = [arm for arm, one in planted.items() if one.loss <= MARGIN][-1]
    right, true = 0, 0
    for _ in range(repeats):
        found = ladder(simulated_ladder(planted, problems, rng))
        assert found is not None
        is_true = _is_true(found, planted)
        true += is_true
        right += is_true and found.chosen == expected
    return LadderRates(right / repeats, true / repeats)


def simulated_ladder(planted: Mapping[str, Planted], problems: int, rng: np.random.Generator) -> Comparison:
    """One study of four rounds; the first file is the reference."""
    arms = list(planted)
    found = simulated(MACHINE, Design(4, "requests", len(arms)), rng)
    factors = np.array([1 / one.speed for one in planted.values()])[:, None, None]
    scaled = msgspec.structs.replace(found, ttft_s=found.ttft_s * factors, tpot_s=found.tpot_s * factors)
    named: list[TrialSummary] = []
    for one in summaries(scaled, KEYS[:1]):
        arm = arms["abcdefghij".index(one.arm)]
        gib = planted[arm].size * (1 + rng.normal(0, 0.002))
        named.append(msgspec.structs.replace(one, arm=arm, values={**one.values, "memory_gib": gib}))
    outcomes = _outcomes(planted, problems, rng)
    quality = [
        quality_difference((base, outcomes[base]), (arm, outcomes[arm]), MARGIN)
        for place, base in enumerate(arms)
        for arm in arms[place + 1 :]
    ]
    set_ups = tuple(ArmSetUp(arm, model=arm, model_bytes=round(one.size * 1e9)) for arm, one in planted.items())
    return msgspec.structs.replace(
        compare(named, primary=KEYS[0]),
        quality=tuple(one for one in quality if one is not None),
        set_ups=set_ups,
        ladder=True,
    )


def _outcomes(
    planted: Mapping[str, Planted], problems: int, rng: np.random.Generator
) -> dict[str, dict[str, list[bool]]]:
    """By file and problem: whether the answer is right."""
    base = rng.random(problems) < _RIGHT
    found = {next(iter(planted)): base}
    for arm, one in list(planted.items())[1:]:
        lost = rng.random(problems) < (_UNSTABLE + one.loss / 100) / _RIGHT
        gained = rng.random(problems) < _UNSTABLE / (1 - _RIGHT)
        found[arm] = np.where(base, ~lost, gained)
    return {arm: {str(n): [bool(one)] for n, one in enumerate(right)} for arm, right in found.items()}


def _is_true(found: Ladder, planted: Mapping[str, Planted]) -> bool:
    """Whether the first sentence's statement about speed and, where a file is named, about its answers is true."""
    rung = next(one for one in found.rungs if one.arm == found.chosen)
    if rung.arm == found.reference:
        return all(one.loss > MARGIN for one in list(planted.values())[1:])
    assert rung.quality is not None
    truth = planted[rung.arm]
    worst = rung.quality.low_points if rung.quality.verdict == "inconclusive" else -MARGIN
    said = re.search(r"([\d.]+)× (faster|slower)", found.sentences[0])
    is_faster = math.log(truth.speed) > 0
    return -truth.loss >= worst and (said is None or (said[2] == "faster") == is_faster)

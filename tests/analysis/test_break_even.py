"""The break-even point over concurrency: its words, and how often its interval contains the truth."""

import math

import numpy as np
import pytest

from inferometer.analysis.break_even import GainAt, break_even, gain_at, sentence
from inferometer.analysis.comparison import Difference

STREAMS = (1, 2, 4, 8, 16, 32)


def points(*gains: float, half: float = 0.02) -> list[GainAt]:
    return [GainAt(count, gain, half) for count, gain in zip(STREAMS, gains, strict=False)]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.3, 0.2, 0.1, -0.1), "pays up to 5.7 streams [5.4, 6]"),
        ((-0.3, -0.1, 0.1, 0.3), "pays from 2.8 streams [2.7, 3]"),
        ((0.3, 0.2, 0.1, 0.05), "pays at every concurrency from 1 to 8"),
        ((-0.3, -0.2, -0.1, -0.05), "never pays from 1 to 8 streams"),
        ((0.01, 0.01, 0.01, 0.01), "is not shown to pay or to cost from 1 to 8 streams"),
        ((0.3, 0.2, 0.1, -0.01), "pays up to 7.5 streams [6.8, over 8]"),
    ],
)
def test_the_sentence_says_up_to_where_it_pays(gains: tuple[float, ...], words: str):
    found = points(*gains)
    assert sentence(break_even(found), found) == words


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((-0.2, -0.01, -0.3), "costs at 1 and 4 streams, not shown either way at 2"),
        ((0.2, 0.1, 0.01), "pays at 1 and 2 streams, not shown either way at 4"),
    ],
)
def test_without_a_crossing_the_sentence_says_where_it_pays_and_where_it_costs(gains: tuple[float, ...], words: str):
    found = points(*gains)
    assert sentence(break_even(found), found) == words


def test_the_interval_contains_a_planted_crossing_in_95_of_100_maps():
    """A gain that is linear in the logarithm of the concurrency and crosses 0 at 6 streams; 1000 maps."""
    rng, deviation = np.random.default_rng(1), 0.02
    contained = 0
    for _ in range(1000):
        truth = [0.15 * (math.log2(6) - math.log2(count)) for count in STREAMS]
        found = points(*rng.normal(truth, deviation), half=1.96 * deviation)
        one = break_even(found)
        contained += (one.low or 0) <= 6 <= (one.high or math.inf) and one.at is not None
    assert contained / 1000 >= 0.95 - 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_a_metric_that_is_better_when_lower_is_turned_around():
    found = gain_at(4, Difference("b", "a", percent=-20, low_percent=-22, high_percent=-18), lower_is_better=True)
    assert found is not None
    assert found.gain == pytest.approx(-math.log(0.8))
    assert gain_at(4, Difference("b", "a"), lower_is_better=False) is None

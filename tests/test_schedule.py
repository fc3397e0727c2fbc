"""Due times: the contract of every schedule, and the rates that they promise."""

import itertools
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import RandomState

from inferometer.schedule import Closed, Constant, Poisson, Schedule

OPEN = [Constant(50.0), Poisson(50.0), Poisson(50.0, burstiness=0.25), Poisson(50.0, burstiness=4.0)]


@pytest.mark.parametrize("schedule", OPEN)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 200))
def test_due_times_begin_at_zero_and_never_decrease(schedule: Schedule, seed: int, count: int):
    due = schedule.due_ns(count, RandomState(seed))
    assert len(due) == count
    assert due == sorted(due, key=lambda at: at or 0)
    assert due[:1] in ([], [0])


@pytest.mark.parametrize("schedule", OPEN)
def test_the_mean_rate_is_the_one_asked_for(schedule: Schedule):
    due = schedule.due_ns(20_000, RandomState(5))
    # The mean of 20,000 gaps has a relative error of 1/sqrt(20,000 × shape): 1.4% for the burstiest; 5 of these.
    assert due[-1] / 19_999 == pytest.approx(1e9 / 50, rel=0.07)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_burstiness_is_the_shape_of_the_gaps(burstiness: float):
    due = Poisson(50.0, burstiness).due_ns(20_000, RandomState(5))
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    mean = fmean(gaps)
    variation = math.sqrt(fmean((gap - mean) ** 2 for gap in gaps)) / mean
    assert variation == pytest.approx(1 / math.sqrt(burstiness), rel=0.1)


def test_the_draws_are_those_of_vllm_for_the_same_seed():
    # np.random.seed(1); np.random.gamma(shape=1.0, scale=0.5), as benchmark_serving.py 0.6.5 draws between requests
    # at 2 per second: 0.26980, 0.63706, 0.0000572.
    due = Poisson(2.0).due_ns(4, RandomState(1))
    assert [round(at / 1e9, 4) for at in due] == [0.0, 0.2698, 0.9069, 0.9069]


def test_a_closed_loop_has_no_due_times():
    assert Closed(3).due_ns(4, RandomState(1)) == [None] * 4


@pytest.mark.parametrize(
    "schedule", [Closed(0), Constant(0.0), Constant(-1.0), Poisson(math.inf), Poisson(1.0, 0.0), Poisson(math.nan)]
)
def test_what_has_no_meaning_is_a_problem(schedule: Schedule):
    assert schedule.problems()


@pytest.mark.parametrize("schedule", [Closed(), Closed(None), *OPEN])
def test_what_has_a_meaning_is_none(schedule: Schedule):
    assert schedule.problems() == []

"""Due times: the contract of every schedule, and the rates that they promise."""

import itertools
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import RandomState

from inferometer.core import plan as plans
from inferometer.core.request import user_request
from inferometer.core.schedule import (
    Closed,
    Constant,
    Drawn,
    Gamma,
    Poisson,
    Ramp,
    Replay,
    Schedule,
    requested_rate_per_s,
)

STEADY = [
    Constant(50.0),
    Poisson(50.0),
    Poisson(50.0, burstiness=0.25),
    Poisson(50.0, burstiness=4.0),
    Poisson(50.0, burstiness=math.inf),
    Gamma(50.0, 0.5),
]
RAMPS = [
    Ramp(10.0, 90.0),
    Ramp(90.0, 10.0, burstiness=math.inf),
    Ramp(10.0, 90.0, "exponential", burstiness=0.5),
    Ramp(50.0, 50.0, "exponential"),
    Ramp(0.0, 90.0, duration_s=2.0),
    Ramp(90.0, 10.0, duration_s=2.0, burstiness=math.inf),
    Ramp(10.0, 90.0, "exponential", duration_s=2.0),
    Ramp(50.0, 50.0, "exponential", duration_s=2.0),
]
OPEN = [*STEADY, *RAMPS]


@pytest.mark.parametrize("schedule", OPEN)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 200))
def test_due_times_begin_at_zero_and_never_decrease(schedule: Drawn, seed: int, count: int):
    due = schedule.due_ns(count, RandomState(seed))
    assert len(due) == count
    assert due == sorted(due, key=lambda at: at or 0)
    assert due[:1] in ([], [0])


@pytest.mark.parametrize("schedule", OPEN)
def test_the_same_seed_gives_the_same_due_times(schedule: Drawn):
    assert schedule.due_ns(50, RandomState(3)) == schedule.due_ns(50, RandomState(3))


def sent_requests(count: int) -> list:
    return [user_request(f"r{i}", f"r {i}") for i in range(count)]


@pytest.mark.parametrize("schedule", [*OPEN, Replay(2.0)])
@given(count=st.integers(1, 40), parts=st.integers(1, 5))
def test_shards_add_up_to_the_plan(schedule: Schedule, count: int, parts: int):
    recorded_ns = [i * i * 1_000_000 for i in range(count)]
    plan = plans.build(sent_requests(count), sent_requests(0), schedule, 1, RandomState(1), recorded_ns)
    shards = [plans.shard(plan, part, min(parts, count)) for part in range(min(parts, count))]
    assert sorted((item for shard in shards for item in shard.items), key=lambda item: item.index) == list(plan.items)
    for shard in shards:
        due = [item.due_ns for item in shard.items]
        assert due == sorted(due, key=lambda at: at or 0)


@pytest.mark.parametrize("schedule", STEADY)
def test_the_mean_rate_is_the_one_asked_for(schedule: Drawn):
    assert requested_rate_per_s(schedule) == 50
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


def test_gamma_is_poisson_with_its_burstiness_said():
    assert Gamma(50.0, 0.5).due_ns(99, RandomState(1)) == Poisson(50.0, 0.5).due_ns(99, RandomState(1))


# --- ramps ----------------------------------------------------------------------------------------


def seconds(due: list) -> list[float]:
    return [at / 1e9 for at in due]


@pytest.mark.parametrize(
    ("strategy", "times"),
    [
        # Rates at the second, third, … of five requests: 2, 3, 4, 5 per second; and 1 · 16^(1/4, 2/4, 3/4, 1).
        ("linear", [0, 1 / 2, 1 / 2 + 1 / 3, 1 / 2 + 1 / 3 + 1 / 4, 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5]),
        ("exponential", [0, 1 / 2, 1 / 2 + 1 / 4, 1 / 2 + 1 / 4 + 1 / 8, 1 / 2 + 1 / 4 + 1 / 8 + 1 / 16]),
    ],
)
def test_over_the_requests_each_gap_has_the_rate_of_the_request_behind_it(strategy, times):
    end = 5.0 if strategy == "linear" else 16.0
    due = Ramp(1.0, end, strategy, burstiness=math.inf).due_ns(5, RandomState(1))
    assert seconds(due) == pytest.approx(times)


def test_over_the_requests_the_gaps_are_those_of_vllm_for_the_same_seed():
    # vLLM 0.33, get_request: gamma(shape=1, scale=1/rate) with rates 1, 2, 3 and numpy's seed 1, whose exponential
    # draws of mean 1 are 0.53960, 1.27412, 0.00011438; it waits for the first of them before its first request.
    due = Ramp(1.0, 3.0).due_ns(3, RandomState(1))
    assert seconds(due) == pytest.approx([0, 1.27412 / 2, 1.27412 / 2 + 0.00011438 / 3], abs=1e-5)


def test_over_a_duration_the_arrivals_are_the_rate_s_integral():
    # From 0 to 10 per second in 4 s: 10/8·t² arrivals in t seconds, 20 in all, and 10 per second afterwards.
    due = seconds(Ramp(0.0, 10.0, duration_s=4.0, burstiness=math.inf).due_ns(31, RandomState(1)))
    assert due[0] == 0
    assert due[5] == pytest.approx(2.0)
    assert due[20] == pytest.approx(4.0)
    assert due[30] == pytest.approx(5.0)
    down = seconds(Ramp(10.0, 2.0, duration_s=4.0, burstiness=math.inf).due_ns(27, RandomState(1)))
    assert down[16] == pytest.approx(2.0)  # (10 + 6) / 2 · 2
    assert down[24] == pytest.approx(4.0)
    assert down[26] == pytest.approx(5.0)


def test_an_exponential_ramp_over_a_duration_doubles_as_often():
    # From 1 to 8 per second in 3 s doubles every second: (2^t − 1) / ln 2 arrivals in t seconds.
    ramp = Ramp(1000.0, 8000.0, "exponential", duration_s=3.0, burstiness=math.inf)
    due = seconds(ramp.due_ns(12_000, RandomState(1)))
    for t in (1, 2, 3):
        assert due[round(1000 * (2**t - 1) / math.log(2))] == pytest.approx(t, abs=1e-3)


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
def test_a_random_ramp_has_its_rate_in_every_part_of_it(strategy, burstiness: float):
    ramp = Ramp(1000.0, 4000.0, strategy, duration_s=8.0, burstiness=burstiness)
    due = seconds(ramp.due_ns(25_000, RandomState(5)))
    for t in (1.5, 4.5, 7.5):
        rate = 1000 + 3000 * t / 8 if strategy == "linear" else 1000 * 4 ** (t / 8)
        # About 1,400 arrivals or more in a second: a relative error of 1/sqrt(1,400 × shape), 3.8% at most; 4 of these.
        assert sum(t - 0.5 <= at < t + 0.5 for at in due) == pytest.approx(rate, rel=0.15)


# --- replay ---------------------------------------------------------------------------------------


@given(recorded_ns=st.lists(st.integers(-(10**15), 10**15), min_size=1).map(sorted), speed=st.floats(0.1, 100))
def test_a_replay_keeps_the_order_begins_at_zero_and_lasts_as_long_as_its_speed_says(recorded_ns, speed):
    due = Replay(speed).due_ns_of(recorded_ns)
    assert due[0] == 0
    assert due == sorted(due)
    assert due[-1] == pytest.approx((recorded_ns[-1] - recorded_ns[0]) / speed, abs=1)


def test_a_closed_loop_has_no_due_times():
    assert Closed(3).due_ns(4, RandomState(1)) == [None] * 4


@pytest.mark.parametrize(
    "schedule",
    [
        Closed(0),
        Constant(0.0),
        Constant(-1.0),
        Poisson(math.inf),
        Poisson(1.0, 0.0),
        Poisson(math.nan),
        Poisson(1.0, math.nan),
        Gamma(1.0, -1.0),
        Ramp(0.0, 5.0),
        Ramp(0.0, 5.0, "exponential", duration_s=1.0),
        Ramp(-1.0, 5.0, duration_s=1.0),
        Ramp(1.0, 0.0),
        Ramp(1.0, 2.0, duration_s=0.0),
        Ramp(1.0, 2.0, burstiness=0.0),
        Ramp(1.0, 2.0, max_concurrency=0),
        Replay(0.0),
        Replay(math.inf),
    ],
)
def test_what_has_no_meaning_is_a_problem(schedule: Schedule):
    assert schedule.problems()


@pytest.mark.parametrize("schedule", [Closed(), Closed(None), Replay(), *OPEN])
def test_what_has_a_meaning_is_none(schedule: Schedule):
    assert schedule.problems() == []

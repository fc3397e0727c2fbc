"""Plans: fixed beforehand, warm-ups apart."""

import pytest
from numpy.random import RandomState

from inferometer.base.errors import RequestWrong
from inferometer.core.plan import build, warmup_request
from inferometer.core.request import user_request
from inferometer.core.schedule import Closed, Poisson, Replay


def requests(count: int, name: str = "r") -> list:
    return [user_request(f"{name}{i}", f"{name} {i}", max_tokens=3) for i in range(count)]


def test_warm_ups_come_first_and_are_not_measured():
    plan = build(requests(3), requests(2, "w"), Closed(2), 1, RandomState(1))
    assert [item.index for item in plan.items] == [0, 1, 2, 3, 4]
    assert [item.request.id for item in plan.warmups] == ["w0", "w1"]
    assert [item.request.id for item in plan.measured] == ["r0", "r1", "r2"]
    assert plan.concurrency == 2


def test_a_warm_up_is_never_a_measured_prompt():
    with pytest.raises(ValueError, match="repeats a measured prompt"):
        build(requests(3), requests(1), Closed(), 1, RandomState(1))


def test_the_same_seed_gives_the_same_plan():
    one, two = (build(requests(9), [], Poisson(3.0, max_concurrency=4), 7, RandomState(7)) for _ in range(2))
    assert one == two
    assert one.concurrency == 4
    assert one.measured[0].due_ns == 0


def test_a_replay_has_the_workload_s_own_times():
    plan = build(requests(3), requests(1, "w"), Replay(2.0, 5), 1, RandomState(1), [70, 70, 100])
    assert [item.due_ns for item in plan.items] == [None, 0, 0, 15]
    assert plan.concurrency == 5


def test_a_replay_without_times_is_refused():
    with pytest.raises(RequestWrong, match="a workload with recorded times"):
        build(requests(3), [], Replay(), 1, RandomState(1))


def test_our_own_warm_ups_share_no_beginning():
    beginnings = {warmup_request(number, 8).prompt[:3] for number in range(9)}
    assert len(beginnings) == 9

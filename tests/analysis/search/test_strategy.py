"""Searches on simulated landscapes find what is there, and say nothing where nothing is. See benchmarks/search.py."""

import itertools

import pytest

from inferometer.analysis.search.racing import Race, paired_logs
from inferometer.analysis.search.strategy import GRID, ROUNDS, Step, Strategy
from inferometer.core.search_settings import Parameter, Search
from inferometer.testing.simulated_search import LANDSCAPES, SEARCH, search_rates, wrongly_left

SMALL = Search({"threads": Parameter(int=(1, 4)), "args.-ub": Parameter(choice=("128", "512"))})
SEARCHES = 3


@pytest.mark.parametrize("name", LANDSCAPES)
def test_a_search_comes_near_the_best_with_few_trials(name: str):
    found = search_rates(LANDSCAPES[name], SEARCHES)
    assert found.near_best >= 0.6
    assert found.losses == 0
    assert found.most_trials_share <= 0.3
    assert found.covered is None or found.covered >= 0.5


def test_the_best_setting_rarely_leaves_a_race():
    assert wrongly_left(settings=4, rounds=3, repeats=20) <= 0.15


def steps(strategy: Strategy, gain: dict[str, float]) -> list[Step]:
    """Every step of a search whose rounds differ by little."""
    noise = itertools.cycle((0.001, -0.001, 0.002, -0.002, 0.0))
    found: list[Step] = []
    while (step := strategy.next_step()) is not None:
        found.append(step)
        strategy.tell(
            step, {one: [gain[str(one[0])] + next(noise) for _ in range(step.rounds)] for one in step.settings}, {}
        )
    return found


def test_a_small_space_is_measured_as_a_grid_and_the_worse_settings_leave():
    strategy = Strategy(SMALL, seed=1)
    played = steps(strategy, {"1": -0.3, "2": 0.1, "3": 0.2, "4": 0.0})
    assert SMALL.grid_size() <= GRID
    assert {one for step in played[:2] for one in step.settings} == set(SMALL.grid())
    assert all(len(step.settings) <= SMALL.at_once for step in played)
    assert {one[0] for one in strategy.race.live} == {3}
    assert len(strategy.race.values[1, "128"]) == ROUNDS
    assert "behind the leader" in strategy.race.left[1, "128"]


def test_the_same_results_give_the_same_steps():
    first, second = Strategy(SEARCH, seed=3), Strategy(SEARCH, seed=3)
    for _ in range(4):
        step = first.next_step()
        assert step is not None and step == second.next_step()
        values = {one: [0.01 * float(str(one[0]))] * 2 for one in step.settings}
        first.tell(step, values, {})
        second.tell(step, values, {})


def test_settings_that_cannot_be_used_do_not_play_again():
    strategy = Strategy(SMALL, seed=1)
    step = strategy.next_step()
    assert step is not None
    refused = step.settings[0]
    strategy.tell(step, {one: [0.0, 0.01] for one in step.settings[1:]}, {refused: "failed: no memory"})
    assert strategy.race.left[refused] == "failed: no memory"
    while (step := strategy.next_step()) is not None:
        assert refused not in step.settings
        strategy.tell(step, {one: [0.0, 0.01] for one in step.settings}, {})


def test_equal_settings_stay_in_the_race():
    race: Race[str] = Race()
    for values in ((0.01, -0.01), (-0.01, 0.01)):
        race.add({"a": [values[0]], "b": [values[1]]})
        assert race.look() == []
    assert race.live == ["a", "b"]


def test_values_are_compared_with_the_baseline_of_their_round():
    logs = paired_logs({"baseline": [10.0, 20.0, None], "a": [20.0, 40.0, 5.0]}, "baseline", 1)
    assert logs["a"] == pytest.approx([0.693, 0.693], abs=1e-3)
    assert paired_logs({"baseline": [10.0], "a": [20.0]}, "baseline", -1)["a"] == pytest.approx([-0.693], abs=1e-3)

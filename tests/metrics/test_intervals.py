"""Intervals, p-values and designs against numbers computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.metrics import intervals
from inferometer.metrics.intervals import PromptsVariance, VarianceComponents


def spread(trials_variance, prompts_variance, *, trials=3, prompts=31, mean=0.0) -> VarianceComponents:
    """`prompts_variance`: without any noise of single requests."""
    of_prompts = None
    if prompts_variance is not None:
        of_prompts = PromptsVariance(prompts_variance, 0.0, prompts - 1, (trials - 1) * (prompts - 1))
    return VarianceComponents(mean, trials, trials_variance, trials - 1, of_prompts)


def test_one_part_alone_has_students_quantile():
    assert intervals.half_width(spread(0.01, None)) == pytest.approx(0.1 * 4.302653)
    assert intervals.half_width(spread(None, 0.01)) == pytest.approx(0.1 * 2.042272)
    assert intervals.half_width(spread(None, None)) is None


def test_two_parts_have_the_degrees_of_freedom_of_their_sum_and_never_less_than_the_trials_alone():
    from scipy import stats as scipy_stats

    # 0.02² / (0.01²/2 + 0.01²/30) = 7.5 degrees, t = 2.3338..., times √0.02; as squares: 0.1 · √(4.3027² + 2.0423²)
    freedom = 0.02**2 / (0.01**2 / 2 + 0.01**2 / 30)
    together = float(scipy_stats.t.ppf(0.975, freedom)) * math.sqrt(0.02)
    assert together < 0.1 * 4.302653 < 0.1 * math.hypot(4.302653, 2.042272)
    assert intervals.half_width(spread(0.01, 0.01)) == pytest.approx(0.1 * 4.302653)
    assert intervals.half_width(spread(0.01, 0.04)) == pytest.approx(
        float(scipy_stats.t.ppf(0.975, 0.05**2 / (0.01**2 / 2 + 0.04**2 / 30))) * math.sqrt(0.05)
    )


PART = st.floats(1e-6, 1)


@given(PART, PART, PART, st.integers(2, 10), st.integers(2, 50), st.floats(0.5, 0.999))
def test_prompts_like_these_are_never_known_better_than_these_prompts(trial, prompt, noise, trials, prompts, level):
    of_prompts = PromptsVariance(prompt + noise, noise, prompts - 1, (trials - 1) * (prompts - 1))
    found = VarianceComponents(0.0, trials, trial, trials - 1, of_prompts)
    fixed, sampled = intervals.half_width(found.of_these_prompts, level), intervals.half_width(found, level)
    assert fixed <= sampled * (1 + 1e-12)
    assert sampled <= intervals.half_width(found, (1 + level) / 2)


def test_prompts_that_bear_on_the_arms_unequally_are_a_part_that_no_trial_removes():
    """Replicates that are the same in every trial are all the prompts'; those that differ are noise of the trials."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.1, 999)
    alike = intervals.variance_components([0.0, 0.0, 0.0], [shared] * 3, prompts=50)
    assert alike.prompts.variance == pytest.approx(0.01 * 50 / 49, rel=0.1)
    apart = intervals.variance_components([0.0, 0.0, 0.0], [rng.normal(0, 0.1, 999) for _ in range(3)], prompts=50)
    assert apart.prompts.variance < 0.002


def test_the_level_at_which_the_interval_reaches_zero_is_the_p_value():
    found = spread(0.01, 0.0004, mean=0.5)
    p_value = intervals.p_value(found)
    assert intervals.half_width(found, 1 - p_value) == pytest.approx(0.5, rel=1e-6)
    assert intervals.p_value(spread(0.01, None, mean=0.0)) == 1.0
    assert intervals.p_value(spread(None, 0.01, mean=0.5)) is None


def test_trials_that_are_no_pairs_have_welchs_degrees_of_freedom():
    # variances of the means 1 and 4 with 2 and 4 degrees: (1 + 4)² / (1/2 + 16/4) = 25 / 4.5
    one = VarianceComponents(1.0, 3, 1.0, 2, None)
    other = VarianceComponents(3.0, 5, 4.0, 4, None)
    found = intervals.unpaired_difference(one, other, None)
    assert (found.mean, found.trials_variance) == (2.0, 5.0)
    assert found.trials_freedom == pytest.approx(25 / 4.5)


@pytest.mark.parametrize(("percent", "least"), [(50, 6), (90, 36), (95, 72), (99, 368), (1, 368)])
def test_a_percentile_needs_as_many_values_as_its_rule_says(percent, least):
    """0.99^368 = 0.02476 and 0.99^367 = 0.02501: the largest of 368 lies beyond the P99 with 97.5%."""
    assert intervals.minimum_count(percent) == least


# --- looking again and again ---


def test_the_quantile_for_looking_again_is_wider_and_comes_down_with_trials():
    quantiles = [intervals.anytime_quantile(trials) for trials in (2, 3, 5, 10, 30)]
    assert quantiles[0] == math.inf
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[1] == pytest.approx(10.13, abs=0.01)
    assert quantiles[3] > 2 * 2.26 * 0.95


def test_looking_after_every_round_errs_in_fewer_than_5_of_100_studies():
    """800 studies without a difference, looked at after each of up to 20 rounds: at most 5% plus three standard errors
    (0.77% each) may ever say that there is one. With Student's interval 20 to 30% do."""
    rng = np.random.default_rng(11)
    ever = {"anytime": 0, "student": 0}
    for _ in range(800):
        points = rng.normal(0, 0.02, 20)
        states = {"anytime": False, "student": False}
        for count in range(3, 21):
            found = intervals.variance_components(points[:count].tolist(), None, 1)
            states["anytime"] |= abs(found.mean) > intervals.half_width(found, sequential=True)
            states["student"] |= abs(found.mean) > intervals.half_width(found)
        for name, state in states.items():
            ever[name] += state
    assert ever["anytime"] / 800 <= 0.05 + 3 * 0.0077
    assert ever["student"] / 800 > 0.15


# --- designs ---


def test_more_trials_show_less_and_prompts_set_the_limit():
    found = spread(0.01**2 / 3, None)
    assert (
        intervals.detectable_difference(found, 10)
        < intervals.detectable_difference(found, 5)
        < intervals.detectable_difference(found, 3)
    )
    assert intervals.trials_needed(found, 0.05) == 3
    assert intervals.trials_needed(spread(0.01**2 / 3, 0.02**2), 0.05) is None  # prompts alone: 0.02 · (2.04 + 0.85)


@given(st.integers(2, 60), st.floats(0.001, 0.5))
def test_no_fewer_trials_would_show_it(trials, effect):
    found = spread(0.02**2 / trials, None, trials=trials)
    needed = intervals.trials_needed(found, effect)
    if needed is not None:
        assert intervals.detectable_difference(found, needed) <= effect
        assert needed == 2 or intervals.detectable_difference(found, needed - 1) > effect


def test_a_limit_set_by_the_prompts_is_stated_as_a_number_of_prompts():
    found = spread(0.01**2, 0.02**2)
    # 0.02 · √(31 ÷ 41) · (2.0211 + 0.8507) = 0.0499; with 40 prompts 0.0506
    assert intervals.prompts_needed(found, 31, 0.05) == 41
    assert intervals.prompts_needed(spread(0.01**2, None), 31, 0.05) is None


@given(st.integers(2, 60), st.floats(0.001, 0.2), st.floats(0.005, 0.5))
def test_where_no_number_of_rounds_suffices_more_prompts_are_needed_than_there_are(prompts, of_prompts, effect):
    found = intervals.VarianceComponents(
        0.0, 3, 0.01**2 / 3, 2, intervals.PromptsVariance(of_prompts**2, 0.0, prompts - 1, 2 * (prompts - 1))
    )
    needed = intervals.prompts_needed(found, prompts, effect)
    if intervals.trials_needed(found, effect) is None and needed is not None:
        assert needed > prompts

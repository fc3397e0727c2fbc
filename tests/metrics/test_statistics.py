"""Quantiles, intervals and designs against numbers computed by hand or by numpy."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferometer.metrics import statistics
from inferometer.metrics.statistics import PromptsVariance, Series, VarianceComponents

RNG = np.random.default_rng(7)


def series(values, owners=None, requests=None) -> Series:
    values = np.asarray(values, np.float64)
    owners = np.arange(len(values)) if owners is None else np.asarray(owners)
    return Series(values, owners, requests or int(owners.max()) + 1)


# --- drawing prompts again ------------------------------------------------------------------------


def test_the_mean_drawn_again_varies_as_its_standard_error():
    values = RNG.normal(10, 2, 200)
    drawn = statistics.resampling(200).means(series(values))
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.05)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.1)


def test_quantiles_drawn_again_are_numpys_of_the_values_drawn():
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    drawing = statistics.resampling(5)
    chosen = [np.repeat(np.arange(5), row.astype(int)) for row in drawing._weights[:50]]
    for percent in (0, 25, 50, 99, 100):
        expected = [np.percentile(values[rows], percent) for rows in chosen]
        assert drawing.quantiles(series(values), percent)[:50] == pytest.approx(expected)


def test_gaps_are_drawn_with_their_request():
    """All gaps of a request come or stay away together: with two requests, the mean of all gaps is one of three."""
    both = series([1.0] * 10 + [2.0] * 10, [0] * 10 + [1] * 10)
    assert set(statistics.resampling(2).means(both)) == {1.0, 1.5, 2.0}


def test_many_values_have_nearly_the_quantiles_of_all():
    values = RNG.lognormal(0, 1, 50_000)
    drawn = statistics.resampling(1000).quantiles(series(values, np.repeat(np.arange(1000), 50)), 99)
    assert drawn.mean() == pytest.approx(np.percentile(values, 99), rel=0.02)


def test_two_trials_of_as_many_requests_are_drawn_alike():
    one, other = statistics.Resampling(30), statistics.Resampling(30)
    values = series(RNG.normal(size=30))
    assert (one.means(values) == other.means(values)).all()


@pytest.mark.parametrize(("percent", "least"), [(50, 6), (90, 36), (95, 72), (99, 368), (1, 368)])
def test_a_percentile_needs_as_many_values_as_its_rule_says(percent, least):
    """0.99^368 = 0.02476 and 0.99^367 = 0.02501: the largest of 368 lies beyond the P99 with 97.5%."""
    assert statistics.minimum_count(percent) == least


# --- intervals ------------------------------------------------------------------------------------


def spread(trials_variance, prompts_variance, *, trials=3, prompts=31, mean=0.0) -> VarianceComponents:
    """`prompts_variance`: without any noise of single requests."""
    of_prompts = None
    if prompts_variance is not None:
        of_prompts = PromptsVariance(prompts_variance, 0.0, prompts - 1, (trials - 1) * (prompts - 1))
    return VarianceComponents(mean, trials, trials_variance, trials - 1, of_prompts)


def test_one_part_alone_has_students_quantile():
    assert statistics.half_width(spread(0.01, None)) == pytest.approx(0.1 * 4.302653)
    assert statistics.half_width(spread(None, 0.01)) == pytest.approx(0.1 * 2.042272)
    assert statistics.half_width(spread(None, None)) is None


def test_two_parts_have_the_degrees_of_freedom_of_their_sum_and_never_less_than_the_trials_alone():
    from scipy import stats as scipy_stats

    # 0.02² / (0.01²/2 + 0.01²/30) = 7.5 degrees, t = 2.3338..., times √0.02; as squares: 0.1 · √(4.3027² + 2.0423²)
    freedom = 0.02**2 / (0.01**2 / 2 + 0.01**2 / 30)
    together = float(scipy_stats.t.ppf(0.975, freedom)) * math.sqrt(0.02)
    assert together < 0.1 * 4.302653 < 0.1 * math.hypot(4.302653, 2.042272)
    assert statistics.half_width(spread(0.01, 0.01)) == pytest.approx(0.1 * 4.302653)
    assert statistics.half_width(spread(0.01, 0.04)) == pytest.approx(
        float(scipy_stats.t.ppf(0.975, 0.05**2 / (0.01**2 / 2 + 0.04**2 / 30))) * math.sqrt(0.05)
    )


PART = st.floats(1e-6, 1)


@given(PART, PART, PART, st.integers(2, 10), st.integers(2, 50), st.floats(0.5, 0.999))
def test_prompts_like_these_are_never_known_better_than_these_prompts(trial, prompt, noise, trials, prompts, level):
    of_prompts = PromptsVariance(prompt + noise, noise, prompts - 1, (trials - 1) * (prompts - 1))
    found = VarianceComponents(0.0, trials, trial, trials - 1, of_prompts)
    fixed, sampled = statistics.half_width(found.of_these_prompts, level), statistics.half_width(found, level)
    assert fixed <= sampled * (1 + 1e-12)
    assert sampled <= statistics.half_width(found, (1 + level) / 2)


def test_prompts_that_bear_on_the_arms_unequally_are_a_part_that_no_trial_removes():
    """Replicates that are the same in every trial are all the prompts'; those that differ are noise of the trials."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.1, 999)
    alike = statistics.variance_components([0.0, 0.0, 0.0], [shared] * 3, prompts=50)
    assert alike.prompts.variance == pytest.approx(0.01 * 50 / 49, rel=0.1)
    apart = statistics.variance_components([0.0, 0.0, 0.0], [rng.normal(0, 0.1, 999) for _ in range(3)], prompts=50)
    assert apart.prompts.variance < 0.002


def test_the_level_at_which_the_interval_reaches_zero_is_the_p_value():
    found = spread(0.01, 0.0004, mean=0.5)
    p_value = statistics.p_value(found)
    assert statistics.half_width(found, 1 - p_value) == pytest.approx(0.5, rel=1e-6)
    assert statistics.p_value(spread(0.01, None, mean=0.0)) == 1.0
    assert statistics.p_value(spread(None, 0.01, mean=0.5)) is None


def test_trials_that_are_no_pairs_have_welchs_degrees_of_freedom():
    # variances of the means 1 and 4 with 2 and 4 degrees: (1 + 4)² / (1/2 + 16/4) = 25 / 4.5
    one = VarianceComponents(1.0, 3, 1.0, 2, None)
    other = VarianceComponents(3.0, 5, 4.0, 4, None)
    found = statistics.unpaired_difference(one, other, None)
    assert (found.mean, found.trials_variance) == (2.0, 5.0)
    assert found.trials_freedom == pytest.approx(25 / 4.5)


# --- looking again and again ----------------------------------------------------------------------


def test_the_quantile_for_looking_again_is_wider_and_comes_down_with_trials():
    quantiles = [statistics.anytime_quantile(trials) for trials in (2, 3, 5, 10, 30)]
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
            found = statistics.variance_components(points[:count].tolist(), None, 1)
            states["anytime"] |= abs(found.mean) > statistics.half_width(found, sequential=True)
            states["student"] |= abs(found.mean) > statistics.half_width(found)
        for name, state in states.items():
            ever[name] += state
    assert ever["anytime"] / 800 <= 0.05 + 3 * 0.0077
    assert ever["student"] / 800 > 0.15


# --- designs --------------------------------------------------------------------------------------


def test_more_trials_show_less_and_prompts_set_the_limit():
    found = spread(0.01**2 / 3, None)
    assert (
        statistics.detectable_difference(found, 10)
        < statistics.detectable_difference(found, 5)
        < statistics.detectable_difference(found, 3)
    )
    assert statistics.trials_needed(found, 0.05) == 3
    assert statistics.trials_needed(spread(0.01**2 / 3, 0.02**2), 0.05) is None  # prompts alone: 0.02 · (2.04 + 0.85)


@given(st.integers(2, 60), st.floats(0.001, 0.5))
def test_no_fewer_trials_would_show_it(trials, effect):
    found = spread(0.02**2 / trials, None, trials=trials)
    needed = statistics.trials_needed(found, effect)
    if needed is not None:
        assert statistics.detectable_difference(found, needed) <= effect
        assert needed == 2 or statistics.detectable_difference(found, needed - 1) > effect


def test_holms_correction_multiplies_the_smallest_by_the_number_of_tests():
    assert statistics.holm_p_values([0.01, 0.04, 0.03, 0.8]) == pytest.approx([0.04, 0.09, 0.09, 0.8])
    assert statistics.holm_p_values([]) == []


def test_a_limit_set_by_the_prompts_is_stated_as_a_number_of_prompts():
    found = spread(0.01**2, 0.02**2)
    # 0.02 · √(31 ÷ 41) · (2.0211 + 0.8507) = 0.0499; with 40 prompts 0.0506
    assert statistics.prompts_needed(found, 31, 0.05) == 41
    assert statistics.prompts_needed(spread(0.01**2, None), 31, 0.05) is None


@given(st.integers(2, 60), st.floats(0.001, 0.2), st.floats(0.005, 0.5))
def test_where_no_number_of_rounds_suffices_more_prompts_are_needed_than_there_are(prompts, of_prompts, effect):
    found = statistics.VarianceComponents(
        0.0, 3, 0.01**2 / 3, 2, statistics.PromptsVariance(of_prompts**2, 0.0, prompts - 1, 2 * (prompts - 1))
    )
    needed = statistics.prompts_needed(found, prompts, effect)
    if statistics.trials_needed(found, effect) is None and needed is not None:
        assert needed > prompts


def test_the_correction_is_benjaminis_and_hochbergs():
    from scipy import stats as scipy_stats

    assert statistics.adjusted_p_values([0.01, 0.04, 0.03, 0.8]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.8])
    assert statistics.adjusted_p_values([]) == []
    p_values = [round(p, 1) for p in np.random.default_rng(5).random(20).tolist()]  # some are equal
    expected = scipy_stats.false_discovery_control(p_values).tolist()
    assert statistics.adjusted_p_values(p_values) == pytest.approx(expected)


# --- tests that validity asks for -----------------------------------------------------------------


def test_the_small_tests_are_the_textbooks():
    assert statistics.fisher_p_value((3, 1), (1, 3)) == pytest.approx(34 / 70)  # the lady tasting tea, two-sided
    assert statistics.trend_p_value([1, 2, 3, 4, 5]) == pytest.approx(2 / 120)
    assert statistics.robust_line([0, 1, 2, 3, 4], [1, 3, 5, 7, 99]) == pytest.approx((2, 1), abs=1.1)


def test_fishers_test_is_that_of_scipy():
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(3)
    for highest in (4, 30, 3000):
        for first, second in rng.integers(0, highest, (30, 2, 2)).tolist():
            expected: Any = scipy_stats.fisher_exact([first, second])
            one_sided: Any = scipy_stats.fisher_exact([first, second], alternative="less")
            assert statistics.fisher_p_value(first, second) == pytest.approx(expected.pvalue, rel=1e-6)
            assert statistics.fisher_p_value(first, second, less=True) == pytest.approx(one_sided.pvalue, rel=1e-6)


@pytest.mark.parametrize("decimals", [9, 0], ids=["different values", "many equal values"])
def test_the_trend_test_is_that_of_scipy(decimals: int):
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(4)
    for count in (2, 10, 33, 34, 500):
        values = np.round(rng.normal(0, 1, count) + np.arange(count) / count, decimals)
        if len(set(values)) > 1:
            expected: Any = scipy_stats.kendalltau(np.arange(count), values)
            assert statistics.trend_p_value(values.tolist()) == pytest.approx(expected.pvalue)
    assert math.isnan(statistics.trend_p_value([7.0] * 20))


def test_a_robust_line_through_many_points_takes_little_memory_and_finds_their_slope():
    rng = np.random.default_rng(1)
    positions = rng.integers(10, 500, 20_000)
    values = 3.0 * positions + rng.normal(0, 50, len(positions))
    values[::10] += 1e6
    tracemalloc.start()
    slope, _ = statistics.robust_line(positions.tolist(), values.tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert slope == pytest.approx(3.0, rel=0.05)
    assert peak < 100e6  # all pairs would take 1.6 GB


def test_a_robust_line_is_that_of_scipy_where_all_pairs_are_used():
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(2)
    positions, values = rng.integers(0, 40, 200), rng.normal(0, 1, 200)
    expected: Any = scipy_stats.theilslopes(values, positions)
    found = statistics.robust_line(positions.tolist(), values.tolist())
    assert found == pytest.approx((expected.slope, expected.intercept))

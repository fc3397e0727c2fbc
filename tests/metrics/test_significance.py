"""Significance tests and corrections against scipy and textbooks."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from inferometer.metrics import significance

RNG = np.random.default_rng(7)


def test_holms_correction_multiplies_the_smallest_by_the_number_of_tests():
    assert significance.holm_p_values([0.01, 0.04, 0.03, 0.8]) == pytest.approx([0.04, 0.09, 0.09, 0.8])
    assert significance.holm_p_values([]) == []


def test_the_correction_is_benjaminis_and_hochbergs():
    from scipy import stats as scipy_stats

    assert significance.adjusted_p_values([0.01, 0.04, 0.03, 0.8]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.8])
    assert significance.adjusted_p_values([]) == []
    p_values = [round(p, 1) for p in np.random.default_rng(5).random(20).tolist()]  # some are equal
    expected = scipy_stats.false_discovery_control(p_values).tolist()
    assert significance.adjusted_p_values(p_values) == pytest.approx(expected)


def test_the_small_tests_are_the_textbooks():
    assert significance.fisher_p_value((3, 1), (1, 3)) == pytest.approx(34 / 70)  # the lady tasting tea, two-sided
    assert significance.trend_p_value([1, 2, 3, 4, 5]) == pytest.approx(2 / 120)
    assert significance.robust_line([0, 1, 2, 3, 4], [1, 3, 5, 7, 99]) == pytest.approx((2, 1), abs=1.1)


def test_fishers_test_is_that_of_scipy():
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(3)
    for highest in (4, 30, 3000):
        for first, second in rng.integers(0, highest, (30, 2, 2)).tolist():
            expected: Any = scipy_stats.fisher_exact([first, second])
            one_sided: Any = scipy_stats.fisher_exact([first, second], alternative="less")
            assert significance.fisher_p_value(first, second) == pytest.approx(expected.pvalue, rel=1e-6)
            assert significance.fisher_p_value(first, second, less=True) == pytest.approx(one_sided.pvalue, rel=1e-6)


@pytest.mark.parametrize("decimals", [9, 0], ids=["different values", "many equal values"])
def test_the_trend_test_is_that_of_scipy(decimals: int):
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(4)
    for count in (2, 10, 33, 34, 500):
        values = np.round(rng.normal(0, 1, count) + np.arange(count) / count, decimals)
        if len(set(values)) > 1:
            expected: Any = scipy_stats.kendalltau(np.arange(count), values)
            assert significance.trend_p_value(values.tolist()) == pytest.approx(expected.pvalue)
    assert math.isnan(significance.trend_p_value([7.0] * 20))


def test_a_robust_line_through_many_points_takes_little_memory_and_finds_their_slope():
    rng = np.random.default_rng(1)
    positions = rng.integers(10, 500, 20_000)
    values = 3.0 * positions + rng.normal(0, 50, len(positions))
    values[::10] += 1e6
    tracemalloc.start()
    slope, _ = significance.robust_line(positions.tolist(), values.tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert slope == pytest.approx(3.0, rel=0.05)
    assert peak < 100e6  # all pairs would take 1.6 GB


def test_a_robust_line_is_that_of_scipy_where_all_pairs_are_used():
    from scipy import stats as scipy_stats

    rng = np.random.default_rng(2)
    positions, values = rng.integers(0, 40, 200), rng.normal(0, 1, 200)
    expected: Any = scipy_stats.theilslopes(values, positions)
    found = significance.robust_line(positions.tolist(), values.tolist())
    assert found == pytest.approx((expected.slope, expected.intercept))

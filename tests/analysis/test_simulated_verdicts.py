"""Are the verdict and the interval right as often as they say? By simulated studies whose truth is known.

Each rate is of `STUDIES` studies, so that its Monte Carlo standard error is √(0.05 · 0.95 / 500) = 0.97%; a bound is
three of these, as there are many. `make statistics` does the same with more studies, for
docs/explanation/statistics.md.
"""

import pytest

from inferometer.testing.simulated import KEYS, Machine, rates

STUDIES = 500
ERROR = 3 * (0.05 * 0.95 / STUDIES) ** 0.5

DRIFT = Machine()
DRIFT_AND_PROMPTS = Machine(prompt_spread=0.1)


@pytest.mark.parametrize("trials", [3, 5, 10])
def test_without_a_difference_the_verdict_is_wrong_in_5_of_100_and_the_interval_holds_the_truth_in_95(trials):
    """Of a machine that drifts from trial to trial. A resampled median jumps between few values, so that its interval
    is rather too wide: there the error may be smaller."""
    found = rates(DRIFT, trials, STUDIES, seed=trials)
    for key in KEYS:
        least = 0.05 - ERROR if key != "median_ttft_ms" else 0.0
        assert least <= found.different[key] <= 0.05 + ERROR, key
        assert 0.95 - ERROR <= found.covered[key] <= 1 - least, key


@pytest.mark.parametrize("trials", [3, 5])
def test_with_prompts_that_bear_on_the_arms_unequally_it_is_wrong_no_more_often(trials):
    found = rates(DRIFT_AND_PROMPTS, trials, STUDIES, seed=10 + trials)
    for key in KEYS:
        assert found.different[key] <= 0.05 + ERROR, key
        assert found.covered[key] >= 0.95 - ERROR, key


def test_power_grows_with_the_difference_and_with_trials():
    """A slow-down of 5% and one of 10%, 3 and 6 trials; the two trials of a pair differ by some 4% by chance."""
    small, large = (rates(DRIFT, 3, 150, seed=1, slow_down=slow_down) for slow_down in (0.05, 0.10))
    many = rates(DRIFT, 6, 150, seed=1, slow_down=0.05)
    for key in KEYS:
        assert 0.05 < small.different[key] < large.different[key]
        assert small.different[key] < many.different[key]
        assert large.covered[key] > 0.90

"""A running server that reports no cache: a first trial that a cache did not help, and what only looks like one."""

import pytest

from inferometer.analysis.validity.caching import cache_differs
from inferometer.core.spec import Arm


@pytest.mark.parametrize(
    ("cold_ms", "warm_ms", "found"),
    [
        (200.0, 40.0, ["cache-differs"]),
        (30.0, 12.0, ["cache-differs"]),
        (200.0, 120.0, []),  # less than twice as long
        (5.0, 2.0, []),  # a busy machine adds as much to quick answers
    ],
)
def test_a_first_trial_that_no_cache_helped_is_found_where_it_shows(make, cold_ms, warm_ms, found):
    trials = make.as_trials(*[make.trial(make.answers(8, ttft_ms=ms)) for ms in (cold_ms, warm_ms, warm_ms)])
    case = make.case(*trials, arm=Arm(engine="external", url="http://127.0.0.1:1", model="m"))
    assert [one.code for one in cache_differs([case])] == found

"""Values and paired ratios of arms whose every time is known."""

import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.analysis.validity import ArmTrials
from inferometer.metrics.summary import summarize_view
from inferometer.report.page.distribution import BINS, MOST_POINTS, Distribution, distributions


def compared(*cases: ArmTrials) -> Comparison:
    return compare([summarize_view(trial, study="s", plan="p") for case in cases for trial in case.trials])


def pictures(*cases: ArmTrials) -> dict[str, Distribution]:
    return {one.key: one for one in distributions(cases, compared(*cases))}


def slow_and_fast(make) -> tuple[ArmTrials, ArmTrials]:
    def case(name: str, ttfts_ms: tuple[int, ...], gap_ms: int) -> ArmTrials:
        records = [make.record(i, ttft_ms=ms, gaps_ms=gap_ms) for i, ms in enumerate(ttfts_ms)]
        return make.case(name, make.trial(records, 1), make.trial(records, 2))

    return case("slow", (100, 200, 300), 20), case("fast", (50, 100, 150), 10)


def test_values_of_all_trials_stand_together_and_requests_are_paired_over_the_means_of_their_trials(make):
    found = pictures(*slow_and_fast(make))["ttft"]
    slow, fast = found.shapes
    assert (slow.n, slow.quantiles[50], slow.points) == (6, 200.0, (100.0, 100.0, 200.0, 200.0, 300.0, 300.0))
    assert fast.quantiles[50] == 100.0
    (ratios,) = found.ratios
    assert (ratios.arm, ratios.baseline, ratios.n, ratios.below_1) == ("fast", "slow", 3, 3)
    assert ratios.points == pytest.approx((0.5, 0.5, 0.5))
    assert ratios.label == "Median TTFT" and ratios.difference is not None
    assert ratios.difference.ratio == pytest.approx(0.5)


def test_time_per_token_has_a_value_for_each_token_after_the_first(make):
    found = pictures(*slow_and_fast(make))["per_token"]
    assert [shape.n for shape in found.shapes] == [18, 18]  # 2 trials of 3 requests of 4 tokens
    assert [shape.quantiles[50] for shape in found.shapes] == [20.0, 10.0]


def test_a_request_s_speed_is_its_tokens_by_its_time(make):
    found = pictures(*slow_and_fast(make))["request_speed"]
    assert found.shapes[0].points[-1] == pytest.approx(4 / 0.160)  # 100 ms and three gaps of 20 ms
    assert found.ratios[0].points[0] == pytest.approx(2.0)


def test_throughput_has_a_value_for_each_trial_and_pairs_trials_of_one_number(make):
    """One second between requests: the last ends after 2.36 s (slow) and 2.18 s (fast), with 12 tokens each."""
    found = pictures(*slow_and_fast(make))["throughput"]
    assert found.shapes[0].points == pytest.approx((12 / 2.36, 12 / 2.36))
    assert found.shapes[0].estimate is not None and found.shapes[0].estimate.n == 2
    assert (found.ratios[0].n, found.ratios[0].points) == (2, pytest.approx((2.36 / 2.18, 2.36 / 2.18)))


def test_requests_are_paired_by_what_was_asked_not_by_their_place(make):
    asked = make.requests(2)
    one = make.case("one", make.trial([make.record(0, ttft_ms=100), make.record(1, ttft_ms=400)]), requests=asked)
    other = make.case(
        "other", make.trial([make.record(0, ttft_ms=200), make.record(1, ttft_ms=100)]), requests=asked[::-1]
    )
    assert pictures(one, other)["ttft"].ratios[0].points == pytest.approx((0.5, 1.0))


def test_many_values_are_a_shape_and_few_are_themselves(make):
    count = MOST_POINTS + 80
    many = make.case("many", make.trial([make.record(i, ttft_ms=100 + i) for i in range(count)]))
    few = make.case("few", make.trial([make.record(i, ttft_ms=150) for i in range(3)]))
    shapes = pictures(many, few)["ttft"].shapes
    assert len(shapes[0].shares) == BINS and shapes[0].points == ()
    assert sum(shapes[0].shares) == pytest.approx((count - 2) / count)  # P0.5 and P99.5 leave one out on either side
    assert shapes[1].shares == () and shapes[1].points == (150.0, 150.0, 150.0)


def test_an_arm_that_measured_nothing_has_no_values_and_no_pairs(make):
    good = make.case("good", make.trial([make.record()]))
    bad = make.case("bad", make.trial([make.failed()]))
    found = pictures(good, bad)
    assert [shape.n for shape in found["ttft"].shapes] == [1, 0]
    assert found["ttft"].ratios[0].n == 0
    assert pictures(bad) == {} or all(any(shape.n for shape in one.shapes) for one in pictures(bad).values())


def test_values_that_reach_over_more_than_a_factor_of_twenty_have_a_logarithmic_axis(make):
    wide = make.case("wide", make.trial([make.record(i, ttft_ms=10 * 3**i) for i in range(5)]))
    assert pictures(wide)["ttft"].is_log
    narrow = make.case("narrow", make.trial([make.record(i, ttft_ms=10 + i) for i in range(5)]))
    assert not pictures(narrow)["ttft"].is_log

"""When a study that looks at its own results may end."""

import msgspec
import pytest

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.analysis.stopping import stop_decision


def comparison(*differences: Difference) -> Comparison:
    arms = ("base", *(found.arm for found in differences))
    estimates = {arm: Estimate(1.0, None, None, 3) for arm in arms}
    row = ComparisonRow(
        "output_throughput", "Output token throughput (tok/s)", "tok/s", "higher", estimates, differences
    )
    return Comparison(arms=arms, rows=(row,), trials=dict.fromkeys(arms, 3))


def between(low: float | None, high: float | None, arm: str = "draft", **fields: object) -> Difference:
    known: dict[str, object] = {"percent": 0.0, "basis": "trials and prompts"}
    return Difference(arm, "base", low_percent=low, high_percent=high, **(known | fields))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("low", "high", "enough", "why"),
    [
        (-1.0, 2.0, True, "within ±2%"),
        (-1.0, 3.1, False, "wider than ±2%"),
        (2.0, 30.0, True, "excludes differences smaller than 2%"),
        (1.9, 30.0, False, "wider"),
        (-30.0, -2.0, True, "excludes differences smaller than 2%"),
        (None, None, False, "no interval yet"),
    ],
)
def test_a_narrow_interval_or_one_far_from_zero_is_enough(low, high, enough, why):
    found = stop_decision(comparison(between(low, high)), 2.0)
    assert (found.enough, why in found.reason) == (enough, True)


def test_every_arm_must_be_known_well_enough():
    assert not stop_decision(comparison(between(-1, 1), between(-9, 9, "other")), 2.0).enough
    assert stop_decision(comparison(between(-1, 1), between(5, 9, "other")), 2.0).enough


def test_where_prompts_alone_make_it_wider_no_further_trial_is_played():
    found = stop_decision(comparison(between(-4, 4, prompts_percent=3.0)), 2.0)
    assert found.enough
    assert "add prompts, not trials" in found.reason


def test_an_interval_that_covers_prompts_only_is_never_enough():
    assert not stop_decision(comparison(between(-0.1, 0.1, basis="prompts")), 2.0).enough


def test_without_the_metric_there_is_nothing_to_go_by():
    assert not stop_decision(msgspec.structs.replace(comparison(between(0, 1)), primary="mean_tpot_ms"), 2.0).enough

"""What a comparison says of the arms' summaries."""

from typing import Any

import pytest

from inferometer.compare import Comparison, compare, difference_percent
from inferometer.metrics import TrialSummary


def summary(arm: str, number: int = 1, *, notes=(), state: Any = "done", draft_asked=False, memory=None, **values: Any):
    known: dict[str, float | None] = {"completed": 50, "failed": 0, **values}
    return TrialSummary(arm, number, known, notes, state=state, draft_asked=draft_asked, memory_quantity=memory)


def row(comparison: Comparison, metric: str):
    return next(row for row in comparison.rows if row.metric == metric)


def pair(**draft_values) -> list[TrialSummary]:
    """Two trials of each arm, so that the warning of a single trial stays away."""
    return [summary(arm, n, **values) for n in (1, 2) for arm, values in (("base", {}), ("draft", draft_values))]


def test_a_value_is_the_mean_over_the_arms_trials_and_the_difference_is_of_the_means():
    compared = compare(
        [
            summary("base", 1, mean_tpot_ms=10.0),
            summary("draft", 1, mean_tpot_ms=6.0),
            summary("draft", 2, mean_tpot_ms=5.0),
            summary("base", 2, mean_tpot_ms=12.0),
        ]
    )
    tpot = row(compared, "mean_tpot_ms")
    assert compared.arms == ("base", "draft")
    assert compared.trials == {"base": 2, "draft": 2}
    assert tpot.values == {"base": 11.0, "draft": 5.5}
    assert tpot.n == {"base": 2, "draft": 2}
    assert tpot.differences_percent == {"draft": -50.0}
    assert (tpot.label, tpot.unit, tpot.better) == ("Mean TPOT (ms)", "ms", "lower")
    assert compared.warnings == ()


def test_the_difference_is_of_unrounded_values():
    compared = compare([summary("a", request_throughput=0.054), summary("b", request_throughput=0.066)])
    assert row(compared, "request_throughput").differences_percent["b"] == pytest.approx(22.2222, abs=1e-3)


@pytest.mark.parametrize(("value", "baseline"), [(None, 1.0), (1.0, None), (None, None), (1.0, 0.0)])
def test_a_difference_without_ground_is_none(value, baseline):
    assert difference_percent(value, baseline) is None


def test_a_trial_without_the_metric_counts_in_no_mean():
    compared = compare([summary("a", 1, mean_ttft_ms=4.0), summary("a", 2, mean_ttft_ms=None), summary("b", 1)])
    ttft = row(compared, "mean_ttft_ms")
    assert ttft.values == {"a": 4.0, "b": None}
    assert ttft.n == {"a": 1, "b": 0}
    assert ttft.differences_percent == {"b": None}


def test_rows_come_in_the_seeds_order_without_those_of_vllms_block():
    labels = [row.label for row in compare([summary("a")]).rows]
    assert labels[0] == "Memory Usage (GiB)"
    assert labels[17] == "Failed requests"
    assert not any("E2EL" in label or "Std" in label or "Peak" in label for label in labels)


def test_latencies_from_due_are_there_where_something_was_due_and_stand_behind_the_seeds_rows():
    assert not any("from due" in row.label for row in compare([summary("a")]).rows)
    labels = [row.label for row in compare([summary("a"), summary("b", mean_ttft_from_due_ms=3.0)]).rows]
    assert labels[17:19] == ["Failed requests", "Mean TTFT from due (ms)"]


def test_one_arm_alone_has_no_difference():
    compared = compare([summary("a", mean_ttft_ms=1.0)])
    assert row(compared, "mean_ttft_ms").differences_percent == {}


def test_three_arms_are_each_compared_with_the_first():
    compared = compare([summary(arm, mean_ttft_ms=ttft) for arm, ttft in (("a", 10.0), ("b", 20.0), ("c", 5.0))])
    assert row(compared, "mean_ttft_ms").differences_percent == {"b": 100.0, "c": -50.0}


def test_a_note_of_all_arms_stands_once_and_that_of_one_names_it():
    compared = compare([summary("a", notes=("same", "own")), summary("b", notes=("same",))])
    assert compared.notes == ("same", "a: own")


def test_the_callers_warnings_come_first():
    assert compare(pair(), ["the clock jumped"]).warnings == ("the clock jumped",)


def test_failed_requests_are_warned_of():
    assert compare(pair(completed=48, failed=2)).warnings == (
        "draft: 4 of 100 requests failed and are in no latency and no token count",
    )


@pytest.mark.parametrize("drafted", [None, 0])
def test_a_draft_that_drafted_nothing_is_warned_of(drafted):
    (warning,) = compare(pair(draft_asked=True, drafted_tokens=drafted)).warnings
    assert warning.startswith("draft: a draft was asked for, but the engine reports no drafted token")


def test_a_draft_in_force_is_not_warned_of():
    assert compare(pair(draft_asked=True, drafted_tokens=9)).warnings == ()


@pytest.mark.parametrize(("tokens", "warns"), [(1020, False), (1021, True), (979, True)])
def test_arms_that_wrote_different_amounts_are_warned_of(tokens, warns):
    arms = [summary(arm, n, total_output_tokens=count) for n in (1, 2) for arm, count in (("a", 1000), ("b", tokens))]
    assert any("generated tokens differ" in warning for warning in compare(arms).warnings) == warns


def test_memory_of_two_kinds_is_warned_of():
    warnings = compare([summary("a", memory="gpu_memory_bytes"), summary("b", memory="pss_bytes")]).warnings
    assert any("Memory Usage is not of the same kind" in warning for warning in warnings)


def test_a_single_trial_is_warned_of():
    assert any("one trial only" in warning for warning in compare([summary("a"), summary("b")]).warnings)


def test_a_trial_that_did_not_end_well_is_left_out_and_named():
    compared = compare([summary("a", 1, mean_ttft_ms=1.0), summary("a", 2, state="failed", mean_ttft_ms=9.0)])
    assert row(compared, "mean_ttft_ms").values == {"a": 1.0}
    assert "a: trial 2 did not end well (failed) and is left out" in compared.warnings


def test_unlike_dialects_and_nothing_at_all_cannot_be_compared():
    with pytest.raises(ValueError, match="dialects"):
        compare([summary("a"), TrialSummary("b", 1, {}, dialect="vllm-0.6.5")])
    with pytest.raises(ValueError, match="no trial"):
        compare([])

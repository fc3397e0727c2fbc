"""What a comparison says of the arms' summaries."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison
from inferometer.core.record import Finding
from inferometer.metrics.summary import TrialSummary


def summary(arm: str, number: int = 1, *, notes=(), state: Any = "done", memory=None, study: Any = "", **values: Any):
    known: dict[str, float | None] = {"completed": 50, "failed": 0, **values}
    return TrialSummary(arm, number, known, notes, state=state, memory_quantity=memory, study=study)


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
    assert tpot.differences_percent == {"draft": pytest.approx(-50.0)}
    assert (tpot.label, tpot.unit, tpot.better) == ("Mean TPOT (ms)", "ms", "lower")
    assert compared.findings == ()


def test_the_difference_is_of_unrounded_values():
    compared = compare([summary("a", request_throughput=0.054), summary("b", request_throughput=0.066)])
    assert row(compared, "request_throughput").differences_percent["b"] == pytest.approx(22.2222, abs=1e-3)


def test_a_trial_without_the_metric_counts_in_no_mean():
    compared = compare([summary("a", 1, mean_ttft_ms=4.0), summary("a", 2, mean_ttft_ms=None), summary("b", 1)])
    ttft = row(compared, "mean_ttft_ms")
    assert ttft.values == {"a": 4.0, "b": None}
    assert ttft.n == {"a": 1, "b": 0}
    assert ttft.differences_percent == {"b": None}


def test_rows_come_in_the_seeds_order_without_those_of_vllms_block():
    labels = [row.label for row in compare([summary("a")]).rows]
    assert labels[0] == "Memory Usage (GiB)"
    assert labels[17:19] == ["Failed requests", "Median chunk gap (ms)"]
    assert not any("E2EL" in label or "Std" in label or "Peak" in label for label in labels)


def test_latencies_from_due_are_there_where_something_was_due_and_stand_behind_the_seeds_rows():
    assert not any("from due" in row.label for row in compare([summary("a")]).rows)
    labels = [row.label for row in compare([summary("a"), summary("b", mean_ttft_from_due_ms=3.0)]).rows]
    assert labels.index("Mean TTFT from due (ms)") > labels.index("Failed requests") == 17


def test_one_arm_alone_has_no_difference():
    compared = compare([summary("a", mean_ttft_ms=1.0)])
    assert row(compared, "mean_ttft_ms").differences_percent == {}


def test_three_arms_are_each_compared_with_the_first():
    compared = compare([summary(arm, mean_ttft_ms=ttft) for arm, ttft in (("a", 10.0), ("b", 20.0), ("c", 5.0))])
    assert row(compared, "mean_ttft_ms").differences_percent == pytest.approx({"b": 100.0, "c": -50.0})


def test_a_note_of_all_arms_stands_once_and_that_of_one_names_it():
    compared = compare([summary("a", notes=("same", "own")), summary("b", notes=("same",))])
    assert compared.notes == ("same", "a: own")


def test_the_findings_given_are_kept():
    hot = Finding("warning", "throttled", "the GPU was hot.", "Cool it.", "a", 2)
    compared = compare(pair(), [hot])
    assert compared.findings == (hot,)
    assert compared.finding_texts("warning") == ["a, trial 2: the GPU was hot. Cool it."]
    assert not compared.invalid


def test_what_was_found_in_several_trials_of_an_arm_is_said_once():
    busy = [Finding("warning", "machine-busy", f"{n} cores.", "End them.", "a", n) for n in (1, 2, 3)]
    assert compare(pair(), [*busy, Finding("warning", "machine-busy", "9 cores.", "", "b", 1)]).finding_texts(
        "warning"
    ) == [
        "a, trial 1: 1 cores. End them. (Also in trial 2, 3.)",
        "b, trial 1: 9 cores.",
    ]


def test_an_arm_whose_tokens_come_in_bursts_says_what_gaps_between_chunks_are_worth():
    one_by_one = [summary("base", n, tokens_per_burst=1.1) for n in (1, 2)]
    in_bursts = [summary("draft", 1, tokens_per_burst=2.9), summary("draft", 2, tokens_per_burst=3.3)]
    (said,) = compare([*one_by_one, *in_bursts]).finding_texts("note")
    assert said.startswith("draft: its tokens arrive in bursts of 3.1 on average. ITL and chunk gap")


def test_memory_of_two_kinds_is_warned_of():
    warnings = compare([summary("a", memory="gpu_memory_bytes"), summary("b", memory="pss_bytes")]).finding_texts(
        "warning"
    )
    assert any("Memory Usage was measured differently" in warning for warning in warnings)


def test_a_trial_that_did_not_end_well_is_left_out():
    compared = compare([summary("a", 1, mean_ttft_ms=1.0), summary("a", 2, state="failed", mean_ttft_ms=9.0)])
    assert row(compared, "mean_ttft_ms").values == {"a": 1.0}


def test_unlike_dialects_and_nothing_at_all_cannot_be_compared():
    with pytest.raises(ValueError, match="dialects"):
        compare([summary("a"), TrialSummary("b", 1, {}, dialect="vllm-0.6.5")])
    with pytest.raises(ValueError, match="no trial"):
        compare([])


# --- intervals and verdicts -----------------------------------------------------------------------


def rates(base: list[float], other: list[float], key: str = "output_throughput", **fields: Any) -> list[TrialSummary]:
    """Trials of two arms with these values."""
    both = (("base", base), ("other", other))
    return [summary(arm, n + 1, **fields, **{key: value}) for arm, values in both for n, value in enumerate(values)]


def test_the_interval_of_a_difference_is_students_over_the_paired_log_ratios():
    # log ratios 0.10, 0.12, 0.14: mean 0.12, s = 0.02, s/sqrt(3) = 0.011547, t(2) = 4.302653: half 0.049683
    after = [100 * math.exp(0.10), 50 * math.exp(0.12), 80 * math.exp(0.14)]
    found = row(compare(rates([100, 50, 80], after)), "output_throughput").against("base", "other")
    assert found.ratio == pytest.approx(math.exp(0.12))
    assert found.low_percent == pytest.approx(100 * (math.exp(0.12 - 0.049683) - 1), abs=1e-3)
    assert found.high_percent == pytest.approx(100 * (math.exp(0.12 + 0.049683) - 1), abs=1e-3)
    assert (found.basis, found.paired, found.verdict) == ("trials", True, "faster")
    # t = 0.12 / 0.011547 = 10.392 with 2 degrees of freedom: p = 1 - t/sqrt(t² + 2) = 0.009134
    assert found.p_value == pytest.approx(0.009134, abs=1e-5)


def test_a_slow_trial_of_both_arms_does_not_widen_the_interval():
    found = row(compare(rates([100, 50, 80], [110, 55.1, 88])), "output_throughput").against("base", "other")
    assert found.low_percent > 9.5
    assert found.high_percent < 10.5


@pytest.mark.parametrize(
    ("key", "after", "verdict"),
    [
        ("output_throughput", [120, 121, 119], "faster"),
        ("output_throughput", [80, 81, 79], "slower"),
        ("mean_tpot_ms", [120, 121, 119], "slower"),
        ("mean_tpot_ms", [80, 81, 79], "faster"),
        ("memory_gib", [120, 121, 119], "more"),
        ("memory_gib", [80, 81, 79], "less"),
        ("output_throughput", [90, 120, 101], "inconclusive"),
        ("output_throughput", [100.1, 99.9, 100.4], "same"),
        ("total_output_tokens", [120, 121, 119], ""),
    ],
)
def test_the_verdict_is_in_the_metrics_own_words(key, after, verdict):
    assert row(compare(rates([100, 100, 100.5], after, key)), key).against("base", "other").verdict == verdict


def test_one_trial_an_arm_gives_no_verdict_and_says_why():
    found = row(compare(rates([100], [150])), "output_throughput").against("base", "other")
    assert found.percent == pytest.approx(50)
    assert (found.low_percent, found.verdict) == (None, "unknown")
    assert "one trial" in found.reason


def test_one_trial_with_prompts_drawn_again_has_an_interval_of_prompts_only():
    drawn = np.random.default_rng(1).normal(0, 0.01, 999)
    base = TrialSummary("base", 1, {"output_throughput": 100.0}, replicates={"output_throughput": 100 * np.exp(drawn)})
    other = TrialSummary("b", 1, {"output_throughput": 150.0}, replicates={"output_throughput": 150 * np.exp(-drawn)})
    pair = [msgspec.structs.replace(one, requests=50, plan="same") for one in (base, other)]
    found = row(compare(pair), "output_throughput").against("base", "b")
    assert (found.basis, found.verdict) == ("prompts", "unknown")
    assert 44 < found.low_percent < 46  # 50% less about 2 · 0.02 of it


def test_trials_of_two_studies_are_no_pairs():
    trials = [*rates([100, 50, 80], [], study="a"), *rates([], [110, 55, 88], study="b")]
    found = row(compare(trials), "output_throughput").against("base", "other")
    assert not found.paired
    assert found.low_percent < 0 < found.high_percent
    assert found.verdict == "inconclusive"


def test_every_pair_of_arms_is_compared():
    trials = [
        summary(arm, n, output_throughput=v + n) for n in (1, 2, 3) for arm, v in (("a", 10), ("b", 20), ("c", 40))
    ]
    pairs = [(one.baseline, one.arm) for one in row(compare(trials), "output_throughput").differences]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_row_that_is_not_the_primary_one_goes_by_the_corrected_level_and_so_does_its_interval():
    """Four rows with p-values 0.028, 0.76, 0.76 and 0.76: none is below its threshold of 5% · 1/4."""
    noisy = ([100, 101, 102], [106, 107, 112])
    alike = {key: ([100, 101, 102], [100, 102, 101]) for key in ("mean_ttft_ms", "median_ttft_ms", "mean_tpot_ms")}
    values = alike | {"output_throughput": noisy, "memory_gib": (noisy[0], [106, 107.01, 112])}
    trials = [
        summary(arm, n + 1, **{key: both[side][n] for key, both in values.items()})
        for side, arm in enumerate(("base", "other"))
        for n in range(3)
    ]
    compared = compare(trials)
    primary, other = (row(compared, key).against("base", "other") for key in ("output_throughput", "memory_gib"))
    assert primary.p_value == pytest.approx(other.p_value, abs=1e-3)
    assert primary.p_value < 0.05 < other.adjusted_p
    assert (primary.verdict, other.verdict) == ("faster", "inconclusive")
    assert (primary.confidence_percent, primary.low_percent > 0) == (95, True)
    assert other.low_percent < 0 < other.high_percent
    assert "Benjamini-Hochberg" in compared.correction


def test_an_invalid_comparison_gives_no_verdict():
    finding = Finding("invalid", "draft-not-used", "a draft was asked for, and none was used.")
    compared = compare(rates([100, 100, 100.5], [120, 121, 119]), [finding])
    assert compared.invalid
    found = row(compared, "output_throughput").against("base", "other")
    assert (found.verdict, found.low_percent is None) == ("unknown", False)
    assert found.reason == "withheld: draft-not-used"


def test_a_percentile_of_too_few_values_has_no_interval():
    few = [
        msgspec.structs.replace(one, counts={"p99_ttft_ms": 50})
        for one in rates([100, 99, 98], [50, 51, 52], "p99_ttft_ms")
    ]
    found = row(compare(few), "p99_ttft_ms")
    assert found.against("base", "other").verdict == "unknown"
    assert found.against("base", "other").percent == pytest.approx(-48.5, abs=0.1)
    assert "368" in found.against("base", "other").reason
    enough = [msgspec.structs.replace(one, counts={"p99_ttft_ms": 368}) for one in few]
    assert row(compare(enough), "p99_ttft_ms").against("base", "other").verdict == "faster"


def test_what_the_design_could_have_shown_is_said():
    # s of the log ratios 0.01, so s/sqrt(3) = 0.0057735; t(2) at 97.5% 4.302653, at 80% 1.060660: 0.030965
    after = [100 * math.exp(d) for d in (-0.01, 0.0, 0.01)]
    found = row(compare(rates([100, 100, 100], after)), "output_throughput").against("base", "other")
    assert found.detectable_percent == pytest.approx(100 * (math.exp(0.030965) - 1), abs=1e-3)
    assert found.trials_needed == 3  # of the default 5%
    larger = row(compare(rates([100, 100, 100], after), effect_percent=1.0), "output_throughput")
    assert larger.against("base", "other").trials_needed == 10  # (t97.5 + t80) of 9 degrees · 0.01/sqrt(10) < log(1.01)


def test_zeros_on_both_sides_are_no_difference_and_a_zero_baseline_has_no_ratio():
    assert row(compare(rates([0, 0, 0], [0, 0, 0], "failed")), "failed").against("base", "other").verdict == ("same")
    found = row(compare(rates([0, 0, 0], [1, 2, 1], "failed")), "failed").against("base", "other")
    assert (found.percent, found.verdict) == (None, "unknown")


def test_an_unknown_primary_metric_is_refused():
    with pytest.raises(ValueError, match="no metric 'speed'"):
        compare([summary("a")], primary="speed")

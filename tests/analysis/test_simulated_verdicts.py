"""Are the verdict and the interval right as often as they say? By simulated studies whose truth is known.

Each rate is of `STUDIES` studies, so that its Monte Carlo standard error is √(0.05 · 0.95 / 300) = 1.26%; a bound is
three of these, as there are many. `make statistics` does the same with more studies, for
docs/explanation/statistics.md.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import Comparison, Interval
from inferometer.metrics.summary import TrialSummary
from inferometer.testing.simulated import KEYS, Design, SimulatedMachine, any_wrong, rates, simulated, study, summaries

STUDIES = 300
ERROR = 3 * (0.05 * 0.95 / STUDIES) ** 0.5
MACHINES = [
    SimulatedMachine(),
    SimulatedMachine(prompt_spread=0.1),
    SimulatedMachine(start_spread=0.03),
    SimulatedMachine(busy_share=0.5, busy_requests=3),
    SimulatedMachine(slow_share=0.05, slow_factor=1.3, slow_arm_only=True),
]


@pytest.mark.parametrize("order", ["trials", "requests"])
@pytest.mark.parametrize("machine", MACHINES)
def test_both_intervals_contain_the_truth_in_95_of_100_studies(machine, order):
    found = rates(machine, Design(4, order), STUDIES, seed=5, keys=(KEYS[0], KEYS[2]))
    for key in (KEYS[0], KEYS[2]):
        assert found[key, "sampled"].covered >= 0.95 - ERROR, key
        assert found[key, "fixed"].covered >= 0.95 - ERROR, key


def test_stalls_of_one_arm_count_as_its_own():
    """Each 7th request of one arm takes twice as long: the arm is 14% slower, and called slower."""
    machine = SimulatedMachine(slow_every=7, slow_factor=2, slow_arm_only=True, noise=0.01)
    found = [study(machine, Design(4, "requests"), np.random.default_rng(seed)).primary_row for seed in range(5)]
    assert [row.differences[0].verdict for row in found if row] == ["slower"] * 5


def test_requests_in_turn_need_a_third_of_the_width():
    """On a machine that drifts by 2% from trial to trial."""
    halves = [rates(SimulatedMachine(), Design(4, order), 100, 1, keys=KEYS[:1]) for order in ("trials", "requests")]
    trials, requests = (found[KEYS[0], "sampled"].half_percent for found in halves)
    assert requests < 0.5 * trials


def test_of_4_or_6_equal_arms_5_of_100_studies_show_any_difference():
    for arms in (4, 6):
        assert any_wrong(SimulatedMachine(), Design(3, "requests", arms=arms), 100, seed=arms) <= 0.05 + ERROR * 3**0.5


def test_one_start_per_arm_gives_no_general_verdict():
    """Starts that differ by 3%: without a rule, most studies of equal arms would show a difference."""
    machine, design = SimulatedMachine(start_spread=0.03), Design(4, "requests", restarts=False)
    found = rates(machine, design, 60, 4, keys=KEYS[:1])
    assert found[KEYS[0], "sampled"].different > 0.3
    difference = study(machine, design, np.random.default_rng(1)).primary_row.differences[0]
    assert (difference.verdict, difference.needs) == ("unknown", "several starts")
    assert difference.starts_verdict in ("faster", "slower", "same", "inconclusive")
    assert difference.reason.startswith("these two starts: ")
    assert "restart: always" in difference.reason
    assert "--starts-sd" in difference.reason
    assert any_wrong(machine, design, 10, 4) == 0


def test_a_stated_variation_of_starts_gives_one_start_per_arm_a_general_verdict():
    """Wrong in 5 of 100 studies of equal arms, and a difference of several times that variation is found."""
    machine, sd = SimulatedMachine(start_spread=0.01), 1.0
    equal, slower = (Design(4, "requests", restarts=False, slow_down=by) for by in (0.0, 0.1))
    assert any_wrong(machine, equal, STUDIES, 4, starts_sd_percent=sd) <= 0.05 + ERROR
    assert any_wrong(machine, slower, 30, 4, starts_sd_percent=sd) > 0.9
    both = summaries(simulated(machine, equal, np.random.default_rng(1)))
    rows = {row.metric: row.differences[0] for row in compare(both, starts_sd_percent=sd).rows if any(row.n.values())}
    assert rows["output_throughput"].verdict != "unknown"
    assert rows["mean_tpot_ms"].verdict == "unknown"  # the variation was stated for the throughput
    assert (rows["output_throughput"].needs, rows["mean_tpot_ms"].needs) == ("", "several starts")
    unclear = compare(both, starts_sd_percent=3.0).primary_row.differences[0]
    assert (unclear.needs, unclear.trials_needed) == ("several starts", None)  # 3% · √2 · (1.96 + 0.84) is 12%


def test_a_stated_variation_widens_only_the_intervals_of_arms_with_one_start():
    machine = SimulatedMachine()
    for restarts in (True, False):
        trials = summaries(simulated(machine, Design(4, "requests", restarts=restarts), np.random.default_rng(2)))
        known, unknown = (compare(trials, starts_sd_percent=sd).primary_row.differences[0] for sd in (3.0, None))
        widths = [one.high_percent - one.low_percent for one in (known, unknown)]
        assert widths[0] == pytest.approx(widths[1]) if restarts else widths[0] > 2 * 1.96 * 3.0 * 2**0.5


# --- verdict and interval -------------------------------------------------------------------------


def agrees(found: Interval, equivalence_percent: float) -> bool:
    """Whether the verdict is the one that a reader would make from the interval."""
    low, high = found.low_percent, found.high_percent
    if found.verdict in ("", "unknown"):
        return True
    if not low <= 0 <= high:
        return found.verdict in ("faster", "slower", "more", "less")
    is_within = -equivalence_percent <= low and high <= equivalence_percent
    return found.verdict == ("same" if is_within else "inconclusive")


VALUES = st.floats(0.5, 2) | st.sampled_from([0.0, 1.0, 1.001])
METRICS = st.sampled_from(["output_throughput", "duration", "memory_gib", "mean_ttft_ms", "failed", "p99_itl_ms"])


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Of 2 to 4 arms in 1 to 5 trials, with any values of up to six metrics, some of them with replicates."""
    arms, trials = draw(st.integers(2, 4)), draw(st.integers(1, 5))
    keys = draw(st.lists(METRICS, min_size=1, unique=True))
    spread = draw(st.sampled_from([0.0, 0.01, 0.3]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return compare(
        [
            TrialSummary(
                f"arm {arm}",
                number,
                (values := {key: draw(VALUES) for key in keys}),
                replicates={key: value * np.exp(rng.normal(0, spread, 99)) for key, value in values.items()},
                requests=8,
                study="s",
                plan="p",
                start=draw(st.sampled_from(["", "one"])),
            )
            for number in range(trials)
            for arm in range(arms)
        ],
        prompts=draw(st.sampled_from(["sampled", "fixed"])),
        equivalence_percent=draw(st.sampled_from([0.5, 2.0, 20.0])),
    )


@settings(max_examples=60, deadline=None)
@given(comparisons())
def test_no_verdict_contradicts_its_interval(found):
    for row in found.rows:
        for one in row.differences:
            both = [interval for interval in (one.these_prompts, one.prompts_like_these) if interval is not None]
            assert all(agrees(interval, found.equivalence_percent) for interval in both)
            shown = one.these_prompts if found.prompts == "fixed" else one.prompts_like_these
            assert shown is None or (shown.low_percent, shown.high_percent, shown.verdict) == (
                one.low_percent,
                one.high_percent,
                one.verdict,
            )
            assert one.verdict in ("", "unknown") or shown is not None


def test_the_interval_of_these_prompts_lies_in_that_of_prompts_like_these():
    machine, design = SimulatedMachine(prompt_spread=0.1), Design(5, "requests")
    one = study(machine, design, np.random.default_rng(3)).primary_row.differences[0]
    wide, narrow = one.prompts_like_these, one.these_prompts
    assert wide.low_percent < narrow.low_percent < narrow.high_percent < wide.high_percent
    assert (wide.basis, narrow.basis) == ("trials and prompts", "trials")
    fixed = study(machine, design, np.random.default_rng(3), prompts="fixed")
    assert fixed.primary_row.differences[0].low_percent == narrow.low_percent


def test_rows_that_state_the_same_fact_are_judged_once():
    """Duration and throughput of equal tokens; the memory is another fact."""
    values = [(10.0, 10.5), (10.2, 10.9), (9.9, 10.3)]
    trials = [
        TrialSummary(arm, n, {"output_throughput": 100 / speed, "duration": speed, "memory_gib": 3 + speed / 100})
        for n, both in enumerate(values)
        for arm, speed in zip("ab", both, strict=True)
    ]
    rows = {row.metric: row.differences[0] for row in compare(trials).rows if any(row.n.values())}
    assert {key: one.same_as for key, one in rows.items()} == {
        "output_throughput": "",
        "duration": "output_throughput",
        "memory_gib": "",
    }
    assert rows["duration"].p_value == rows["output_throughput"].p_value
    assert rows["duration"].verdict == rows["output_throughput"].verdict == "slower"

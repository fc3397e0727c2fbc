"""The decision of a search: from the confirmation, in the direction that the search asked for."""

import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.search.proposals import Settings
from inferometer.analysis.search.racing import Race
from inferometer.analysis.search.result import BASELINE, decision, none_left
from inferometer.core.record import Finding
from inferometer.metrics.summary import TrialSummary


@pytest.mark.parametrize(
    ("metric", "minimise", "chosen"),
    [
        ("output_throughput", False, BASELINE),
        ("mean_tpot_ms", True, "n_max 4"),
        ("mean_draft_length", True, "n_max 4"),
        ("mean_draft_length", False, BASELINE),
    ],
)
def test_a_lower_value_pays_only_where_lower_is_better(metric: str, minimise: bool, chosen: str):
    """The setting has 9 where the baseline has 10. The draft length has no better direction of its own."""
    trials = [
        TrialSummary(arm, number, {metric: value + number / 100})
        for arm, value in ((BASELINE, 10.0), ("n_max 4", 9.0))
        for number in range(1, 6)
    ]
    found = decision(compare(trials, primary=metric), ["n_max 4"], [], minimise=minimise)
    assert found.chosen == chosen
    assert found.sentences[0].startswith("Use n_max 4" if chosen == "n_max 4" else "No setting pays")


@pytest.mark.parametrize(("at", "chosen"), [("n_max 4", "n_max 8"), ("n_max 8", "n_max 4"), (BASELINE, BASELINE)])
def test_a_setting_whose_result_is_not_valid_is_not_used(at: str, chosen: str):
    trials = [
        TrialSummary(arm, number, {"output_throughput": value + number / 100})
        for arm, value in ((BASELINE, 10.0), ("n_max 4", 19.0), ("n_max 8", 18.0))
        for number in range(1, 6)
    ]
    cached = Finding("invalid", "cached", "43% of its prompt tokens came from the prefix cache.", arm=at)
    found = decision(
        compare(trials, primary="output_throughput", findings=[cached]), ["n_max 4", "n_max 8"], [], minimise=False
    )
    assert found.chosen == chosen
    assert ("n_max 4 is not valid: 43% of its prompt" in " ".join(found.sentences)) == (at != "n_max 8")


def test_a_search_without_a_usable_setting_says_why():
    race: Race[Settings] = Race()
    race.add({(1,): [0.1], (2,): [0.2]})
    race.drop((1,), "violates “p95_ttft_ms < 1”: 3")
    assert none_left(race) == "None looked better in the search."
    race.drop((2,), "violates “p95_ttft_ms < 1”: 4")
    race.drop((3,), "failed: no memory")
    assert none_left(race) == ("None of the 3 settings can be used: 2 × violates “p95_ttft_ms < 1”, 1 × failed.")

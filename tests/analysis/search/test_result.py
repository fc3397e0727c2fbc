"""The decision of a search: from the confirmation, in the direction that the search asked for."""

import pytest

from inferometer.analysis.compare import compare
from inferometer.analysis.search.result import BASELINE, decision
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

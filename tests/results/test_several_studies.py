"""Several studies side by side: arm against arm, each pair in a table of its own."""

import json
from pathlib import Path

import pytest

from inferometer.analysis.comparison import Comparison
from inferometer.report import json_report, markdown, terminal
from inferometer.results.comparison import comparison_of


@pytest.fixture
def two(write_study) -> list[Path]:
    """Tokens of the second machine come in half the time for base, and in twice the time for draft."""
    return [
        write_study("w7900", {"base": 10, "draft": 5}, machine={"cpu": "A", "gpu_0": "W7900"}),
        write_study("rtx3090", {"draft": 10, "base": 5, "q8": 7}, machine={"cpu": "A", "gpu_0": "RTX 3090"}),
    ]


def tpot(comparison: Comparison) -> dict[tuple[str, str], float | None]:
    row = next(row for row in comparison.rows if row.metric == "mean_tpot_ms")
    return {(found.baseline, found.arm): found.percent for found in row.differences}


def test_arms_of_one_name_are_compared_and_no_others(two: list[Path]):
    comparison = comparison_of(two, "inferometer")
    assert comparison.pairs == (("w7900/base", "rtx3090/base"), ("w7900/draft", "rtx3090/draft"))
    assert tpot(comparison) == {
        ("w7900/base", "rtx3090/base"): pytest.approx(-50),
        ("w7900/draft", "rtx3090/draft"): pytest.approx(100),
    }
    verdicts = {
        found.arm: found.verdict for row in comparison.rows for found in row.differences if row.metric == "mean_tpot_ms"
    }
    assert verdicts == {"rtx3090/base": "faster", "rtx3090/draft": "slower"}
    assert "No other study has an arm named like q8: name its partner with --pair" in comparison.notes
    assert "q8" not in comparison.arms


def test_what_differs_between_the_studies_is_a_warning_said_once(two: list[Path]):
    said = comparison_of(two, "inferometer").finding_texts("warning")
    assert [line for line in said if "a different machine" in line] == [
        "rtx3090 was measured on a different machine than w7900: gpu 0 RTX 3090, not W7900. "
        "Unless you want to compare machines, measure both on one machine, preferably in one study."
    ]


def test_other_prompts_withhold_the_verdicts_of_a_pair(write_study):
    studies = [write_study("one", {"a": 10}), write_study("two", {"a": 10}, prompts=("what?", "who?"))]
    comparison = comparison_of(studies, "inferometer")
    assert comparison.invalid
    assert any("two/a: it got different prompts from one/a" in line for line in comparison.finding_texts("invalid"))


def test_pairs_may_be_named_across_studies_and_within_one(two: list[Path]):
    comparison = comparison_of(two, "inferometer", pairs=["w7900/base:q8", "rtx3090/base:q8"])
    assert list(tpot(comparison)) == [("w7900/base", "q8"), ("rtx3090/base", "q8")]
    assert tpot(comparison)["w7900/base", "q8"] == pytest.approx(-30)
    assert tpot(comparison)["rtx3090/base", "q8"] == pytest.approx(40)
    within = comparison_of(two[:1], "inferometer", pairs=["draft:base"])
    assert tpot(within) == {("draft", "base"): pytest.approx(100)}


def test_without_pairs_every_arm_stands_against_every_other(two: list[Path]):
    comparison = comparison_of(two, "inferometer", pairs=None)
    assert comparison.pairs == ()
    assert comparison.arms == ("w7900/base", "w7900/draft", "rtx3090/draft", "rtx3090/base", "q8")
    assert len(tpot(comparison)) == 10


def test_studies_without_an_arm_of_one_name_stand_beside_one_another(write_study):
    studies = [write_study("one", {"a": 10}), write_study("two", {"b": 5})]
    comparison = comparison_of(studies, "inferometer")
    assert (comparison.arms, comparison.pairs) == (("a", "b"), ())


def test_two_folders_of_one_name_keep_their_trials_apart(write_study, tmp_path: Path):
    one, two = write_study("x/run", {"a": 10}), write_study("y/run", {"a": 5})
    comparison = comparison_of([one, two], "inferometer")
    assert comparison.trials == {"x/run/a": 3, "y/run/a": 3}


def test_each_pair_has_a_table_of_its_own_in_every_form(two: list[Path]):
    comparison = comparison_of(two, "inferometer")
    text = markdown.render(comparison)
    assert text.count("**w7900/base → rtx3090/base**\n\n| Metric ") == 1
    assert text.count("**w7900/draft → rtx3090/draft**\n\n| Metric ") == 1
    (row,) = [line for line in text.split("**w7900/draft → ")[1].splitlines() if line.startswith("| Mean TPOT")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "Mean TPOT (ms)"
    assert cells[1].startswith("**5.10 ") and cells[2].startswith("10.20 ")  # trials 1 %, 2 % and 3 % longer
    assert cells[3] == "100.0" and cells[5] == "✗ slower"
    shown = terminal.render(comparison)
    assert shown.index("w7900/base → rtx3090/base") < shown.index("w7900/draft → rtx3090/draft")
    assert max(map(len, shown.splitlines())) < 100
    document = json.loads(json_report.render(comparison))
    assert document["pairs"] == [["w7900/base", "rtx3090/base"], ["w7900/draft", "rtx3090/draft"]]


def test_speculation_is_held_against_the_arm_without_a_draft_of_its_own_study(write_study):
    one = write_study("one", {"base": 10, "draft": 8}, drafts=("draft",))
    two = write_study("two", {"draft": 4}, drafts=("draft",))
    (found,) = comparison_of([one, two], "inferometer").speculation
    assert (found.arm, found.baseline, found.measured) == ("one/draft", "base", pytest.approx(1.25))

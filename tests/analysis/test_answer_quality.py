import random
import re
from pathlib import Path

import pytest

from inferometer.analysis.answer_quality import parts_judged, quality_difference
from inferometer.analysis.arm_quality import shares


def outcomes(right: list[bool] | list[list[bool]]):
    return {f"p{n}": one if isinstance(one, list) else [one] for n, one in enumerate(right)}


def difference(base, arm, margin=2.0):
    return quality_difference(("base", outcomes(base)), ("arm", outcomes(arm)), margin)


def in_parts(base, arm, tags):
    """The difference with the shares of parts; `tags` of each problem, in order."""
    named = {f"p{n}": of for n, of in enumerate(tags)}
    parts = parts_judged(list(shares(outcomes(base), outcomes(arm), named)), 2.0)
    return quality_difference(("base", outcomes(base)), ("arm", outcomes(arm)), 2.0, parts)


def pairs(both: int, lost: int, gained: int, neither: int):
    return (
        [True] * (both + lost) + [False] * (gained + neither),
        [True] * both + [False] * lost + [True] * gained + [False] * neither,
    )


def test_56_of_60_against_37_of_60_is_worse():
    from scipy import stats

    found = difference(*pairs(both=36, lost=20, gained=1, neither=3))
    assert (round(found.baseline_percent, 1), round(found.arm_percent, 1)) == (93.3, 61.7)
    assert round(found.points, 1) == -31.7
    assert found.verdict == "worse"
    assert found.high_points < -2
    assert found.p_value == pytest.approx(stats.binomtest(20, 21).pvalue)


@pytest.mark.parametrize("paired", [(30, 20, 7, 3), (37, 19, 0, 4), (33, 23, 4, 0)])
def test_that_case_is_worse_however_the_problems_overlap(paired):
    assert difference(*pairs(*paired)).verdict == "worse"


def test_equal_answers_to_few_problems_are_not_shown_to_be_the_same():
    found = difference([True] * 20, [True] * 20)
    assert found.verdict == "inconclusive"
    assert found.points == 0
    assert found.problems_needed > 20


def test_equal_answers_to_many_problems_are_the_same_within_the_margin():
    found = difference([True, False] * 500, [True, False] * 500)
    assert found.verdict == "same"
    assert -2 <= found.low_points < 0 < found.high_points <= 2


def test_a_small_difference_that_lies_within_the_margin_is_the_same():
    found = difference(*pairs(both=50_000, lost=600, gained=100, neither=1000))
    assert found.p_value < 1e-6
    assert found.verdict == "same"


def test_answers_of_which_none_is_right_are_not_the_same():
    assert difference([False] * 1000, [False] * 1000).verdict == "inconclusive"


def test_an_arm_that_is_worse_at_one_task_is_worse_whatever_it_gains_elsewhere():
    tags = [{"task": "go" if n < 40 else "python"} for n in range(200)]
    base = [True] * 120 + [False] * 80
    arm = [False] * 25 + [True] * 120 + [False] * 55
    found = in_parts(base, arm, tags)
    assert (found.lost, found.gained, found.verdict) == (25, 25, "inconclusive")
    assert found.is_worse
    (part,) = found.worse_parts
    assert (part.by, part.name, part.baseline_percent, part.arm_percent) == ("task", "go", 100, 37.5)
    assert not in_parts(arm, arm, tags).is_worse


def test_more_right_answers_are_better():
    assert difference(*pairs(both=20, lost=1, gained=20, neither=19)).verdict == "better"


@pytest.mark.parametrize(("lost", "gained"), [(lost, gained) for lost in range(9) for gained in range(9)])
def test_the_interval_excludes_0_only_where_the_exact_test_does(lost, gained):
    found = difference(*pairs(20, lost, gained, 10))
    is_shown = found.low_points > 0 or found.high_points < 0
    assert is_shown == (found.p_value < 0.05)
    assert found.low_points <= found.points <= found.high_points


def test_several_answers_to_each_problem_are_paired_by_problem():
    found = difference([[True, True, False]] * 30 + [[True] * 3] * 30, [[False] * 3] * 30 + [[True, False, True]] * 30)
    assert found.method == "paired by problem"
    assert found.points == pytest.approx(-50)
    assert found.verdict == "worse"
    assert found.unstable == {"base": 30, "arm": 30}
    assert found.repeated == {"base": 60, "arm": 60}


def test_only_problems_that_both_arms_answered_count():
    found = quality_difference(("a", {"x": [True], "y": [False]}), ("b", {"y": [True], "z": [True]}), 2.0)
    assert (found.problems, found.gained) == (1, 1)
    assert quality_difference(("a", {"x": [True]}), ("b", {"z": [True]}), 2.0) is None


@pytest.mark.parametrize(("problems", "answers"), [(60, 1), (164, 1), (60, 3)])
def test_at_most_5_percent_of_null_studies_are_called_worse(problems, answers):
    """Two arms alike: each problem has its own chance, and every answer is drawn anew."""
    rng = random.Random(1)
    calls: list[str] = []
    for _ in range(1000):
        chances = [rng.betavariate(0.5, 0.5) for _ in range(problems)]
        base, arm = ([[rng.random() < chance for _ in range(answers)] for chance in chances] for _ in range(2))
        tags = [{"language": str(n % 6), "task": str(n % 5)} for n in range(problems)]
        found = in_parts(base, arm, tags)
        calls.append("worse" if found.is_worse else found.verdict)
    assert calls.count("worse") <= 50
    assert calls.count("better") <= 50


def test_a_difference_is_found_about_as_often_as_promised():
    rng = random.Random(2)
    chances = [(0.9, 0.6) if n % 2 else (0.3, 0.1) for n in range(100)]
    found = [
        difference([rng.random() < a for a, _ in chances], [rng.random() < b for _, b in chances]).verdict
        for _ in range(200)
    ]
    assert found.count("worse") > 160


def power(problems: int, loss: float, noise: float) -> float:
    """Share of studies whose exact test shows the loss, if `noise` of the problems flip each way by chance."""
    from scipy import stats

    found = 0.0
    for flips in range(1, problems + 1):
        fewest = int(stats.binom.isf(0.025, flips, 0.5)) + 1
        shown = stats.binom.sf(fewest - 1, flips, (noise + loss) / (2 * noise + loss))
        found += float(stats.binom.pmf(flips, problems, 2 * noise + loss) * shown)
    return found


def test_the_losses_that_the_reference_promises_to_show_are_shown_in_four_of_five_studies():
    page = Path(__file__).parents[2] / "docs" / "reference" / "quality.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    (said,) = re.findall(r"If (\d+)% of .*?, (\d+) problems .*? (\d+) points .*?(\d+) one of (\d+) points, "
                         r"and ([\d,]+) one of (\d+) points", text)  # fmt: skip
    noise, *sizes = (int(number.replace(",", "")) for number in said)
    for problems, points in zip(sizes[::2], sizes[1::2], strict=True):
        assert power(problems, (points - 1) / 100, noise / 100) < 0.8 < power(problems, (points + 1) / 100, noise / 100)

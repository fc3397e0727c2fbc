"""The one sentence on speed and right answers, for outcomes that are easily misread."""

import contextlib

import msgspec
import pytest

from inferometer.analysis.decision import decisions, worse_text
from inferometer.core.record import AnswerCheck, CheckResult
from inferometer.report import terminal
from inferometer.results.study_comparison import comparison_of
from inferometer.store import Store

COUNT = 200


def compared(write_study, right: dict[str, str], gap_ms: float, result: CheckResult = "failed"):
    """A study of two arms and 200 problems. `right`: for each arm a letter per problem, "x" for a right answer, which
    is repeated. The problems' tasks are go (the first fifth) and python."""
    folder = write_study(
        f"s{len(set(right['arm']))}", {"base": 10, "arm": gap_ms}, prompts=tuple(f"question {n}" for n in range(COUNT))
    )
    with contextlib.closing(Store.amend(folder)) as store:
        plan = store.plan()
        assert plan is not None
        items = [
            msgspec.structs.replace(
                item,
                request=msgspec.structs.replace(item.request, tags={"task": "go" if n <= COUNT // 5 else "python"}),
            )
            for n, item in enumerate(plan.items)
        ]
        store.set_meta("plan", msgspec.structs.replace(plan, items=tuple(items)))
        reason = "there is no toolchain for swift" if result == "no_toolchain" else ""
        for (arm, _), trial_id in store.trial_ids().items():
            known = right[arm] * COUNT
            for item in plan.measured:
                is_right = known[item.index - 1] == "x"
                store.add_check(trial_id, AnswerCheck(item.index, "passed" if is_right else result, reason))
    return comparison_of([folder], "inferometer")


@pytest.mark.parametrize(
    ("base", "arm", "gap_ms", "end"),
    [
        ("x", "x" * 140 + "-" * 60, 5, "faster but worse"),
        ("x" * 140 + "-" * 60, "x", 20, "slower but better"),
        ("x" * 140 + "-" * 60, "x", 5, "faster and better"),
        ("x", "-", 5, "faster but worse"),
        ("x" * 100 + "-" * 100, "-" + "x" * 99 + "-" * 100, 5, "faster, answers inconclusive"),
        ("-", "-", 5, "faster, answers not compared: none is right. Look at them, or take easier problems"),
        ("x" * 120 + "-" * 80, "-" * 25 + "x" * 120 + "-" * 55, 5, "tell), but worse at task go (100% → 38% of 40)"),
    ],
)
def test_speed_and_right_answers_are_one_sentence(write_study, base, arm, gap_ms, end):
    comparison = compared(write_study, {"base": base, "arm": arm}, gap_ms)
    (found,) = decisions(comparison)
    assert end in found
    assert bool(worse_text(comparison, "base", "arm")) == ("worse" in end)
    assert end in " ".join(terminal.render(comparison, width=1000).split())


def test_answers_that_could_not_be_checked_decide_nothing(write_study):
    comparison = compared(write_study, {"base": "x", "arm": "x-"}, 5, "no_toolchain")
    (found,) = comparison.quality
    assert found.problems == 100
    assert "Not checked, and counted neither way: 100 problem(s): there is no toolchain for swift." in comparison.notes
    assert decisions(compared(write_study, {"base": "x", "arm": "-"}, 5, "no_toolchain")) == []

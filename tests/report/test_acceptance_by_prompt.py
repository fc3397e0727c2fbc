"""Acceptance by prompt and kind, where every count is known."""

import pytest

from inferometer.core.record import Sample
from inferometer.report.page.acceptance_by_prompt import accepted


def test_a_kind_s_share_is_of_its_tokens_together_over_all_trials(make):
    """Requests 0 and 2 are Python to write, request 1 is Go to fix."""
    counts = [(10, 9), (20, 10), (30, 15)]
    answer = ("word ",) * 40
    trials = [make.trial([make.record(i, words=answer, draft=one) for i, one in enumerate(counts)], n) for n in (1, 2)]
    (found,) = accepted([make.case("base", make.trial([make.record()])), make.case("draft", *trials)])
    assert found.arm == "draft"
    shares = {(group.by, group.name): (len(group.prompts), group.percent) for group in found.groups}
    assert shares == {
        ("", "all prompts"): (3, pytest.approx(100 * 34 / 60)),
        ("task", "write"): (2, pytest.approx(100 * 24 / 40)),
        ("task", "fix"): (1, 50.0),
        ("language", "python"): (2, pytest.approx(60.0)),
        ("language", "go"): (1, 50.0),
    }
    assert [group.name for group in found.groups] == ["all prompts", "write", "fix", "python", "go"]
    assert [(one.id, one.drafted, one.accepted) for one in found.prompts] == [
        ("r1", 40, 20),
        ("r2", 60, 30),
        ("r0", 20, 18),
    ]


def test_an_engine_that_only_counts_in_all_has_a_share_and_no_prompts(make):
    samples = [
        Sample(at_ns, "/metrics", f"spec_{what}_tokens_total", value)
        for at_ns, drafted, kept in ((1, 100.0, 50.0), (9_000_000_000, 300.0, 200.0))
        for what, value in (("draft", drafted), ("accepted", kept))
    ]
    (found,) = accepted([make.case("draft", make.trial([make.record()], samples=samples))])
    assert (found.groups, found.prompts, found.total_percent) == ((), (), 75.0)


def test_arms_that_drafted_nothing_have_no_picture(make):
    assert accepted([make.case("base", make.trial([make.record(draft=(0, 0))]))]) == ()

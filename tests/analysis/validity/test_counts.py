"""A server's count of tokens against that of a tokenizer, in the same text."""

from typing import Any

import pytest

from inferometer.analysis.validity.counts import other_than_our_count


@pytest.mark.parametrize(
    ("ours", "fields", "found"),
    [
        (30, {}, True),
        (90, {}, True),
        (42, {}, False),
        (60, {}, False),
        (30, {"kind": "reasoning"}, False),
        (30, {"kind": "tool"}, False),
        (None, {}, False),
    ],
    ids=[
        "half as many again",
        "about half",
        "another vocabulary",
        "marks and more",
        "reasoning",
        "a tool",
        "no tokenizer",
    ],
)
def test_a_count_far_from_the_tokenizers_has_no_verdict(make, ours: int | None, fields: dict[str, Any], found: bool):
    records = make.answers(12, tokens=50, our_tokens=ours, **fields)
    findings = list(other_than_our_count([make.case(make.trial(records))]))
    assert [(one.severity, one.code, one.withholds) for one in findings] == [
        ("warning", "counts-disagree", ("output_tokens",))
    ] * found


def test_a_few_short_answers_say_nothing_about_a_count(make):
    records = make.answers(12, tokens=9, our_tokens=1)
    assert not list(other_than_our_count([make.case(make.trial(records))]))

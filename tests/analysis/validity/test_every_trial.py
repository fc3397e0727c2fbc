"""What is wrong in one trial only is found: each round is compared, not the first one."""

import pytest

from inferometer.analysis.validity.answers import other_lengths
from inferometer.analysis.validity.counts import counts_of_arms, refuted_numbers
from inferometer.analysis.validity.workload_equivalence import finish_reasons
from inferometer.core.record import TokenUsage

LONG = (
    "this sentence is the answer to prompt number {} and it goes on for a while, as answers do when nobody stops them"
)


def three(make, wrong: int, odd, sound):
    """An arm of three trials, of which number `wrong` has `odd` answers, after a baseline of sound ones."""
    trials = make.as_trials(*(make.trial(odd if n == wrong else sound) for n in (1, 2, 3)))
    return [make.case(*make.as_trials(*[make.trial(sound)] * 3)), make.case(*trials, name="b")]


def answers(make, count: int = 12, **fields):
    return [make.answer(i, text=LONG.format(i), **fields) for i in range(count)]


def test_a_count_of_equal_text_that_differs_in_one_trial_is_invalid(make):
    for wrong in (1, 2, 3):
        arms = three(make, wrong, answers(make, tokens=41), answers(make, tokens=21))
        assert "counts-disagree" in {one.code for one in counts_of_arms(arms) if one.severity == "invalid"}
    assert not list(counts_of_arms(three(make, 0, [], answers(make, tokens=21))))


@pytest.mark.parametrize(
    ("treatments", "tokens", "codes"),
    [
        (("not used", "prefix", "prefix"), (50, 64, 64), []),
        (("prefix", "not used", "prefix"), (64, 50, 64), []),
        (("not used", "not used", "not used"), (50, 64, 64), ["counts-disagree"]),
        (("not used", "prefix", "prefix"), (50, 80, 80), ["counts-disagree"]),
        (("prefix", "prefix", "prefix"), (64, 64, 40), ["counts-disagree"]),
    ],
)
def test_the_number_before_each_prompt_of_some_trials_explains_its_tokens(make, treatments, tokens, codes):
    trials = [
        make.trial([make.answer(i, usage=TokenUsage(count, 21)) for i in range(12)], facts={"prefix_cache": treatment})
        for treatment, count in zip(treatments, tokens, strict=True)
    ]
    assert [one.code for one in counts_of_arms([make.case(*make.as_trials(*trials))])] == codes


def test_the_number_before_each_prompt_of_one_arm_is_named_as_what_makes_its_prompts_longer(make):
    arms = [
        make.case(
            make.trial(
                [make.answer(i, usage=TokenUsage(count, 21)) for i in range(12)], facts={"prefix_cache": treatment}
            ),
            name=name,
        )
        for name, count, treatment in (("a", 50, "off"), ("b", 64, "prefix"))
    ]
    (found,) = counts_of_arms(arms)
    assert (found.severity, found.code) == ("note", "other-input")
    assert "those of b began with a number, against its prefix cache" in found.message


def test_answers_that_are_short_in_one_trial_are_other_work(make):
    short = [make.answer(i, text=LONG.format(i)[:40], tokens=8) for i in range(12)]
    for wrong in (1, 2, 3):
        assert [one.severity for one in other_lengths(three(make, wrong, short, answers(make)))] == ["invalid"]


def test_other_finish_reasons_in_one_trial_are_warned_of(make):
    for wrong in (1, 2, 3):
        odd = answers(make, finish_reason="content_filter")
        assert [one.code for one in finish_reasons(three(make, wrong, odd, answers(make)))] == ["finish-reasons"]


def test_yes_and_yes_with_a_full_stop_are_the_same_work(make):
    texts = ("Yes", "Yes.")
    arms = [
        make.case(make.trial([make.answer(i, text=text) for i in range(12)]), name=name)
        for name, text in zip("ab", texts, strict=True)
    ]
    assert not list(other_lengths(arms))


@pytest.mark.parametrize(("requests", "severity", "withheld"), [(1000, "invalid", True), (1001, "warning", False)])
def test_one_odd_number_among_very_many_requests_does_not_withhold_the_others(make, requests, severity, withheld):
    answers = [make.answer(i) for i in range(requests - 1)]
    odd = make.answer(requests - 1, usage=TokenUsage(50, 10_000))
    (found,) = refuted_numbers([make.case(make.trial([*answers, odd]))])
    assert (found.severity, found.code, bool(found.withholds)) == (severity, "refuted-numbers", withheld)
    assert f"1 of {requests} requests" in found.message

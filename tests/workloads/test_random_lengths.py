"""Random prompts: exact lengths, drawn as vLLM draws them, with a beginning that all share."""

import pytest

from inferometer.workloads.random_lengths import RandomLengths, RandomLengthsWorkload


class Words:
    """A tokenizer with a token for each word, and one at the beginning of a text."""

    name = "words"

    def count(self, text: str, special: bool) -> int:
        return len(text.split()) + special


def test_prompts_have_the_length_asked_for_and_no_two_begin_alike():
    found = RandomLengthsWorkload(RandomLengths(20, 100, 30)).sample(1, Words())
    assert [(request.prompt_tokens, request.max_tokens) for request in found.requests] == [(100, 30)] * 20
    assert len({tuple(request.prompt.split()[:3]) for request in (*found.requests, *found.spare)}) == 28
    assert found == RandomLengthsWorkload(RandomLengths(20, 100, 30)).sample(1, Words())


def test_both_lengths_are_drawn_from_the_range():
    found = RandomLengthsWorkload(RandomLengths(200, 100, 30, range_ratio=0.5)).sample(1, Words())
    prompts = {request.prompt_tokens or 0 for request in found.requests}
    answers = {request.max_tokens or 0 for request in found.requests}
    assert (min(prompts) >= 50, max(prompts) <= 150, len(prompts) > 50) == (True, True, True)
    assert (min(answers), max(answers)) == (15, 45)


def test_the_prefix_comes_on_top_and_is_the_same_in_all():
    found = RandomLengthsWorkload(RandomLengths(5, 50, 10, prefix_tokens=40)).sample(1, Words())
    assert [request.prompt_tokens for request in found.requests] == [90] * 5
    words = [request.prompt.split() for request in found.requests]
    assert len({tuple(one[:40]) for one in words}) == 1
    assert len({one[40] for one in words}) == 5


def test_without_a_tokenizer_the_lengths_are_said_to_be_rough():
    found = RandomLengthsWorkload(RandomLengths(2, 50, 10)).sample(1, None)
    assert len(found.requests[0].prompt) == pytest.approx(200, rel=0.05)
    assert "No tokenizer" in found.notes[0]


def test_lengths_that_make_no_sense_are_problems():
    assert RandomLengths(0, 0, 0).problems() == [
        f"{name} must be at least 1, not 0" for name in ("num_prompts", "input_tokens", "max_tokens")
    ]
    assert "less than 1" in RandomLengths(range_ratio=1.0).problems()[0]
    assert "at least 0" in RandomLengths(prefix_tokens=-1).problems()[0]
    assert "ask for fewer" in RandomLengths(10**6, 10**6).problems()[0]

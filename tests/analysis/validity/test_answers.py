"""Speed at other work is named; sound answers that happen to be alike are not."""

import pytest

from inferometer.analysis.validity.answers import canned_answers, error_texts, other_lengths

CANNED = "I am a helpful assistant. How may I help you today?"


def found(check, *cases):
    return {(one.arm, one.severity, one.code) for one in check(cases)}


def arm(make, name, texts, **fields):
    return make.case(make.trial([make.answer(i, text=text) for i, text in enumerate(texts)]), name=name, **fields)


def own(count=12):
    return [f"This is the answer to prompt number {i}, and to no other." for i in range(count)]


def test_one_answer_to_all_prompts_in_one_arm_is_invalid(make):
    cases = arm(make, "base", own()), arm(make, "canned", [CANNED] * 12)
    assert found(canned_answers, *cases) == {("canned", "invalid", "canned-answers")}
    (finding,) = canned_answers(cases)
    assert finding.withholds == ("work",)


def test_a_baseline_that_answers_nothing_is_named_too(make):
    cases = arm(make, "base", [CANNED] * 12), arm(make, "other", own())
    assert found(canned_answers, *cases) == {("base", "invalid", "canned-answers")}


def test_one_answer_of_both_arms_is_a_note(make):
    cases = arm(make, "base", [CANNED] * 12), arm(make, "same", [CANNED] * 12)
    assert {severity for _, severity, _ in found(canned_answers, *cases)} == {"note"}


@pytest.mark.parametrize("texts", [["Yes"] * 12, ['{"label": "spam"}'] * 12, own()])
def test_short_answers_that_are_alike_are_sound(make, texts):
    assert found(canned_answers, arm(make, "base", own()), arm(make, "other", texts)) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Error: the model is overloaded",
        '{"error": {"message": "context length exceeded"}}',
        "Internal Server Error",
        "502 Bad Gateway",
        "CUDA out of memory. Tried to allocate 2 GiB",
        "[ERROR] upstream closed",
        "RuntimeError: expected a tensor",
    ],
)
def test_an_error_text_as_the_answer_is_invalid(make, text):
    texts = [text if i % 3 == 0 else answer for i, answer in enumerate(own())]
    assert found(error_texts, arm(make, "base", texts)) == {("base", "invalid", "error-answers")}


@pytest.mark.parametrize(
    "text",
    [
        "Errors are values in Go.",
        "Exceptional cases first.",
        "A 404 page is shown when a page is missing.",
        "Error handling in Rust uses Result.",
    ],
)
def test_an_answer_about_errors_is_sound(make, text):
    assert found(error_texts, arm(make, "base", [text] * 12)) == set()


def test_half_the_answer_is_other_work(make):
    cases = arm(make, "base", own()), arm(make, "short", [text[: len(text) // 2] for text in own()])
    assert found(other_lengths, *cases) == {("short", "warning", "other-lengths")}  # the counts are equal


def test_answers_that_differ_a_little_in_length_are_the_same_work(make):
    cases = arm(make, "base", own()), arm(make, "near", [text[: len(text) - i % 9] for i, text in enumerate(own())])
    assert found(other_lengths, *cases) == set()

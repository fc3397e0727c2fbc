"""The requests of the page: which are shown, and where two answers differ."""

import msgspec
import pytest

from inferometer.core.record import AnswerCheck, CheckResult
from inferometer.core.request import user_request
from inferometer.report.page.answer_texts import (
    BEFORE_CHARS,
    MOST_CHARS,
    MOST_FAILED,
    MOST_ROWS,
    MOST_TEXT_BYTES,
    RequestAnswers,
    answers_view,
    excerpt,
)


def one(make, *records) -> RequestAnswers:
    cases = [make.case(name, make.trial([record])) for name, record in zip("abcd", records, strict=False)]
    return answers_view(cases).shown[0]


def test_numbers_are_those_of_the_request_s_own_times(make):
    (answer,) = one(make, make.record(ttft_ms=100, gaps_ms=10)).answers
    assert (answer.output_tokens, answer.ttft_ms, answer.tpot_ms, answer.latency_s) == (4, 100.0, 10.0, 0.13)
    assert (answer.outcome, answer.finish, answer.same) == ("ok", "stop", None)


def test_the_first_character_that_differs_is_marked_in_both(make):
    left, right = one(make, make.record(words=("ab", "cd", "ef")), make.record(words=("ab", "cX", "ef"))).answers
    assert (right.same, right.differs_at) == (False, 3)
    assert (left.text.same, left.text.mark, left.text.rest) == ("abc", "d", "ef")
    assert (right.text.same, right.text.mark, right.text.rest) == ("abc", "X", "ef")


def test_an_answer_that_is_the_beginning_of_the_other_differs_at_its_end(make):
    left, right = one(make, make.record(words=("ab", "cd")), make.record(words=("ab",))).answers
    assert (right.differs_at, right.text.mark, right.text.ends) == (2, "", True)
    assert (left.text.mark, left.text.ends) == ("c", False)


def test_the_same_answers_are_the_same_and_a_failed_one_is_neither(make):
    _, same, failed = one(make, make.record(), make.record(), make.failed()).answers
    assert (same.same, same.differs_at, same.text.mark) == (True, None, "")
    assert (failed.same, failed.differs_at, failed.outcome, failed.error) == (None, None, "http_error", "HTTP 500")


def test_the_baseline_is_marked_where_the_first_of_the_others_leaves_it(make):
    records = [make.record(words=(text,)) for text in ("abcd", "abcX", "aX")]
    base, late, early = one(make, *records).answers
    assert (late.differs_at, early.differs_at, len(base.text.same)) == (3, 1, 1)


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    found = excerpt("x" * (MOST_CHARS + 5))
    assert (len(found.same), found.cut_before, found.cut_after) == (MOST_CHARS, 0, 5)


def test_of_a_long_text_that_differs_late_the_place_is_shown():
    found = excerpt("s" * 1_000_000 + "DIFFERENT" + "r" * 1_000_000, 1_000_000)
    assert (len(found.same), found.mark, found.rest[:8]) == (BEFORE_CHARS, "D", "IFFERENT")
    assert found.cut_before == 1_000_000 - BEFORE_CHARS
    assert found.cut_before + len(found.same + found.mark + found.rest) + found.cut_after == 2_000_009


def test_of_many_requests_failed_ones_are_kept_and_others_evenly(make):
    failed = set(range(0, 5000, 10))
    records = [make.failed(i) if i in failed else make.record(i) for i in range(5000)]
    found = answers_view([make.case("arm", make.trial(records))])
    assert (len(found.shown), found.total, found.without_text) == (MOST_ROWS, 5000, 0)
    assert sum(row.answers[0].outcome != "ok" for row in found.shown) == MOST_FAILED
    assert [found.shown[0].number, found.shown[-1].number] == [1, 5000]


def test_when_the_texts_grow_too_large_further_requests_have_none(make):
    """A quotation mark takes six bytes as HTML."""
    size = 6 * MOST_CHARS
    count = MOST_TEXT_BYTES // size + 20
    asked = [user_request(f"r{i}", '"' * MOST_CHARS) for i in range(count)]
    records = [make.record(i, words=("w",)) for i in range(count)]
    found = answers_view([make.case("arm", make.trial(records), requests=asked)])
    assert found.without_text == 20
    assert found.shown[0].prompt is not None and found.shown[-1].prompt is None
    assert found.shown[-1].answers[0].output_tokens == 1


def test_a_request_that_only_one_arm_has_is_shown_with_that_arm(make):
    asked = make.requests(2)
    both = make.case("both", make.trial([make.record(0), make.record(1)]), requests=asked)
    one_only = make.case("one", make.trial([make.record(0)]), requests=asked[:1])
    found = answers_view([both, one_only]).shown
    assert [row.of("one") is not None for row in found] == [True, False]


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_arm_without_a_done_trial_shows_what_it_has(make, state):
    (row,) = answers_view([make.case("arm", make.trial([make.record()], state=state))]).shown
    assert row.answers[0].output_tokens == 4


def checked(make, name: str, *outcomes: CheckResult):
    trial = make.trial([make.record(index) for index in range(len(outcomes))])
    checks = tuple(AnswerCheck(index, outcome, f"why {index}") for index, outcome in enumerate(outcomes))
    return make.case(name, msgspec.structs.replace(trial, checks=checks))


def test_requests_that_only_some_arms_answer_right_come_first(make):
    cases = [
        checked(make, "a", "passed", "failed", "passed", "no_toolchain"),
        checked(make, "b", "passed", "timeout", "failed", "no_toolchain"),
    ]
    shown = answers_view(cases).shown
    assert [(one.number, one.is_flip) for one in shown] == [(3, True), (1, False), (2, False), (4, False)]
    assert [(answer.check, answer.check_reason) for answer in shown[0].answers] == [
        ("passed", "why 2"),
        ("failed", "why 2"),
    ]

"""When is a server suspected to have stopped answering?"""

from inferometer.analysis.hang_detection import HangSuspicion
from inferometer.core.record import Outcome, RequestRecord


def record(outcome: Outcome, first_byte_ns: int | None = None) -> RequestRecord:
    return RequestRecord(0, "r", True, outcome, None, 1, 9, first_byte_ns=first_byte_ns)


def test_three_timeouts_in_a_row_without_a_byte_are_suspicious():
    suspicion = HangSuspicion()
    assert [suspicion.update(record("timeout")) for _ in range(3)] == [False, False, True]


def test_an_overloaded_server_that_answers_now_and_then_is_not():
    suspicion = HangSuspicion()
    ended = [record("timeout"), record("timeout"), record("timeout", 5), record("timeout"), record("ok"), record("cut")]
    assert not any(suspicion.update(one) for one in ended * 3)


def test_what_was_cancelled_says_nothing():
    suspicion = HangSuspicion()
    assert [suspicion.update(record(o)) for o in ("timeout", "cancelled", "timeout", "lost", "timeout")][-1]


def test_after_an_answer_to_our_question_it_takes_twice_as_many():
    suspicion = HangSuspicion()
    for _ in range(3):
        suspicion.update(record("timeout"))
    suspicion.reset()
    assert [suspicion.update(record("timeout")) for _ in range(6)] == [False] * 5 + [True]

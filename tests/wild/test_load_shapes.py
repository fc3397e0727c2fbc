"""Load that a server cannot take, and load that was not there: real runs."""

import threading
from collections.abc import Iterable, Iterator

import pytest

from inferometer.testing.answering_server import AnsweringServer
from inferometer.testing.scripted_server import Received, Step

QUICK = AnsweringServer(gap_s=0.0, first_s=0.0)


class OneAtATime:
    """Takes about 60 ms for each answer, one after the other."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._inner = AnsweringServer(gap_s=0.001, first_s=0.04)

    def __call__(self, request: Received) -> Iterable[Step]:
        return self._inner(request) if request.method == "GET" else self._in_turn(request)

    def _in_turn(self, request: Received) -> Iterator[Step]:
        with self._turn:
            yield from self._inner(request)


@pytest.mark.parametrize("every", [False, True], ids=["one arm", "all arms"])
def test_an_arm_above_its_capacity_is_named_and_gets_no_verdict_on_latency(every: bool, compared):
    fields = {"schedule": {"kind": "constant", "rate_per_s": 60}, "order": "trials", "trials": 1}
    result = compared(OneAtATime() if every else QUICK, OneAtATime(), prompts=45, **fields)
    named = {one["arm"] for one in result.content["findings"] if one["code"] == "saturated"}
    assert named == ({"base", "other"} if every else {"other"})
    assert not result.verdicts("median_ttft_ms", "median_e2el_ms") & {"faster", "slower"}


def test_a_closed_loop_that_was_hardly_at_its_concurrency_is_named(compared):
    result = compared(AnsweringServer(), AnsweringServer(), 6, schedule={"kind": "closed", "concurrency": 5}, trials=1)
    assert "not-steady" in {one["code"] for one in result.content["findings"]}

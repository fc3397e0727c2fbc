"""A queue that grows with the run is found; a busy server that keeps up, and a closed loop that is full, are not."""

import random

import pytest

from inferometer.analysis.validity.load_shape import concurrency_held, saturated

MS = 1_000_000


def queue(make, due_ms, service_ms):
    """One server that answers in order."""
    free_ms, records = 0.0, []
    for i, at_ms in enumerate(due_ms):
        free_ms = max(free_ms, at_ms) + service_ms
        done = round(free_ms * MS)
        at = round(at_ms * MS)
        records.append(make.answer(i, due_ns=at, sent_ns=at, done_ns=done))
    return make.case(make.trial(records))


def poisson(rate_per_s, count=120, seed=3):
    rng, at_ms, found = random.Random(seed), 0.0, []
    for _ in range(count):
        at_ms += rng.expovariate(rate_per_s) * 1000
        found.append(at_ms)
    return found


@pytest.mark.parametrize(
    "due_ms", [poisson(25), [40 * i for i in range(120)], poisson(34, seed=5)], ids=["poisson", "constant", "twice"]
)
def test_arrivals_above_capacity_are_saturated_and_latencies_get_no_verdict(make, due_ms):
    (finding,) = saturated([queue(make, due_ms, 1000 / 17)])
    assert (finding.severity, finding.code) == ("warning", "saturated")
    assert {"latency", "first_token"} <= set(finding.withholds)


@pytest.mark.parametrize("due_ms", [poisson(8), poisson(11, seed=4), [100 * i for i in range(120)]])
def test_a_server_that_keeps_up_is_not(make, due_ms):
    assert list(saturated([queue(make, due_ms, 1000 / 17)])) == []


@pytest.mark.parametrize(("count", "concurrency", "severities"), [(4, 8, ["warning"]), (40, 1, []), (80, 2, [])])
def test_a_closed_loop_that_is_never_at_its_concurrency_is_named(make, count, concurrency, severities):
    records = [
        make.answer(i, sent_ns=(i // concurrency) * 100 * MS, done_ns=(i // concurrency + 1) * 100 * MS)
        for i in range(count)
    ]
    case = make.case(make.trial(records), concurrency=concurrency)
    assert [finding.severity for finding in concurrency_held([case])] == severities

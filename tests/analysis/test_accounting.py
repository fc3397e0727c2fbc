"""Every planned request has one record, or the trial says that it has not."""

import pytest

from inferometer.analysis.accounting import Account, account
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Outcome
from inferometer.core.request import user_request

PLAN = Plan(
    (
        PlanItem(0, user_request("w", "w", max_tokens=1), None, measured=False),
        *(PlanItem(i, user_request(f"r{i}", "p", max_tokens=1), None) for i in range(1, 7)),
    ),
    1,
    seed=1,
)


def test_what_was_planned_is_what_ended():
    outcomes: tuple[Outcome, ...] = ("ok", "ok", "timeout", "cut", "cancelled", "lost")
    found = account(PLAN, enumerate(outcomes, start=1))
    assert found == Account(planned=6, ok=2, failed=2, cancelled=1, lost=1)
    assert found.balances
    assert found.sentence() == "6 = 2 ok + 2 failed + 1 cancelled + 1 lost"
    assert found.findings() == []


@pytest.mark.parametrize(
    ("ended", "missing", "unknown"),
    [
        ([(i, "ok") for i in range(1, 6)], 1, 0),
        ([(i, "ok") for i in (1, 2, 3, 4, 5, 5)], 1, 1),
        ([(i, "ok") for i in range(1, 8)], 0, 1),
        ([(i, "ok") for i in range(6)], 1, 1),
        ([], 6, 0),
    ],
    ids=["one is missing", "one came twice", "one that nobody asked", "a warm-up among them", "nothing"],
)
def test_what_does_not_add_up_makes_the_trial_invalid(ended: list[tuple[int, Outcome]], missing: int, unknown: int):
    found = account(PLAN, ended)
    assert (found.missing, found.unknown, found.balances) == (missing, unknown, False)
    (finding,) = found.findings()
    assert (finding.severity, finding.code) == ("invalid", "unaccounted")
    assert f"{missing} missing, {unknown} unknown" in finding.message

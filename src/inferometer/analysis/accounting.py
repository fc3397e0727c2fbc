"""Accounting of requests: every planned request must end exactly once, as ok, failed, cancelled or lost."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from inferometer.core.plan import Plan
from inferometer.core.record import Finding, Outcome


class Account(msgspec.Struct, frozen=True):
    """Numbers of measured requests of a trial. `missing`: requests without a record. `unknown`: records that belong to
    no request of the plan, or to one that has a record already."""

    planned: int
    ok: int
    failed: int
    cancelled: int
    lost: int
    missing: int = 0
    unknown: int = 0

    @property
    def balances(self) -> bool:
        ended = self.ok + self.failed + self.cancelled + self.lost
        return not self.missing and not self.unknown and ended == self.planned

    def sentence(self) -> str:
        text = f"{self.planned} = {self.ok} ok + {self.failed} failed + {self.cancelled} cancelled + {self.lost} lost"
        return text + (f"; {self.missing} missing, {self.unknown} unknown" if not self.balances else "")

    def findings(self) -> list[Finding]:
        """Empty if the account balances."""
        if self.balances:
            return []
        message = f"its requests do not add up: {self.sentence()}."
        return [Finding("invalid", "unaccounted", message, "This is a bug in Inferometer: please report it.")]


def account(plan: Plan, ended: Iterable[tuple[int, Outcome]]) -> Account:
    """The account of a trial. `ended`: index and outcome of each measured record."""
    planned = {item.index for item in plan.measured}
    outcomes: dict[int, Outcome] = {}
    unknown = 0
    for index, outcome in ended:
        unknown += index not in planned or index in outcomes
        outcomes[index] = outcome
    counts = Counter(outcome for index, outcome in outcomes.items() if index in planned)
    not_failed = counts["ok"] + counts["cancelled"] + counts["lost"]
    return Account(
        planned=len(planned),
        ok=counts["ok"],
        failed=counts.total() - not_failed,
        cancelled=counts["cancelled"],
        lost=counts["lost"],
        missing=len(planned - outcomes.keys()),
        unknown=unknown,
    )

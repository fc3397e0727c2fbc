"""Is every request accounted for? What was planned is what ended, each once: answered, failed, cancelled or lost."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from inferometer.core.plan import Plan
from inferometer.core.record import Finding, Outcome


class Account(msgspec.Struct, frozen=True):
    """Measured requests of a trial. `missing` have no record; `unknown` records belong to no request of the plan."""

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
        said = f"{self.planned} = {self.ok} ok + {self.failed} failed + {self.cancelled} cancelled + {self.lost} lost"
        return said + (f"; {self.missing} missing, {self.unknown} unknown" if not self.balances else "")

    def findings(self) -> list[Finding]:
        """Empty where it balances."""
        if self.balances:
            return []
        message = f"its requests do not add up: {self.sentence()}."
        return [Finding("invalid", "unaccounted", message, "This is a defect of Inferometer: please report it.")]


def account(plan: Plan, ended: Iterable[tuple[int, Outcome]]) -> Account:
    """`ended`: index and outcome of each measured record."""
    planned = {item.index for item in plan.measured}
    outcomes: dict[int, Outcome] = {}
    unknown = 0
    for index, outcome in ended:
        unknown += index not in planned or index in outcomes
        outcomes[index] = outcome
    counts = Counter(outcome for index, outcome in outcomes.items() if index in planned)
    apart = counts["ok"] + counts["cancelled"] + counts["lost"]
    return Account(
        planned=len(planned),
        ok=counts["ok"],
        failed=counts.total() - apart,
        cancelled=counts["cancelled"],
        lost=counts["lost"],
        missing=len(planned - outcomes.keys()),
        unknown=unknown,
    )

"""`--fail-if`: conditions for the exit code, checked against the printed comparison."""

import sys
from collections.abc import Iterator

import msgspec

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.gates import Gate, GateResult, gate_results
from inferometer.base.errors import RequestWrong
from inferometer.base.text import escape_for_display

FAILED_GATE = 4


class Gates(msgspec.Struct, frozen=True):
    """The conditions that fail the command. `inconclusive_fails`: an undecided condition fails it too. Without
    conditions, `inconclusive_fails` is about the verdict on the primary metric."""

    gates: tuple[Gate, ...] = ()
    inconclusive_fails: bool = False

    def failed(self, comparison: Comparison) -> bool:
        """Whether a condition holds; prints each that holds or is undecided to standard error. Raises RequestWrong if
        a condition does not fit its metric."""
        try:
            results = [result for gate in self.gates for result in gate_results(gate, comparison)]
        except ValueError as error:
            raise RequestWrong(f"--fail-if: {error}") from error
        for result in results:
            if result.state != "does not hold":
                print(escape_for_display(_line(result)), file=sys.stderr)
        undecided = any(result.state == "open" for result in results)
        if not self.gates and self.inconclusive_fails:
            open_arms = list(_inconclusive(comparison))
            undecided = bool(open_arms)
            for arm in open_arms:
                print(
                    escape_for_display(f"fail-if-inconclusive: {arm}: no verdict on {comparison.primary}"),
                    file=sys.stderr,
                )
        return any(result.state == "holds" for result in results) or (undecided and self.inconclusive_fails)


NO_GATES = Gates()
_UNDECIDED = ("unknown", "inconclusive", "")


def _line(result: GateResult) -> str:
    word = "holds" if result.state == "holds" else "is undecided"
    why = f"{result.detail} (see --why)" if result.detail.startswith("withheld") else result.detail
    return f"fail-if: {result.gate.text} {word} for {result.arm}: {why}"


def _inconclusive(comparison: Comparison) -> Iterator[str]:
    row = comparison.primary_row
    for found in () if row is None else row.differences:
        if found.baseline == comparison.arms[0] and found.verdict in _UNDECIDED:
            yield found.arm

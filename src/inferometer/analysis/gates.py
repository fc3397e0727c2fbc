"""Conditions on a comparison that a command fails for (`--fail-if 'output_throughput slower 2%'`)."""

import re
from typing import Literal, NamedTuple

from inferometer.analysis.comparison import Comparison, Difference

_FORM = re.compile(
    r"\s*(?P<metric>.+?)\s+(?P<word>slower|faster|worse|better|more|less)\s+(?:than\s+)?(?P<percent>\d+(?:\.\d+)?)\s*%?\s*"
)
EXAMPLE = "output_throughput slower 2%"


class Gate(NamedTuple):
    """Holds if the interval of a difference excludes everything less than `percent` in the direction of `word`."""

    metric: str
    word: Literal["slower", "faster", "worse", "better", "more", "less"]
    percent: float

    @property
    def text(self) -> str:
        return f"{self.metric} {self.word} {self.percent:g}%"


class GateResult(NamedTuple):
    """`state` of one arm: `holds`, `does not hold` (the interval excludes it), or `open`. `detail`: the interval, or
    why there is none."""

    gate: Gate
    arm: str
    state: Literal["holds", "does not hold", "open"]
    detail: str


def parse_gate(text: str) -> Gate:
    """Raises ValueError with the expected form."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a condition; write METRIC slower|faster|worse|better|more|less N%: {EXAMPLE!r}"
        )
    return Gate(match["metric"], match["word"], float(match["percent"]))  # type: ignore[arg-type]  # the pattern's words


def gate_results(gate: Gate, comparison: Comparison) -> list[GateResult]:
    """The condition for every arm against the baseline. Raises ValueError if the comparison lacks the metric, or if
    the word does not fit it."""
    row = next((row for row in comparison.rows if row.metric == gate.metric), None)
    if row is None:
        return [GateResult(gate, arm, "open", "no trial has this metric") for arm in comparison.arms[1:]]
    sign = {"more": 1, "less": -1}.get(gate.word)
    if sign is None:
        if row.better is None:
            raise ValueError(f"{row.metric} has no better direction; use `more` or `less`: {row.metric} more 2%")
        is_improvement = gate.word in ("faster", "better")
        sign = 1 if (row.better == "higher") == is_improvement else -1
    baseline = comparison.arms[0]
    differences = [found for found in row.differences if found.baseline == baseline]
    return [_result(gate, found, sign) for found in differences]


def _result(gate: Gate, found: Difference, sign: int) -> GateResult:
    if found.low_percent is None or found.high_percent is None or found.verdict == "unknown":
        return GateResult(gate, found.arm, "open", found.reason or "the difference has no interval")
    ends = (found.low_percent, found.high_percent)
    detail = f"{ends[0]:+.1f}% to {ends[1]:+.1f}%"
    least, most = sorted(sign * end for end in ends)
    state = "holds" if least >= gate.percent else "does not hold" if most < gate.percent else "open"
    return GateResult(gate, found.arm, state, detail)

"""Verdicts on the differences of a comparison, and marks on rows whose columns are defined differently."""

from collections.abc import Sequence

import msgspec

from inferometer.analysis.column_definitions import definition_notes
from inferometer.analysis.comparison import ComparisonRow, Difference, Verdict
from inferometer.core.record import Finding
from inferometer.metrics import statistics
from inferometer.metrics.row_inputs import inputs_of
from inferometer.metrics.rows import Metric

_SPEED_UNITS = frozenset({"ms", "s", "tok/s", "char/s", "req/s"})


def with_verdicts(
    rows: Sequence[tuple[Metric, ComparisonRow]], primary: str, findings: Sequence[Finding] = ()
) -> tuple[tuple[ComparisonRow, ...], str]:
    """The rows with verdicts, and how these were adjusted for multiple comparisons.

    The primary row is tested at 5%; all others are adjusted together. `findings`: those that suppress verdicts.
    """
    positions = [
        (r, d)
        for r, (metric, row) in enumerate(rows)
        for d, found in enumerate(row.differences)
        if metric.better is not None and metric.key != primary and found.p_value is not None
    ]
    p_values = [p for r, d in positions if (p := rows[r][1].differences[d].p_value) is not None]
    adjusted = dict(zip(positions, statistics.adjusted_p_values(p_values), strict=True))
    decided: list[ComparisonRow] = []
    for r, (metric, row) in enumerate(rows):
        differences = tuple(
            _decided(
                metric,
                found,
                adjusted.get((r, d)),
                is_primary=metric.key == primary,
                withheld=_suppressed(metric, found, findings) or _other_definition(row, found),
            )
            for d, found in enumerate(row.differences)
        )
        decided.append(msgspec.structs.replace(row, differences=differences))
    correction = ""
    if positions:
        correction = (
            f"the verdict on {primary} is at the 5% level; the {len(positions)} other verdicts are adjusted together "
            "(Benjamini-Hochberg, false discovery rate 5%)"
        )
    return tuple(decided), correction


def with_definition_marks(rows: Sequence[ComparisonRow]) -> tuple[tuple[ComparisonRow, ...], list[str]]:
    """The rows with marks on the labels whose definitions differ between arms, and the notes that explain the marks."""
    differs = [{arm: row.differs.get(arm, "") for arm, count in row.n.items() if count} for row in rows]
    labels = [row.label for row in rows]
    marks, notes = definition_notes(labels, differs)
    marked = [f"{label} {mark}".rstrip() for label, mark in zip(labels, marks, strict=True)]
    return tuple(msgspec.structs.replace(row, label=label) for row, label in zip(rows, marked, strict=True)), notes


def _suppressed(metric: Metric, found: Difference, findings: Sequence[Finding]) -> str:
    """Why the findings suppress this verdict; "" if none does.

    A finding suppresses the verdicts of the arm it names: of the rows that rest on what it withholds, or of all rows if
    it is invalid and names none."""
    inputs = inputs_of(metric.key, metric.group)
    codes = {
        finding.code
        for finding in findings
        if finding.arm in ("", found.arm, found.baseline)
        and (not inputs.isdisjoint(finding.withholds) or (finding.severity == "invalid" and not finding.withholds))
    }
    return f"withheld: {', '.join(sorted(codes))}" if codes else ""


def _other_definition(row: ComparisonRow, found: Difference) -> str:
    """Why two arms' values of a metric cannot be compared; "" if they can."""
    is_same = row.differs.get(found.arm) == row.differs.get(found.baseline)
    return "" if is_same else "the two columns define it differently"


def _decided(
    metric: Metric, found: Difference, adjusted: float | None, *, is_primary: bool, withheld: str
) -> Difference:
    if not found.verdict:
        return found
    decisive = found.p_value if is_primary else adjusted
    if withheld:
        return msgspec.structs.replace(found, verdict="unknown", reason=withheld)
    if decisive is None:
        return msgspec.structs.replace(found, adjusted_p=adjusted, verdict="unknown")
    verdict: Verdict = "no difference shown"
    if decisive < 1 - statistics.CONFIDENCE and found.percent:
        rises = found.percent > 0
        if metric.unit in _SPEED_UNITS:
            verdict = "faster" if rises == (metric.better == "higher") else "slower"
        else:
            verdict = "more" if rises else "less"
    return msgspec.structs.replace(found, adjusted_p=adjusted, verdict=verdict)

"""The front of a quantisation ladder as a table. Pure."""

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.analysis.decision import points_text
from inferometer.analysis.fidelity import kl_text
from inferometer.analysis.quantisation_ladder import Ladder, Rung
from inferometer.base.units import bytes_text
from inferometer.report.short_cells import is_invalid, name_with_validity, span_cell, value_cell

_MARKS = {"better": " ✓", "worse": " ✗", "same": " ≈"}


def ladder_rows(comparison: Comparison, found: Ladder) -> list[tuple[str, ...]]:
    """The head, and a row for each file, the largest first; columns that no file has are left out."""
    columns = [_column(comparison, found, one) for one in found.rungs]
    used = [name for name in columns[0] if any(row[name] for row in columns)]
    return [tuple(used), *(tuple(row[name] for name in used) for row in columns)]


def _column(comparison: Comparison, found: Ladder, one: Rung) -> dict[str, str]:
    row = comparison.primary_row
    memory = next((row for row in comparison.rows if row.metric == "memory_gib"), None)
    is_reference, versus = one.arm == found.reference, f"vs {found.reference}"
    cells = {"file": name_with_validity(one.arm, comparison)}
    cells["size"] = "" if one.model_bytes is None else bytes_text(one.model_bytes)
    cells["memory GiB"] = "" if memory is None else _mean(memory, one.arm)
    if row is not None:
        cells[row.unit or row.metric] = _mean(row, one.arm) or "no value"
        cells[versus] = "reference" if is_reference else span_cell(row, found.reference, one.arm)
    cells["right"] = _share(found, one)
    cells["points"] = _points(one)
    kl = None if one.fidelity is None else one.fidelity.mean_kl
    cells["mean KL"] = "" if kl is None else kl_text(kl.value)
    cells["flips"] = "" if one.fidelity is None else f"{one.fidelity.flip_rate_percent.value:.2g}%"
    has_quality = any(other.quality for other in found.rungs)
    place = "unknown" if is_invalid(one.arm, comparison) else "yes"
    cells["front"] = f"no: {one.smaller_and_as_good}" if one.smaller_and_as_good else place if has_quality else ""
    return cells


def _mean(row: ComparisonRow, arm: str) -> str:
    """The mean without its deviation, so that the table is narrow."""
    return value_cell(row.estimates[arm], row.unit).partition(" ±")[0]


def _share(found: Ladder, one: Rung) -> str:
    """Right answers in percent; the reference's are those of the problems that it shares with the first other file."""
    if one.quality is not None:
        return f"{one.quality.arm_percent:.1f}%"
    known = next((other.quality for other in found.rungs if other.quality is not None), None)
    return f"{known.baseline_percent:.1f}%" if known is not None and one.arm == found.reference else ""


def _points(one: Rung) -> str:
    quality = one.quality
    if quality is None:
        return ""
    ends = f"{points_text(quality.low_points)}, {points_text(quality.high_points)}"
    return f"{points_text(quality.points)} [{ends}]{_MARKS.get(quality.verdict, '')}"

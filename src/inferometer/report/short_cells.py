"""Cells and phrases of the short result: values with deviations, differences with marks, names that fit. Pure."""

from collections.abc import Sequence

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.base.text import cells_wide, cut_middle, escape_for_display
from inferometer.base.units import (
    COUNT_UNITS,
    not_zero,
    percent_text,
    rounded_percent,
    three_digits_text,
    uncertain_text,
    value_text,
)

MARK_MEANING = "✓ better, ✗ worse than the first arm; ≈ the same within the bound; no mark: not decided."
DECIDED = ("faster", "slower", "more", "less")
_MOST_NAME = 44
"""Columns of a set-up's name in a sentence."""
_VISIBLE_SHARE = 0.001
"""A deviation below this share of the value is not shown: it would only add digits."""


def value_cell(estimate: Estimate, unit: str) -> str:
    """The mean with the standard deviation from run to run, which sets the digits."""
    if estimate.value is None:
        return ""
    if estimate.deviation and unit not in COUNT_UNITS and estimate.deviation > _VISIBLE_SHARE * abs(estimate.value):
        return uncertain_text(estimate.value, estimate.deviation)
    if unit == "GiB" and 0.1 <= abs(estimate.value) < 1:
        return three_digits_text(estimate.value)
    return percent_text(estimate.value) if unit == "%" else value_text(estimate.value, unit)


def change_cell(found: Difference, row: ComparisonRow, *, always: bool = False) -> str:
    """The difference with its mark; "" for one that was not shown, unless `always`."""
    if found.percent is None:
        return ""
    is_decided = found.verdict in DECIDED
    if not is_decided and not always:
        return ""
    text = f"{signed_percent(found.percent)}%"
    if found.verdict == "same":
        return f"{text} ≈"
    if not is_decided or row.better is None:
        return text
    return f"{text} {'✓' if (found.percent > 0) == (row.better == 'higher') else '✗'}"


def span_cell(row: ComparisonRow, baseline: str, arm: str) -> str:
    """`−19% [−27, −10] ✗`"""
    found = difference_of_pair(row, baseline, arm)
    if found is None:
        return ""
    change = change_cell(found, row, always=True)
    if found.percent is None or found.low_percent is None or found.high_percent is None:
        return change
    digits = 0 if found.high_percent - found.low_percent >= 2 else 1
    ends = ", ".join(rounded_percent(end, digits) for end in (found.low_percent, found.high_percent))
    return f"{rounded_percent(found.percent, digits)}% [{ends}] {change.partition(' ')[2]}".rstrip()


def arm_name(arm: str) -> str:
    """A set-up's name in a sentence: quoted if it has a comma, so that it is not read as two."""
    name = cut_middle(arm, _MOST_NAME)
    return f'"{name}"' if "," in name else name


def is_invalid(arm: str, comparison: Comparison) -> bool:
    """Whether a finding takes the verdict from the arm."""
    return any(found.severity == "invalid" and found.arm == arm for found in comparison.findings)


def name_with_validity(arm: str, comparison: Comparison) -> str:
    return f"{arm} (not valid)" if is_invalid(arm, comparison) else arm


def signed_percent(percent: float | None) -> str:
    if percent is None:
        return "?"
    text = not_zero(percent, 0 if abs(percent) >= 10 else 1, "+")
    return ("+>999" if percent > 999 else text).replace("-", "−")


def metric_in_sentence(row: ComparisonRow) -> str:
    name = row.label.partition(" (")[0]
    return name if name[1:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


def wrapped_parts(parts: Sequence[str], width: int, indent: str, separator: str = " ") -> list[str]:
    """The parts joined, in lines that break only between parts; a part that is too long for a line is cut."""
    lines: list[str] = []
    for part in parts:
        safe = cut_end(part, width - len(indent))
        joined = f"{lines[-1]}{separator}{safe}" if lines else ""
        if lines and cells_wide(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(indent + safe)
    return lines


def cut_end(text: str, width: int) -> str:
    safe = escape_for_display(text)
    if cells_wide(safe) <= width:
        return safe
    while safe and cells_wide(safe) > width - 1:
        safe = safe[:-1]
    return safe.rstrip() + "…"


def difference_of_pair(row: ComparisonRow, baseline: str, arm: str) -> Difference | None:
    """The difference of `arm` from `baseline`; the pair may have been compared in the other direction."""
    for found in row.differences:
        if (found.baseline, found.arm) == (baseline, arm):
            return found
        if (found.baseline, found.arm) == (arm, baseline):
            return _reversed(found)
    return None


def _reversed(found: Difference) -> Difference:
    """The same difference with the arms exchanged."""

    def inverse(percent: float | None) -> float | None:
        return None if percent is None or percent <= -100 else 100 * (1 / (1 + percent / 100) - 1)

    words = {"faster": "slower", "slower": "faster", "more": "less", "less": "more"}
    return msgspec.structs.replace(
        found,
        arm=found.baseline,
        baseline=found.arm,
        percent=inverse(found.percent),
        low_percent=inverse(found.high_percent),
        high_percent=inverse(found.low_percent),
        verdict=words.get(found.verdict, found.verdict),
    )


def against_first(row: ComparisonRow, comparison: Comparison) -> list[Difference]:
    return [found for found in row.differences if found.baseline == comparison.arms[0]]


def order(row: ComparisonRow) -> list[str]:
    """The set-ups, the best first; those without a value last."""
    known = {arm: value for arm, value in row.values.items() if value is not None}
    return [
        *sorted(known, key=lambda arm: known[arm], reverse=row.better != "lower"),
        *(arm for arm in row.values if arm not in known),
    ]

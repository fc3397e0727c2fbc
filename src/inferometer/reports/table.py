"""What stands in which cell, and what is said around the table? A comparison as text, before it gets a form; pure."""

import msgspec

from inferometer.compare import Comparison, Difference, Estimate, Row
from inferometer.units import COUNT_UNITS, percent_text, value_text


class Table(msgspec.Struct, frozen=True):
    """The first column is of labels, all others of numbers, and of verdicts where there are any. `caption`: how many
    trials the numbers are of."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


class Words(msgspec.Struct, frozen=True):
    """What is said around the table: `invalid` and `headlines` above it; below it `design` (what the study could
    have shown), `speculation`, `warnings` and `notes`."""

    invalid: tuple[str, ...]
    headlines: tuple[str, ...]
    design: tuple[str, ...]
    speculation: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def table(comparison: Comparison, *, with_halves: bool = True) -> Table:
    """One row a metric that any arm has, one column an arm, then the differences of each further arm against the first.

    Two arms have columns for the difference, its 95% interval and the verdict; more arms have these in one column each.
    Where nothing has an interval there is only the difference. `with_halves`: two arms' own values with ± half of their
    intervals.
    """
    baseline, *others = comparison.arms
    rows = [row for row in comparison.rows if any(row.n.values())]
    is_sure = any(found.low_percent is not None for row in rows for found in row.differences)
    if len(others) == 1:
        differences = ["% Difference", *(["95% interval", "Verdict"] if is_sure else [])]
    else:
        differences = [f"{arm} vs {baseline} (%)" for arm in others]
    return Table(
        columns=("Metric", *comparison.arms, *differences),
        rows=tuple(_cells(row, comparison, is_sure, with_halves and len(others) < 2) for row in rows),
        caption=_caption(comparison, is_sure),
    )


def words(comparison: Comparison) -> Words:
    """All that is said around the table, one line each."""
    notes = [*comparison.said("note"), *comparison.notes]
    if comparison.correction:
        notes.append(f"Verdicts: {comparison.correction}")
    if comparison.looked_at:
        end = f" It ended so: {comparison.stopped}." if comparison.stopped else ""
        notes.append(
            "The study was looked at after every round and ended by its rule (`until`): its intervals are a confidence "
            f"sequence, which holds at all looks together (Wang and Ramdas 2025).{end}"
        )
    return Words(
        invalid=tuple(comparison.said("invalid")),
        headlines=tuple(_headlines(comparison)),
        design=tuple(_design(comparison)),
        speculation=tuple(_speculation(comparison)),
        warnings=tuple(comparison.said("warning")),
        notes=tuple(notes),
    )


def _caption(comparison: Comparison, is_sure: bool) -> str:
    counts = "Trials: " + ", ".join(f"{arm} {n}" for arm, n in comparison.trials.items())
    row = comparison.primary_row
    found = row.differences[:1] if row is not None else ()
    basis = found[0].basis if found else ""
    return f"{counts}. 95% intervals cover other {basis}." if is_sure and basis else counts


def _cells(row: Row, comparison: Comparison, is_sure: bool, with_halves: bool) -> tuple[str, ...]:
    baseline, *others = comparison.arms
    values = [_value(row.estimates[arm], row.unit, with_half=with_halves) for arm in comparison.arms]
    found = [row.against(baseline, arm) for arm in others]
    if len(found) != 1:
        return (row.label, *values, *(_one_cell(one) for one in found))
    (one,) = found
    return (row.label, *values, percent_text(one.percent), *([_interval(one), one.verdict] if is_sure else []))


def _value(estimate: Estimate, unit: str, *, with_half: bool) -> str:
    text = value_text(estimate.value, unit)
    if not with_half or estimate.low is None or estimate.high is None or unit in COUNT_UNITS:
        return text
    half = (estimate.high - estimate.low) / 2
    return f"{text} ±{value_text(half, unit)}" if half > 0 else text


def _interval(found: Difference) -> str:
    if found.low_percent is None or found.high_percent is None:
        return ""
    low, high = (
        f"{end:.0f}" if abs(end) >= 100 else percent_text(end) for end in (found.low_percent, found.high_percent)
    )
    return f"[{low}, {high}]"


def _one_cell(found: Difference) -> str:
    """The difference and the verdict in a word or two; below them the interval, where it is more than a point."""
    verdict = "none shown" if found.verdict == "no difference shown" else found.verdict
    if found.low_percent == found.high_percent:
        return percent_text(found.percent)
    return f"{percent_text(found.percent)} {verdict}".rstrip() + f"\n{_interval(found)}"


def _headlines(comparison: Comparison) -> list[str]:
    """A sentence for each pair of arms: the ratio of the primary metric, its interval, and the verdict."""
    row = comparison.primary_row
    if row is None:
        return []
    name = row.label.partition(" (")[0]
    name = name if name[1:2].isupper() else name[0].lower() + name[1:]
    return [line for found in row.differences if (line := _headline(found, name))]


def _headline(found: Difference, name: str) -> str:
    if found.ratio is None:
        return ""
    interval = ""
    if found.low_percent is not None and found.high_percent is not None:
        interval = f" [{1 + found.low_percent / 100:.3f}, {1 + found.high_percent / 100:.3f}]"
    reason = f" ({found.reason})" if found.verdict == "unknown" and found.reason else ""
    verdict = f": {found.verdict}{reason}" if found.verdict else ""
    return f"{found.arm}: {name} {found.ratio:.3f}× that of {found.baseline}{interval}{verdict}"


def _design(comparison: Comparison) -> list[str]:
    """What the study could have shown of the primary metric, against the first arm."""
    row = comparison.primary_row
    lines: list[str] = []
    for found in row.differences if row is not None else ():
        is_shown = bool(comparison.pairs) or found.baseline == comparison.arms[0]
        if found.detectable_percent is None or not is_shown:
            continue
        needed = (
            f"{found.trials_needed} trials an arm would show"
            if found.trials_needed is not None
            else "no number of trials would show, with these prompts,"
        )
        lines.append(
            f"{found.arm}: this study could have shown a difference of {_rounded_percent(found.detectable_percent)}; "
            f"{needed} one of {comparison.effect_percent:g}% (4 times in 5)"
        )
    return lines


def _rounded_percent(percent: float) -> str:
    return f"{percent:.1f}%" if percent < 1000 else "more than 1000%"


def _speculation(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    for one in comparison.speculation:
        alpha = "" if one.acceptance is None else f", acceptance α {one.acceptance:.2f}"
        said = (
            f"{one.arm}: {one.tokens_per_step:.2f} tokens a step of {one.drafted_per_step:.2f} drafted{alpha}; "
            f"decoding measured {one.measured:.2f}× as fast as {one.baseline}"
        )
        if one.costs is not None and one.predicted is not None and one.predicted_measured is not None:
            costs = one.costs
            said += (
                f", predicted {one.predicted:.2f}× (Leviathan et al. 2023) if verifying cost one step of the target, "
                f"{one.predicted_measured:.2f}× with what it cost: a drafted token {costs.draft_token_ms:.2f} ms, a "
                f"verifying step {costs.verify_step_ms:.2f} ms, a step of the target alone "
                f"{one.target_token_ms:.2f} ms ({costs.source})"
            )
        else:
            said += "; what drafting and verifying cost cannot be told apart here, so that no speed-up is predicted"
        lines.append(said)
    return lines

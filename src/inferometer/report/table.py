"""What stands in which cell, and what is said around the table? A comparison as text, before it gets a form; pure."""

from typing import Literal

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.base.units import COUNT_UNITS, interval_texts, percent_text, uncertain_text, value_text
from inferometer.metrics.rows import GROUPS

Mark = Literal["", "best", "better", "worse"]


class Shown(msgspec.Struct, frozen=True):
    """Which rows are asked for: those that a reader needs first, `all`, or those whose keys are in `metrics`."""

    all: bool = False
    metrics: tuple[str, ...] = ()


FIRST_ROWS = Shown()


class Table(msgspec.Struct, frozen=True):
    """The first column is of labels, all others of numbers, and of verdicts where there are any.

    `groups`: what the group of each row is called. `marks`: of each row, one a cell; `better` and `worse` are of
    differences that were shown, `best` is what `best_means` says. `caption`: how many trials the numbers are of.
    `below`: what was folded and what was left out, a line each.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    groups: tuple[str, ...] = ()
    marks: tuple[tuple[Mark, ...], ...] = ()
    below: tuple[str, ...] = ()
    best_means: str = ""

    def legend(self, best: str) -> str:
        """What the signs mean that there are; `best` is how this form marks a best value. "" where there are none."""
        ways = any(mark in ("better", "worse") for marks in self.marks for mark in marks)
        parts = ["✓ better, ✗ worse than the first arm"] if ways else []
        parts += [f"{best}: {self.best_means}"] if self.best_means else []
        return "; ".join(parts) + ("." if parts else "")


class Words(msgspec.Struct, frozen=True):
    """What is said around the table: `invalid` and `headlines` above it; below it `design` (what the study could
    have shown), `speculation`, `warnings` and `notes`."""

    invalid: tuple[str, ...]
    headlines: tuple[str, ...]
    design: tuple[str, ...]
    speculation: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def table(
    comparison: Comparison,
    shown: Shown = FIRST_ROWS,
    *,
    with_halves: bool = True,
    short: bool = False,
    stacked: bool = False,
) -> Table:
    """One row a metric that any arm has, one column an arm, then the differences of each further arm against the first.

    Two arms have columns for the difference, its 95% interval and the verdict; more arms have these in one column each.
    Where nothing has an interval there is only the difference. Counts that are the same in all arms are said below the
    table, unless rows were asked for. `with_halves`: the arms' own values with ± half of their intervals. `short`:
    verdicts in two words at most. `stacked`: the difference of two arms in one column too.
    """
    baseline, *others = comparison.arms
    known = [row for row in comparison.rows if any(row.n.values())]
    is_sure = any(found.low_percent is not None for row in known for found in row.differences)
    rows, folded = _chosen(comparison, known, shown)
    apart = len(others) == 1 and not stacked
    if apart:
        differences = ["% Difference", *(["95% interval", "Verdict"] if is_sure else [])]
    elif len(others) == 1:
        differences = ["% Difference"]
    else:
        differences = [f"{arm} vs {baseline} (%)" for arm in others]
    marks = tuple(_marks(row, comparison, is_sure, apart=apart) for row in rows)
    return Table(
        columns=("Metric", *comparison.arms, *differences),
        rows=tuple(_cells(row, comparison, is_sure, with_halves, short, apart=apart) for row in rows),
        caption=_caption(comparison, is_sure),
        groups=tuple(GROUPS.get(row.group, "") for row in rows),
        marks=marks,
        below=tuple(_below(comparison, rows, folded, known, shown)),
        best_means=_best_means(is_sure) if any("best" in one for one in marks) else "",
    )


def words(comparison: Comparison) -> Words:
    """All that is said around the table, one line each."""
    notes = [*comparison.finding_texts("note"), *comparison.notes]
    if comparison.correction:
        notes.append(f"Verdicts: {comparison.correction}")
    if comparison.looked_at:
        end = f" It ended so: {comparison.stopped}." if comparison.stopped else ""
        notes.append(
            "The study was looked at after every round and ended by its rule (`until`): its intervals are a confidence "
            f"sequence, which holds at all looks together (Wang and Ramdas 2025).{end}"
        )
    return Words(
        invalid=tuple(comparison.finding_texts("invalid")),
        headlines=tuple(_headlines(comparison)),
        design=tuple(_design(comparison)),
        speculation=tuple(_speculation(comparison)),
        warnings=tuple(comparison.finding_texts("warning")),
        notes=tuple(notes),
    )


def _caption(comparison: Comparison, is_sure: bool) -> str:
    counts = "Trials: " + ", ".join(f"{arm} {n}" for arm, n in comparison.trials.items())
    row = comparison.primary_row
    found = row.differences[:1] if row is not None else ()
    basis = found[0].basis if found else ""
    return f"{counts}. 95% intervals cover other {basis}." if is_sure and basis else counts


# --- which rows -----------------------------------------------------------------------------------


def _chosen(
    comparison: Comparison, known: list[ComparisonRow], shown: Shown
) -> tuple[list[ComparisonRow], list[ComparisonRow]]:
    """The rows of the table, group by group in the order in which the groups first come, and those that are folded."""
    if shown.metrics:
        asked = [row for row in comparison.rows if row.metric in shown.metrics]
        return _by_group(asked), []
    if shown.all:
        return _by_group(known), []
    first = [row for row in known if not row.detail or row.metric == comparison.primary]
    folded = [row for row in first if len(comparison.arms) > 1 and _is_one_count(row)]
    return _by_group([row for row in first if row not in folded]), folded


def _by_group(rows: list[ComparisonRow]) -> list[ComparisonRow]:
    groups = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: groups.index(row.group))


def _is_one_count(row: ComparisonRow) -> bool:
    """Whether every arm counted the same."""
    values = set(row.values.values())
    return row.unit in COUNT_UNITS and len(values) == 1 and None not in values


def _below(
    comparison: Comparison,
    rows: list[ComparisonRow],
    folded: list[ComparisonRow],
    known: list[ComparisonRow],
    shown: Shown,
) -> list[str]:
    lines: list[str] = []
    if folded:
        counts = [
            f"{_in_sentence(row.label)} {value_text(next(iter(row.values.values())), row.unit)}" for row in folded
        ]
        lines.append(f"The same in all arms: {', '.join(counts)}.")
    if shown.metrics:
        there = {row.metric for row in rows}
        missing = [key for key in shown.metrics if key not in there]
        return [*lines, f"Not measured here: {', '.join(missing)}."] if missing else lines
    left_out = len(known) - len(rows) - len(folded)
    if left_out:
        lines.append(f"{left_out} more rows: --all; or choose: --metrics.")
    return lines


# --- cells ----------------------------------------------------------------------------------------


def _cells(
    row: ComparisonRow, comparison: Comparison, is_sure: bool, with_halves: bool, short: bool, *, apart: bool
) -> tuple[str, ...]:
    baseline, *others = comparison.arms
    values = [
        _value(row.estimates[arm], row.unit, comparison.trials[arm], with_half=with_halves) for arm in comparison.arms
    ]
    found = [row.against(baseline, arm) for arm in others]
    if not apart:
        return (row.label, *values, *(_one_cell(one, row) for one in found))
    (one,) = found
    percent, interval = _difference(one)
    return (row.label, *values, percent, *([interval, _verdict(one, row, short=short)] if is_sure else []))


def _value(estimate: Estimate, unit: str, trials: int, *, with_half: bool) -> str:
    """The number, digits by its interval also where that is not shown; with how many trials have it where not all
    do."""
    text = value_text(estimate.value, unit)
    if estimate.value is not None and estimate.low is not None and estimate.high is not None:
        half = (estimate.high - estimate.low) / 2
        if half > 0 and unit not in COUNT_UNITS:
            text = uncertain_text(estimate.value, half)
            text = text if with_half else text.partition(" ±")[0]
    return f"{text} (n {estimate.n})" if 0 < estimate.n < trials else text


def _difference(found: Difference) -> tuple[str, str]:
    """In percent, and its interval."""
    if found.percent is None or found.low_percent is None or found.high_percent is None:
        return percent_text(found.percent), ""
    return interval_texts(found.percent, found.low_percent, found.high_percent)


def _verdict(found: Difference, row: ComparisonRow, *, short: bool) -> str:
    """With a sign for whether it is an improvement, which "more" alone does not say."""
    if short and found.verdict == "no difference shown":
        return "none shown"
    sign = {"better": "✓ ", "worse": "✗ "}.get(_way(found, row), "")
    return sign + found.verdict


def _one_cell(found: Difference, row: ComparisonRow) -> str:
    """The difference and the verdict in a word or two; below them the interval, where it is more than a point."""
    percent, interval = _difference(found)
    if found.low_percent == found.high_percent:
        return f"{percent} {_verdict(found, row, short=True)}" if _way(found, row) else percent
    return f"{percent} {_verdict(found, row, short=True)}".rstrip() + f"\n{interval}"


# --- marks ----------------------------------------------------------------------------------------


def _marks(row: ComparisonRow, comparison: Comparison, is_sure: bool, *, apart: bool) -> tuple[Mark, ...]:
    baseline, *others = comparison.arms
    best = _best(row, comparison, is_sure)
    values: list[Mark] = ["best" if arm in best else "" for arm in comparison.arms]
    ways: list[Mark] = [_way(row.against(baseline, arm), row) for arm in others]
    if apart and is_sure:
        return ("", *values, "", "", *ways)
    return ("", *values, *ways)


def _way(found: Difference, row: ComparisonRow) -> Mark:
    """Which way a difference goes that was shown; "" for any other."""
    if found.verdict not in ("faster", "slower", "more", "less") or found.percent is None:
        return ""
    return "better" if (found.percent > 0) == (row.better == "higher") else "worse"


def _best(row: ComparisonRow, comparison: Comparison, is_sure: bool) -> set[str]:
    """The arms whose values are marked, never all: the best number, and what is not shown to be different from it.
    Where nothing has an interval, the best number alone."""
    known = {arm: value for arm, value in row.values.items() if value is not None}
    if row.better is None or len(known) < 2 or comparison.invalid:
        return set()
    best = max(known.values()) if row.better == "higher" else min(known.values())
    top = next(arm for arm, value in known.items() if value == best)
    if not is_sure:
        equal = {arm for arm, value in known.items() if value_text(value, row.unit) == value_text(best, row.unit)}
        return equal if len(equal) < len(known) else set()
    found = {
        other: one
        for one in row.differences
        for other in known
        if {one.arm, one.baseline} == {top, other} and other != top
    }
    if any(one.verdict == "unknown" or not _agrees(one, top, row) for one in found.values()):
        return set()
    equal = {top, *(other for other, one in found.items() if one.verdict == "no difference shown")}
    return equal if len(equal) < len(known) else set()


def _agrees(found: Difference, top: str, row: ComparisonRow) -> bool:
    """Whether the pairs say what the means do."""
    way = _way(found, row)
    return way != ("worse" if found.arm == top else "better")


def _best_means(is_sure: bool) -> str:
    if is_sure:
        return "the best of its row, and whatever is not shown to be different from it"
    return "the best number of its row; one trial an arm, so that nothing tells which differences are chance"


# --- around the table -----------------------------------------------------------------------------


def _headlines(comparison: Comparison) -> list[str]:
    """A sentence for each pair of arms: the ratio of the primary metric, its interval, and the verdict."""
    row = comparison.primary_row
    if row is None:
        return []
    return [line for found in row.differences if (line := _headline(found, _in_sentence(row.label)))]


def _in_sentence(label: str) -> str:
    """Without its unit, and with a small first letter where it is no abbreviation."""
    name = label.partition(" (")[0]
    return name if name[1:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


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

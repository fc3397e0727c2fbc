"""The table of a comparison and the commentary around it, as text that every form of report shows. Pure."""

from typing import Literal

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.analysis.decision import decisions, quality_lines, worse_text
from inferometer.analysis.estimates import SEVERAL_STARTS
from inferometer.analysis.fidelity import fidelity_lines
from inferometer.analysis.quantisation_ladder import ladder_sentences
from inferometer.base.units import COUNT_UNITS, interval_texts, percent_text, uncertain_text, value_text
from inferometer.metrics.rows import GROUPS
from inferometer.report.short_cells import arm_name

Highlight = Literal["", "best", "better", "worse"]


class RowSelection(msgspec.Struct, frozen=True):
    """The rows to show: by default those that a reader needs first; `all`; or those whose keys are in `metrics`.
    `layout`: "seed" for the Markdown layout of `report/seed_table.py`."""

    all: bool = False
    metrics: tuple[str, ...] = ()
    layout: Literal["", "seed"] = ""


DEFAULT_ROWS = RowSelection()


class Table(msgspec.Struct, frozen=True):
    """The first column holds labels, all others numbers, and verdicts if there are any.

    `groups`: the group's name of each row. `marks`: of each row, one per cell; `better` and `worse` mark differences
    that were shown, `best` is explained by `best_means`. `caption`: how many trials the numbers come from. `below`:
    lines about rows that were folded or omitted.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    groups: tuple[str, ...] = ()
    marks: tuple[tuple[Highlight, ...], ...] = ()
    below: tuple[str, ...] = ()
    best_means: str = ""

    def legend(self, best: str) -> str:
        """The meaning of the signs in the table; `best`: how this form marks a best value. "" if there are no signs."""
        has_verdicts = any(mark in ("better", "worse") for marks in self.marks for mark in marks)
        parts = ["✓ better, ✗ worse than the first arm"] if has_verdicts else []
        parts += [f"{best}: {self.best_means}"] if self.best_means else []
        return "; ".join(parts) + ("." if parts else "")


class Commentary(msgspec.Struct, frozen=True):
    """The lines around the table: `invalid` and `headlines` above it; below it `design` (the smallest difference that
    the study can detect), `speculation`, `answers` (right answers, fidelity), `warnings` and `notes`."""

    invalid: tuple[str, ...]
    headlines: tuple[str, ...]
    design: tuple[str, ...]
    speculation: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    answers: tuple[str, ...] = ()


def table(
    comparison: Comparison,
    shown: RowSelection = DEFAULT_ROWS,
    *,
    with_halves: bool = True,
    short: bool = False,
    stacked: bool = False,
) -> Table:
    """One row per metric that any arm has, one column per arm, then the differences of each further arm from the first.

    Two arms have separate columns for the difference, its 95% interval and the verdict; more arms have one column each
    for all three. If nothing has an interval, only the difference is shown. Counts that are equal in all arms go below
    the table, unless rows were chosen. `with_halves`: the arms' values with ± their standard deviation from run to run.
    `short`: verdicts of two words at most. `stacked`: one column for the difference of two arms, too.
    """
    baseline, *others = comparison.arms
    known = [row for row in comparison.rows if any(row.n.values())]
    has_intervals = any(found.low_percent is not None for row in known for found in row.differences)
    rows, folded = _chosen(comparison, known, shown)
    separate = len(others) == 1 and not stacked
    if separate:
        differences = ["% Difference", *(["95% interval", "Verdict"] if has_intervals else [])]
    elif len(others) == 1:
        differences = ["% Difference"]
    else:
        differences = [f"{arm} vs {baseline} (%)" for arm in others]
    marks = tuple(_marks(row, comparison, has_intervals, separate=separate) for row in rows)
    return Table(
        columns=("Metric", *comparison.arms, *differences),
        rows=tuple(_cells(row, comparison, has_intervals, with_halves, short, separate=separate) for row in rows),
        caption=_caption(comparison, rows, has_intervals, with_halves),
        groups=tuple(GROUPS.get(row.group, "") for row in rows),
        marks=marks,
        below=tuple(_below(comparison, rows, folded, known, shown)),
        best_means=_best_means(has_intervals) if any("best" in one for one in marks) else "",
    )


def commentary(comparison: Comparison) -> Commentary:
    """All lines around the table."""
    notes = [*comparison.finding_texts("note"), *comparison.notes]
    if comparison.correction:
        notes.append(f"Verdicts: {comparison.correction}")
    if comparison.looked_at:
        end = f" Why it ended: {comparison.stopped}." if comparison.stopped else ""
        notes.append(
            "The study was checked after every round and ended by its rule (`until`). Its intervals are a confidence "
            f"sequence, which stays valid over all these checks (Wang and Ramdas 2025).{end}"
        )
    return Commentary(
        invalid=tuple(comparison.finding_texts("invalid")),
        headlines=(*ladder_sentences(comparison), *decisions(comparison), *_headlines(comparison)),
        design=tuple(_design(comparison)),
        speculation=tuple(_speculation(comparison)),
        answers=(*quality_lines(comparison), *fidelity_lines(comparison.fidelity)),
        warnings=tuple(comparison.finding_texts("warning")),
        notes=tuple(notes),
    )


def _caption(comparison: Comparison, rows: list[ComparisonRow], has_intervals: bool, with_halves: bool) -> str:
    """How many trials the numbers come from, and what ± and the intervals mean."""
    parts = ["Trials: " + ", ".join(f"{arm_name(arm)} {n}" for arm, n in comparison.trials.items())]
    if with_halves and any(one.deviation for row in rows for one in row.estimates.values()):
        parts.append("±: standard deviation from run to run")
    row = comparison.primary_row
    basis = row.differences[0].basis if row is not None and row.differences else ""
    if has_intervals and basis:
        parts.append(_COVERS.get(basis, f"95% intervals cover other {basis}"))
    return ". ".join(parts) + ("." if len(parts) > 1 else "")


_COVERS = {
    "trials and prompts": "95% intervals cover other rounds and other prompts like these",
    "trials": "95% intervals cover other rounds of these prompts",
}
"""By the basis of an interval."""


# --- which rows -----------------------------------------------------------------------------------


def _chosen(
    comparison: Comparison, known: list[ComparisonRow], shown: RowSelection
) -> tuple[list[ComparisonRow], list[ComparisonRow]]:
    """The rows of the table, group by group in order of first appearance, and the rows that are folded."""
    if shown.metrics:
        return _by_group([row for row in comparison.rows if row.metric in shown.metrics]), []
    if shown.all:
        return _by_group(known), []
    first = [row for row in known if not row.detail or row.metric == comparison.primary]
    folded = [row for row in first if len(comparison.arms) > 1 and _is_one_count(row)]
    return _by_group([row for row in first if row not in folded]), folded


def _by_group(rows: list[ComparisonRow]) -> list[ComparisonRow]:
    groups = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: groups.index(row.group))


def _is_one_count(row: ComparisonRow) -> bool:
    """Whether the row is a count that is equal in every arm."""
    values = set(row.values.values())
    return row.unit in COUNT_UNITS and len(values) == 1 and None not in values


def _below(
    comparison: Comparison,
    rows: list[ComparisonRow],
    folded: list[ComparisonRow],
    known: list[ComparisonRow],
    shown: RowSelection,
) -> list[str]:
    lines: list[str] = []
    if folded:
        counts = [
            f"{_in_sentence(row.label)} {value_text(next(iter(row.values.values())), row.unit)}" for row in folded
        ]
        lines.append(f"The same in all arms: {', '.join(counts)}.")
    if shown.metrics:
        present = {row.metric for row in rows}
        missing = [key for key in shown.metrics if key not in present]
        return [*lines, f"Not measured here: {', '.join(missing)}."] if missing else lines
    left_out = len(known) - len(rows) - len(folded)
    if left_out:
        lines.append(f"{left_out} more rows: show all with --all, or choose with --metrics.")
    return lines


def no_verdict_line(comparison: Comparison) -> str:
    """Which arms have no verdict on the primary metric; "" if each has one."""
    row = comparison.primary_row
    found = () if row is None else row.differences
    without = [one for one in found if one.verdict in ("", "unknown")]
    if len(without) == len(found):
        return "No verdict is given."
    names = ", ".join(dict.fromkeys(one.arm for one in without if one.baseline == comparison.arms[0]))
    return f"No verdict is given on {names}." if names else ""


# --- cells ----------------------------------------------------------------------------------------


def _cells(
    row: ComparisonRow,
    comparison: Comparison,
    has_intervals: bool,
    with_halves: bool,
    short: bool,
    *,
    separate: bool,
) -> tuple[str, ...]:
    baseline, *others = comparison.arms
    values = [
        _value(row.estimates[arm], row.unit, comparison.trials[arm], with_half=with_halves) for arm in comparison.arms
    ]
    found = [row.against(baseline, arm) for arm in others]
    if not separate:
        return (row.label, *values, *(_combined_cell(one, row) for one in found))
    (one,) = found
    percent, interval = _difference(one)
    return (row.label, *values, percent, *([interval, _verdict(one, row, short=short)] if has_intervals else []))


def _value(estimate: Estimate, unit: str, trials: int, *, with_half: bool) -> str:
    """The number with its standard deviation from run to run, which determines the digits also if it is not shown, and
    the number of trials that have it, if not all do."""
    text = value_text(estimate.value, unit)
    if estimate.value is not None and estimate.deviation and unit not in COUNT_UNITS:
        text = uncertain_text(estimate.value, estimate.deviation)
        text = text if with_half else text.partition(" ±")[0]
    return f"{text} (n {estimate.n})" if 0 < estimate.n < trials else text


def _difference(found: Difference) -> tuple[str, str]:
    """The difference in percent, and its interval."""
    if found.percent is None or found.low_percent is None or found.high_percent is None:
        return percent_text(found.percent), ""
    return interval_texts(found.percent, found.low_percent, found.high_percent)


def _verdict(found: Difference, row: ComparisonRow, *, short: bool) -> str:
    """The verdict, with a sign that shows whether it is an improvement ("more" alone does not show that)."""
    if found.verdict == "same":
        return "≈ same"
    if found.verdict == "inconclusive" and not short and found.low_percent is not None:
        return f"inconclusive ({_width_text(found)})"
    if found.verdict == "unknown" and found.needs:
        return "one start" if short and found.needs == SEVERAL_STARTS else f"needs {found.needs}"
    sign = {"better": "✓ ", "worse": "✗ "}.get(_direction(found, row), "")
    return sign + found.verdict


def _width_text(found: Difference) -> str:
    """Half of the interval: ±3.1%."""
    if found.low_percent is None or found.high_percent is None:
        return ""
    return f"±{_rounded_percent((found.high_percent - found.low_percent) / 2)}"


def _combined_cell(found: Difference, row: ComparisonRow) -> str:
    """The difference and a short verdict; on a second line the interval, if it is more than a point, or what the
    verdict needs."""
    percent, interval = _difference(found)
    verdict = _verdict(found, row, short=True)
    if found.low_percent != found.high_percent:
        return f"{percent} {verdict}".rstrip() + f"\n{interval}"
    if found.needs and found.needs != SEVERAL_STARTS:
        return f"{percent}\n{verdict.removesuffix(' per trial')}"
    return f"{percent} {verdict}" if _direction(found, row) else percent


# --- marks ----------------------------------------------------------------------------------------


def _marks(row: ComparisonRow, comparison: Comparison, has_intervals: bool, *, separate: bool) -> tuple[Highlight, ...]:
    baseline, *others = comparison.arms
    best = _best_arms(row, comparison, has_intervals)
    values: list[Highlight] = ["best" if arm in best else "" for arm in comparison.arms]
    ways: list[Highlight] = [_direction(row.against(baseline, arm), row) for arm in others]
    if separate and has_intervals:
        return ("", *values, "", "", *ways)
    return ("", *values, *ways)


def _direction(found: Difference, row: ComparisonRow) -> Highlight:
    """The direction of a difference that was shown; "" for any other difference."""
    if not _direction_known(found) or found.percent is None:
        return ""
    return "better" if (found.percent > 0) == (row.better == "higher") else "worse"


def _best_arms(row: ComparisonRow, comparison: Comparison, has_intervals: bool) -> set[str]:
    """The arms whose values are marked, never all arms: the best value, and values not shown to differ from it. If
    nothing has an interval, the best value alone."""
    known = {arm: value for arm, value in row.values.items() if value is not None}
    if row.better is None or len(known) < 2 or comparison.invalid:
        return set()
    best = max(known.values()) if row.better == "higher" else min(known.values())
    top = next(arm for arm, value in known.items() if value == best)
    if not has_intervals:
        equal = {arm for arm, value in known.items() if value_text(value, row.unit) == value_text(best, row.unit)}
        return equal if len(equal) < len(known) else set()
    found = {
        other: one
        for one in row.differences
        for other in known
        if {one.arm, one.baseline} == {top, other} and other != top
    }
    if any(one.verdict == "unknown" or not _agrees_with_means(one, top, row) for one in found.values()):
        return set()
    equal = {top, *(other for other, one in found.items() if one.verdict in ("same", "inconclusive"))}
    return equal if len(equal) < len(known) else set()


def _agrees_with_means(found: Difference, top: str, row: ComparisonRow) -> bool:
    """Whether the paired difference has the same direction as the difference of the means."""
    way = _direction(found, row)
    return way != ("worse" if found.arm == top else "better")


def _best_means(has_intervals: bool) -> str:
    if has_intervals:
        return "best value of its row, and values not shown to differ from it"
    return "best value of its row; with one trial per arm, differences may be chance"


# --- around the table -----------------------------------------------------------------------------


def _headlines(comparison: Comparison) -> list[str]:
    """A sentence for each pair of arms: the ratio of the primary metric, its interval, and the verdict."""
    row = comparison.primary_row
    if row is None:
        return []
    return [
        line + worse_text(comparison, found.baseline, found.arm)
        for found in row.differences
        if (line := _headline(found, _in_sentence(row.label), comparison.equivalence_percent))
    ]


def _in_sentence(label: str) -> str:
    """The label without its unit, in lower case unless it begins with an abbreviation."""
    name = label.partition(" (")[0]
    return name if name[1:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


def _headline(found: Difference, name: str, equivalence_percent: float) -> str:
    if found.ratio is None:
        return ""
    interval = ""
    if found.low_percent is not None and found.high_percent is not None:
        interval = f" [{1 + found.low_percent / 100:.3f}, {1 + found.high_percent / 100:.3f}]"
    verdict = _in_words(found, equivalence_percent)
    return (
        f"{found.arm}: {name} {found.ratio:.3f}× that of {found.baseline}{interval}{f': {verdict}' if verdict else ''}"
    )


def _in_words(found: Difference, equivalence_percent: float) -> str:
    """The verdict in full."""
    if found.verdict == "same":
        return f"≈ same (within ±{equivalence_percent:g}%)"
    if found.verdict == "inconclusive" and found.low_percent is not None:
        return f"inconclusive ({_width_text(found)})"
    if found.verdict == "unknown" and found.reason:
        return f"unknown ({found.reason})"
    if found.low_percent is not None and found.high_percent is not None and _direction_known(found):
        largest = max(abs(found.low_percent), abs(found.high_percent))
        return found.verdict + (f", by less than {equivalence_percent:g}%" if largest <= equivalence_percent else "")
    return found.verdict


def _direction_known(found: Difference) -> bool:
    return found.verdict in ("faster", "slower", "more", "less")


def _design(comparison: Comparison) -> list[str]:
    """The smallest difference of the primary metric that the study can show, against the first arm, and what to add."""
    row = comparison.primary_row
    lines: list[str] = []
    for found in row.differences if row is not None else ():
        is_shown = bool(comparison.pairs) or found.baseline == comparison.arms[0]
        if found.detectable_percent is not None and is_shown:
            smallest = _rounded_percent(found.detectable_percent)
            advice = _advice(found, comparison.effect_percent)
            lines.append(f"{found.arm}: this study shows differences of {smallest} and more (power 80%). {advice}")
    return lines


def _advice(found: Difference, effect_percent: float) -> str:
    """What would show a difference of `effect_percent`."""
    if found.needs == SEVERAL_STARTS:
        return "Restart the engines in each round"
    if found.trials_needed is not None:
        rounds = "rounds" if found.paired else "trials per arm"
        return f"{found.trials_needed} {rounds} would show {effect_percent:g}%"
    how_many = f": about {found.prompts_needed} would show {effect_percent:g}%" if found.prompts_needed else ""
    return f"Add prompts, not trials{how_many}"


def _rounded_percent(percent: float) -> str:
    return f"{percent:.1f}%" if percent < 1000 else "more than 1000%"


def _speculation(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    for one in comparison.speculation:
        alpha = "" if one.acceptance is None else f", acceptance α {one.acceptance:.2f}"
        text = (
            f"{one.arm}: {one.tokens_per_step:.2f} tokens per step with {one.drafted_per_step:.2f} drafted{alpha}; "
            f"measured decoding speed {one.measured:.2f}× that of {one.baseline}"
        )
        if one.costs is not None and one.predicted is not None and one.predicted_measured is not None:
            costs = one.costs
            text += (
                f"; predicted {one.predicted:.2f}× (Leviathan et al. 2023) if a verifying step costs one step of the "
                f"target, {one.predicted_measured:.2f}× with the measured costs: "
                f"drafted token {costs.draft_token_ms:.2f} ms, verifying step {costs.verify_step_ms:.2f} ms, "
                f"step of the target alone {one.target_token_ms:.2f} ms ({costs.source})"
            )
        elif one.predicted is not None:
            text += (
                f"; predicted at most {one.predicted:.2f}×: drafts from the text itself cost almost nothing, and a "
                "verifying step costs at least one step of the target"
            )
        else:
            text += "; no prediction: the costs of drafting and of verifying cannot be separated here"
        lines.append(text)
    return lines

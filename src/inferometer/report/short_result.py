"""The result of a study in a few lines: what was compared, the verdict, about ten rows, cautions, and what to do next.

Two to four arms stand in columns; more arms are ranked, one line each. Pure.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.base.text import escape_for_display
from inferometer.base.units import COUNT_UNITS, duration_text, percent_text, uncertain_text, value_text
from inferometer.report.terminal import cells_wide

WIDTH = 100
MOST_COLUMNS = 4
MOST_CAUTIONS = 4
_INDENT = "  "
_GAP = "  "
_MOST_COLUMN = 24
_ROWS = (
    ("output_throughput", "Output tok/s"),
    ("median_ttft_ms", "TTFT median ms"),
    ("mean_tpot_ms", "TPOT mean ms"),
    ("p99_itl_per_token_ms", "ITL per token P99 ms"),
    ("memory_gib", "Memory GiB"),
    ("energy_j_per_token", "Energy J/token"),
    ("acceptance_rate_percent", "Drafts accepted %"),
    ("checks_passed_percent", "Checks passed %"),
)
"""Metric and its short label, in display order."""
_VISIBLE_SHARE = 0.001
"""A deviation below this share of the value is not shown: it would only add digits."""
_SHORT_WARNINGS = {"other-output": "answers differ from the baseline's: check quality"}
_DECIDED = ("faster", "slower", "more", "less")


def short_result(comparison: Comparison, *, width: int = WIDTH, report: str = "") -> list[str]:
    """The lines, each at most `width` columns wide (and never more than WIDTH). `report`: where the page is."""
    width = min(width, WIDTH)
    is_ranking = len(comparison.arms) > MOST_COLUMNS
    lines = [*_wrapped(_title(comparison), width, ""), ""]
    for sentence in verdict_sentences(comparison):
        lines += _wrapped(sentence, width, _INDENT)
    lines.append("")
    lines += _ranking(comparison, width) if is_ranking else _table(comparison, width)
    cautions = list(_cautions(comparison))
    lines += ["", *(_cut(f"{_INDENT}{line}", width) for line in cautions)] if cautions else [""]
    lines.append(_cut(f"{_INDENT}{_next_steps(comparison, report)}", width))
    return [line.rstrip() for line in lines]


# --- what was compared ----------------------------------------------------------------------------


def _title(comparison: Comparison) -> str:
    """Model, number of set-ups, engine, size and time."""
    arms = comparison.set_ups
    models = dict.fromkeys(arm.model for arm in arms if arm.model)
    engines = dict.fromkeys(" ".join(filter(None, (arm.engine, arm.version))) for arm in arms if arm.engine)
    count = {2: "two", 3: "three", 4: "four"}.get(len(comparison.arms), str(len(comparison.arms)))
    parts = [f"{_first(models)}, {count} set-ups" if models else f"{count} set-ups".capitalize()]
    parts += [_first(engines)] if engines else []
    if comparison.extent is not None:
        extent = comparison.extent
        parts.append(f"{extent.prompts} prompts × {extent.rounds} rounds")
        parts += [duration_text(extent.seconds * 1e9)] if extent.seconds else []
    return " · ".join(parts)


def _first(names: dict[str, None]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


# --- verdict --------------------------------------------------------------------------------------


def verdict_sentences(comparison: Comparison) -> list[str]:
    """One sentence for each decided set-up, and one for all others together."""
    if comparison.invalid:
        texts = comparison.finding_texts("invalid")
        return [f"NOT VALID: {texts[0]}", *([f"({len(texts) - 1} more: --why)"] if len(texts) > 1 else [])]
    row = comparison.primary_row
    if row is None:
        return [f"No verdict: no trial has {comparison.primary}."]
    found = _against_first(row, comparison)
    decided = sorted((one for one in found if one.verdict in _DECIDED), key=lambda one: -abs(math.log(one.ratio or 1)))
    shown = decided if len(comparison.arms) <= MOST_COLUMNS else decided[:1]
    sentences = [_decided_sentence(one, row, comparison) for one in shown]
    if len(decided) > len(shown):
        sentences.append(f"{len(decided) - len(shown)} more differ from {comparison.arms[0]}: see the ranking.")
    same = [one for one in found if one.verdict == "same"]
    if same:
        bound = f"within ±{comparison.equivalence_percent:g}%"
        sentences.append(f"{_names(same)}: ≈ same as {comparison.arms[0]} ({bound}: {_spans(same)}).")
    open_ones = [one for one in found if one.verdict == "inconclusive"]
    if open_ones:
        sentences.append(f"{_names(open_ones)}: inconclusive ({_spans(open_ones)}).")
    sentences += [
        f"{one.arm}: no verdict{f' ({one.reason})' if one.reason else ''}." for one in found if one.verdict == "unknown"
    ]
    return sentences or [f"No verdict on {_in_sentence(row)}."]


def _against_first(row: ComparisonRow, comparison: Comparison) -> list[Difference]:
    return [found for found in row.differences if found.baseline == comparison.arms[0]]


def _decided_sentence(found: Difference, row: ComparisonRow, comparison: Comparison) -> str:
    size, interval = _size_and_interval(found)
    what = "" if row.metric == "output_throughput" else f" in {_in_sentence(row)}"
    memory = _memory_clause(found, comparison)
    return f"{found.arm} is {size} {found.verdict.upper()} than {found.baseline}{what} ({interval}){memory}."


def _size_and_interval(found: Difference) -> tuple[str, str]:
    """The size without its sign, and its interval in the same direction: 19% and `95% CI 10–27%`."""
    assert found.percent is not None and found.low_percent is not None and found.high_percent is not None
    low, high = sorted((abs(found.low_percent), abs(found.high_percent)))
    digits = 0 if high - low >= 2 else 1
    percent = f"{abs(found.percent):.{digits}f}%"
    return percent, f"95% CI {low:.{digits}f}–{high:.{digits}f}%"


def _memory_clause(found: Difference, comparison: Comparison) -> str:
    row = next((row for row in comparison.rows if row.metric == "memory_gib"), None)
    one = None if row is None else next((one for one in row.differences if _is_pair(one, found)), None)
    if one is None or one.percent is None or one.verdict not in ("more", "less") or row is comparison.primary_row:
        return ""
    return f" and uses {abs(one.percent):.0f}% {one.verdict} memory"


def _is_pair(one: Difference, other: Difference) -> bool:
    return (one.arm, one.baseline) == (other.arm, other.baseline)


def _names(found: Sequence[Difference]) -> str:
    return ", ".join(one.arm for one in found)


def _spans(found: Sequence[Difference]) -> str:
    return ", ".join(f"{_signed(one.low_percent)}..{_signed(one.high_percent)}%" for one in found)


def _signed(percent: float | None) -> str:
    if percent is None:
        return "?"
    text = f"{percent:+.0f}" if abs(percent) >= 10 else f"{percent:+.1f}"
    return ("+>999" if percent > 999 else text).replace("-", "−")


def _in_sentence(row: ComparisonRow) -> str:
    name = row.label.partition(" (")[0]
    return name if name[1:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


# --- two to four set-ups in columns ---------------------------------------------------------------


def _table(comparison: Comparison, width: int) -> list[str]:
    arms = comparison.arms
    rows: list[list[str]] = [["", *map(escape_for_display, arms)]]
    rows += _differs_rows(comparison)
    chosen = list(_chosen(comparison))
    widest = max((len(label) for _, label in chosen), default=0)
    room = (width - len(_INDENT) - widest) // len(arms) - len(_GAP)
    for row, label in chosen:
        rows += _metric_rows(row, label, comparison, room)
    rows += _answers_rows(comparison)
    return _aligned(rows, width)


def _chosen(comparison: Comparison) -> Iterator[tuple[ComparisonRow, str]]:
    """The study's own metric first, then _ROWS, without rows that no arm has."""
    known = {row.metric: row for row in comparison.rows if any(row.n.values())}
    labels = dict(_ROWS)
    for metric in dict.fromkeys((comparison.primary, *labels)):
        if metric in known:
            yield known[metric], labels.get(metric, known[metric].label.replace(" (", " ").removesuffix(")"))


def _differs_rows(comparison: Comparison) -> list[list[str]]:
    """What differs between the arms, in lines of one part each; at most three."""
    by_arm = {arm.arm: list(arm.differs) for arm in comparison.set_ups}
    parts = [by_arm.get(arm, []) for arm in comparison.arms]
    depth = max(map(len, parts), default=0)
    if not depth:
        return []
    cells = [[*part[:2], f"+{len(part) - 2} more"] if len(part) > 3 else part for part in parts]
    return [
        ["differs in" if place == 0 else "", *(part[place] if place < len(part) else "" for part in cells)]
        for place in range(min(depth, 3))
    ]


def _metric_rows(row: ComparisonRow, label: str, comparison: Comparison, room: int) -> Iterator[list[str]]:
    """The row's cells. `room`: columns for each arm; without it the deviations give way to the differences."""
    first, *others = comparison.arms
    values = [_value(row.estimates[arm], row.unit) for arm in comparison.arms]
    found = [row.against(first, arm) for arm in others]
    if row.metric == comparison.primary:
        yield [label, *values]
        yield [f"  vs {first}", "", *(_change(one, row, always=True) for one in found)]
        return
    changes = ["", *(_change(one, row) for one in found)]
    cells = [f"{value} {change}".rstrip() for value, change in zip(values, changes, strict=True)]
    if max(map(cells_wide, cells)) > room:
        cells = [f"{value.partition(' ±')[0]} {change}".rstrip() for value, change in zip(values, changes, strict=True)]
    yield [label, *cells]


def _value(estimate: Estimate, unit: str) -> str:
    """The mean with the standard deviation from run to run, which sets the digits."""
    if estimate.value is None:
        return ""
    if estimate.deviation and unit not in COUNT_UNITS and estimate.deviation > _VISIBLE_SHARE * abs(estimate.value):
        return uncertain_text(estimate.value, estimate.deviation)
    return percent_text(estimate.value) if unit == "%" else value_text(estimate.value, unit)


def _change(found: Difference, row: ComparisonRow, *, always: bool = False) -> str:
    """The difference with its mark; "" for one that was not shown, unless `always`."""
    if found.percent is None:
        return ""
    is_decided = found.verdict in _DECIDED
    if not is_decided and not always:
        return ""
    text = f"{_signed(found.percent)}%"
    if found.verdict == "same":
        return f"{text} ≈"
    if not is_decided or row.better is None:
        return text
    return f"{text} {'✓' if (found.percent > 0) == (row.better == 'higher') else '✗'}"


def _answers_rows(comparison: Comparison) -> list[list[str]]:
    by_arm = {arm.arm: arm.same_answers for arm in comparison.set_ups}
    counts = [by_arm.get(arm) for arm in comparison.arms]
    if not any(counts):
        return []
    return [["Same answers", *("" if pair is None else _same_text(pair) for pair in counts)]]


def _same_text(pair: tuple[int, int]) -> str:
    same, compared = pair
    return f"{same}/{compared}{' !' if same < compared else ''}"


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The first column to the left, all others to the left too, so that marks do not move the numbers. Cells that are
    too long for the width are cut."""
    columns = len(rows[0])
    widths = [max(cells_wide(row[column]) for row in rows) for column in range(columns)]
    room = width - len(_INDENT) - widths[0] - len(_GAP) * (columns - 1)
    most = max(8, room // max(1, columns - 1))
    if sum(widths[1:]) > room:
        widths = [widths[0], *(min(one, most) for one in widths[1:])]
    lines: list[str] = []
    for row in rows:
        cells = [_cut(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        padded = [cell + " " * (wide - cells_wide(cell)) for cell, wide in zip(cells, widths, strict=True)]
        lines.append(_INDENT + _GAP.join(padded))
    return lines


# --- more set-ups, ranked -------------------------------------------------------------------------


def _ranking(comparison: Comparison, width: int) -> list[str]:
    """One line for each set-up, the best first, compared with the baseline and with the best."""
    row = comparison.primary_row
    if row is None:
        return []
    known = [arm for arm in comparison.arms if row.estimates[arm].value is not None]
    order = sorted(known, key=lambda arm: row.estimates[arm].value or 0.0, reverse=row.better != "lower")
    order += [arm for arm in comparison.arms if arm not in known]
    first, best = comparison.arms[0], order[0]
    memory = next((one for one in comparison.rows if one.metric == "memory_gib"), None)
    label = dict(_ROWS).get(row.metric, row.label)
    rows = [["", "set-up", label, f"vs {first}", f"vs {best}", "Memory GiB"]]
    for place, arm in enumerate(order, 1):
        rows.append(
            [
                str(place),
                arm,
                _value(row.estimates[arm], row.unit),
                "baseline" if arm == first else _span_cell(row, first, arm),
                "best" if arm == best else _span_cell(row, best, arm),
                "" if memory is None else _value(memory.estimates[arm], memory.unit),
            ]
        )
    return _aligned([[escape_for_display(cell) for cell in one] for one in rows], width)


def _span_cell(row: ComparisonRow, baseline: str, arm: str) -> str:
    """`−19% [−27, −10] ✗`; the pair may have been compared in the other direction."""
    for found in row.differences:
        if (found.baseline, found.arm) == (baseline, arm):
            return _with_span(found, row)
        if (found.baseline, found.arm) == (arm, baseline):
            return _with_span(_reversed(found), row)
    return ""


def _with_span(found: Difference, row: ComparisonRow) -> str:
    change = _change(found, row, always=True)
    if found.low_percent is None or found.high_percent is None:
        return change
    text, mark = change.partition(" ")[::2]
    return f"{text} [{_signed(found.low_percent)}, {_signed(found.high_percent)}] {mark}".rstrip()


def _reversed(found: Difference) -> Difference:
    """The same difference with the arms exchanged."""
    import msgspec

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


# --- below the table ------------------------------------------------------------------------------


def _cautions(comparison: Comparison) -> Iterator[str]:
    """One line for each kind of warning, then what the reader should know about the answers."""
    lines = list(_warning_lines(comparison))
    for line in lines[:MOST_CAUTIONS]:
        yield f"Caution  {line}"
    if len(lines) > MOST_CAUTIONS:
        yield f"Caution  {len(lines) - MOST_CAUTIONS} more kinds: --why"


def _warning_lines(comparison: Comparison) -> Iterator[str]:
    by_code: dict[str, list[tuple[str, int | None, str]]] = {}
    for found in comparison.findings:
        if found.severity == "warning" or (found.severity == "invalid" and not comparison.invalid):
            by_code.setdefault(found.code, []).append((found.arm, found.trial, found.message))
    total = sum(comparison.trials.values())
    for code, places in by_code.items():
        named = list(dict.fromkeys(arm for arm, _, _ in places if arm))
        separator = "; " if any("," in arm for arm in named) else ", "
        arms = f"all {len(named)} set-ups" if len(named) == len(comparison.arms) > 2 else separator.join(named)
        trials = len({(arm, trial) for arm, trial, _ in places if trial is not None})
        message = _SHORT_WARNINGS.get(code) or places[0][2].rstrip(".")
        where = f" ({trials} of {total} trials)" if trials else ""
        yield f"{f'{arms}: ' if arms else ''}{message}{where}"
    if comparison.set_ups and not any(arm.differs for arm in comparison.set_ups) and len(comparison.arms) > 1:
        yield "nothing differs in force between the set-ups"


def _next_steps(comparison: Comparison, report: str) -> str:
    """What would make the result surer, and where the rest is."""
    advice = _advice(comparison)
    parts = (
        f"To know more: {advice}." if advice else "",
        "All rows: --all",
        "Why: --why",
        report and f"Report: {report}",
    )
    return "   ".join(filter(None, parts))


def _advice(comparison: Comparison) -> str:
    row = comparison.primary_row
    found = [] if row is None or comparison.invalid else _against_first(row, comparison)
    open_ones = [one for one in found if one.verdict in ("inconclusive", "unknown")]
    if not open_ones:
        return ""
    effect = f"{comparison.effect_percent:g}%"
    prompts = max((one.prompts_needed or 0 for one in open_ones), default=0)
    rounds = [one.trials_needed for one in open_ones]
    if any(one is None for one in rounds):
        return f"add prompts, not rounds{f' ({prompts} would show {effect})' if prompts else ''}"
    return f"{max(one or 0 for one in rounds)} rounds would show {effect}"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    safe = escape_for_display(text)
    return textwrap.wrap(
        safe, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _cut(text: str, width: int) -> str:
    safe = escape_for_display(text)
    if cells_wide(safe) <= width:
        return safe
    while safe and cells_wide(safe) > width - 1:
        safe = safe[:-1]
    return safe.rstrip() + "…"

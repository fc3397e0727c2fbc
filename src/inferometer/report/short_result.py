"""The result of a study in a few lines: what was compared, the verdict, about ten rows, cautions, and what to do next.

Two to four arms stand in columns; more arms are ranked, one line each. Pure.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, Estimate
from inferometer.analysis.decision import decisions
from inferometer.base.text import escape_for_display
from inferometer.base.units import (
    COUNT_UNITS,
    duration_text,
    percent_text,
    three_digits_text,
    uncertain_text,
    value_text,
)
from inferometer.report.terminal import cells_wide

WIDTH = 100
MOST_COLUMNS = 4
MOST_CAUTIONS = 4
MOST_LINES = {False: 25, True: 30}
"""Lines of the result, by whether it is a ranking (of up to eight set-ups). More than MOST_CAUTIONS, or long cautions,
are shortened first."""
_INDENT = "  "
_GAP = "  "
_MOST_NAME = 44
"""Columns of a set-up's name in a sentence."""
_MOST_HEAD = 16
"""Columns of a set-up's name in a heading of the ranking."""
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
MARK_MEANING = "✓ better, ✗ worse than the first arm; ≈ the same within the bound; no mark: not decided."
_DECIDED = ("faster", "slower", "more", "less")


def short_result(comparison: Comparison, *, width: int = WIDTH, report: str = "") -> list[str]:
    """The lines, each at most `width` columns wide (and never more than WIDTH). `report`: where the page is."""
    width = min(width, WIDTH)
    is_ranking = len(comparison.arms) > MOST_COLUMNS
    lines = [*_wrapped(_title_parts(comparison), width, "", " · "), ""]
    for sentence in verdict_sentences(comparison):
        lines += _wrapped(sentence.split(), width, _INDENT)
    last = _wrapped(_next_steps(comparison, report), width, _INDENT, "   ")
    room = MOST_LINES[is_ranking] - len(lines) - len(last) - 2
    content = _ranking(comparison, width) if is_ranking else _table(comparison, width, room - 2)
    lines += ["", *content] if content else []
    room -= len(content)
    return [line.rstrip() for line in (*lines, "", *_caution_lines(comparison, width, room), *last)]


# --- what was compared ----------------------------------------------------------------------------


def _title_parts(comparison: Comparison) -> list[str]:
    """Model, number of set-ups, engine, size and time."""
    arms = comparison.set_ups
    models = dict.fromkeys(arm.model for arm in arms if arm.model)
    engines = dict.fromkeys(" ".join(filter(None, (arm.engine, arm.version))) for arm in arms if arm.engine)
    count = {1: "one", 2: "two", 3: "three", 4: "four"}.get(len(comparison.arms), str(len(comparison.arms)))
    set_ups = f"{count} set-up{'s' if len(comparison.arms) > 1 else ''}"
    parts = [f"{_first(models)}, {set_ups}" if models else set_ups.capitalize()]
    parts += [_first(engines)] if engines else []
    if comparison.extent is not None:
        extent = comparison.extent
        sizes = ((extent.prompts, "prompt"), (extent.rounds, "round"))
        parts.append(" × ".join(_counted(count, word) for count, word in sizes if count))
        parts += [duration_text(extent.seconds * 1e9)] if extent.seconds else []
    return parts


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _first(names: dict[str, None]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


# --- verdict --------------------------------------------------------------------------------------


def verdict_sentences(comparison: Comparison) -> list[str]:
    """One sentence for each set-up that differs from the baseline, and one for all others together. Of a ranking: the
    best set-up, those that may be as good, and how many differ from the baseline."""
    if comparison.invalid:
        texts = comparison.finding_texts("invalid")
        return [f"NOT VALID: {texts[0]}", *([f"({len(texts) - 1} more: --why)"] if len(texts) > 1 else [])]
    row = comparison.primary_row
    if row is None or not any(row.n.values()):
        return [f"No verdict: no trial has {comparison.primary}."]
    if len(comparison.arms) > MOST_COLUMNS:
        return list(_ranking_sentences(row, comparison))
    if len(comparison.arms) == 1:
        return [_value_sentence(row, comparison.arms[0])]
    found = _against_first(row, comparison)
    decided = sorted((one for one in found if one.verdict in _DECIDED), key=lambda one: -abs(math.log(one.ratio or 1)))
    sentences = decisions(comparison) + [_decided_sentence(one, row, comparison) for one in decided]
    sentences += _open_sentences(found, comparison)
    return sentences or [f"No verdict on {_in_sentence(row)}."]


def _value_sentence(row: ComparisonRow, arm: str) -> str:
    """The value of a study's only set-up, with its interval."""
    one = row.estimates[arm]
    interval = ""
    if one.value is not None and one.low is not None and one.high is not None:
        interval = f" ({_interval_text(one.low, one.high)})"
    unit = f" {row.unit}" if row.unit else ""
    return f"{_name(arm)}: {_in_sentence(row)} {_value(one, row.unit)}{unit}{interval}. One set-up: nothing to compare."


def _interval_text(low: float, high: float) -> str:
    return f"95% CI {three_digits_text(low)}–{three_digits_text(high)}"


def _open_sentences(found: Sequence[Difference], comparison: Comparison) -> Iterator[str]:
    """The sentences about set-ups that are not shown to differ."""
    baseline = _name(comparison.arms[0])
    same = [one for one in found if one.verdict == "same"]
    if same:
        yield f"{_names(same)}: ≈ same as {baseline} (within ±{comparison.equivalence_percent:g}%: {_spans(same)})."
    unclear = [one for one in found if one.verdict == "inconclusive"]
    if unclear:
        yield f"{_names(unclear)}: inconclusive ({_spans(unclear)})."
    by_reason: dict[str, list[Difference]] = {}
    for one in found:
        if one.verdict == "unknown":
            by_reason.setdefault(f"needs {one.needs}" if one.needs else one.reason, []).append(one)
    for reason, ones in by_reason.items():
        yield f"{_names(ones)}: no verdict{f' ({reason})' if reason else ''}."


def _ranking_sentences(row: ComparisonRow, comparison: Comparison) -> Iterator[str]:
    first, best = comparison.arms[0], order(row)[0]
    found = _against_first(row, comparison)
    if best == first:
        yield f"No set-up is better than {_name(first)}, the baseline, in {_in_sentence(row)}."
    else:
        one = next(one for one in found if one.arm == best)
        yield "Best: " + _one_sentence(one, row, comparison)
    rivals = [_pair_of(row, best, arm) for arm in comparison.arms if arm not in (best, first)]
    close = [one for one in rivals if one is not None and one.verdict in ("same", "inconclusive")]
    if close:
        yield f"Not shown to be worse than {_name(best)}: {_names(close)}."
    better = sum(one.verdict in _DECIDED and _is_better(one, row) for one in found)
    worse = sum(one.verdict in _DECIDED for one in found) - better
    yield f"Against {_name(first)}: {better} better, {worse} worse, {len(found) - better - worse} not decided."


def _is_better(found: Difference, row: ComparisonRow) -> bool:
    return ((found.percent or 0) > 0) == (row.better == "higher")


def _one_sentence(found: Difference, row: ComparisonRow, comparison: Comparison) -> str:
    if found.verdict in _DECIDED:
        return _decided_sentence(found, row, comparison)
    return next(_open_sentences([found], comparison), f"{_name(found.arm)}.")


def _against_first(row: ComparisonRow, comparison: Comparison) -> list[Difference]:
    return [found for found in row.differences if found.baseline == comparison.arms[0]]


def _decided_sentence(found: Difference, row: ComparisonRow, comparison: Comparison) -> str:
    size, interval = _size_and_interval(found)
    what = "" if row.metric == "output_throughput" else f" in {_in_sentence(row)}"
    memory = _memory_clause(found, comparison)
    return (
        f"{_name(found.arm)} is {size} {found.verdict.upper()} than {_name(found.baseline)}{what} ({interval}){memory}."
    )


def _size_and_interval(found: Difference) -> tuple[str, str]:
    """The size without its sign, and its interval in the same direction: 19% and `95% CI 10–27%`."""
    assert found.percent is not None and found.low_percent is not None and found.high_percent is not None
    low, high = sorted((abs(found.low_percent), abs(found.high_percent)))
    digits = 0 if high - low >= 2 else 1
    percent = f"{abs(found.percent):.{digits}f}%"
    return percent, f"{found.confidence_percent or 95:.3g}% CI {_not_zero(low, digits)}–{high:.{digits}f}%"


def _memory_clause(found: Difference, comparison: Comparison) -> str:
    row = next((row for row in comparison.rows if row.metric == "memory_gib"), None)
    one = None if row is None else next((one for one in row.differences if _is_pair(one, found)), None)
    if one is None or one.percent is None or one.verdict not in ("more", "less") or row is comparison.primary_row:
        return ""
    return f" and uses {abs(one.percent):.0f}% {one.verdict} memory"


def _is_pair(one: Difference, other: Difference) -> bool:
    return (one.arm, one.baseline) == (other.arm, other.baseline)


def _names(found: Sequence[Difference]) -> str:
    return ", ".join(_name(one.arm) for one in found)


def _name(arm: str) -> str:
    """A set-up's name in a sentence: quoted if it has a comma, so that it is not read as two."""
    name = _cut_middle(arm, _MOST_NAME)
    return f'"{name}"' if "," in name else name


def _spans(found: Sequence[Difference]) -> str:
    return ", ".join(f"{_signed(one.low_percent)}..{_signed(one.high_percent)}%" for one in found)


def _signed(percent: float | None) -> str:
    if percent is None:
        return "?"
    text = _not_zero(percent, 0 if abs(percent) >= 10 else 1, "+")
    return ("+>999" if percent > 999 else text).replace("-", "−")


def _in_sentence(row: ComparisonRow) -> str:
    name = row.label.partition(" (")[0]
    return name if name[1:2].isupper() or name[1:2].isdigit() else name[:1].lower() + name[1:]


# --- two to four set-ups in columns ---------------------------------------------------------------


def _table(comparison: Comparison, width: int, most: int) -> list[str]:
    """The set-ups in columns, in at most `most` lines: metrics that come last give way."""
    arms = comparison.arms
    chosen = list(_chosen(comparison))
    widest = max((len(label) for _, label in chosen), default=0)
    room = (width - len(_INDENT) - widest) // len(arms) - len(_GAP)
    head, answers = [["", *arms], *_differs_rows(comparison)], _answers_rows(comparison)
    rows = [cells for row, label in chosen for cells in _metric_rows(row, label, comparison, room)]
    return _aligned([*head, *rows[: max(2, most - len(head) - len(answers))], *answers], width)


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
    if not depth or len(parts) == 1:
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
    if row.metric == comparison.primary and others:
        yield [label, *(value or "no value" for value in values)]
        yield [f"  vs {_cut_middle(first, _MOST_HEAD)}", "", *(_change(one, row, always=True) for one in found)]
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
    if unit == "GiB" and 0.1 <= abs(estimate.value) < 1:
        return three_digits_text(estimate.value)
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


def _aligned(rows: Sequence[Sequence[str]], width: int, shrinks: Sequence[int] | None = None) -> list[str]:
    """All columns to the left, so that marks do not move the numbers. Where the width does not suffice, the widest of
    the columns `shrinks` (all but the first) are cut."""
    columns = range(len(rows[0]))
    cells = [[escape_for_display(cell) for cell in row] for row in rows]
    widths = [max(cells_wide(row[column]) for row in cells) for column in columns]
    room = width - len(_INDENT) - len(_GAP) * (len(columns) - 1)
    while sum(widths) > room:
        widest = max(shrinks or columns[1:], key=lambda column: widths[column])
        widths[widest] -= 1
    lines: list[str] = []
    for row in cells:
        cut = [_cut_middle(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        padded = [cell + " " * (wide - cells_wide(cell)) for cell, wide in zip(cut, widths, strict=True)]
        lines.append(_INDENT + _GAP.join(padded))
    return lines


# --- more set-ups, ranked -------------------------------------------------------------------------


def _ranking(comparison: Comparison, width: int) -> list[str]:
    """One line for each set-up, the best first, compared with the baseline and with the best."""
    row = comparison.primary_row
    if row is None:
        return []
    ranked = order(row)
    first, best = comparison.arms[0], ranked[0]
    memory = next((one for one in comparison.rows if one.metric == "memory_gib" and any(one.n.values())), None)
    label = dict(_ROWS).get(row.metric, row.label)
    head = ["", "set-up", label, *(f"vs {_cut_middle(arm, _MOST_HEAD)}" for arm in dict.fromkeys((first, best)))]
    rows = [[*head, "Memory GiB"] if memory else head]
    for place, arm in enumerate(ranked, 1):
        cells = [str(place), arm, _value(row.estimates[arm], row.unit) or "no value"]
        cells.append("baseline" if arm == first else span_cell(row, first, arm))
        if best != first:
            cells.append("best" if arm == best else span_cell(row, best, arm))
        rows.append([*cells, _value(memory.estimates[arm], memory.unit)] if memory else cells)
    return _aligned(rows, width, shrinks=[1])


def order(row: ComparisonRow) -> list[str]:
    """The set-ups, the best first; those without a value last."""
    known = {arm: value for arm, value in row.values.items() if value is not None}
    return [
        *sorted(known, key=lambda arm: known[arm], reverse=row.better != "lower"),
        *(arm for arm in row.values if arm not in known),
    ]


def span_cell(row: ComparisonRow, baseline: str, arm: str) -> str:
    """`−19% [−27, −10] ✗`"""
    found = _pair_of(row, baseline, arm)
    if found is None:
        return ""
    change = _change(found, row, always=True)
    if found.percent is None or found.low_percent is None or found.high_percent is None:
        return change
    digits = 0 if found.high_percent - found.low_percent >= 2 else 1
    ends = ", ".join(_rounded(end, digits) for end in (found.low_percent, found.high_percent))
    return f"{_rounded(found.percent, digits)}% [{ends}] {change.partition(' ')[2]}".rstrip()


def _rounded(percent: float, digits: int) -> str:
    return "+>999" if percent > 999 else _not_zero(percent, digits, "+").replace("-", "−")


def _not_zero(percent: float, digits: int, sign: str = "") -> str:
    """A number that is not 0 is never written as 0: readers look at which side of 0 an interval lies."""
    while percent and digits < 4 and not float(f"{percent:.{digits}f}"):
        digits += 1
    return f"{percent:{sign}.{digits}f}"


def _pair_of(row: ComparisonRow, baseline: str, arm: str) -> Difference | None:
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


# --- below the table ------------------------------------------------------------------------------


def cautions(comparison: Comparison) -> list[str]:
    """One text for each kind of warning, and what the reader should know about the answers."""
    return list(_warning_lines(comparison))


def _caution_lines(comparison: Comparison, width: int, room: int) -> list[str]:
    """The cautions in at most `room` lines: wrapped, or else cut to a line each, or else counted."""
    found = cautions(comparison)
    shown = found[: max(0, min(MOST_CAUTIONS, room - 1))] if len(found) > min(MOST_CAUTIONS, room) else found
    more = len(found) - len(shown)
    texts = [*shown, *([f"{more} more {'kind' if more == 1 else 'kinds'}: --why"] if more else [])]
    wrapped = [
        _INDENT + (_CAUTION if place == 0 else " " * len(_CAUTION)) + line
        for text in texts
        for place, line in enumerate(_wrapped(text.split(), width - len(_INDENT + _CAUTION), ""))
    ]
    return wrapped if len(wrapped) <= room else [_cut(f"{_INDENT}{_CAUTION}{text}", width) for text in texts]


_CAUTION = "Caution  "


def _warning_lines(comparison: Comparison) -> Iterator[str]:
    by_code: dict[str, list[tuple[str, int | None, str]]] = {}
    for found in comparison.findings:
        if found.severity == "warning" or (found.severity == "invalid" and not comparison.invalid):
            by_code.setdefault(found.code, []).append((found.arm, found.trial, found.message))
    total = sum(comparison.trials.values())
    for code, places in by_code.items():
        named = list(dict.fromkeys(arm for arm, _, _ in places if arm))
        is_all = len(named) == len(comparison.arms) > 2
        arms = f"all {len(named)} set-ups" if is_all else ", ".join(map(_name, named))
        trials = len({(arm, trial) for arm, trial, _ in places if trial is not None})
        message = _SHORT_WARNINGS.get(code) or places[0][2].rstrip(".")
        where = f" ({trials} of {total} trials)" if trials else ""
        yield f"{f'{arms}: ' if arms else ''}{message}{where}"
    if len(comparison.set_ups) == len(comparison.arms) > 1 and not any(arm.differs for arm in comparison.set_ups):
        yield "nothing differs in force between the set-ups"


def _next_steps(comparison: Comparison, report: str) -> list[str]:
    """What would make the result surer, and where the rest is."""
    advice = _advice(comparison)
    parts = (f"To know more: {advice}." if advice else "", "All rows: --all", "Why: --why")
    return [*filter(None, parts), *([f"Report: {report}"] if report else [])]


def _advice(comparison: Comparison) -> str:
    row = comparison.primary_row
    found = [] if row is None or comparison.invalid else _against_first(row, comparison)
    open_ones = [one for one in found if one.verdict in ("inconclusive", "unknown")]
    if not open_ones:
        return ""
    needs = next((one.needs for one in open_ones if one.needs), "")
    if needs:
        return f"measure at least {needs}"
    effect = f"{comparison.effect_percent:g}%"
    prompts = max((one.prompts_needed or 0 for one in open_ones), default=0)
    rounds = [one.trials_needed for one in open_ones]
    if any(one is None for one in rounds):
        return f"add prompts, not rounds{f' ({prompts} would show a difference of {effect})' if prompts else ''}"
    return f"{max(one or 0 for one in rounds)} rounds would show a difference of {effect}"


def _wrapped(parts: Sequence[str], width: int, indent: str, separator: str = " ") -> list[str]:
    """The parts joined, in lines that break only between parts; a part that is too long for a line is cut."""
    lines: list[str] = []
    for part in parts:
        safe = _cut(part, width - len(indent))
        joined = f"{lines[-1]}{separator}{safe}" if lines else ""
        if lines and cells_wide(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(indent + safe)
    return lines


def _cut(text: str, width: int) -> str:
    safe = escape_for_display(text)
    if cells_wide(safe) <= width:
        return safe
    while safe and cells_wide(safe) > width - 1:
        safe = safe[:-1]
    return safe.rstrip() + "…"


def _cut_middle(text: str, width: int) -> str:
    """The text without its middle if it is too long: names that begin alike differ at their ends."""
    safe = escape_for_display(text)
    if cells_wide(safe) <= width:
        return safe
    head, tail = safe[: len(safe) // 2], safe[len(safe) // 2 :]
    while cells_wide(head) + cells_wide(tail) > width - 1 and (head or tail):
        head, tail = (head[:-1], tail) if cells_wide(head) > cells_wide(tail) else (head, tail[1:])
    return f"{head}…{tail}"

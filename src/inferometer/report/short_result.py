"""The result of a study in a few lines: what was compared, the verdict, about ten rows, cautions, and what to do next.

Two to four arms stand in columns; more arms are ranked, one line each. Pure.
"""

from collections.abc import Iterator, Sequence

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.analysis.estimates import SEVERAL_STARTS
from inferometer.analysis.fidelity import kl_text
from inferometer.analysis.quantisation_ladder import ladder
from inferometer.base.text import cells_wide, cut_middle, escape_for_display
from inferometer.base.units import duration_text
from inferometer.report.ladder_table import ladder_rows
from inferometer.report.short_cells import (
    against_first,
    arm_name,
    change_cell,
    cut_end,
    name_with_validity,
    order,
    span_cell,
    value_cell,
    wrapped_parts,
)
from inferometer.report.terminal import BOLD, Painter
from inferometer.report.verdict_sentences import MOST_COLUMNS, verdict_sentences

WIDTH = 100
MOST_CAUTIONS = 4
MOST_LINES = {False: 25, True: 30}
"""Lines of the result, by whether it is a ranking (of up to eight set-ups). More than MOST_CAUTIONS, or long cautions,
are shortened first."""
_INDENT = "  "
_GAP = "  "
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
_SHORT_WARNINGS = {"other-output": "answers differ from the baseline's: check quality"}


def short_result(comparison: Comparison, *, width: int = WIDTH, report: str = "", terminal: bool = False) -> list[str]:
    """The lines, each at most `width` columns wide (and never more than WIDTH). `report`: where the page is.
    `terminal`: the verdict is bold."""
    paint = Painter(terminal)
    width = min(width, WIDTH)
    is_ranking = len(comparison.arms) > MOST_COLUMNS
    lines = [*wrapped_parts(_title_parts(comparison), width, "", " · "), ""]
    for sentence in verdict_sentences(comparison):
        lines += [paint(line, BOLD) for line in wrapped_parts(sentence.split(), width, _INDENT)]
    last = _next_steps(comparison, report, width)
    room = MOST_LINES[is_ranking] - len(lines) - len(last) - 2
    if (rungs := ladder(comparison)) is not None:
        content = _aligned(_without_columns(ladder_rows(comparison, rungs), width), width, shrinks=[0])
    else:
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
        parts += filter(None, [" × ".join(_counted(count, word) for count, word in sizes if count)])
        parts += [duration_text(extent.seconds * 1e9)] if extent.seconds else []
    return parts


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _first(names: dict[str, None]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


# --- two to four set-ups in columns ---------------------------------------------------------------


def _table(comparison: Comparison, width: int, most: int) -> list[str]:
    """The set-ups in columns, in at most `most` lines: metrics that come last give way."""
    arms = comparison.arms
    chosen = list(_chosen(comparison))
    widest = max((len(label) for _, label in chosen), default=0)
    room = (width - len(_INDENT) - widest) // len(arms) - len(_GAP)
    names = [name_with_validity(arm, comparison) for arm in arms]
    head, answers = [["", *names], *_differs_rows(comparison)], _answers_rows(comparison)
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
    values = [value_cell(row.estimates[arm], row.unit) for arm in comparison.arms]
    found = [row.against(first, arm) for arm in others]
    if row.metric == comparison.primary and others:
        yield [label, *(value or "no value" for value in values)]
        yield [f"  vs {cut_middle(first, _MOST_HEAD)}", "", *(change_cell(one, row, always=True) for one in found)]
        return
    changes = ["", *(change_cell(one, row) for one in found)]
    cells = [f"{value} {change}".rstrip() for value, change in zip(values, changes, strict=True)]
    if max(map(cells_wide, cells)) > room:
        cells = [f"{value.partition(' ±')[0]} {change}".rstrip() for value, change in zip(values, changes, strict=True)]
    yield [label, *cells]


def _answers_rows(comparison: Comparison) -> list[list[str]]:
    by_arm = {arm.arm: arm.same_answers for arm in comparison.set_ups}
    counts = [by_arm.get(arm) for arm in comparison.arms]
    same = [["Same answers", *("" if pair is None else _same_text(pair) for pair in counts)]] if any(counts) else []
    return same + _fidelity_rows(comparison)


def _fidelity_rows(comparison: Comparison) -> list[list[str]]:
    """Against the first set-up, if the fidelity pass ran."""
    known = {one.arm: one for one in comparison.fidelity if one.baseline == comparison.arms[0]}
    found = [known.get(arm) for arm in comparison.arms]
    kl = ["" if one is None or one.mean_kl is None else f"{kl_text(one.mean_kl.value)} nats" for one in found]
    flips = ["" if one is None else f"{one.flip_rate_percent.value:.2g}%" for one in found]
    rows = [["Mean KL per token", *kl], ["Tokens flipped", *flips]]
    return [row for row in rows if any(row[1:])]


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
        cut = [cut_middle(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        padded = [cell + " " * (wide - cells_wide(cell)) for cell, wide in zip(cut, widths, strict=True)]
        lines.append(_INDENT + _GAP.join(padded))
    return lines


def _without_columns(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The ladder without its least columns where the terminal is too narrow for all."""
    found = [list(row) for row in rows]
    for name in ("size", "front", "memory GiB"):
        widths = [max(map(cells_wide, column)) + len(_GAP) for column in zip(*found, strict=True)]
        if sum(widths) <= width or name not in found[0]:
            continue
        place = found[0].index(name)
        found = [row[:place] + row[place + 1 :] for row in found]
    return found


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
    head = ["", "set-up", label, *(f"vs {cut_middle(arm, _MOST_HEAD)}" for arm in dict.fromkeys((first, best)))]
    rows = [[*head, "Memory GiB"] if memory else head]
    for place, arm in enumerate(ranked, 1):
        cells = [
            str(place),
            name_with_validity(arm, comparison),
            value_cell(row.estimates[arm], row.unit) or "no value",
        ]
        cells.append("baseline" if arm == first else span_cell(row, first, arm))
        if best != first:
            cells.append("best" if arm == best else span_cell(row, best, arm))
        rows.append([*cells, value_cell(memory.estimates[arm], memory.unit)] if memory else cells)
    return _aligned(rows, width, shrinks=[1])


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
        for place, line in enumerate(wrapped_parts(text.split(), width - len(_INDENT + _CAUTION), ""))
    ]
    return wrapped if len(wrapped) <= room else [cut_end(f"{_INDENT}{_CAUTION}{text}", width) for text in texts]


_CAUTION = "Caution  "


def _warning_lines(comparison: Comparison) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[tuple[str, int | None, str]]] = {}  # by code, and trials that failed by cause
    for found in comparison.findings:
        if found.severity == "warning" or (found.severity == "invalid" and not comparison.invalid):
            cause = found.message if found.code == "trial-failed" else ""
            kinds.setdefault((found.code, cause), []).append((found.arm, found.trial, found.message))
    total = sum(comparison.trials.values())
    for (code, _), places in kinds.items():
        named = list(dict.fromkeys(arm for arm, _, _ in places if arm))
        is_all = len(named) == len(comparison.arms) > 2
        arms = f"all {len(named)} set-ups" if is_all else ", ".join(map(arm_name, named))
        trials = len({(arm, trial) for arm, trial, _ in places if trial is not None})
        message = _SHORT_WARNINGS.get(code) or places[0][2].rstrip(".")
        where = f" ({trials} of {total} trials)" if 0 < trials <= total else ""
        yield f"{f'{arms}: ' if arms else ''}{message}{where}"
    if len(comparison.set_ups) == len(comparison.arms) > 1 and not any(arm.differs for arm in comparison.set_ups):
        yield "nothing differs in force between the set-ups"
    row = comparison.primary_row
    is_limited = comparison.extent is not None and comparison.extent.is_open_loop
    is_limited = is_limited and not any(code == "saturated" for code, _ in kinds)
    if is_limited and row is not None and row.group == "rate" and len(comparison.arms) > 1:
        yield "the arrival rate limits the throughput: judge by latency (--metric median_ttft_ms, mean_tpot_ms)"


def _next_steps(comparison: Comparison, report: str, width: int) -> list[str]:
    """What would make the result surer, and where the rest is."""
    advice = _advice(comparison)
    parts = ["All rows: --all", "Why: --why", *([f"Report: {report}"] if report else [])]
    if not advice:
        return wrapped_parts(parts, width, _INDENT, "   ")
    sentence = f"To know more: {advice}."
    if cells_wide(_INDENT + sentence) > width:
        return wrapped_parts(sentence.split(), width, _INDENT) + wrapped_parts(parts, width, _INDENT, "   ")
    return wrapped_parts([sentence, *parts], width, _INDENT, "   ")


def _advice(comparison: Comparison) -> str:
    row = comparison.primary_row
    found = [] if row is None or comparison.invalid else against_first(row, comparison)
    open_ones = [one for one in found if one.verdict in ("inconclusive", "unknown")]
    if not open_ones:
        return ""
    needs = next((one.needs for one in open_ones if one.needs), "")
    if needs == SEVERAL_STARTS:
        return "restart the engines in each round, or let Inferometer start them"
    if needs:
        return f"measure at least {needs}"
    effect = f"{comparison.effect_percent:g}%"
    prompts = max((one.prompts_needed or 0 for one in open_ones), default=0)
    rounds = [one.trials_needed for one in open_ones]
    if any(one is None for one in rounds):
        return f"add prompts, not rounds{f' ({prompts} would show a difference of {effect})' if prompts else ''}"
    return f"{max(one or 0 for one in rounds)} rounds would show a difference of {effect}"

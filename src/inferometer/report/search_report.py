"""The result of a search: lines for the terminal, Markdown, and a part of the page with response curves. Pure."""

import json
from collections.abc import Sequence

from inferometer.analysis.search.result import Tried, TuneResult
from inferometer.base.text import escape_for_display, escape_for_markdown
from inferometer.report.drawings.response_curve import response_curve
from inferometer.report.page.extra_part import ExtraPart

MOST_ROWS = 12
"""Settings in the terminal's table; the page and summary.md have all."""


def terminal_lines(result: TuneResult) -> list[str]:
    """The decision, the command and the best settings that were tried."""
    lines = [*result.decision.sentences, *(["", f"Command: {result.command}"] if result.command else [])]
    lines += [f"Request fields: {json.dumps(result.request)}"] if result.request else []
    rows = [_cells(one) for one in result.tried[:MOST_ROWS]]
    widths = [max(len(row[place]) for row in [_HEAD, *rows]) for place in range(len(_HEAD))]
    lines += ["", f"Tried {len(result.tried)} settings in {result.trials} trials. Gains of the search (not confirmed):"]
    for row in [_HEAD, *rows]:
        lines.append("  " + "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip())
    if len(result.tried) > MOST_ROWS:
        lines.append(f"  {len(result.tried) - MOST_ROWS} more: summary.md")
    return [escape_for_display(line) for line in lines]


_HEAD = ("setting", "gain", "95% interval", "rounds", "left the search")


def _cells(one: Tried) -> tuple[str, ...]:
    gain = "no value" if one.gain_percent is None else f"{one.gain_percent:+.1f}%"
    has_ends = one.low_percent is not None and one.high_percent is not None
    span = f"{one.low_percent:+.1f}% to {one.high_percent:+.1f}%" if has_ends else ""
    return one.name, gain, span, str(one.rounds), one.left


def markdown(result: TuneResult, title: str) -> str:
    """summary.md of a search."""
    lines = [f"# {escape_for_markdown(title)}", "", *(escape_for_markdown(line) for line in result.decision.sentences)]
    lines += ["", "```sh", result.command, "```"] if result.command else []
    lines += ["", f"Request fields: `{json.dumps(result.request)}`"] if result.request else []
    note = "These intervals do not allow for the choice among many settings; the confirmation above does."
    lines += ["", f"**What was tried** ({result.trials} trials). {escape_for_markdown(result.gain_is)}. {note}", ""]
    lines += [_row(_HEAD), "|" + ":---|" * len(_HEAD)]
    return "\n".join([*lines, *(_row(_cells(one)) for one in result.tried)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_for_markdown, cells))} |"


def page_part(result: TuneResult) -> ExtraPart:
    """A response curve for each parameter, and the table of what was tried."""
    drawings = tuple(
        (path, response_curve(result, path, is_log=scale == "log"))
        for path, scale in zip(result.parameters, result.scales, strict=True)
        if any(one.gain_percent is not None for one in result.tried)
    )
    lines = (
        *result.decision.sentences,
        f"Gain in the pictures: {result.gain_is}. One dot is one setting with its 95% interval.",
    )
    return ExtraPart("search", "The search", lines, drawings, (_HEAD, *map(_cells, result.tried)))

"""How does a page become one HTML file? The template in data/, filled; it loads nothing, and its policy allows nothing.

Text of prompts and models reaches the page only through the template, which escapes it (`autoescape`) and makes
control characters visible (`finalize`). The policy allows the page's own script and style by their hashes.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow, Estimate
from inferometer.base.units import percent_text, value_text
from inferometer.report import drawings
from inferometer.report.page import Page, RunInfo
from inferometer.report.page.acceptance_by_prompt import Accepted
from inferometer.report.page.answers import MOST_FAILED, ArmAnswer, RequestAnswers
from inferometer.report.page.distribution import Distribution
from inferometer.report.page.token_times import Timeline
from inferometer.report.svg import Drawing, data, visible
from inferometer.report.table import Table, Words, table, words

WIDE, NARROW = 1120, 460


class _Verdict(msgspec.Struct, frozen=True):
    tone: str
    first: tuple[str, ...]
    also: tuple[str, ...]


class _TableRow(msgspec.Struct, frozen=True):
    cells: tuple[str, ...]
    tones: tuple[str, ...]
    is_primary: bool


class _Spread(msgspec.Struct, frozen=True):
    found: Distribution
    shapes: Drawing
    ratios: Drawing | None
    label: str


class _Tokens(msgspec.Struct, frozen=True):
    name: str
    wide: Drawing
    narrow: Drawing
    is_first: bool


class _Head(msgspec.Struct, frozen=True):
    name: str
    classes: str


class _Cell(msgspec.Struct, frozen=True):
    """`value`: what it is sorted by; None: its text."""

    text: str
    classes: str = ""
    value: float | str | None = None
    tone: str = ""


class _Request(msgspec.Struct, frozen=True):
    one: RequestAnswers
    kind: str
    cells: tuple[_Cell, ...]


def render(page: Page, version: str = "") -> str:
    """The whole file."""
    from jinja2 import DictLoader, Environment, StrictUndefined  # 60 ms, and only this needs it
    from markupsafe import Markup

    environment = Environment(
        loader=DictLoader({"page": data("page.html.jinja")}),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
    )
    environment.filters |= {
        "svg": Markup,  # made by `svg`, which escapes
        "count": lambda number: f"{number:,}",
        "marked": _marked,
        "told": _told,
        "as_text": as_text,
    }
    arms, comparison = page.comparison.arms, page.comparison
    content, said = table(comparison), words(comparison)
    style, script = _style(), data("page.js")
    tags = _tags(page)
    return environment.get_template("page").render(
        page=page,
        arms=arms,
        version=version,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        verdict=_verdict(comparison, said),
        findings=[("invalid", "✖", line) for line in said.invalid] + [("warning", "▲", line) for line in said.warnings],
        notes=said.notes,
        said=said,
        table=content,
        table_rows=_table_rows(content, comparison),
        spreads=[_spread(found, arms) for found in page.distributions],
        timelines=_timelines(page, arms),
        runs=[
            {
                "number": run.number,
                "drawings": [
                    (one.title, f"{one.unit}, {one.note}", drawings.over_time(one, arms)) for one in run.quantities
                ],
            }
            for run in page.runs
        ],
        accepted=[_accepted(found, arms) for found in page.accepted],
        memory=drawings.memory(comparison),
        tags=tags,
        heads=_heads(arms, tags),
        requests=[_request(one, arms, tags) for one in page.answers_view.shown],
        most_failed=MOST_FAILED,
    )


def _seen(value: object) -> object:
    """Text of others, with its control characters made visible; what is `Markup` is ours."""
    return visible(value) if type(value) is str else value


def as_text(ran: RunInfo) -> str:
    """What ran, for an issue or a mail."""
    parts = [ran.folder]
    for of, facts in ran.facts.items():
        parts.append(f"\n[{of}]")
        parts += [f"{name}: {value}  ({source})" for name, value, source in facts]
    return "\n".join([*parts, "\n[study.yaml]", ran.spec])


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _style() -> str:
    dark = data("dark.css")
    return (
        data("pictures.css")
        + f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}\n'
        + f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        + data("page.css")
    )


# --- the verdict and the table --------------------------------------------------------------------


def _verdict(comparison: Comparison, said: Words) -> _Verdict:
    """What makes it invalid stands first; then the sentence about the first two arms, and below it the others'."""
    row = comparison.primary_row
    if said.invalid:
        return _Verdict("invalid", ("Not valid: no verdict is given.", *said.invalid), said.headlines)
    if said.headlines:
        found = row.differences[0].verdict if row is not None and row.differences else ""
        return _Verdict(_tone(found, row), said.headlines[:1], said.headlines[1:])
    alone = [
        f"{arm}: {row.label.partition(' (')[0].lower()} {_with_interval(row.estimates[arm], row.unit)}"
        for arm in comparison.arms
        if row is not None and row.estimates[arm].value is not None
    ]
    return _Verdict("", tuple(alone) or ("Nothing was measured to the end: there is no verdict.",), ())


def _with_interval(estimate: Estimate, unit: str) -> str:
    text = f"{value_text(estimate.value, unit)} {unit}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{value_text(estimate.low, unit)}, {value_text(estimate.high, unit)}]"


def _tone(verdict: str, row: ComparisonRow | None) -> str:
    """Whether it is an improvement: `good` or `bad`, else ""."""
    if verdict in ("faster", "slower"):
        return "good" if verdict == "faster" else "bad"
    if verdict in ("more", "less") and row is not None and row.better is not None:
        return "good" if (verdict == "more") == (row.better == "higher") else "bad"
    return ""


def _table_rows(content: Table, comparison: Comparison) -> list[_TableRow]:
    rows = {row.label: row for row in comparison.rows}
    found: list[_TableRow] = []
    for cells in content.rows:
        row = rows.get(cells[0])
        tones = tuple(
            next((tone for word in cell.split() if (tone := _tone(word, row))), "") if i > len(comparison.arms) else ""
            for i, cell in enumerate(cells)
        )
        found.append(_TableRow(cells, tones, row is not None and row.metric == comparison.primary))
    return found


# --- the pictures ---------------------------------------------------------------------------------


def _spread(found: Distribution, arms: Sequence[str]) -> _Spread:
    label = next((one.label for one in found.ratios if one.label), "")
    return _Spread(found, drawings.shapes(found, arms), drawings.ratios(found, arms), label)


def _timelines(page: Page, arms: Sequence[str]) -> list[_Tokens]:
    """The one with the longest stall, or else the first, is chosen before anybody chooses."""
    shown = page.timelines.shown
    first = max(shown, key=lambda one: one.longest_stall_ms, default=None)
    return [
        _Tokens(
            _named(one),
            msgspec.structs.replace(wide := drawings.timeline(one, arms, WIDE), svg=_only(wide.svg, "wide")),
            msgspec.structs.replace(narrow := drawings.timeline(one, arms, NARROW), svg=_only(narrow.svg, "narrow")),
            one is first,
        )
        for one in shown
    ]


def _only(svg: str, where: str) -> str:
    """With the class by which the style shows it on wide screens, or on narrow ones."""
    return svg.replace('class="picture ', f'class="picture {where} ', 1)


def _named(one: Timeline) -> str:
    stall = f"; stall {one.longest_stall_ms:.0f} ms" if one.longest_stall_ms else ""
    return f"{one.request}{f' ({one.kind})' if one.kind else ''}{stall}"


def _accepted(found: Accepted, arms: Sequence[str]) -> dict[str, Any]:  # for the template
    if not found.groups:
        total = percent_text(found.total_percent)
        about = f"{total}% of the drafted tokens, by the engine's own counters; it tells nothing of single requests."
        return {"arm": found.arm, "groups": None, "prompts": None, "about": about}
    count = len(found.prompts)
    about = f"All {count} prompts, the least accepted first."
    if count > drawings.MOST_PROMPTS:
        half = drawings.MOST_PROMPTS // 2
        about = f"The {half} least and the {half} most accepted of {count} prompts."
    return {
        "arm": found.arm,
        "groups": drawings.by_group(found, arms),
        "prompts": drawings.by_prompt(found, arms),
        "about": about,
    }


# --- the requests ---------------------------------------------------------------------------------


def _tags(page: Page) -> list[str]:
    """Tags of any request that is shown: columns."""
    return list(dict.fromkeys(tag for one in page.answers_view.shown for tag in one.tags))[:3]


def _heads(arms: Sequence[str], tags: Sequence[str]) -> list[_Head]:
    heads = [_Head("Request", "left"), *(_Head(tag.capitalize(), "left") for tag in tags), _Head("Prompt tok", "")]
    for place, _ in enumerate(arms):
        heads += [_Head("Tokens", "group"), _Head("TTFT ms", ""), _Head("TPOT ms", "")]
        heads += [_Head("ArmAnswer", "left")] if place else []
    return heads


def _request(one: RequestAnswers, arms: Sequence[str], tags: Sequence[str]) -> _Request:
    cells = [_Cell(""), *(_Cell(one.tags.get(tag, ""), "left") for tag in tags), _number(one.prompt_tokens, "tok")]
    kinds: set[str] = set()
    for place, arm in enumerate(arms):
        answer = one.of(arm)
        if answer is None:
            cells += [_Cell("", "group", "")] + [_Cell("", "", "")] * (3 if place else 2)
            continue
        tokens = _number(answer.output_tokens, "tok")
        if answer.outcome != "ok":
            kinds.add("failed")
            tokens = _Cell(answer.outcome, value="", tone="bad")
        cells += [
            msgspec.structs.replace(tokens, classes="group"),
            _number(answer.ttft_ms, "ms"),
            _number(answer.tpot_ms, "ms"),
        ]
        if place:
            kinds |= {"same"} if answer.same else {"differs"} if answer.same is False else set()
            cells.append(_sameness(answer))
    return _Request(one, " ".join(sorted(kinds)), tuple(cells))


def _number(value: float | None, unit: str) -> _Cell:
    return _Cell("", value="") if value is None else _Cell(value_text(value, unit), value=round(value, 6))


def _sameness(answer: ArmAnswer) -> _Cell:
    """Sorted by how far the answers go together; the same ones last."""
    if answer.same is None:
        return _Cell("", "left", "")
    if answer.same:
        return _Cell("= same", "left", 1e12)
    return _Cell(f"≠ at {answer.differs_at}", "left", answer.differs_at)


def _told(answer: ArmAnswer) -> str:
    """What stands behind an arm's name above its answer."""
    said = [answer.outcome if answer.outcome != "ok" else ""]
    said.append(f"{answer.output_tokens} tokens" if answer.output_tokens is not None else "")
    said.append(f"{answer.latency_s:.2f} s" if answer.latency_s is not None else "")
    said.append(f"ended by {answer.finish}" if answer.finish else "")
    if answer.same is not None:
        said.append("the same to the letter" if answer.same else f"first difference at character {answer.differs_at}")
    return ", ".join(part for part in said if part)


def _marked(char: str) -> str:
    """The first character that differs, seen even where it is white space."""
    return {"\n": "↵\n", " ": "␣", "\t": "⇥"}.get(char, char)

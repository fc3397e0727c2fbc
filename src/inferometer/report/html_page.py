"""The HTML report: one file from the template in data/. It loads nothing from elsewhere, and its policy forbids it to.

Text of prompts and models reaches the page only through the template, which escapes it (`autoescape`) and makes control
characters visible (`finalize`). The policy allows only the page's own script and style, by their hashes.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.text import cut_middle
from inferometer.base.units import percent_text, value_text
from inferometer.report import drawings
from inferometer.report.definitions import MetricDefinition, MetricTexts, metric_texts, plain
from inferometer.report.page import Page, RunInfo
from inferometer.report.page.acceptance_by_prompt import ArmAcceptance
from inferometer.report.page.answer_texts import MOST_FAILED, ArmAnswer, RequestAnswers
from inferometer.report.page.distribution import Distribution
from inferometer.report.page.token_times import Timeline
from inferometer.report.short_result import MOST_CAUTIONS, cautions
from inferometer.report.svg import Drawing, data, visible
from inferometer.report.table import DEFAULT_ROWS, RowSelection, Table, commentary, no_verdict_line, table
from inferometer.report.verdict_sentences import remaining_verdicts, verdict_sentences, worse_answers

if TYPE_CHECKING:
    from jinja2 import Environment

WIDE, NARROW = 1120, 460


class _Verdict(msgspec.Struct, frozen=True):
    """The first screen: `cautions` are the most important ones, `more` counts the others."""

    tone: str
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    more: int


class _TableRow(msgspec.Struct, frozen=True):
    """`definition`: the number of the metric's definition on the page; None if there is none."""

    cells: tuple[str, ...]
    tones: tuple[str, ...]
    is_primary: bool
    definition: int | None


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
    """A cell of the table of requests. `value`: the sort key; None: the text."""

    text: str
    classes: str = ""
    value: float | str | None = None
    tone: str = ""


class _Request(msgspec.Struct, frozen=True):
    one: RequestAnswers
    kind: str
    cells: tuple[_Cell, ...]


def render(page: Page, version: str = "", metrics_document: str = "", shown: RowSelection = DEFAULT_ROWS) -> str:
    """The complete HTML file. `metrics_document`: the text of docs/reference/metrics.md, for the definitions. `shown`:
    the rows of the table of metrics."""
    from markupsafe import Markup

    style, script = _style(), data("page.js")
    return (
        _environment()
        .get_template("page")
        .render(
            page=page,
            arms=page.comparison.arms,
            differs={arm.arm: arm.differs for arm in page.comparison.set_ups},
            commands={arm.arm: arm.command for arm in page.comparison.set_ups if arm.command},
            version=version,
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            most_failed=MOST_FAILED,
            **_table_parts(page.comparison, metric_texts(metrics_document), shown),
            **_picture_parts(page),
            **_request_parts(page),
        )
    )


def _environment() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined  # takes 60 ms to import; only this module needs it
    from markupsafe import Markup

    environment = Environment(
        loader=DictLoader({"page": data("page.html.jinja")}),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
    )
    environment.filters |= {
        "svg": Markup,  # made by `svg`, which escapes
        "count": lambda number: f"{number:,}",
        "marked": _marked,
        "answer_summary": _answer_summary,
        "as_text": as_text,
    }
    # What differs is often at the end. Any: jinja types its filters by those that it ships.
    environment.filters["middle"] = cast("Any", cut_middle)
    return environment


def _table_parts(comparison: Comparison, texts: MetricTexts, shown: RowSelection) -> dict[str, Any]:
    """The template's variables for verdict, findings, table and definitions."""
    content, around = table(comparison, shown), commentary(comparison)
    row = comparison.primary_row
    known = [found for cells in content.rows if (found := texts.of(cells[0])) is not None]
    definitions = list(dict.fromkeys(known))
    return {
        "verdict": _verdict(comparison),
        "ranking": None
        if row is None or not any(row.n.values())
        else _both_widths(drawings.ranking_bars, 620, row, comparison),
        "ranking_legend": drawings.ranking_legend(row, comparison),
        "definitions": [MetricDefinition(*map(plain, one)) for one in definitions],
        "clock": plain(texts.clock),
        "findings": [("invalid", "✖", line) for line in around.invalid]
        + [("warning", "▲", line) for line in around.warnings],
        "notes": around.notes,
        "commentary": around,
        "table": content,
        "table_rows": _table_rows(content, comparison, texts, definitions),
    }


def _picture_parts(page: Page) -> dict[str, Any]:
    """The template's variables for the pictures."""
    arms = page.comparison.arms
    return {
        "spreads": [_spread(found, arms) for found in page.distributions],
        "timelines": _timelines(page, arms),
        "runs": [
            {
                "number": run.number,
                "drawings": [
                    (one.title, f"{one.unit}, {one.note}", drawings.trial_curves(one, arms)) for one in run.quantities
                ],
            }
            for run in page.runs
        ],
        "accepted": [_accepted(found, arms) for found in page.accepted],
        "memory": drawings.memory_bars(page.comparison),
    }


def _request_parts(page: Page) -> dict[str, Any]:
    """The template's variables for the table of requests."""
    arms, tags = page.comparison.arms, _tags(page)
    has_checks = any(answer.check for one in page.answers_view.shown for answer in one.answers)
    return {
        "tags": tags,
        "heads": _heads(arms, tags, has_checks=has_checks),
        "requests": [_request(one, arms, tags, has_checks=has_checks) for one in page.answers_view.shown],
        "has_checks": has_checks,
    }


def _visible(value: object) -> object:
    """Text with its control characters made visible; `Markup` is our own and stays unchanged."""
    return visible(value) if type(value) is str else value


def as_text(ran: RunInfo) -> str:
    """What was run, as plain text for an issue or an e-mail."""
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


def _verdict(comparison: Comparison) -> _Verdict:
    sentences = verdict_sentences(comparison)
    if comparison.invalid:
        texts = [f"Not valid: {text}" for text in comparison.finding_texts("invalid")]
        sentences = [*texts, *filter(None, [no_verdict_line(comparison)]), *worse_answers(comparison)]
        sentences += remaining_verdicts(comparison)
    found = cautions(comparison)
    row = comparison.primary_row
    firsts = [] if row is None else [one for one in row.differences if one.baseline == comparison.arms[0]]
    tone = "invalid" if comparison.invalid else _tone(firsts[0].verdict, row) if len(firsts) == 1 else ""
    if comparison.quality and not comparison.invalid:
        first = comparison.quality[0]
        tone = "bad" if first.is_worse else "good" if first.verdict == "better" else tone
    return _Verdict(tone, tuple(sentences), tuple(found[:MOST_CAUTIONS]), max(0, len(found) - MOST_CAUTIONS))


def _tone(verdict: str, row: ComparisonRow | None) -> str:
    """`good` for an improvement, `bad` for the opposite, else ""."""
    if verdict in ("faster", "slower"):
        return "good" if verdict == "faster" else "bad"
    if verdict in ("more", "less") and row is not None and row.better is not None:
        return "good" if (verdict == "more") == (row.better == "higher") else "bad"
    return ""


def _table_rows(
    content: Table, comparison: Comparison, texts: MetricTexts, definitions: Sequence[MetricDefinition]
) -> list[_TableRow]:
    rows = {row.label: row for row in comparison.rows}
    found: list[_TableRow] = []
    for cells in content.rows:
        row = rows.get(cells[0])
        tones = tuple(
            next((tone for word in cell.split() if (tone := _tone(word, row))), "") if i > len(comparison.arms) else ""
            for i, cell in enumerate(cells)
        )
        definition = texts.of(cells[0])
        place = None if definition is None else definitions.index(definition) + 1
        found.append(_TableRow(cells, tones, row is not None and row.metric == comparison.primary, place))
    return found


# --- the pictures ---------------------------------------------------------------------------------


def _spread(found: Distribution, arms: Sequence[str]) -> _Spread:
    label = next((one.label for one in found.ratios if one.label), "")
    return _Spread(found, drawings.distribution_shapes(found, arms), drawings.paired_ratios(found, arms), label)


def _timelines(page: Page, arms: Sequence[str]) -> list[_Tokens]:
    """All timelines; the one with the longest stall, or else the first, is selected at the start."""
    shown = page.timelines.shown
    first = max(shown, key=lambda one: one.longest_stall_ms, default=None)
    return [
        _Tokens(_named(one), *_both_widths(drawings.token_timeline, WIDE, one, arms), one is first) for one in shown
    ]


def _both_widths(draw: Callable[..., Drawing], wide: float, *of: object) -> tuple[Drawing, Drawing]:
    """The picture for wide and for narrow screens."""
    pair = ((draw(*of, width), where) for width, where in ((wide, "wide"), (NARROW, "narrow")))
    first, second = (msgspec.structs.replace(one, svg=_only(one.svg, where)) for one, where in pair)
    return first, second


def _only(svg: str, where: str) -> str:
    """The SVG with a class, so that the style shows it only on wide or only on narrow screens."""
    return svg.replace('class="picture ', f'class="picture {where} ', 1)


def _named(one: Timeline) -> str:
    stall = f"; stall {one.longest_stall_ms:.0f} ms" if one.longest_stall_ms else ""
    return f"{one.request}{f' ({one.kind})' if one.kind else ''}{stall}"


def _accepted(found: ArmAcceptance, arms: Sequence[str]) -> dict[str, Any]:  # for the template
    if not found.groups:
        total = percent_text(found.total_percent)
        about = f"{total}% of the drafted tokens, from the engine's counters; it reports nothing per request."
        return {"arm": found.arm, "groups": None, "prompts": None, "title": "", "about": about}
    count = len(found.prompts)
    about = f"All {count} prompts, lowest acceptance first."
    if count > drawings.MOST_PROMPTS:
        half = drawings.MOST_PROMPTS // 2
        about = f"The {half} prompts with the lowest and the {half} with the highest acceptance, of {count}."
    kinds = list(dict.fromkeys(group.by for group in found.groups if group.by))
    return {
        "arm": found.arm,
        "groups": drawings.acceptance_by_group(found, arms),
        "title": f"By {' and '.join(kinds)} of the prompt" if kinds else "All prompts",
        "prompts": drawings.acceptance_by_prompt(found, arms),
        "about": about,
    }


# --- the requests ---------------------------------------------------------------------------------


def _tags(page: Page) -> list[str]:
    """The tags that differ between the requests shown, as columns; at most three."""
    shown = page.answers_view.shown
    tags = dict.fromkeys(tag for one in shown for tag in one.tags)
    return [tag for tag in tags if len({one.tags.get(tag, "") for one in shown}) > 1][:3]


def _heads(arms: Sequence[str], tags: Sequence[str], *, has_checks: bool) -> list[_Head]:
    heads = [_Head("Request", "left"), *(_Head(tag.capitalize(), "left") for tag in tags), _Head("Prompt tok", "")]
    for place, _ in enumerate(arms):
        heads += [_Head("Tokens", "group"), _Head("TTFT ms", ""), _Head("TPOT ms", "")]
        heads += [_Head("Check", "left")] if has_checks else []
        heads += [_Head("Answer", "left")] if place else []
    return heads


def _request(one: RequestAnswers, arms: Sequence[str], tags: Sequence[str], *, has_checks: bool) -> _Request:
    cells = [_Cell(""), *(_Cell(one.tags.get(tag, ""), "left") for tag in tags), _number(one.prompt_tokens, "tok")]
    kinds = {"flip"} if one.is_flip else set[str]()
    for place, arm in enumerate(arms):
        answer = one.of(arm)
        if answer is None:
            cells += [_Cell("", "group", "")] + [_Cell("", "", "")] * (2 + has_checks + bool(place))
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
        if has_checks:
            kinds |= {"wrong"} if answer.check not in ("passed", "no_toolchain", "") else set()
            cells.append(_check_cell(answer))
        if place:
            kinds |= {"same"} if answer.same else {"differs"} if answer.same is False else set()
            cells.append(_sameness(answer))
    return _Request(one, " ".join(sorted(kinds)), tuple(cells))


def _number(value: float | None, unit: str) -> _Cell:
    return _Cell("", value="") if value is None else _Cell(value_text(value, unit), value=round(value, 6))


def _check_cell(answer: ArmAnswer) -> _Cell:
    """The outcome of the check; sorted with wrong answers first."""
    words = {"passed": "right", "failed": "wrong", "no_answer": "no answer", "no_toolchain": "no toolchain"}
    tone = {"passed": "good", "no_toolchain": "", "": ""}.get(answer.check, "bad")
    value = {"passed": 2, "no_toolchain": 1}.get(answer.check, 0) if answer.check else ""
    return _Cell(words.get(answer.check, answer.check), "left", value, tone)


def _sameness(answer: ArmAnswer) -> _Cell:
    """Equal or different from the baseline's answer; sorted by where they first differ, equal answers last."""
    if answer.same is None:
        return _Cell("", "left", "")
    if answer.same:
        return _Cell("= same", "left", 1e12)
    return _Cell(f"≠ at {answer.differs_at}", "left", answer.differs_at)


def _answer_summary(answer: ArmAnswer) -> str:
    """The line next to an arm's name above its answer."""
    parts = [answer.outcome if answer.outcome != "ok" else ""]
    parts.append(f"{answer.output_tokens} tokens" if answer.output_tokens is not None else "")
    parts.append(f"{answer.latency_s:.2f} s" if answer.latency_s is not None else "")
    parts.append(f"finish reason {answer.finish}" if answer.finish else "")
    if answer.same is not None:
        parts.append("identical to baseline" if answer.same else f"first difference at character {answer.differs_at}")
    return ", ".join(part for part in parts if part)


def _marked(char: str) -> str:
    """The first character that differs, visible even if it is white space."""
    return {"\n": "↵\n", " ": "␣", "\t": "⇥"}.get(char, char)

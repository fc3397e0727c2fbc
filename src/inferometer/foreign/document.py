"""Reader of texts with serving blocks, llama-bench tables and JSON results, each named by its headings."""

import html
import json
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, cast

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.text import sanitize, sanitize_lines
from inferometer.foreign import llama_bench_table, other_tables, serving_block
from inferometer.foreign.command_lines import settings_of
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.headings import lines_with_headings
from inferometer.foreign.json_parts import JsonPart, json_parts
from inferometer.foreign.log_heads import remover, without_head
from inferometer.llama_bench.row import BenchRow

HEADING_SEPARATOR = " > "
"""Separates the headings in a run's name."""

ReadJson = Callable[[str, str], Sequence[ForeignRun] | None]
"""Reads a text that is only JSON."""

_SIGNS = (serving_block.TITLE, llama_bench_table.RATE, "tok/s", "okens/s", "(ms)")
_JSON_SIGNS = ("throughput", "ttft", "n_prompt", "benchmarks", '"metrics"')
"""A text without any of these has no result. Most other files are rejected by this test."""

_FIGURE = re.compile(
    r"\d ?(?:tok(?:ens?)?/s|t/s|tps|req/s|ms)\b"
    r"|(?:\b|_)(?:ttft|tpot|itl|e2el|throughput)(?:\b|_)[^.|]{0,40}[:=] *[\"']?\d",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]{3,}")
_MOST_WORDS = 8
"""Lines with more words are sentences."""
_REMARK = re.compile(r"\([^()]*\b[A-Za-z]{2,}\s+[A-Za-z]{2,}\s[^()]*\)")
"""A phrase in parentheses, as `(~20min to run at 20 tok/s)`: prose."""
_PROGRESS = re.compile(r"\d%\||(?:it/s|s/it)\]")
_BREAK = re.compile(r"<br ?/?>\n?")
_OTHER_TABLES = (
    (re.compile(r"\|\s*PP\s*\|\s*TG\s*\|\s*B\s*\|"), "a table of llama-batched-bench"),
    (re.compile(r"\|\s*PP\s*\|\s*TG\s*\|\s*N_KV\s*\|"), "a table of llama-sweep-bench"),
    (re.compile(r"\|\s*t/s \("), "a table of llama-bench with several rates in a row"),
    (re.compile(r"\|[^|]*(?:ttft|tpot|throughput|tok/s|\(ms\))[^|]*\|", re.IGNORECASE), "a table of figures"),
)
_LINES_BENEATH = 12
_SHOWN_CHARACTERS = 100
_CAPTION = re.compile(
    r" {0,3}(?:[-*+] |\*\) |\d{1,3}[.)] )?(?:\*\*(?P<bold>[^*|]{1,80})\*\*:?|(?P<text>[^*|`{}:]{1,80}):) *$"
)
_SAME_MS = 0.011
"""How far a block's number may be from the JSON's of the same run: the block has two decimals."""
_LEAST_ALIKE = 4


class _Line(msgspec.Struct, frozen=True):
    path: tuple[str, ...]
    text: str


_Lines = Sequence[_Line]


class _Reading:
    """What was found in a text so far: runs, the first line of each, and lines that were not understood."""

    def __init__(self, text: str, read_json: ReadJson | None) -> None:
        lines = [one for line in sanitize_lines(_plain(text)).splitlines() for one in serving_block.lines_of(line)]
        self.lines = [_Line(path, line) for path, line in lines_with_headings("\n".join(lines))]
        self.parts: dict[int, list[JsonPart]] = {}
        if read_json is not None and any(sign in text for sign in _JSON_SIGNS):
            for part in json_parts([line.text for line in self.lines]):
                self.parts.setdefault(part.first, []).append(part)
        self.read_json = read_json
        self.runs: list[ForeignRun] = []
        self.starts: list[int] = []
        self.unread: list[str] = []

    def add(self, run: ForeignRun | None, start: int) -> None:
        if run is not None:
            self.runs.append(run)
            self.starts.append(start)

    @property
    def sentence(self) -> str:
        """How many lines were not understood, and the first; "" for none."""
        if not self.unread:
            return ""
        return _counted(self.unread, "line", "with figures")


def _plain(text: str) -> str:
    """The text of a page of HTML: `<br>` ends a line, and `&nbsp;` is a blank."""
    text = _BREAK.sub("\n", text) if "<br" in text else text
    return html.unescape(text) if "&nbsp;" in text or "&#" in text else text


def runs_of(text: str, name: str, read_json: ReadJson | None = None) -> Sequence[ForeignRun] | None:
    """Runs in the text's order, each named by the path of its headings, or `name` without headings; None without runs.

    `read_json` reads JSON in the text; None: JSON is not read. The first run has a note that counts the lines with
    figures that were not understood.
    """
    if not any(sign in text for sign in (*_SIGNS, *(_JSON_SIGNS if read_json else ()))):
        return None
    found = _walked(text, name, read_json)
    if not found.runs:
        return None
    runs = _with_captions(found, name)
    if found.sentence:
        runs[0] = msgspec.structs.replace(runs[0], notes=(*runs[0].notes, found.sentence))
    return runs


def unread_results(text: str, read_json: ReadJson | None = None) -> str:
    """What looks like a result in a text without one that can be read; "" for nothing."""
    kind = next((what for pattern, what in _OTHER_TABLES if pattern.search(text)), "")
    has_row = any(llama_bench_table.looks_like_row(line) for line in text.splitlines())
    if not kind and has_row:
        kind = "rows of llama-bench without the head of their table"
    found = (
        _walked(text, "", read_json).sentence
        if kind or _FIGURE.search(text) or any(sign in text for sign in _JSON_SIGNS)
        else ""
    )
    return "; ".join(part for part in (f"It has {kind}" if kind else "", found) if part)


def _walked(text: str, name: str, read_json: ReadJson | None) -> _Reading:
    found = _Reading(text, read_json)
    lines = found.lines
    at = previous_end = 0
    head = ""
    while at < len(lines):
        line = lines[at].text
        head = "" if not line.lstrip("> ").startswith("|") else head or line
        called = HEADING_SEPARATOR.join(lines[at].path) or name
        before, count = at, len(found.runs)
        if at in found.parts:
            at = _read_parts(found, at, called)
        elif (prefix := serving_block.block_prefix(line)) is not None:
            at = _read_block(found, at, called, prefix, previous_end)
        elif "|" in line and (heads := llama_bench_table.heads_of(_unprefixed(line))) is not None:
            at = _read_table(found, at, called, heads, previous_end)
        elif "|" in line and (other := _other_table(found, at, called)) is not None:
            for run in other[0]:
                found.add(run, at)
            at += other[1]
        else:
            at += 1
            if _looks_like_result(line, head):
                found.unread.append(line)
        if len(found.runs) > count or at > before + 1:
            previous_end = at
    return found


def _other_table(found: _Reading, at: int, called: str) -> tuple[list[ForeignRun], int] | None:
    """The runs of another kind of table that starts at a line. A table of metrics repeats the blocks of its text."""
    other = other_tables.table_at([line.text for line in found.lines[at:]], called)
    has_blocks = any(serving_block.block_prefix(line.text) is not None for line in found.lines)
    repeats = other is not None and bool(other[0][0].values) and (has_blocks or any(run.values for run in found.runs))
    return None if repeats else other


def _looks_like_result(line: str, head: str) -> bool:
    """Whether a line outside of all results has a figure in one of our units and is not a sentence, or is a table row
    with figures. `head`: the first line of its table, "" outside of tables."""
    if llama_bench_table.looks_like_row(line):
        return True
    if head:
        has_digit = any(char.isdigit() for char in line)
        return has_digit and line is not head and any(pattern.search(head) for pattern, _ in _OTHER_TABLES)
    is_sentence = len(_WORD.findall(line)) > _MOST_WORDS and '":' not in line
    return not is_sentence and _FIGURE.search(_REMARK.sub("", line)) is not None and _PROGRESS.search(line) is None


def _notes_of(odd: Sequence[str], what: str, where: str) -> tuple[str, ...]:
    return (_counted(odd, what, where),) if odd else ()


def _counted(odd: Sequence[str], what: str, where: str) -> str:
    """How many lines were not understood, and the first."""
    many = f"{what} {where} was" if len(odd) == 1 else f"{what}s {where} were"
    return f"{len(odd)} {many} not understood, first: {sanitize(odd[0], _SHOWN_CHARACTERS)}"


# --- blocks ---------------------------------------------------------------------------------------


def _read_block(found: _Reading, at: int, called: str, prefix: str, previous_end: int) -> int:
    """Add the run of the block that starts at a line. Returns the index after its last line."""
    lines = found.lines
    block = serving_block.block_of(prefix, [line.text for line in lines[at + 1 :]])
    end = at + 1 + block.length
    asked = settings_of(line.text for line in lines[previous_end:at])
    run = serving_block.run_of(called, block, asked, serving_block.memory_below(_lines_below(lines, end)))
    if run is not None:
        run = msgspec.structs.replace(run, notes=_notes_of(block.not_understood, "line", "of the block"))
        same = next((i for i, other in enumerate(found.runs) if _is_same(run, other)), None)
        if same is None:
            found.add(run, at)
        else:
            found.runs[same] = _merged(run, found.runs[same])
    return end


def _lines_below(lines: _Lines, start: int) -> list[str]:
    """The lines below a result and under the same headings, up to the next result."""
    path = lines[start - 1].path
    below = takewhile(
        lambda line: (
            line.path == path
            and serving_block.block_prefix(line.text) is None
            and llama_bench_table.heads_of(line.text) is None
        ),
        lines[start : start + _LINES_BENEATH],
    )
    return [without_head(line.text) for line in below]


# --- tables ---------------------------------------------------------------------------------------


def _unprefixed(line: str) -> str:
    """A line of a table without a log's prefix."""
    prefix = llama_bench_table.prefix_of(line) if "model" in line.casefold() else ""
    return line[len(prefix) :]


def _read_table(found: _Reading, at: int, called: str, heads: list[str], previous_end: int) -> int:
    """Add the run of the table that starts at a line. Returns the index after its last line."""
    lines = found.lines
    removed = remover(llama_bench_table.prefix_of(lines[at].text))
    rows: list[BenchRow] = []
    odd: list[str] = []
    end = at + 1
    while end < len(lines) and end not in found.parts:
        line = removed(lines[end].text) or without_head(lines[end].text)
        if not line.strip() and rows and _goes_on(lines, end, heads):
            end += 1
            continue
        if llama_bench_table.is_table_end(line) or serving_block.block_prefix(line) is not None:
            break
        row = llama_bench_table.row_of(heads, line)
        rows += [row] if row is not None else []
        is_odd = row is None and "|" in line and any(char.isalnum() for char in line)
        is_odd = is_odd and llama_bench_table.heads_of(line) != heads
        odd += [line] if is_odd or (row is not None and llama_bench_table.odd_rate(heads, line)) else []
        end += 1
    if rows:
        around = [without_head(line.text) for line in lines[previous_end:at]], _lines_below(lines, end)
        rows = llama_bench_table.with_build(rows, *around)
        found.add(ForeignRun(called, "llama-bench", rows=tuple(rows), notes=_table_notes(heads, odd)), at)
    else:
        found.unread += odd
    return end


def _goes_on(lines: _Lines, at: int, heads: list[str]) -> bool:
    """Whether a row of the table comes after blank lines and under the same headings."""
    below = next((line for line in lines[at:] if line.text.strip()), None)
    return (
        below is not None and below.path == lines[at].path and llama_bench_table.row_of(heads, below.text) is not None
    )


def _table_notes(heads: Sequence[str], odd: Sequence[str]) -> tuple[str, ...]:
    notes = list(_notes_of(odd, "row", "of the table"))
    others = llama_bench_table.other_columns(heads)
    if others:
        notes.append(f"columns that are not a known setting and were left out: {', '.join(others)}")
    return tuple(notes)


# --- JSON -----------------------------------------------------------------------------------------


def _read_parts(found: _Reading, at: int, called: str) -> int:
    """Add the runs of the JSON that starts at a line and of JSON directly below it. Returns the index after it."""
    assert found.read_json is not None
    parts, end = _together(found, at)
    try:
        runs = found.read_json("\n".join(part.text for part in parts), called)
    except RequestWrong:
        runs = None
    if runs is not None:
        for run in runs:
            _add_json(found, run, at)
        return end
    for part in parts:
        try:
            alone = found.read_json(part.text, called) or _nested(found.read_json, part.text, called)
        except RequestWrong as error:
            alone = None
            if len(parts) == 1 and not found.runs:
                found.unread.append(str(error))
                continue
        found.unread += [] if alone else [part.text]
        for run in alone or ():
            _add_json(found, run, at)
    return end


def _nested(read_json: ReadJson, text: str, called: str) -> list[ForeignRun]:
    """The runs directly inside an object that is not a result itself, such as {"runs": […]}. Several results are named
    by their fields: {"base": {…}, "draft": {…}}."""
    content = json.loads(text)
    fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    inner = {key: read_json(json.dumps(one), called) for key, one in fields.items() if isinstance(one, dict | list)}
    found = {key: runs for key, runs in inner.items() if runs}
    if len(found) < 2:
        return [run for runs in found.values() for run in runs]
    return [
        msgspec.structs.replace(run, name=f"{key} {number}" if len(runs) > 1 else key)
        for key, runs in found.items()
        for number, run in enumerate(runs, start=1)
    ]


def _together(found: _Reading, at: int) -> tuple[list[JsonPart], int]:
    """The JSON parts from a line on with only blank lines between them, and the index after the last."""
    parts: list[JsonPart] = []
    end = at
    while at < len(found.lines) and (at in found.parts or not found.lines[at].text.strip()):
        here = found.parts.get(at, [])
        parts += here
        at = max(at + 1, here[-1].after) if here else at + 1
        end = at if here else end
        if here and here[-1].after - 1 in found.parts and here[-1].after - 1 != here[-1].first:
            at = here[-1].after - 1  # another begins on its last line
    return parts, end


def _add_json(found: _Reading, run: ForeignRun, at: int) -> None:
    """Add a run from JSON: merge it with the block of the same run or with llama-bench rows before it, or append it."""
    before = found.runs[-1] if found.runs else None
    if run.rows and before is not None and before.rows and before.name == run.name and before.rows[0].samples_ns:
        found.runs[-1] = msgspec.structs.replace(before, rows=before.rows + run.rows)
        return
    same = next((i for i, other in enumerate(found.runs) if _is_same(other, run)), None)
    if same is None:
        found.add(run, at)
    else:
        found.runs[same] = _merged(found.runs[same], run)


def _is_same(block: ForeignRun, from_json: ForeignRun) -> bool:
    """Whether a block and a JSON result describe one run: all numbers of both agree to the block's decimals."""
    if "block" not in block.tool or "block" in from_json.tool or "duration" not in from_json.values:
        return False
    both = [(value, from_json.values.get(key)) for key, value in block.values.items() if value is not None]
    alike = [(one, other) for one, other in both if other is not None]
    return len(alike) >= _LEAST_ALIKE and all(abs(one - other) <= _SAME_MS for one, other in alike)


def _merged(block: ForeignRun, from_json: ForeignRun) -> ForeignRun:
    """The run from JSON, which has more digits, with the values that only the block has."""
    values = block.values | {key: value for key, value in from_json.values.items() if value is not None}
    values |= {key: None for key in from_json.values if key not in values}
    differs = {key: text for key, text in (block.differs | from_json.differs).items() if key in values}
    return msgspec.structs.replace(
        from_json, name=block.name, values=values, differs=differs, settings=block.settings | from_json.settings,
        notes=(*block.notes, *from_json.notes),
    )  # fmt: skip


# --- names ----------------------------------------------------------------------------------------


def _with_captions(found: _Reading, name: str) -> list[ForeignRun]:
    """The runs. Those with the same name get the line above each (`base:`, **base**) as name, if these lines differ."""
    runs = list(found.runs)
    for called in dict.fromkeys(run.name for run in runs):
        places = [i for i, run in enumerate(runs) if run.name == called]
        captions = [_caption(found.lines, found.starts[i]) for i in places]
        if len(places) < 2 or "" in captions or len(set(captions)) < len(captions):
            continue
        for i, caption in zip(places, captions, strict=True):
            full = caption if called == name else f"{called}{HEADING_SEPARATOR}{caption}"
            runs[i] = msgspec.structs.replace(runs[i], name=full)
    return runs


def _caption(lines: _Lines, start: int) -> str:
    """The caption of the result that starts at a line: the nearest line above, before a fence; "" if there is none."""
    above = [line.text for line in lines[max(0, start - 4) : start]]
    near = next((line for line in reversed(above) if line.strip() and not line.lstrip().startswith(("```", "~~~"))), "")
    found = _CAPTION.match(near)
    return (found["bold"] or found["text"]).strip() if found else ""

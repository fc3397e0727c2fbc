"""How does a command run a study and show what came of it? Shared by demo, run, bench and compare."""

import contextlib
import datetime
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import cast, get_args

import msgspec

from inferometer.analysis.compare import EFFECT_PERCENT, Comparison
from inferometer.base.errors import Interrupted, RequestWrong, StudyUnreadable
from inferometer.base.text import escape_for_display, escape_for_markdown
from inferometer.base.units import value_text
from inferometer.cli.progress_display import display
from inferometer.cli.report import REPORT, write_page
from inferometer.core.spec import Spec
from inferometer.llama_bench.row import BenchRow
from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import METRICS
from inferometer.metrics.summary import summarize
from inferometer.report.table import FIRST_ROWS, Shown
from inferometer.results.read import Study, findings_of, page_of, read_study
from inferometer.study.loop import run_study
from inferometer.study.progress import STOPPING, FindingRaised, TrialEnded

EngineRows = Sequence[tuple[str, Sequence[BenchRow]]]
"""Runs of llama-bench by name."""
FORMATS = ("terminal", "md", "json")
NOT_VALID = 3


class RunOptions(msgspec.Struct, frozen=True):
    """How the result is wanted: one of FORMATS, which rows, and whether nothing but it."""

    format: str = "terminal"
    rows: Shown = FIRST_ROWS
    quiet: bool = False


def run_and_report(
    spec: Spec,
    folder: Path,
    asked: RunOptions,
    dialect: MetricDialect = "inferometer",
    headers: dict[str, str] | None = None,
    ray: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    *,
    resume: bool = False,
) -> int:
    """Runs the study, prints its comparison, writes summary.md and report.html; the exit code: 1 where a trial failed,
    3 where the comparison may not be believed. Where it is interrupted what was measured is printed, and Interrupted
    rises."""

    def report() -> Comparison:
        page = page_of([folder], dialect, effect_percent=effect_percent)
        comparison = page.comparison
        write_summary(folder, comparison, asked.rows)
        print(rendered(comparison, asked), end="", flush=True)
        written = write_page(page, folder / REPORT)
        if not asked.quiet:
            print(f"study: {folder}\nreport: {written}", file=sys.stderr)
        return comparison

    try:
        failures = run_shown(spec, folder, headers, ray=ray, quiet=asked.quiet, resume=resume)
    except Interrupted:
        if _any_done(folder):
            report()
        raise
    comparison = report()
    return 1 if failures else exit_code(comparison)


def run_shown(
    spec: Spec,
    folder: Path,
    headers: dict[str, str] | None = None,
    *,
    ray: str | None = None,
    quiet: bool = False,
    resume: bool = False,
) -> list[TrialEnded]:
    """Runs the study with its progress on standard error; the trials that failed, each shown with its reason.

    Raises Interrupted on Ctrl-C, which says what the trial that it ended had brought.
    """
    failures: list[TrialEnded] = []
    arising = _Arising(folder)
    try:
        with _saying_so(quiet), display(quiet) as show:
            for progress in run_study(spec, folder, headers, ray, resume=resume):
                show(progress)
                if isinstance(progress, TrialEnded):
                    failures += [progress] if progress.error and not progress.again else []
                    for finding in [] if quiet else arising.new():
                        show(FindingRaised(finding))
    except KeyboardInterrupt as interrupt:
        _leave_at_next_interrupt()
        raise Interrupted(
            f"interrupted{_cut_off(folder)}; what was measured is in {folder} (a study goes on from there with "
            f"`run --resume --out {folder}`)"
        ) from interrupt
    for failure in failures:
        said = escape_for_display(f"{failure.arm}, trial {failure.number} failed: {failure.error}", lines=True)
        print(f"inferometer: {said}", file=sys.stderr)
    return failures


@contextlib.contextmanager
def _saying_so(quiet: bool) -> Iterator[None]:
    """While it lasts the first Ctrl-C is answered before it is obeyed: an engine may take some seconds to end."""
    if quiet or threading.current_thread() is not threading.main_thread():
        yield
        return
    said: list[bool] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        if not said:
            said.append(True)
            os.write(2, f"\n! {STOPPING}\n".encode())  # print may be what was interrupted
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave_at_next_interrupt() -> None:
    """The engines have ended and what was measured is kept: there is nothing left that could be lost."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(Interrupted.exit_code))


class _Arising:
    """What speaks against the result, as soon as a trial shows it."""

    _PATIENCE_S = 1.0
    """Reading grows with the study; where it takes longer than this, the machine is left to the trials."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()
        self._took_s = 0.0

    def new(self) -> list[str]:
        if self._took_s > self._PATIENCE_S:
            return []
        began_s = time.monotonic()
        found = findings_of(read_study(self._folder), "inferometer")
        self._took_s = time.monotonic() - began_s
        words = {"warning": "warning", "invalid": "not valid"}
        said = [f"{words[f.severity]}: {f.sentence}" for f in found if f.severity in words]
        new = [line for line in dict.fromkeys(said) if line not in self._known]
        self._known.update(new)
        return new


def _any_done(folder: Path) -> bool:
    """Whether there is a whole trial to show. False also where there is no study yet."""
    try:
        return any(trial.state == "done" for trial in read_study(folder).trials)
    except StudyUnreadable:
        return False


def _cut_off(folder: Path) -> str:
    """How far the trial was that an interrupt ended, in numbers; "" where none was under way."""
    try:
        study = read_study(folder)
    except StudyUnreadable:
        return ""
    trial = next((trial for trial in reversed(study.trials) if trial.state != "done"), None)
    if trial is None:
        return ""
    measured = [record for record in trial.records if record.measured]
    ended = sum(record.ok for record in measured)
    said = f" in {trial.arm}, trial {trial.number}"
    if not ended:
        return f"{said}, before a request had ended"
    values = summarize(trial, api=study.spec.arms[trial.arm].api).values
    numbers = [
        f"{metric.label.partition(' (')[0]} {value_text(values[metric.key], metric.unit)} {metric.unit}"
        for metric in METRICS
        if metric.key in ("output_throughput", "median_ttft_ms", "mean_tpot_ms") and values[metric.key] is not None
    ]
    return f"{said}, which is in no table ({', '.join([f'{ended} of {len(measured)} requests', *numbers])})"


def exit_code(comparison: Comparison) -> int:
    """3 where the comparison may not be believed, else 0."""
    return NOT_VALID if comparison.invalid else 0


def rendered(comparison: Comparison, asked: RunOptions, engine_rows: EngineRows = ()) -> str:
    """The comparison in one of FORMATS, and below it (in JSON under `engine_rows`) what llama-bench measured, if
    anything; ends with a line break."""
    if asked.format == "json":
        from inferometer.report.json_report import render

        return render(
            comparison, {"engine_rows": msgspec.to_builtins(side_by_side(engine_rows))} if engine_rows else {}
        )
    below = f"\n{rendered_engine_rows(engine_rows, asked.format)}" if engine_rows else ""
    if asked.quiet:
        comparison = _without_notes(comparison)
    if asked.format == "md":
        from inferometer.report.markdown import render

        return render(comparison, asked.rows) + below
    from inferometer.report.terminal import render

    return render(comparison, asked.rows, terminal=_has_colours(), width=_width()) + below


def rendered_engine_rows(runs: EngineRows, format: str) -> str:
    """Runs of llama-bench beside one another in one of FORMATS; ends with a line break."""
    content = side_by_side(runs)
    if format == "json":
        return msgspec.json.format(msgspec.json.encode({"engine_rows": content}), indent=2).decode() + "\n"
    from inferometer.report.engine_rows import markdown, terminal

    return (markdown if format == "md" else terminal)(side_by_side_sheet(content))


def _without_notes(comparison: Comparison) -> Comparison:
    """Findings that speak against the result stay."""
    against = tuple(finding for finding in comparison.findings if finding.severity != "note")
    return msgspec.structs.replace(comparison, notes=(), correction="", findings=against)


def write_summary(folder: Path, comparison: Comparison, rows: Shown = FIRST_ROWS) -> None:
    """summary.md: the study's name, its table, and what ran."""
    from inferometer.report.markdown import render

    study = read_study(folder)
    title = escape_for_markdown(study.spec.name or folder.name)
    text = f"# {title}\n\n{render(comparison, rows)}\n**What ran**\n\n{_what_ran(study)}"
    (folder / "summary.md").write_text(text, encoding="utf-8")


_SHOWN_FACTS = (
    "engine_version",
    *("model_name", "model_file", "model_bytes", "model_head_sha256"),
    *("draft_name", "draft_file", "draft_head_sha256"),
)


def _what_ran(study: Study) -> str:
    """Machine, workload and each arm's engine and model files, one line each."""
    lines = ["- machine: " + "; ".join(f"{fact.name} {fact.value}" for fact in study.machine)]
    lines.append("- workload: " + "; ".join(f"{name} {value}" for name, value in study.workload.items()))
    for arm in study.spec.arms:
        facts = next((trial.facts for trial in study.trials if trial.arm == arm and trial.facts), ())
        known = [f"{fact.name} {fact.value}" for fact in facts if fact.name in _SHOWN_FACTS]
        lines.append(f"- {arm}: " + "; ".join(known))
    return "\n".join(f"- {escape_for_markdown(line.removeprefix('- '))}" for line in lines) + "\n"


def checked_format(name: str) -> str:
    if name not in FORMATS:
        raise RequestWrong(f"there is no format {name!r}; known: {', '.join(FORMATS)}.")
    return name


def checked_dialect(name: str) -> MetricDialect:
    known: tuple[str, ...] = get_args(MetricDialect)
    if name not in known:
        raise RequestWrong(f"there is no metric dialect {name!r}; known: {', '.join(known)}.")
    return cast("MetricDialect", name)


def checked_effect(percent: float) -> float:
    if not 0 < percent < 100:
        raise RequestWrong(f"--effect must be between 0 and 100 percent, not {percent:g}.")
    return percent


def default_folder(name: str) -> Path:
    """inferometer-results/NAME-DATE below the current folder; a number follows where that is taken."""
    stem = f"{name}-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder = Path("inferometer-results") / stem
    count = 1
    while folder.exists():
        count += 1
        folder = folder.with_name(f"{stem}-{count}")
    return folder


_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def request_headers(given: Sequence[str]) -> dict[str, str]:
    """Headers from `NAME=VALUE` (or `NAME: VALUE`) and the key from OPENAI_API_KEY, which a header given overrides.

    Raises RequestWrong for what HTTP cannot carry, without repeating it: a key with a line break, say.
    """
    headers: dict[str, str] = {}
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not _sendable(key):
        raise RequestWrong("OPENAI_API_KEY holds a character that no header can carry: set it again, or unset it.")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for text in given:
        name, mark, value = text.partition("=") if "=" in text.split(":")[0] else text.partition(":")
        if not mark or _HEADER_NAME.fullmatch(name.strip()) is None or not _sendable(value.strip()):
            raise RequestWrong("a --header must look like NAME=VALUE, of characters that HTTP can carry.")
        headers = {known: old for known, old in headers.items() if known.lower() != name.strip().lower()}
        headers[name.strip()] = value.strip()
    return headers


def _sendable(value: str) -> bool:
    """Whether a header can hold it: printable Latin-1."""
    return value.isprintable() and all(ord(char) < 256 for char in value)


def _has_colours() -> bool:
    """On a terminal, unless it or its user wants none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    return max(80, shutil.get_terminal_size(fallback=(99, 24)).columns) if sys.stdout.isatty() else 99

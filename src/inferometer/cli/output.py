"""Running a study from a command and printing its result: shared by demo, run, bench and compare."""

import contextlib
import datetime
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from inferometer.analysis.comparison import EFFECT_PERCENT, EQUIVALENCE_PERCENT, Comparison, Prompts
from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.base.text import escape_for_display, escape_for_markdown
from inferometer.base.units import value_text
from inferometer.cli.gates import FAILED_GATE, NO_GATES, Gates
from inferometer.cli.progress_display import display
from inferometer.core import quantities
from inferometer.core.spec import Spec
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import METRICS
from inferometer.metrics.summary import summarize
from inferometer.report.table import DEFAULT_ROWS, RowSelection
from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import findings_of
from inferometer.store.schema import DATABASE
from inferometer.study.interrupts import STOPPING_NOTICE, exit_at_next_interrupt
from inferometer.study.loop import StudyRun, run_study
from inferometer.study.progress import FindingRaised, TrialEnded

if TYPE_CHECKING:
    from inferometer.llama_bench.row import BenchRow
    from inferometer.report.page import Page
    from inferometer.study.dry_run import DryRun

EngineRows = Sequence[tuple[str, Sequence["BenchRow"]]]
"""Runs of llama-bench by name."""
NOT_VALID = 3


class RunOptions(msgspec.Struct, frozen=True):
    """How to judge and print the result: the format, which rows, whether to print nothing else, and `prompts` and
    `equivalence_percent` as in Comparison. `gates` fail the command. `why`: with the whole commentary."""

    format: str = "terminal"
    rows: RowSelection = DEFAULT_ROWS
    quiet: bool = False
    prompts: Prompts = "sampled"
    equivalence_percent: float = EQUIVALENCE_PERCENT
    gates: Gates = NO_GATES
    why: bool = False

    @property
    def is_short(self) -> bool:
        """Whether the result fits a screen: no rows were chosen, and no commentary was asked for."""
        return self.rows == DEFAULT_ROWS and not self.why


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
    unsafe_checks: bool = False,
) -> int:
    """Runs the study, prints its comparison, and writes summary.md and report.html.

    The exit code: 1 where a trial failed, 3 where the result is invalid. After an interrupt the trials that ended are
    reported, and Interrupted is raised.
    """

    def report(study: Study) -> Comparison:
        from inferometer.results.study_page import page_of

        page = page_of(
            [study],
            dialect,
            effect_percent=effect_percent,
            prompts=asked.prompts,
            equivalence_percent=asked.equivalence_percent,
        )
        _print_and_write(study, page, folder, asked)
        return page.comparison

    run = run_study(spec, folder, headers, ray, resume=resume, unsafe_checks=unsafe_checks)
    try:
        failures = run_shown(run, quiet=asked.quiet)
    except Interrupted:
        if run.study is not None and any(trial.state == "done" for trial in run.study.trials):
            report(run.study)
        raise
    comparison = report(ended_study(run))
    return 1 if failures else exit_code(comparison, asked.gates)


def report_again(folder: Path, asked: RunOptions) -> int:
    """Prints the comparison of a study to which something was added, and writes summary.md and report.html again."""
    from inferometer.results.study_page import page_of

    study = read_study(folder)
    page = page_of([study], "inferometer")
    _print_and_write(study, page, folder, asked)
    return exit_code(page.comparison)


def _print_and_write(study: Study, page: "Page", folder: Path, asked: RunOptions) -> None:
    from inferometer.cli.page_file import REPORT, write_page

    write_summary(study, page.comparison, asked.rows)
    print(rendered(page.comparison, asked, report=str(folder / REPORT)), end="", flush=True)
    written = write_page(page, folder / REPORT)
    if not asked.quiet:
        print(f"study: {folder}\nreport: {written}", file=sys.stderr)


def run_or_show(
    spec: Spec,
    folder: Path,
    asked: RunOptions,
    headers: dict[str, str],
    *,
    dry_run: bool = False,
    force: bool = False,
) -> int:
    """Runs the study like `run_and_report`; with `dry_run`, only checks it and prints what it would do."""
    if dry_run:
        from inferometer.study import dry_run as study_dry_run

        print_dry_run(study_dry_run.dry_run(spec, headers))
        return 0
    if force:
        remove_study(folder)
    return run_and_report(spec, folder, asked, headers=headers)


def print_dry_run(found: "DryRun") -> None:
    """The arms, the requests and the estimated time of a study, on standard output."""
    from inferometer.study.dry_run import START_S, TOKENS_PER_S

    width = max(map(len, found.arms))
    lines = [f"  {name:{width}}  {words}" for name, words in found.arms.items()]
    tokens = "no limit of tokens" if found.most_tokens is None else f"at most {found.most_tokens:,} tokens"
    lines.append(
        f"{found.requests} request{'' if found.requests == 1 else 's'} per trial ({tokens}), {found.trials} trials"
    )
    lines += [f"note: {note}" for note in found.notes]
    fast, slow = (f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s" for seconds in found.seconds)
    lines.append(
        f"time: {fast} to {slow}, at {TOKENS_PER_S[1]:g} to {TOKENS_PER_S[0]:g} tok/s per stream and {START_S[0]:g} to "
        f"{START_S[1]:g} s until an engine is ready"
    )
    lines.append("Nothing was started. Remove --dry-run to run the study.")
    print(escape_for_display("\n".join(lines), lines=True))


def remove_study(folder: Path) -> None:
    """Removes the study in `folder`. Raises RequestWrong if the folder holds other files but no study."""
    if not folder.exists():
        return
    if not (folder / DATABASE).exists():
        if any(folder.iterdir()):
            raise RequestWrong(f"--force: {folder} holds files but no study. Choose another folder with --out.")
        return
    shutil.rmtree(folder)


def run_shown(run: StudyRun, *, quiet: bool = False) -> list[TrialEnded]:
    """Runs the study with its progress on standard error; the trials that failed, after printing the reason of each.

    Raises Interrupted on Ctrl-C, with a message about the trial that it ended.
    """
    failures: list[TrialEnded] = []
    findings = _NewFindings()
    run.interrupts.announce = None if quiet else _announce_interrupt
    try:
        with display(quiet, run.spec) as show, contextlib.closing(iter(run)) as progress_of_run:
            for progress in progress_of_run:
                show(progress)
                if isinstance(progress, TrialEnded):
                    failures += [progress] if progress.error and not progress.again else []
                    for finding in [] if quiet else findings.of(ended_study(run)):
                        show(FindingRaised(finding))
    except KeyboardInterrupt as interrupt:
        exit_at_next_interrupt()
        raise Interrupted(
            f"interrupted{_cut_off(run.study)}. Results so far are in {run.folder}; continue with "
            f"`inferometer run {shlex.quote(str(run.folder / 'study.yaml'))} --resume --out "
            f"{shlex.quote(str(run.folder))}`"
        ) from interrupt
    for failure in failures:
        message = escape_for_display(f"{failure.arm}, trial {failure.number} failed: {failure.error}", lines=True)
        print(f"inferometer: {message}", file=sys.stderr)
    return failures


def ended_study(run: StudyRun) -> Study:
    """The study of a run in which at least one trial has ended."""
    assert run.study is not None
    return run.study


def _announce_interrupt() -> None:
    """Called by the signal handler, which may have interrupted `print`."""
    os.write(2, f"\n! {STOPPING_NOTICE}\n".encode())


class _NewFindings:
    """Warnings and invalid results, as soon as a trial shows them."""

    _LIMIT_S = 1.0
    """The time that all trials so far take to check grows with the study. Above this limit, checking stops."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._took_s = 0.0

    def of(self, study: Study) -> list[str]:
        """The findings about the study that were not there before."""
        if self._took_s > self._LIMIT_S:
            return []
        began_s = time.monotonic()
        found = findings_of(study, "inferometer")
        self._took_s = time.monotonic() - began_s
        words = {"warning": "warning", "invalid": "not valid"}
        lines = [f"{words[f.severity]}: {f.sentence}" for f in found if f.severity in words]
        new = [line for line in dict.fromkeys(lines) if line not in self._known]
        self._known.update(new)
        return new


def _cut_off(study: Study | None) -> str:
    """How far the interrupted trial was, in numbers; "" where no trial was under way."""
    trials = () if study is None else study.trials
    trial = next((trial for trial in reversed(trials) if trial.state != "done"), None)
    if study is None or trial is None:
        return ""
    measured = [record for record in trial.records if record.measured]
    ended = sum(record.ok for record in measured)
    where = f" in {trial.arm}, trial {trial.number}"
    if not ended:
        return f"{where}, before a request had ended"
    values = summarize(trial, api=study.spec.arms[trial.arm].api).values
    numbers = [
        f"{metric.label.partition(' (')[0]} {value_text(values[metric.key], metric.unit)} {metric.unit}"
        for metric in METRICS
        if metric.key in ("output_throughput", "median_ttft_ms", "mean_tpot_ms") and values[metric.key] is not None
    ]
    return f"{where}, which is in no table ({', '.join([f'{ended} of {len(measured)} requests', *numbers])})"


def exit_code(comparison: Comparison, gates: Gates = NO_GATES) -> int:
    """3 where the result is invalid, 4 where a condition of `gates` holds, else 0."""
    fails = gates.failed(comparison)
    return NOT_VALID if comparison.invalid else FAILED_GATE if fails else 0


def rendered(comparison: Comparison, asked: RunOptions, engine_rows: EngineRows = (), report: str = "") -> str:
    """The comparison in the format asked for, followed by llama-bench's rows, if there are any (in JSON as
    `engine_rows`); ends with a line break."""
    if asked.format == "json":
        from inferometer.llama_bench.side_by_side import side_by_side
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
    if asked.is_short and comparison.set_ups and not comparison.pairs and len(comparison.arms) > 1:
        from inferometer.report.short_result import short_result

        return (
            "\n".join(short_result(comparison, width=_width(), report=report, terminal=_has_colours())) + "\n" + below
        )
    from inferometer.report.terminal import render

    return render(comparison, asked.rows, terminal=_has_colours(), width=_width()) + below


def rendered_engine_rows(runs: EngineRows, format: str) -> str:
    """Runs of llama-bench side by side in one of the formats; ends with a line break."""
    from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet

    content = side_by_side(runs)
    if format == "json":
        return msgspec.json.format(msgspec.json.encode({"engine_rows": content}), indent=2).decode() + "\n"
    from inferometer.report.engine_rows import markdown, terminal

    return (markdown if format == "md" else terminal)(side_by_side_sheet(content))


def _without_notes(comparison: Comparison) -> Comparison:
    """The comparison with its warnings and invalid findings only."""
    against = tuple(finding for finding in comparison.findings if finding.severity != "note")
    return msgspec.structs.replace(comparison, notes=(), correction="", findings=against)


def write_summary(study: Study, comparison: Comparison, rows: RowSelection = DEFAULT_ROWS) -> None:
    """summary.md in the study's folder: its name, its table, and what ran."""
    from inferometer.report.markdown import render

    title = escape_for_markdown(study.spec.name or study.folder.name)
    text = f"# {title}\n\n{render(comparison, rows)}\n**What ran**\n\n{_what_ran(study)}"
    (study.folder / "summary.md").write_text(text, encoding="utf-8")


_SHOWN_FACTS = (
    quantities.ENGINE_VERSION,
    *(quantities.MODEL_NAME, quantities.MODEL_FILE, quantities.MODEL_BYTES, quantities.MODEL_HEAD_SHA256),
    *(quantities.DRAFT_NAME, quantities.DRAFT_FILE, quantities.DRAFT_HEAD_SHA256),
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


def default_folder(name: str) -> Path:
    """inferometer-results/NAME-DATE in the current folder, with a number where that exists already."""
    stem = f"{name}-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder = Path("inferometer-results") / stem
    count = 1
    while folder.exists():
        count += 1
        folder = folder.with_name(f"{stem}-{count}")
    return folder


_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def request_headers(given: Sequence[str]) -> dict[str, str]:
    """Headers from `NAME=VALUE` (or `NAME: VALUE`), and the key from OPENAI_API_KEY unless a header overrides it.

    Raises RequestWrong where HTTP cannot carry a header, for example a key with a line break. The message does not
    repeat the header.
    """
    headers: dict[str, str] = {}
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not _sendable(key):
        raise RequestWrong(
            "OPENAI_API_KEY contains a character that is not allowed in an HTTP header. Set it again, or unset it."
        )
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for text in given:
        name, mark, value = text.partition("=") if "=" in text.split(":")[0] else text.partition(":")
        if not mark or _HEADER_NAME.fullmatch(name.strip()) is None or not _sendable(value.strip()):
            raise RequestWrong("a --header must look like NAME=VALUE, with characters that HTTP allows.")
        headers = {known: old for known, old in headers.items() if known.lower() != name.strip().lower()}
        headers[name.strip()] = value.strip()
    return headers


def _sendable(value: str) -> bool:
    """Whether an HTTP header can carry the value: printable Latin-1."""
    return value.isprintable() and all(ord(char) < 256 for char in value)


def _has_colours() -> bool:
    """On a terminal, unless the terminal or the user disables colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    return max(80, shutil.get_terminal_size(fallback=(99, 24)).columns) if sys.stdout.isatty() else 99

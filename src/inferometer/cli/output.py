"""Printing the result of a study, after running it or not: shared by demo, run, bench and compare."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.comparison import EFFECT_PERCENT, EQUIVALENCE_PERCENT, Comparison, Prompts
from inferometer.base.errors import Interrupted
from inferometer.base.text import escape_for_display, escape_for_markdown
from inferometer.cli.gates import FAILED_GATE, NO_GATES, Gates
from inferometer.cli.page_file import REPORT, write_page
from inferometer.cli.study_run import ended_study, run_shown
from inferometer.core import quantities
from inferometer.core.spec import Spec
from inferometer.llama_bench.row import BenchRow
from inferometer.llama_bench.side_by_side import side_by_side, side_by_side_sheet
from inferometer.metrics.request_timing import MetricDialect
from inferometer.report.page import Page
from inferometer.report.table import DEFAULT_ROWS, RowSelection
from inferometer.results.read import Study, read_study
from inferometer.results.study_page import page_of
from inferometer.store.study_store import remove_study, require_no_study
from inferometer.study.dry_run import DryRun
from inferometer.study.loop import run_study

EngineRows = Sequence[tuple[str, Sequence[BenchRow]]]
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
    study = read_study(folder)
    page = page_of([study], "inferometer")
    _print_and_write(study, page, folder, asked)
    return exit_code(page.comparison)


def _print_and_write(study: Study, page: Page, folder: Path, asked: RunOptions) -> None:
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
    resume: bool = False,
) -> int:
    """Runs the study like `run_and_report`; with `dry_run`, only checks it and prints what it would do. `resume`: of a
    dry run, whether the folder may hold the study."""
    if dry_run:
        from inferometer.study import dry_run as study_dry_run

        if not (force or resume):
            require_no_study(folder)
        print_dry_run(study_dry_run.dry_run(spec, headers))
        return 0
    if force:
        remove_study(folder)
    return run_and_report(spec, folder, asked, headers=headers)


def print_dry_run(found: DryRun) -> None:
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


def exit_code(comparison: Comparison, gates: Gates = NO_GATES) -> int:
    """3 where the result is invalid, 4 where a condition of `gates` holds, else 0."""
    fails = gates.failed(comparison)
    return NOT_VALID if comparison.invalid else FAILED_GATE if fails else 0


def rendered(comparison: Comparison, asked: RunOptions, engine_rows: EngineRows = (), report: str = "") -> str:
    """The comparison in the format asked for, followed by llama-bench's rows, if there are any (in JSON as
    `engine_rows`); ends with a line break."""
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
    if asked.is_short and comparison.set_ups and not comparison.pairs and len(comparison.arms) > 1:
        from inferometer.report.short_result import short_result

        return (
            "\n".join(short_result(comparison, width=_width(), report=report, terminal=_has_colours())) + "\n" + below
        )
    from inferometer.report.terminal import render

    return render(comparison, asked.rows, terminal=_has_colours(), width=_width()) + below


def rendered_engine_rows(runs: EngineRows, format: str) -> str:
    """Runs of llama-bench side by side in one of the formats; ends with a line break."""
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


def _has_colours() -> bool:
    """On a terminal, unless the terminal or the user disables colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    return max(60, shutil.get_terminal_size(fallback=(99, 24)).columns) if sys.stdout.isatty() else 99

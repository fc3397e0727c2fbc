"""How does a command run a study and show what came of it? Shared by demo, run, bench and compare."""

import datetime
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from inferometer.cli.progress import display
from inferometer.compare import EFFECT_PERCENT, Comparison
from inferometer.errors import Interrupted, RequestWrong
from inferometer.metrics import MetricDialect
from inferometer.results import Study, comparison_of, read_study
from inferometer.runner import TrialEnded, run_study
from inferometer.spec import Spec

FORMATS = ("terminal", "md", "json")
NOT_VALID = 3


def run_and_report(
    spec: Spec,
    folder: Path,
    format: str,
    dialect: MetricDialect = "inferometer",
    headers: dict[str, str] | None = None,
    ray: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    *,
    resume: bool = False,
) -> int:
    """Runs the study, prints its comparison, writes summary.md; the exit code: 1 where a trial failed, 3 where the
    comparison may not be believed."""
    checked_format(format)
    failures = run_shown(spec, folder, headers, ray=ray, resume=resume)
    comparison = comparison_of([folder], dialect, effect_percent=effect_percent)
    write_summary(folder, comparison)
    print(rendered(comparison, format), end="")
    print(f"study: {folder}", file=sys.stderr)
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

    Raises Interrupted on Ctrl-C.
    """
    failures: list[TrialEnded] = []
    try:
        with display(quiet) as show:
            for progress in run_study(spec, folder, headers, ray, resume=resume):
                show(progress)
                if isinstance(progress, TrialEnded) and progress.error and not progress.again:
                    failures.append(progress)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(
            f"interrupted; what was measured is in {folder} (a study goes on from there with `run --resume`)"
        ) from interrupt
    for failure in failures:
        print(f"inferometer: {failure.arm}, trial {failure.number} failed: {failure.error}", file=sys.stderr)
    return failures


def exit_code(comparison: Comparison) -> int:
    """3 where the comparison may not be believed, else 0."""
    return NOT_VALID if comparison.invalid else 0


def rendered(comparison: Comparison, format: str) -> str:
    """The comparison in one of FORMATS; ends with a line break."""
    if format == "md":
        from inferometer.reports.markdown import render

        return render(comparison)
    if format == "json":
        from inferometer.reports.json_file import render

        return render(comparison)
    from inferometer.reports.terminal import render

    return render(comparison, terminal=sys.stdout.isatty(), width=_width())


def write_summary(folder: Path, comparison: Comparison) -> None:
    """summary.md: the study's name, its table, and what ran."""
    from inferometer.reports.markdown import render

    study = read_study(folder)
    title = study.spec.name or folder.name
    text = f"# {title}\n\n{render(comparison)}\n**What ran**\n\n{_what_ran(study)}"
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
    return "\n".join(lines) + "\n"


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


def _width() -> int:
    return max(80, shutil.get_terminal_size(fallback=(99, 24)).columns) if sys.stdout.isatty() else 99

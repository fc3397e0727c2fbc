"""Running a study from a command: its progress, its failures and an interrupt, the folder, and the headers.

Imports what judges and prints a result only when there is one: the first request does not wait for these modules.
"""

import contextlib
import datetime
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.base.units import value_text
from inferometer.cli.progress_display import display
from inferometer.study.interrupts import STOPPING_NOTICE, exit_at_next_interrupt
from inferometer.study.loop import StudyRun
from inferometer.study.progress import FindingRaised, TrialEnded

if TYPE_CHECKING:
    from inferometer.results.read import Study


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


def ended_study(run: StudyRun) -> "Study":
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

    def of(self, study: "Study") -> list[str]:
        """The findings about the study that were not there before."""
        if self._took_s > self._LIMIT_S:
            return []
        from inferometer.results.study_comparison import findings_of

        began_s = time.monotonic()
        found = findings_of(study, "inferometer")
        self._took_s = time.monotonic() - began_s
        words = {"warning": "warning", "invalid": "not valid"}
        lines = [f"{words[f.severity]}: {f.sentence}" for f in found if f.severity in words]
        new = [line for line in dict.fromkeys(lines) if line not in self._known]
        self._known.update(new)
        return new


def _cut_off(study: "Study | None") -> str:
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
    from inferometer.metrics.rows import METRICS
    from inferometer.metrics.summary import summarize

    values = summarize(trial, api=study.spec.arms[trial.arm].api).values
    numbers = [
        f"{metric.label.partition(' (')[0]} {value_text(values[metric.key], metric.unit)} {metric.unit}"
        for metric in METRICS
        if metric.key in ("output_throughput", "median_ttft_ms", "mean_tpot_ms") and values[metric.key] is not None
    ]
    return f"{where}, which is in no table ({', '.join([f'{ended} of {len(measured)} requests', *numbers])})"


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

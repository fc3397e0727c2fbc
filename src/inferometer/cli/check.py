"""`inferometer check`: checks of the answers of a stored study, for what was not checked when it ran."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.cli.options import All, FormatOption, JsonOption, Metrics, Quiet, UnsafeChecks, format_of, shown_of

if TYPE_CHECKING:
    from inferometer.core.workload_settings import WorkloadSettings


def check(
    study: Annotated[Path, typer.Argument(help="Folder of a study whose workload is a problem set.")],
    path: Annotated[str | None, typer.Option(help="The file of the problems.", show_default="the study's")] = None,
    again: Annotated[bool, typer.Option("--again", help="Check all answers again.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Checks at once.", show_default="one per core")] = None,
    unsafe_checks: UnsafeChecks = False,
    metrics: Metrics = None,
    all_rows: All = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Check the answers of a stored study, in a sandbox.

    The result is reported again. Outcomes are stored in the study; known ones are kept.
    """
    from inferometer.cli.output import RunOptions, report_again

    asked = RunOptions(format_of(format, as_json), shown_of(all_rows, metrics), quiet)
    _check_all(study, path, again=again, jobs=jobs, unsafe=unsafe_checks, quiet=quiet)
    raise typer.Exit(report_again(study, asked))


def _check_all(folder: Path, path: str | None, *, again: bool, jobs: int | None, unsafe: bool, quiet: bool) -> None:
    """Raises RequestWrong for a study without checks."""
    import contextlib

    from inferometer.base.errors import RequestWrong
    from inferometer.cli.progress_display import display
    from inferometer.quality.stored_checks import check_stored, problems_of, sandbox_for
    from inferometer.store import Store
    from inferometer.study.progress import CheckingAnswers

    with contextlib.closing(Store.amend(folder)) as store, display(quiet) as show:
        spec = store.spec()
        problems = problems_of(_with_path(spec.workload, path), store.workload().get("dataset_sha256", ""))
        if not problems:
            raise RequestWrong(
                f"the workload of {folder} ({spec.workload.kind}) has no checks. docs/reference/quality.md lists the "
                "problem sets."
            )
        sandbox = sandbox_for(problems, unsafe=unsafe)
        if again:
            store.forget_checks()
        for count in check_stored(store, problems, sandbox, spec.quality, jobs):
            show(CheckingAnswers(count.done, count.total))


def _with_path(settings: "WorkloadSettings", path: str | None) -> "WorkloadSettings":
    """The stored settings, with another path."""
    import msgspec

    from inferometer.core.workload_settings import KeptWorkload

    if path is None or not isinstance(settings, KeptWorkload):
        return settings
    return msgspec.structs.replace(settings, settings={**settings.settings, "path": path})

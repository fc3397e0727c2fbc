"""`inferometer fidelity`: token probabilities of the arms of a stored study, compared with the baseline's."""

from pathlib import Path
from typing import Annotated

import typer

from inferometer.cli.options import All, FormatOption, JsonOption, Metrics, Quiet, format_of, shown_of


def fidelity(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    again: Annotated[bool, typer.Option("--again", help="Ask all arms again.")] = False,
    metrics: Metrics = None,
    all_rows: All = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Compare the token probabilities of a study's arms.

    Starts each arm again and sends the study's prompts, untimed, one at a time, with logprobs. Answers that the study
    has already are kept.
    """
    from inferometer.cli.output import RunOptions, report_again

    asked = RunOptions(format_of(format, as_json), shown_of(all_rows, metrics), quiet)
    _ask_all(study, again=again, quiet=quiet)
    raise typer.Exit(report_again(study, asked))


def _ask_all(folder: Path, *, again: bool, quiet: bool) -> None:
    """Raises RequestWrong for a study whose engines cannot be started."""
    import contextlib
    import os

    from inferometer.cli.progress_display import display
    from inferometer.cli.study_run import request_headers
    from inferometer.core.redaction import redactor_for
    from inferometer.store import Store
    from inferometer.study.engine_pool import EnginePool
    from inferometer.study.fidelity_pass import FidelityPass
    from inferometer.study.loop import checked_engines, resolved_arms

    with contextlib.closing(Store.amend(folder)) as store, display(quiet) as show, EnginePool(keeps=False) as pool:
        spec = store.spec()
        arms, headers = resolved_arms(spec, ray=None), request_headers([])
        engines = checked_engines(arms, headers, redactor_for(spec.arms.values(), headers, os.environ))
        if again:
            store.forget_continuations()
        for progress in FidelityPass(spec, arms, engines, pool).run(store):
            show(progress)

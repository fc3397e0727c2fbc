"""`inferometer run`: flags change the study file, the study runs, and its reports are printed and written."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.cli.options import (
    DialectOption,
    DryRunFlag,
    Effect,
    Force,
    OutFolder,
    PrimaryMetric,
    Ray,
    UnsafeChecks,
    Until,
    Workers,
    with_result_options,
)
from inferometer.cli.timeout_flags import BetweenTokensTimeout, ConnectTimeout, FirstTokenTimeout, Timeout, timeouts_of

if TYPE_CHECKING:
    from inferometer.cli.output import RunOptions


@with_result_options
def run(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")],
    asked: "RunOptions",
    out: OutFolder = None,
    metric_dialect: DialectOption = "inferometer",
    trials: Annotated[int | None, typer.Option(help="Trials per arm.", show_default="the file's, or 4")] = None,
    until: Until = None,
    max_trials: Annotated[
        int | None,
        typer.Option(help="With --until: the most trials per arm.", show_default="the file's, or 10"),
    ] = None,
    metric: PrimaryMetric = None,
    effect: Effect = 5.0,
    workers: Workers = None,
    ray: Ray = None,
    timeout: Timeout = None,
    connect_timeout: ConnectTimeout = None,
    first_token_timeout: FirstTokenTimeout = None,
    between_tokens_timeout: BetweenTokensTimeout = None,
    on_failure: Annotated[
        str | None,
        typer.Option(help="After a failed trial: next, retry (once) or stop.", show_default="the file's, or next"),
    ] = None,
    dry_run: DryRunFlag = False,
    force: Force = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study in --out: run only missing and failed trials.")
    ] = False,
    unsafe_checks: UnsafeChecks = False,
) -> None:
    """Run a study file: all arms, same requests, one verdict.

    Each arm is started, plays the same plan, and is stopped. The table shows differences, intervals and verdicts.
    """
    import msgspec

    from inferometer.cli.checked import checked_dialect, checked_effect
    from inferometer.cli.output import run_and_report, run_or_show
    from inferometer.cli.study_run import default_folder, request_headers
    from inferometer.results.metric_names import known_metric
    from inferometer.store.study_store import remove_study
    from inferometer.study.study_file import check_study, load_spec

    flags: dict[str, object] = {
        "workers": workers,
        "trials": trials,
        "until": until,
        "max_trials": max_trials,
        "metric": None if metric is None else known_metric(metric),
        "on_failure": on_failure,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    spec = load_spec(study)
    timeouts = timeouts_of(spec.timeouts, timeout, connect_timeout, first_token_timeout, between_tokens_timeout)
    if timeouts != spec.timeouts:
        given["timeouts"] = timeouts
    if given:
        spec = check_study(msgspec.structs.replace(spec, **given), "the command line")
    dialect = checked_dialect(metric_dialect)
    if resume and out is None:
        raise RequestWrong("--resume needs --out: name the folder of the study to continue.")
    if resume and force:
        raise RequestWrong("--resume continues a study and --force replaces it: give one.")
    folder = out or default_folder(study.stem)
    effect_percent = checked_effect(effect)
    if dry_run:
        raise typer.Exit(
            run_or_show(spec, folder, asked, request_headers([]), dry_run=True, force=force, resume=resume)
        )
    if force:
        remove_study(folder)
    raise typer.Exit(
        run_and_report(
            spec,
            folder,
            asked,
            dialect,
            request_headers([]),
            ray,
            effect_percent,
            resume=resume,
            unsafe_checks=unsafe_checks,
        )
    )

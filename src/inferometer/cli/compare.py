"""`inferometer compare`: studies and files of other tools, side by side."""

import sys
from typing import Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.cli.options import (
    All,
    DialectOption,
    Effect,
    Equivalence,
    FailIf,
    FailIfInconclusive,
    FormatOption,
    JsonOption,
    Metrics,
    PromptsOption,
    Quiet,
    Rows,
    Why,
    format_of,
    gates_of,
    shown_of,
)


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH[#RUN]...",
            help="Study folders or zips, or result files of other tools. #RUN selects one run of a file by heading "
            "or number. The first is the baseline.",
        ),
    ],
    metrics: Metrics = None,
    all_rows: All = False,
    rows: Rows = None,
    why: Why = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
    metric_dialect: DialectOption = "inferometer",
    metric: Annotated[
        str | None, typer.Option(help="Metric that the verdict is about.", show_default="the first study's")
    ] = None,
    effect: Effect = 5.0,
    prompts: PromptsOption = "sampled",
    equivalence: Equivalence = 2.0,
    starts_sd: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Standard deviation of the metric from start to start of an engine. For arms that ran in one start.",
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="Pair to compare, as BASELINE:ARM. Each is an arm or STUDY/ARM. May be repeated.",
            show_default="arms of the same name",
        ),
    ] = None,
    fail_if: FailIf = None,
    fail_if_inconclusive: FailIfInconclusive = False,
    no_pairs: Annotated[
        bool, typer.Option("--no-pairs", help="With several studies: compare every arm with the first arm.")
    ] = False,
) -> None:
    """Compare studies and other tools' results side by side.

    The table shows differences, intervals, verdicts and findings. The first input is the baseline.
    """
    from inferometer.cli.output import (
        RunOptions,
        checked_dialect,
        checked_effect,
        checked_equivalence,
        checked_prompts,
        checked_starts_sd,
        exit_code,
        rendered,
        rendered_engine_rows,
    )
    from inferometer.foreign.inputs import inputs_of
    from inferometer.results.study_comparison import comparison_of

    dialect, effect_percent = checked_dialect(metric_dialect), checked_effect(effect)
    asked = RunOptions(
        format_of(format, as_json),
        shown_of(all_rows, metrics, rows),
        quiet,
        checked_prompts(prompts),
        checked_equivalence(equivalence),
        gates_of(fail_if, fail_if_inconclusive),
        why,
    )
    if pair and no_pairs:
        raise RequestWrong("--pair and --no-pairs exclude each other: give one.")
    found = inputs_of(sources)
    for note in () if quiet else found.engine_notes:
        print(escape_for_display(f"note: {note}"), file=sys.stderr)
    if not found.folders and not found.served:
        print(rendered_engine_rows(found.engine_rows, asked.format), end="")
        return
    comparison = comparison_of(
        found.folders,
        dialect,
        found.percentiles,
        primary=metric,
        effect_percent=effect_percent,
        foreign=found.trials(dialect),
        pairs=None if no_pairs else pair or (),
        prompts=asked.prompts,
        equivalence_percent=asked.equivalence_percent,
        starts_sd_percent=checked_starts_sd(starts_sd),
    )
    print(rendered(comparison, asked, found.engine_rows), end="")
    raise typer.Exit(exit_code(comparison, asked.gates))

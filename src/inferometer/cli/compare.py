"""`inferometer compare`: studies and files of other tools, side by side."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.cli.options import DialectOption, Effect, PrimaryMetric, with_result_options

if TYPE_CHECKING:
    from inferometer.cli.output import RunOptions


@with_result_options
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH[#RUN]...",
            help="Study folders or zips, or result files of other tools. #RUN selects one run of a file by heading "
            "or number. The first is the baseline.",
        ),
    ],
    asked: "RunOptions",
    metric_dialect: DialectOption = "inferometer",
    metric: PrimaryMetric = None,
    effect: Effect = 5.0,
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
    no_pairs: Annotated[
        bool, typer.Option("--no-pairs", help="With several studies: compare every arm with the first arm.")
    ] = False,
) -> None:
    """Compare studies and other tools' results side by side.

    The table shows differences, intervals, verdicts and findings. The first input is the baseline.
    """
    from inferometer.cli.checked import checked_dialect, checked_effect, checked_starts_sd
    from inferometer.cli.output import exit_code, rendered, rendered_engine_rows
    from inferometer.foreign.inputs import inputs_of
    from inferometer.results.study_comparison import comparison_of

    dialect, effect_percent = checked_dialect(metric_dialect), checked_effect(effect)
    if pair and no_pairs:
        raise RequestWrong("--pair and --no-pairs exclude each other: give one.")
    found = inputs_of(sources)
    for note in () if asked.quiet else found.engine_notes:
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

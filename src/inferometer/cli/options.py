"""Which flags say what is shown, and how? The same for every command that prints a comparison."""

from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.report.table import RowSelection

FormatOption = Annotated[str, typer.Option("--format", help="terminal, md or json.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same as --format json: always all rows, unrounded.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes: the result, and what speaks against it.")
]
All = Annotated[bool, typer.Option("--all", help="All rows of the table, not only those needed first.")]
Metrics = Annotated[
    str | None,
    typer.Option(help="These rows, by commas: keys (median_ttft_ms), labels, or groups (ttft, speculation)."),
]


def format_of(format: str, as_json: bool, default: str = "terminal") -> str:
    """The format asked for. Raises RequestWrong where there is no such, or where two are asked for."""
    from inferometer.cli.output import checked_format

    if as_json and format not in (default, "json"):
        raise RequestWrong(f"--json and --format {format} ask for two things; give one.")
    return "json" if as_json else format if format == default else checked_format(format)


def shown_of(all_rows: bool, metrics: str | None) -> "RowSelection":
    """The rows asked for. Raises RequestWrong for what is no row, with the nearest name."""
    from inferometer.report.table import RowSelection
    from inferometer.results.metric_names import known_metrics

    if all_rows and metrics is not None:
        raise RequestWrong("--all and --metrics ask for two things; give one.")
    return RowSelection(all_rows, () if metrics is None else known_metrics(metrics))

"""Flags that several commands share: output folder, format, rows and metric definitions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.report.table import RowSelection

OutFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder for the new study.", show_default="inferometer-results/…")
]
DialectOption = Annotated[
    str, typer.Option("--metric-dialect", help="Metric definitions: inferometer, vllm-0.6.5 or vllm-0.33.")
]
Effect = Annotated[
    float, typer.Option(help="Report how many trials are needed to detect a difference of this many percent.")
]
FormatOption = Annotated[str, typer.Option("--format", help="Output format: terminal, md or json.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Same as --format json: all rows, unrounded.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result and its problems: no progress, no notes.")
]
All = Annotated[bool, typer.Option("--all", help="Show all rows of the table.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Rows to show, separated by commas: keys (median_ttft_ms), labels or groups (ttft, speculation)."
    ),
]


UnsafeChecks = Annotated[
    bool,
    typer.Option(
        "--unsafe-checks", help="Run answers that are programs without a sandbox: they can read and change your files."
    ),
]


def format_of(format: str, as_json: bool, default: str = "terminal") -> str:
    """The requested format. Raises RequestWrong if it is unknown, or if `--json` contradicts `--format`."""
    from inferometer.cli.output import checked_format

    if as_json and format not in (default, "json"):
        raise RequestWrong(f"--json and --format {format} exclude each other: give one.")
    return "json" if as_json else format if format == default else checked_format(format)


def shown_of(all_rows: bool, metrics: str | None) -> "RowSelection":
    """The requested rows. Raises RequestWrong for an unknown row, with the nearest name."""
    from inferometer.report.table import RowSelection
    from inferometer.results.metric_names import known_metrics

    if all_rows and metrics is not None:
        raise RequestWrong("--all and --metrics exclude each other: give one.")
    return RowSelection(all_rows, () if metrics is None else known_metrics(metrics))

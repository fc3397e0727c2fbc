"""Options that several commands share; `with_result_options` adds those of every command that prints a comparison."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.cli.gates import Gates
    from inferometer.cli.output import RunOptions
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
PromptsOption = Annotated[
    str,
    typer.Option(
        "--prompts",
        help="Verdict for prompts like these (sampled: other rounds and prompts) or for these prompts (fixed: other "
        "rounds only).",
    ),
]
Equivalence = Annotated[float, typer.Option(help="Call arms the same if the interval lies within ± this many percent.")]
FormatOption = Annotated[str, typer.Option("--format", help="Output format: terminal, md or json.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Same as --format json: all rows, unrounded.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result and its problems: no progress, no notes.")
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit with 4 if a difference from the baseline is certainly so large, for example "
        "'output_throughput slower 2%'. May be repeated."
    ),
]
FailIfInconclusive = Annotated[
    bool, typer.Option("--fail-if-inconclusive", help="Exit with 4 also if a --fail-if cannot be decided.")
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print arms, requests and an estimate of the time.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a study that is already in --out.")]
All = Annotated[bool, typer.Option("--all", help="Show all rows of the table.")]
Why = Annotated[
    bool, typer.Option("--why", help="Print the long form: every interval, the design of the study, and all notes.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Rows to show, separated by commas: keys (median_ttft_ms), labels or groups (ttft, speculation)."
    ),
]

Rows = Annotated[
    str | None,
    typer.Option("--rows", help="seed: the rows of vLLM's benchmark; as md, a plain table of one form."),
]
PrimaryMetric = Annotated[
    str | None, typer.Option(help="Metric that the verdict is about.", show_default="the study's, or output_throughput")
]
Seed = Annotated[int, typer.Option(help="Random seed: selects and orders the prompts.")]
Until = Annotated[
    str | None,
    typer.Option(
        help="Add rounds until the interval is within, for example, '±2%', or excludes differences smaller than 2%."
    ),
]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Ask the servers to generate the full length.")]
Workers = Annotated[int | None, typer.Option(help="Number of load processes.", show_default="1, or one per Ray node")]
Ray = Annotated[str | None, typer.Option(help="Send the load from the nodes of the Ray cluster at HOST:PORT.")]
UnsafeChecks = Annotated[
    bool,
    typer.Option(
        "--unsafe-checks", help="Run answers that are programs without a sandbox: they can read and change your files."
    ),
]


def result_options(
    metrics: Metrics = None,
    all_rows: All = False,
    rows: Rows = None,
    why: Why = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
    prompts: PromptsOption = "sampled",
    equivalence: Equivalence = 2.0,
    fail_if: FailIf = None,
    fail_if_inconclusive: FailIfInconclusive = False,
) -> "RunOptions":
    """How to judge and print a comparison. Raises RequestWrong for options that are wrong or exclude each other."""
    from inferometer.cli.checked import checked_equivalence, checked_prompts
    from inferometer.cli.output import RunOptions

    return RunOptions(
        format_of(format, as_json),
        shown_of(all_rows, metrics, rows),
        quiet,
        checked_prompts(prompts),
        checked_equivalence(equivalence),
        gates_of(fail_if, fail_if_inconclusive),
        why,
    )


def with_result_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `result_options` in place of its parameter `asked`, which gets their result."""
    parameters = [one for one in inspect.signature(command).parameters.values() if one.name != "asked"]
    shared = list(inspect.signature(result_options).parameters.values())

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        asked = result_options(**{one.name: given.pop(one.name) for one in shared})
        command(asked=asked, **given)

    signature = inspect.Signature([*parameters, *shared])
    with_options.__dict__["__signature__"] = signature
    with_options.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return with_options


def format_of(format: str, as_json: bool, default: str = "terminal") -> str:
    """The requested format. Raises RequestWrong if it is unknown, or if `--json` contradicts `--format`."""
    from inferometer.cli.checked import checked_format

    if as_json and format not in (default, "json"):
        raise RequestWrong(f"--json and --format {format} exclude each other: give one.")
    return "json" if as_json else format if format == default else checked_format(format)


def gates_of(conditions: list[str] | None, fail_if_inconclusive: bool) -> "Gates":
    """The conditions of `--fail-if`. Raises RequestWrong for one that cannot be read or names an unknown metric."""
    from inferometer.analysis.gates import parse_gate
    from inferometer.cli.gates import Gates
    from inferometer.results.metric_names import known_metric

    try:
        found = [parse_gate(text) for text in conditions or []]
    except ValueError as error:
        raise RequestWrong(f"--fail-if {error}.") from error
    return Gates(tuple(gate._replace(metric=known_metric(gate.metric)) for gate in found), fail_if_inconclusive)


def shown_of(all_rows: bool, metrics: str | None, rows: str | None = None) -> "RowSelection":
    """The requested rows. Raises RequestWrong for an unknown row, with the nearest name."""
    from inferometer.report.seed_table import SEED_ROWS
    from inferometer.report.table import RowSelection
    from inferometer.results.metric_names import known_metrics

    if all_rows and metrics is not None:
        raise RequestWrong("--all and --metrics exclude each other: give one.")
    if rows is not None:
        if rows != "seed":
            raise RequestWrong(f"--rows {rows}: the only set of rows is `seed`. Choose others with --metrics.")
        if all_rows or metrics is not None:
            raise RequestWrong("--rows excludes --all and --metrics: give one.")
        return RowSelection(metrics=SEED_ROWS, layout="seed")
    return RowSelection(all_rows, () if metrics is None else known_metrics(metrics))

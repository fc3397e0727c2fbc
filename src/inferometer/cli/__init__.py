"""Which command was asked for? Flags become a Spec, the runner runs it, reports are printed; exit codes are set."""

import io
import os
import re
import signal
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated

import msgspec
import typer

from inferometer.base.errors import InferometerError, RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.cli.bench import bench, spread_flags
from inferometer.cli.calibrate import calibrate
from inferometer.cli.doctor import doctor
from inferometer.cli.engine_bench import PassingOn, engine_bench
from inferometer.cli.export import export
from inferometer.cli.options import All, FormatOption, JsonOption, Metrics, Quiet, format_of, shown_of
from inferometer.cli.report import plot, report
from inferometer.cli.show import list_studies, show
from inferometer.cli.standin import standin
from inferometer.cli.timeout_flags import BetweenTokensTimeout, ConnectTimeout, FirstTokenTimeout, Timeout, timeouts_of
from inferometer.core.redaction import longest_first, redact, secrets_of_environment

app = typer.Typer(
    name="inferometer",
    help="Run the same requests against LLM server set-ups on your own machine, and know what changed.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs 150 ms at every start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(bench)
app.command()(calibrate)
app.command(cls=PassingOn)(engine_bench)
app.command()(doctor)
app.command()(report)
app.command()(plot)
app.command()(show)
app.command("list")(list_studies)
app.command()(export)
app.command()(standin)

Out = Annotated[Path | None, typer.Option("--out", help="Study folder to make.", show_default="inferometer-results/…")]
Dialect = Annotated[
    str, typer.Option("--metric-dialect", help="Whose definitions: inferometer, vllm-0.6.5 or vllm-0.33.")
]
Effect = Annotated[float, typer.Option(help="How many trials would show a difference of so many percent is said.")]


@app.command()
def demo(
    out: Out = None,
    num_prompts: Annotated[int, typer.Option(help="Prompts of the built-in coding set per trial.")] = 8,
    max_tokens: Annotated[int, typer.Option(help="The most tokens asked of each request.")] = 48,
    trials: Annotated[int, typer.Option(help="Trials per arm, in the order A B B A.")] = 3,
    seed: Annotated[int, typer.Option(help="Which prompts, in which order.")] = 1,
    metrics: Metrics = None,
    all_rows: All = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Baseline against draft on the embedded engine: no GPU, no download, no server to install."""
    from inferometer.cli.demo import demo_spec
    from inferometer.cli.output import RunOptions, default_folder, run_and_report

    asked = RunOptions(format_of(format, as_json), shown_of(all_rows, metrics), quiet)
    spec = demo_spec(num_prompts, max_tokens, trials, seed)
    raise typer.Exit(run_and_report(spec, out or default_folder("demo"), asked))


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file (YAML).")],
    out: Out = None,
    metrics: Metrics = None,
    all_rows: All = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
    metric_dialect: Dialect = "inferometer",
    trials: Annotated[int | None, typer.Option(help="Trials of each arm.", show_default="the file's, or 3")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Go on until the metric's difference is known so well, as '±2%', or is so far from 0."),
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(help="With --until: at most so many trials of each arm.", show_default="the file's, or 10"),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What the verdict is about.", show_default="the file's, or output_throughput")
    ] = None,
    effect: Effect = 5.0,
    workers: Annotated[
        int | None, typer.Option(help="Load processes that share the plan.", show_default="the file's, or 1")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Play the plan from the nodes of the Ray cluster at HOST:PORT.")
    ] = None,
    timeout: Timeout = None,
    connect_timeout: ConnectTimeout = None,
    first_token_timeout: FirstTokenTimeout = None,
    between_tokens_timeout: BetweenTokensTimeout = None,
    on_failure: Annotated[
        str | None,
        typer.Option(help="After a failed trial: next, retry (once) or stop.", show_default="the file's, or next"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out: only trials that are missing or failed.")
    ] = False,
) -> None:
    """Run a study: every arm of the file, the same plan, one table with intervals and verdicts."""
    from inferometer.cli.output import (
        RunOptions,
        checked_dialect,
        checked_effect,
        default_folder,
        request_headers,
        run_and_report,
    )
    from inferometer.results.read import known_metric
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
    asked = RunOptions(format_of(format, as_json), shown_of(all_rows, metrics), quiet)
    if resume and out is None:
        raise RequestWrong("--resume needs --out: the folder of the study to go on with.")
    folder = out or default_folder(study.stem)
    effect_percent = checked_effect(effect)
    raise typer.Exit(
        run_and_report(spec, folder, asked, dialect, request_headers([]), ray, effect_percent, resume=resume)
    )


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH[#RUN]...",
            help="Study folders or zips of them, and files of other tools: of these all runs, or one by heading or "
            "number. The first is the baseline.",
        ),
    ],
    metrics: Metrics = None,
    all_rows: All = False,
    format: FormatOption = "terminal",
    as_json: JsonOption = False,
    quiet: Quiet = False,
    metric_dialect: Dialect = "inferometer",
    metric: Annotated[
        str | None, typer.Option(help="What the verdict is about.", show_default="the first study's")
    ] = None,
    effect: Effect = 5.0,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="BASELINE:ARM, each an arm or STUDY/ARM; repeat it for more.",
            show_default="of several studies: arms of one name",
        ),
    ] = None,
    no_pairs: Annotated[
        bool, typer.Option("--no-pairs", help="Several studies: every arm against the first one.")
    ] = False,
) -> None:
    """The arms of studies, and what other tools measured, side by side: differences, intervals, verdicts, findings."""
    from inferometer.cli.output import (
        RunOptions,
        checked_dialect,
        checked_effect,
        exit_code,
        rendered,
        rendered_engine_rows,
    )
    from inferometer.foreign.inputs import inputs_of
    from inferometer.results.read import comparison_of

    dialect, effect_percent = checked_dialect(metric_dialect), checked_effect(effect)
    asked = RunOptions(format_of(format, as_json), shown_of(all_rows, metrics), quiet)
    if pair and no_pairs:
        raise RequestWrong("give either --pair or --no-pairs.")
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
    )
    print(rendered(comparison, asked, found.engine_rows), end="")
    raise typer.Exit(exit_code(comparison))


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        print(f"inferometer {importlib.metadata.version('inferometer')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Flags of every command."""


def _show_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback, without the secrets of the environment and of --header: it may be sent to somebody."""
    given = [word for flag, word in pairwise(sys.argv) if flag == "--header"]
    given += [word.partition("=")[2] for word in sys.argv if word.startswith("--header=")]
    values = [part for word in given for part in (re.split("[=:]", word, maxsplit=1)[-1], word.rpartition(" ")[2])]
    secrets = longest_first({*values, *secrets_of_environment(os.environ)})
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace)), secrets))


def _interrupted(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C, also where that is ignored, as in a program that a script starts in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """The program. Errors that a user can act on are one message; anything else is a defect and shows its traceback."""
    for name in ("SIGTERM", "SIGHUP"):  # so that engines end too; what is ignored (nohup) stays so
        if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), _interrupted)
    for stream in (sys.stdout, sys.stderr):  # where the terminal's letters are few, a "?" is better than an error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        sys.argv[1:] = spread_flags(sys.argv[1:])
        app()
    except InferometerError as error:
        print(f"inferometer: {escape_for_display(str(error), lines=True)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    finally:
        sys.excepthook = _show_defect  # typer has put its own there

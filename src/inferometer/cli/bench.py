"""`inferometer bench`: one running server, with the flags of vLLM's benchmark and the block that it prints."""

import datetime
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.cli.bench_flags import (
    APIS,
    DATASETS,
    json_object,
    metadata_pair,
    percentiles_of,
    sampler_of,
    schedule_of,
    sections_of,
    workload_of,
)
from inferometer.cli.options import (
    All,
    DialectOption,
    IgnoreEos,
    JsonOption,
    Metrics,
    OutFolder,
    Quiet,
    Ray,
    Workers,
    format_of,
    shown_of,
)
from inferometer.cli.timeout_flags import BetweenTokensTimeout, ConnectTimeout, FirstTokenTimeout, Timeout, timeouts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferometer.cli.output import RunOptions
    from inferometer.core.record import Finding, Trial
    from inferometer.metrics.request_timing import MetricDialect
    from inferometer.results.read import Study

_ARM = "server"


def bench(
    backend: Annotated[
        str, typer.Option("--backend", "--endpoint-type", help="API: openai-chat, or openai for completions.")
    ] = "openai",
    base_url: Annotated[str | None, typer.Option(help="Server address, instead of --host and --port.")] = None,
    host: Annotated[str, typer.Option(help="Server host.")] = "localhost",
    port: Annotated[int, typer.Option(help="Server port.")] = 8000,
    endpoint: Annotated[str | None, typer.Option(help="Path of the API.", show_default="the backend's own")] = None,
    model: Annotated[str, typer.Option(help="Model name.", show_default="the server's first")] = "",
    served_model_name: Annotated[
        str | None, typer.Option(help="Name of the model at the server.", show_default="that of --model")
    ] = None,
    dataset_name: Annotated[
        str | None, typer.Option(help=f"Data set: {', '.join(DATASETS)}.", show_default="by --dataset-path")
    ] = None,
    dataset_path: Annotated[Path | None, typer.Option(help="Data set file.")] = None,
    num_prompts: Annotated[int, typer.Option(help="Number of measured requests.")] = 1000,
    max_concurrency: Annotated[int | None, typer.Option(help="Most concurrent requests.")] = None,
    request_rate: Annotated[float, typer.Option(help="Requests per second; inf sends all at once.")] = math.inf,
    burstiness: Annotated[
        float, typer.Option(help="Shape of the gaps between arrivals: 1 is a Poisson process, inf is even spacing.")
    ] = 1.0,
    ramp_up_strategy: Annotated[
        str | None, typer.Option(help="How the rate rises from start to end: linear or exponential.")
    ] = None,
    ramp_up_start_rps: Annotated[float | None, typer.Option(help="Requests per second at the start.")] = None,
    ramp_up_end_rps: Annotated[float | None, typer.Option(help="Requests per second at the end.")] = None,
    trace_speed: Annotated[
        float | None, typer.Option(help="Speed factor for the arrival times of a trace.", show_default="1")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed: selects and orders the prompts, and draws the arrival times.")
    ] = 0,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer: Hugging Face name, folder, or 'server'.", show_default="the server's /tokenize"),
    ] = None,
    skip_tokenizer_init: Annotated[
        bool, typer.Option("--skip-tokenizer-init", help="Do not load a tokenizer or count tokens.")
    ] = False,
    sharegpt_output_len: Annotated[int | None, typer.Option(help="Output tokens requested in every request.")] = None,
    custom_output_len: Annotated[
        int | None,
        typer.Option("--custom-output-len", "--hf-output-len", help="The same for the data sets custom and hf."),
    ] = None,
    random_input_len: Annotated[
        int | None, typer.Option(help="Input tokens of a random prompt.", show_default="1024")
    ] = None,
    random_output_len: Annotated[
        int | None, typer.Option(help="Output tokens requested for a random prompt.", show_default="128")
    ] = None,
    random_range_ratio: Annotated[
        float | None, typer.Option(help="Random lengths vary by ± this fraction.", show_default="0")
    ] = None,
    random_prefix_len: Annotated[
        int | None, typer.Option(help="Tokens at the start that all random prompts share.", show_default="0")
    ] = None,
    ignore_eos: IgnoreEos = False,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Top-p of the sampler.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Top-k of the sampler.")] = None,
    extra_body: Annotated[
        str | None, typer.Option(help="JSON object merged into every request. null removes a field.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not check the server's certificate.")] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Certificate authorities to check the server against.", show_default="the system's store"),
    ] = None,
    header: Annotated[list[str] | None, typer.Option(help="Request header, NAME=VALUE. Never stored.")] = None,
    num_warmups: Annotated[int, typer.Option(help="Warm-up requests, sent before the measurement starts.")] = 1,
    save_result: Annotated[bool, typer.Option("--save-result", help="Write vLLM's result JSON.")] = False,
    save_detailed: Annotated[
        bool, typer.Option("--save-detailed", help="Include the lists that vLLM 0.33 omits.")
    ] = False,
    append_result: Annotated[
        bool, typer.Option("--append-result", help="Append the JSON to the file as a line.")
    ] = False,
    label: Annotated[str | None, typer.Option(help="Name of the run, written into the JSON.")] = None,
    result_dir: Annotated[Path | None, typer.Option(help="Folder for the JSON.")] = None,
    result_filename: Annotated[str | None, typer.Option(help="File name of the JSON.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="KEY=VALUE to add to the JSON.")] = None,
    percentile_metrics: Annotated[
        str, typer.Option(help="Sections with percentiles: ttft,tpot,itl,e2el.")
    ] = "ttft,tpot,itl",
    metric_percentiles: Annotated[str, typer.Option(help="Percentiles, separated by commas.")] = "99",
    metric_dialect: DialectOption = "inferometer",
    disable_tqdm: Annotated[bool, typer.Option("--disable-tqdm", help="Print no progress.")] = False,
    format: Annotated[
        str, typer.Option("--format", help="Output format: block (vLLM's), terminal, md or json.")
    ] = "block",
    metrics: Metrics = None,
    all_rows: All = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
    workers: Workers = None,
    ray: Ray = None,
    timeout: Timeout = None,
    connect_timeout: ConnectTimeout = None,
    first_token_timeout: FirstTokenTimeout = None,
    between_tokens_timeout: BetweenTokensTimeout = None,
    out: OutFolder = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", hidden=True)] = False,
) -> None:
    """Benchmark a running server, with vLLM's flags.

    The result is printed as the block that vLLM's own benchmark prints.
    """
    from inferometer.cli.checked import checked_dialect
    from inferometer.cli.output import NOT_VALID, RunOptions, default_folder, ended_study, request_headers, run_shown
    from inferometer.core.spec import Arm, Sampling, Spec, Timeouts
    from inferometer.results.study_comparison import findings_of
    from inferometer.study.loop import run_study
    from inferometer.study.study_file import check_study

    dialect = checked_dialect(metric_dialect)
    sections, percentiles = sections_of(percentile_metrics), percentiles_of(metric_percentiles)
    wants_rows = all_rows or metrics is not None
    asked = RunOptions(
        format_of("terminal" if wants_rows and format == "block" else format, as_json, "block"),
        shown_of(all_rows, metrics),
        quiet,
    )
    extra = sampler_of(top_p, top_k) | json_object(extra_body, "--extra-body")
    lengths = (random_input_len, random_output_len, random_range_ratio, random_prefix_len)
    pairs = dict(metadata_pair(text) for text in metadata or [])
    if label is not None and dialect != "vllm-0.33":  # whose JSON has a field for it
        pairs = {"label": label, **pairs}
    headers = request_headers(header or [])
    if backend not in APIS:
        raise RequestWrong(f"unknown --backend {backend!r}; known: {', '.join(APIS)}.")
    url = base_url.rstrip("/") if base_url is not None else f"http://{f'[{host}]' if ':' in host else host}:{port}"
    arm = Arm(
        engine="external",
        url=url,
        insecure=insecure,
        ca_file=None if ca_file is None else str(ca_file),
        model=served_model_name or model,
        api=APIS[backend],
        path=endpoint,
    )
    spec = check_study(
        Spec(
            name=f"bench of {url}",
            arms={_ARM: arm},
            workload=workload_of(
                dataset_name, dataset_path, num_prompts, (sharegpt_output_len, custom_output_len), lengths
            ),
            schedule=schedule_of(
                request_rate,
                burstiness,
                max_concurrency,
                (ramp_up_strategy, ramp_up_start_rps, ramp_up_end_rps),
                has_times=dataset_name == "trace",
                speed=trace_speed,
            ),
            sampling=Sampling(temperature, ignore_eos, extra),
            seed=seed,
            timeouts=timeouts_of(Timeouts(), timeout, connect_timeout, first_token_timeout, between_tokens_timeout),
            trials=1,
            warmups=num_warmups,
            workers=workers,
            tokenizer="none" if skip_tokenizer_init else tokenizer or "server",
        ),
        "the command line",
    )
    if save_result or append_result:
        _require_folder(result_dir or Path())
    folder = out or default_folder("bench")
    run = run_study(spec, folder, headers, ray)
    try:
        failures = run_shown(run, quiet=disable_tqdm or quiet)
    except Interrupted:
        _print_cut_off(run.study, dialect, sections, percentiles, quiet=quiet)
        raise
    if failures:
        raise typer.Exit(1)
    study = ended_study(run)
    findings = findings_of(study, dialect)
    if asked.format == "block":
        _print_block(study, findings, dialect, sections, percentiles, quiet=quiet)
    else:
        _print_table(study, dialect, percentiles, asked)
    if save_result or append_result:
        from inferometer.exports.serving import serving_arguments

        arguments = serving_arguments(
            study,
            study.trials[0],
            date=f"{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}",
            backend=backend,
            metadata=pairs,
            sections=sections,
            percentiles=percentiles,
            save_detailed=save_detailed,
            label=label,
            model_id=model,
        )
        _save(study, dialect, arguments, result_dir, result_filename, append=append_result)
    if not quiet:
        print(f"study: {folder}", file=sys.stderr)
    if not _any_answer(study.trials):
        raise typer.Exit(1)
    if any(finding.severity == "invalid" for finding in findings):
        raise typer.Exit(NOT_VALID)


def _require_folder(folder: Path) -> None:
    """Creates the folder of the result, before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestWrong(f"--result-dir {folder} cannot be created: {error.strerror}.") from error


def _print_cut_off(
    study: "Study | None",
    dialect: "MetricDialect",
    sections: tuple[str, ...],
    percentiles: tuple[float, ...],
    *,
    quiet: bool,
) -> None:
    """The block of the requests that had ended before the interrupt, if there are any."""
    trials = () if study is None else study.trials
    if study is not None and _any_answer(trials):
        from inferometer.results.study_comparison import findings_of

        _print_block(study, findings_of(study, dialect), dialect, sections, percentiles, quiet=quiet)


def _any_answer(trials: "Iterable[Trial]") -> bool:
    from inferometer.core.record_columns import RecordColumns

    columns = [RecordColumns.of(trial.records) for trial in trials]
    return any((records.ok & records.measured).any() for records in columns)


def _print_table(study: "Study", dialect: "MetricDialect", percentiles: tuple[float, ...], asked: "RunOptions") -> None:
    from inferometer.cli.output import rendered
    from inferometer.results.study_comparison import comparison_of

    print(rendered(comparison_of([study], dialect, percentiles), asked), end="")


def _print_block(
    study: "Study",
    findings: "list[Finding]",
    dialect: "MetricDialect",
    sections: tuple[str, ...],
    percentiles: tuple[float, ...],
    *,
    quiet: bool,
) -> None:
    """Prints the block to standard output, and its problems to standard error; notes only if not `quiet`."""
    from inferometer.core.record_columns import RecordColumns
    from inferometer.exports.serving import block_of

    (trial,) = study.trials
    summary = study.summary(trial, dialect, percentiles)
    print(block_of(study, trial, dialect, percentiles, sections))
    records = RecordColumns.of(trial.records)
    failed = list(records.chosen(records.measured & ~records.ok))
    cut_off = [record for record in failed if record.outcome == "cancelled"]
    failed = [record for record in failed if record.outcome != "cancelled"]
    lines = [f"note: {len(cut_off)} request(s) were cut off by the interrupt"] if cut_off else []
    if failed:
        lines.append(f"note: {len(failed)} request(s) failed, the first: {failed[0].outcome}: {failed[0].error}")
    lines += [] if quiet else [f"note: {note}" for note in (*summary.notes, *study.notes)]
    recorded = {finding.code for finding in trial.findings} - {"client"}
    for finding in findings:
        if finding.code in recorded and finding.severity == "note" and not quiet:
            lines.append(f"note: {finding.sentence}")
        elif finding.severity != "note" and finding.code != "failures":
            lines.append(f"{'not valid' if finding.severity == 'invalid' else 'warning'}: {finding.sentence}")
    for line in lines:
        print(escape_for_display(line), file=sys.stderr)


def _save(
    study: "Study",
    dialect: "MetricDialect",
    arguments: Any,
    result_dir: Path | None,
    filename: str | None,
    *,
    append: bool,
) -> None:
    from inferometer.report.vllm_block import result_filename, result_json

    folder = result_dir or Path()
    path = folder / (filename or result_filename(arguments, dialect))
    result = result_json(study.view(study.trials[0], dialect), arguments)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write("\n" if file.tell() else "")
            file.writelines(_json_parts(result))
    except OSError as error:
        raise RequestWrong(
            f"{path} cannot be written: {error.strerror}. The measurements are kept in the study folder."
        ) from error
    print(f"result: {path}", file=sys.stderr)


def _json_parts(result: dict[str, Any]) -> Iterator[str]:
    """The same as json.dumps, in parts: the lists of a long run are many times larger as Python objects or as one
    text."""
    before = "{"
    for key, value in result.items():
        yield f"{before}{json.dumps(key)}: "
        before = ", "
        if isinstance(value, list):
            yield from _list_parts(cast("list[Any]", value))
        else:
            yield json.dumps(value)
    yield "}"


def _list_parts(items: list[Any]) -> Iterator[str]:
    before = "["
    for item in items:
        yield before + (msgspec.json.encode(item).decode() if isinstance(item, list) else json.dumps(item))
        before = ", "
    yield "]" if items else "[]"

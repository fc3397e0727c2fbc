"""`inferometer bench`: one running server, with the flags of vLLM's benchmark and the block that it prints."""

import datetime
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.base.text import escape_for_display
from inferometer.cli.options import All, JsonOption, Metrics, Quiet, format_of, shown_of
from inferometer.cli.timeout_flags import BetweenTokensTimeout, ConnectTimeout, FirstTokenTimeout, Timeout, timeouts_of

if TYPE_CHECKING:
    from inferometer.cli.output import RunOptions
    from inferometer.core.schedule import Ramp, Schedule
    from inferometer.core.spec import Api
    from inferometer.core.workload_settings import WorkloadSettings
    from inferometer.metrics.request_timing import MetricDialect
    from inferometer.results.read import Study

_ARM = "server"
_APIS: "dict[str, Api]" = {
    "openai-chat": "openai-chat",
    **dict.fromkeys(("openai", "vllm", "sglang", "lmdeploy", "scalellm"), "openai"),
}
_MANY = ("--header", "--metadata")
_UNSUPPORTED = {
    "--goodput": "Latencies of each request are in the study: inferometer export, or --save-detailed.",
    "--profile": "Profile the server with its own tools while bench runs.",
    "--lora-modules": "Name the adapter as the model: --model ADAPTER.",
    "--use-beam-search": "Pass it with --extra-body to a server that supports it.",
    "--best-of": "Pass it with --extra-body to a server that supports it.",
    "--logprobs": "Pass it with --extra-body '{\"logprobs\": N}'.",
    "--hf-split": "Save the split as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--hf-subset": "Save the subset as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--hf-name": "Save the data set as JSONL and give the file: --dataset-name hf --dataset-path FILE.",
    "--sonnet-input-len": "The nearest is --dataset-name random --random-input-len N --random-prefix-len N.",
    "--sonnet-output-len": "The nearest is --dataset-name random --random-output-len N.",
    "--sonnet-prefix-len": "The nearest is --dataset-name random --random-prefix-len N.",
    "--plot-timeline": "The nearest is inferometer plot STUDY -o tokens.svg.",
}
"""Flags of vLLM that would change what is measured or written, each with the nearest alternative."""
_DATASETS = ("sharegpt", "random", "custom", "hf", "trace", "builtin")
_NEAREST_DATASETS = {
    "sonnet": "The nearest is random, with --random-prefix-len for the shared beginning.",
    "burstgpt": "Use trace: it reads BurstGPT's csv and plays its times too.",
    "timed_trace": "Use trace: it reads Mooncake's jsonl and plays its times.",
    "prefix_repetition": "The nearest is random with --random-prefix-len.",
    "random-mm": "Pictures are not sent; the nearest is random.",
    "random-rerank": "Reranking is not measured; the nearest is random.",
    "custom_mm": "Pictures are not sent; the nearest is custom with texts.",
    "spec_bench": "Use custom with the file of its questions.",
    "speed_bench": "Use custom with the file of its questions.",
}
_SECTIONS = ("ttft", "tpot", "itl", "e2el")


def spread_flags(argv: Sequence[str]) -> list[str]:
    """`--metadata a=1 b=2`, as vLLM accepts it, with the flag repeated before each value; `--num_prompts` as
    `--num-prompts`. Raises RequestWrong for a flag of vLLM that `bench` does not have, with the nearest alternative."""
    if argv[:1] == ["bench"]:
        argv = [_with_dashes(word) for word in argv]
        refused = next((word.partition("=")[0] for word in argv if word.partition("=")[0] in _UNSUPPORTED), None)
        if refused is not None:
            raise RequestWrong(f"bench does not have vLLM's {refused}. {_UNSUPPORTED[refused]}")
    spread: list[str] = []
    flag = ""
    for word in argv:
        if flag and not word.startswith("-"):
            spread += [flag, word]
            continue
        flag = word if word in _MANY else ""
        if not flag:
            spread.append(word)
    return spread


def _with_dashes(word: str) -> str:
    flag, sign, value = word.partition("=")
    return flag.replace("_", "-") + sign + value if flag.startswith("--") else word


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
        str | None, typer.Option(help=f"Data set: {', '.join(_DATASETS)}.", show_default="by --dataset-path")
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
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Ask the server to generate the full length.")
    ] = False,
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
    metric_dialect: Annotated[
        str, typer.Option(help="Metric definitions: inferometer, vllm-0.6.5 or vllm-0.33.")
    ] = "inferometer",
    disable_tqdm: Annotated[bool, typer.Option("--disable-tqdm", help="Print no progress.")] = False,
    format: Annotated[
        str, typer.Option("--format", help="Output format: block (vLLM's), terminal, md or json.")
    ] = "block",
    metrics: Metrics = None,
    all_rows: All = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of load processes.", show_default="1, or one per Ray node")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Send the load from the nodes of the Ray cluster at HOST:PORT.")
    ] = None,
    timeout: Timeout = None,
    connect_timeout: ConnectTimeout = None,
    first_token_timeout: FirstTokenTimeout = None,
    between_tokens_timeout: BetweenTokensTimeout = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the new study.", show_default="inferometer-results/…")
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", hidden=True)] = False,
) -> None:
    """Benchmark a running server, with vLLM's flags.

    The result is printed as the block that vLLM's own benchmark prints.
    """
    from inferometer.cli.output import (
        NOT_VALID,
        RunOptions,
        checked_dialect,
        default_folder,
        ended_study,
        request_headers,
        run_shown,
    )
    from inferometer.core.spec import Arm, Sampling, Spec, Timeouts
    from inferometer.exports.serving import serving_arguments
    from inferometer.results.comparison import findings_of
    from inferometer.study.loop import run_study
    from inferometer.study.study_file import check_study

    dialect = checked_dialect(metric_dialect)
    sections, percentiles = _sections(percentile_metrics), percentiles_of(metric_percentiles)
    wants_rows = all_rows or metrics is not None
    asked = RunOptions(
        format_of("terminal" if wants_rows and format == "block" else format, as_json, "block"),
        shown_of(all_rows, metrics),
        quiet,
    )
    sampler = {name: value for name, value in (("top_p", top_p), ("top_k", top_k)) if value is not None}
    extra = sampler | _object(extra_body, "--extra-body")
    lengths = (random_input_len, random_output_len, random_range_ratio, random_prefix_len)
    pairs = dict(_pair(text) for text in metadata or [])
    if label is not None and dialect != "vllm-0.33":  # whose JSON has a field for it
        pairs = {"label": label, **pairs}
    headers = request_headers(header or [])
    if backend not in _APIS:
        raise RequestWrong(f"unknown --backend {backend!r}; known: {', '.join(_APIS)}.")
    url = base_url.rstrip("/") if base_url else f"http://{f'[{host}]' if ':' in host else host}:{port}"
    arm = Arm(
        engine="external",
        url=url,
        insecure=insecure,
        ca_file=None if ca_file is None else str(ca_file),
        model=served_model_name or model,
        api=_APIS[backend],
        path=endpoint,
    )
    spec = check_study(
        Spec(
            name=f"bench of {url}",
            arms={_ARM: arm},
            workload=_workload(
                dataset_name, dataset_path, num_prompts, (sharegpt_output_len, custom_output_len), lengths
            ),
            schedule=_schedule(
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
    if asked.format == "block":
        _print_block(study, dialect, sections, percentiles, quiet=quiet)
    else:
        _print_table(study, dialect, percentiles, asked)
    if save_result or append_result:
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
    if not any(record.ok for record in study.trials[0].records if record.measured):
        raise typer.Exit(1)
    if any(finding.severity == "invalid" for finding in findings_of(study, dialect)):
        raise typer.Exit(NOT_VALID)


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
    if study is not None and any(record.ok for trial in trials for record in trial.records if record.measured):
        _print_block(study, dialect, sections, percentiles, quiet=quiet)


def _print_table(study: "Study", dialect: "MetricDialect", percentiles: tuple[float, ...], asked: "RunOptions") -> None:
    from inferometer.cli.output import rendered
    from inferometer.results.comparison import comparison_of

    print(rendered(comparison_of([study], dialect, percentiles), asked), end="")


def _print_block(
    study: "Study",
    dialect: "MetricDialect",
    sections: tuple[str, ...],
    percentiles: tuple[float, ...],
    *,
    quiet: bool,
) -> None:
    """Prints the block to standard output, and its problems to standard error; notes only if not `quiet`."""
    from inferometer.exports.serving import block_of
    from inferometer.results.comparison import findings_of

    (trial,) = study.trials
    summary = study.summary(trial, dialect, percentiles)
    print(block_of(study, trial, dialect, percentiles, sections))
    failed = [record for record in study.trials[0].records if record.measured and not record.ok]
    cut_off = [record for record in failed if record.outcome == "cancelled"]
    failed = [record for record in failed if record.outcome != "cancelled"]
    lines = [f"note: {len(cut_off)} request(s) were cut off by the interrupt"] if cut_off else []
    if failed:
        lines.append(f"note: {len(failed)} request(s) failed, the first: {failed[0].outcome}: {failed[0].error}")
    lines += [] if quiet else [f"note: {note}" for note in (*summary.notes, *study.notes)]
    for finding in findings_of(study, dialect):
        if finding.severity != "note" and finding.code != "failures":
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
            file.write(("\n" if file.tell() else "") + json.dumps(result))
    except OSError as error:
        raise RequestWrong(
            f"{path} cannot be written: {error.strerror}. The measurements are kept in the study folder."
        ) from error
    print(f"result: {path}", file=sys.stderr)


def _workload(
    name: str | None,
    path: Path | None,
    num_prompts: int,
    output_lens: tuple[int | None, int | None],
    random_lens: tuple[int | None, int | None, float | None, int | None],
) -> "WorkloadSettings":
    """The workload that the flags ask for. `output_lens`: of sharegpt, and of custom and hf. `random_lens`: input,
    output, range and prefix."""
    from inferometer.core.workload_settings import Builtin
    from inferometer.workloads.custom import Custom
    from inferometer.workloads.sharegpt import ShareGpt
    from inferometer.workloads.trace import Trace

    is_random = any(length is not None for length in random_lens)
    name = name or ("random" if is_random and path is None else "builtin" if path is None else "sharegpt")
    if name not in _DATASETS:
        hint = _NEAREST_DATASETS.get(name) or f"Known: {', '.join(_DATASETS)}."
        raise RequestWrong(f"unknown --dataset-name {name!r}. {hint}")
    if is_random and name != "random":
        raise RequestWrong(f"--random-… lengths are for --dataset-name random, not {name}.")
    if name == "random":
        return _random(num_prompts, random_lens)
    output_tokens = output_lens[0] if name in ("sharegpt", "builtin", "trace") else output_lens[1] or output_lens[0]
    if name == "builtin":
        return Builtin(num_prompts, Builtin().max_tokens if output_tokens is None else output_tokens)
    if path is None:
        raise RequestWrong(f"--dataset-name {name} needs --dataset-path: {_FILES[name]}; or use builtin.")
    if name == "sharegpt":
        return ShareGpt(str(path), num_prompts, output_tokens)
    if name == "trace":
        if output_tokens is not None:
            raise RequestWrong(
                "--sharegpt-output-len cannot be used with a trace, which states the length of each request."
            )
        return Trace(str(path), num_prompts)
    if name == "hf" and not path.exists():
        raise RequestWrong(
            f"--dataset-name hf reads a local file, and there is no {path}: nothing is downloaded. Save the data set "
            "as JSONL: datasets.load_dataset(…, split=…).to_json('prompts.jsonl')"
        )
    return Custom(str(path), num_prompts, output_tokens)


_FILES = {
    "sharegpt": "a ShareGPT file",
    "trace": "Mooncake's jsonl or BurstGPT's csv",
    "custom": "JSONL with a `prompt` in each line",
    "hf": "a data set saved as JSON or JSONL",
}


def _random(num_prompts: int, lengths: tuple[int | None, int | None, float | None, int | None]) -> "WorkloadSettings":
    from inferometer.workloads.random_lengths import RandomLengths

    names = ("input_tokens", "max_tokens", "range_ratio", "prefix_tokens")
    given = {name: value for name, value in zip(names, lengths, strict=True) if value is not None}
    return msgspec.structs.replace(RandomLengths(num_prompts), **given)


def _schedule(
    rate_per_s: float,
    burstiness: float,
    max_concurrency: int | None,
    ramp: tuple[str | None, float | None, float | None],
    *,
    has_times: bool,
    speed: float | None,
) -> "Schedule":
    """The requested schedule: a ramp (strategy, start, end), a rate, the times of a trace, or closed."""
    from inferometer.core.schedule import Closed, Poisson, Replay

    if not burstiness > 0:
        raise RequestWrong(f"--burstiness must be greater than 0, not {burstiness:g}.")
    any_time = rate_per_s == math.inf and ramp == (None, None, None)
    if speed is not None and not (has_times and any_time):
        raise RequestWrong("--trace-speed needs --dataset-name trace, and excludes --request-rate and a ramp.")
    if ramp != (None, None, None):
        if rate_per_s != math.inf:
            raise RequestWrong("--request-rate and --ramp-up-strategy exclude each other: give one.")
        return _ramp(*ramp, burstiness, max_concurrency)
    if has_times and any_time:
        return Replay(1.0 if speed is None else speed, max_concurrency)
    return Closed(max_concurrency) if any_time else Poisson(rate_per_s, burstiness, max_concurrency)


def _ramp(
    strategy: str | None, start: float | None, end: float | None, burstiness: float, max_concurrency: int | None
) -> "Ramp":
    from inferometer.core.schedule import Ramp

    if strategy is None or start is None or end is None:
        raise RequestWrong("a ramp needs --ramp-up-strategy, --ramp-up-start-rps and --ramp-up-end-rps together.")
    if strategy not in ("linear", "exponential"):
        raise RequestWrong(f"unknown --ramp-up-strategy {strategy!r}; known: linear, exponential.")
    return Ramp(start, end, strategy, burstiness=burstiness, max_concurrency=max_concurrency)


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in _SECTIONS]
    if unknown:
        raise RequestWrong(f"--percentile-metrics: unknown section {unknown[0]!r}; known: {', '.join(_SECTIONS)}.")
    return names


def percentiles_of(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise RequestWrong(f"--metric-percentiles must be numbers separated by commas, not {text!r}.") from error
    if not all(0 < percent < 100 for percent in found):
        raise RequestWrong(f"--metric-percentiles must be between 0 and 100, not {text!r}.")
    return found


def _object(text: str | None, flag: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RequestWrong(f"{flag} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise RequestWrong(f'{flag} must be a JSON object like {{"top_k": 1}}, not {text}.')
    return cast("dict[str, Any]", found)  # JSON's keys are strings


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise RequestWrong(f"--metadata must look like KEY=VALUE, not {text!r}.")
    return name, value

"""`inferometer vs`: set-ups given on the command line, compared without a study file. A thin layer over `run`."""

import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from inferometer.base.errors import RequestWrong
from inferometer.cli.options import DryRunFlag, Force, IgnoreEos, OutFolder, Seed, Until, with_result_options

if TYPE_CHECKING:
    from inferometer.cli.output import RunOptions
    from inferometer.core.search_settings import Search
    from inferometer.core.spec import Spec
    from inferometer.core.workload_settings import WorkloadSettings

PROMPTS = 6
MAX_TOKENS = 32
MAX_CHARS = 450
ROUNDS = 3
"""Two set-ups of a model of 135M parameters give a result within 90 s on one core: three rounds of six short prompts,
of about 600 tokens together (130 tok/s), with 32 output tokens each (50 tok/s), and 3 s for each start of an engine."""
_OTHER_PLACES = ("port", "host", "model", "draft_model")
_PLACE = re.compile(r"(?<![{$\w])\{([A-Za-z_]\w*)\}")
_SUFFIXES = {".jsonl": "custom", ".json": "sharegpt", ".csv": "trace"}


class SetUpWords(TyperCommand):
    """A command whose arguments may begin with a dash: a quoted `"-fa on"` is a set-up, not an option."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own Context
        options = {name: parameter for parameter in self.get_params(ctx) for name in parameter.opts}
        takes_value = {name for name, one in options.items() if not getattr(one, "is_flag", False)}
        words = [
            f" {word}" if _is_setup(word, options) and before not in takes_value else word
            for before, word in zip(["", *args], args, strict=False)
        ]
        if not args:
            words = ["--help"]
        try:
            return super().parse_args(ctx, words)  # type: ignore[arg-type]  # as above
        except Exception as error:  # typer carries its own copy of click, whose exceptions it does not export
            if type(error).__name__ == "NoSuchOption":
                option = getattr(error, "option_name", "")
                option = next((word for word in args if word.startswith(option)), option)
                raise RequestWrong(
                    f"vs has no option {option}. If it belongs to a set-up, put the set-up into quotes: "
                    f'inferometer vs -m a.gguf "{option} 1" "{option} 2"'
                ) from error
            raise


def _is_setup(word: str, options: Container[str]) -> bool:
    """Whether a word with a dash is a set-up: it was quoted, or it is a complete flag of the embedded engine, such as
    `--no-mmap` or `-ctk=q8_0`."""
    from inferometer.engines.embedded_flags import takes_no_value

    name, equals, _ = word.partition("=")
    if not word.startswith("-") or name in options:
        return word.startswith("-") and " " in word
    return " " in word or bool(equals) or takes_no_value(name)


COMMAND_CLASS = SetUpWords


@with_result_options
def vs(
    setups: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SETUP...",
            help="A server's command line, the URL of a running server, a GGUF file, or flags for the embedded engine, "
            "each in quotes. The first is the baseline.",
        ),
    ],
    asked: "RunOptions",
    model: Annotated[str, typer.Option("-m", "--model", help="Model of set-ups that name none.")] = "",
    num_prompts: Annotated[
        int | None, typer.Option("-n", "--num-prompts", help="Prompts per round.", show_default=str(PROMPTS))
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "--trials", help="Rounds; in each, every set-up answers all prompts.")
    ] = ROUNDS,
    until: Until = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", help="Most output tokens per request.", show_default=f"{MAX_TOKENS}, or the data set's"
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            "--max-concurrency",
            "-c",
            help="Concurrent requests; llama.cpp's -c (context) belongs into a set-up.",
        ),
    ] = 1,
    dataset_path: Annotated[
        Path | None, typer.Option(help="Prompts: ShareGPT .json, .jsonl with `prompt` or `messages`, or a trace .csv.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A prompt. May be repeated.")] = None,
    prompt_file: Annotated[
        list[Path] | None, typer.Option("--prompt-file", "-f", help="File with one prompt. May be repeated.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="Values for {NAME} in the set-ups, as t=1,2,4. May be repeated.")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(help="Search the best value, as draft.n_max=1..32 or args.-ub=128,512. May be repeated."),
    ] = None,
    budget: Annotated[float, typer.Option(help="With --tune: the most minutes.")] = 30,
    checked: Annotated[bool, typer.Option("--checked", help="Built-in problems, whose answers are checked.")] = False,
    ignore_eos: IgnoreEos = False,
    metric: Annotated[str, typer.Option(help="Metric that the verdict is about.")] = "output_throughput",
    seed: Seed = 1,
    save_spec: Annotated[Path | None, typer.Option(help="Write the study as a new file for `inferometer run`.")] = None,
    dry_run: DryRunFlag = False,
    force: Force = False,
    out: OutFolder = None,
) -> None:
    """Compare set-ups: quote each one, no file needed.

    Every set-up answers the same prompts. The table shows differences, intervals and a verdict.

    Examples:

      inferometer vs "llama-server -m a.gguf -ngl 99" "llama-server -m a.gguf -ngl 99 -fa on"

      inferometer vs http://host1:8080 http://host2:8000 -n 30

      inferometer vs -m a.gguf "-t 1" "-t 2"

      inferometer vs "llama-server -m a.gguf -t {t}" --sweep t=1,2,4

      inferometer vs "llama-server -m a.gguf" --tune args.-ub=128,512,2048
    """
    from inferometer.cli.output import run_or_show
    from inferometer.cli.study_run import default_folder, request_headers
    from inferometer.core.spec_file import to_short_yaml
    from inferometer.results.metric_names import known_metric

    workload = _workload(num_prompts, max_tokens, dataset_path, prompt or [], prompt_file or [], checked=checked)
    _require_prompts(concurrency, workload)
    search = _search(tune or [], budget, metric)
    if search is not None:
        _require_one(setups, sweep, save_spec, dry_run=dry_run)
    spec = _spec(
        _swept([setup.strip() for setup in setups], sweep or []),
        model,
        workload,
        concurrency,
        {"trials": rounds, "until": until, "metric": known_metric(metric), "seed": seed},
        ignore_eos=ignore_eos,
        least=2 if search is None else 1,
    )
    if search is not None:
        from inferometer.cli.tune import tune_and_report

        raise typer.Exit(tune_and_report(spec, search, out or default_folder("tune"), resume=False, quiet=asked.quiet))
    if save_spec is not None:
        if save_spec.exists() and not force:
            raise RequestWrong(f"--save-spec {save_spec} exists. Name another file, or add --force to replace it.")
        try:
            save_spec.write_text(to_short_yaml(spec), encoding="utf-8")
        except OSError as error:
            raise RequestWrong(f"--save-spec {save_spec} cannot be written: {error.strerror}.") from error
    folder = out or default_folder("vs")
    raise typer.Exit(run_or_show(spec, folder, asked, request_headers([]), dry_run=dry_run, force=force))


def _spec(
    setups: Sequence[str],
    model: str,
    workload: "WorkloadSettings",
    concurrency: int,
    more: dict[str, Any],
    *,
    ignore_eos: bool,
    least: int,
) -> "Spec":
    import msgspec

    from inferometer.core.schedule import Closed
    from inferometer.core.spec import Arm, Sampling, Spec
    from inferometer.engines.setup_lines import read_setups
    from inferometer.study.study_file import check_study

    if len(setups) < least:
        raise RequestWrong(
            "vs compares two set-ups or more, and one was given. Give a second one in quotes, or use --sweep; to "
            "measure one running server use: inferometer bench"
        )
    arms = {name: msgspec.convert(arm, Arm) for name, arm in read_setups(setups, model).items()}
    spec = Spec(
        name=" vs ".join(arms) if len(arms) < 4 else f"{len(arms)} set-ups",
        arms=arms,
        workload=workload,
        schedule=Closed(concurrency),
        sampling=Sampling(ignore_eos=ignore_eos),
        **more,
    )
    return check_study(spec, "the command line")


def _search(texts: Sequence[str], minutes: float, metric: str) -> "Search | None":
    """What --tune asks for; None without it. Raises RequestWrong."""
    from inferometer.core.search_settings import Budget, Search, parameter_of
    from inferometer.results.metric_names import known_metric

    if not texts:
        return None
    if not minutes > 0:
        raise RequestWrong(f"--budget must be more than 0 minutes, not {minutes:g}.")
    try:
        found = Search(dict(map(parameter_of, texts)), objective=known_metric(metric), budget=Budget(minutes=minutes))
    except ValueError as error:
        raise RequestWrong(f"--tune {error}.") from error
    if problems := found.problems():
        raise RequestWrong(f"--tune: {problems[0]}.")
    return found


def _require_one(setups: Sequence[str], sweep: Sequence[str] | None, save_spec: Path | None, *, dry_run: bool) -> None:
    """Raises RequestWrong for what --tune cannot be combined with."""
    if len(setups) != 1:
        raise RequestWrong(f"--tune starts from one set-up, its baseline, and {len(setups)} were given.")
    others = {"--sweep": sweep, "--save-spec": save_spec, "--dry-run": dry_run}
    if given := [name for name, value in others.items() if value]:
        raise RequestWrong(f"--tune cannot be combined with {given[0]}: remove one of them.")


def _swept(setups: Sequence[str], sweeps: Sequence[str]) -> list[str]:
    """The set-ups with each combination of the values of `NAME=VALUE,VALUE`. Raises RequestWrong."""
    found: list[str] = list(setups)
    for text in sweeps:
        name, equals, values = text.partition("=")
        name, place = name.strip(), f"{{{name.strip()}}}"
        if not equals or not name.isidentifier() or not values.strip():
            raise RequestWrong(f"--sweep {text!r}: write NAME=VALUE,VALUE, for example t=1,2,4.")
        if name in _OTHER_PLACES:
            raise RequestWrong(f"--sweep {name}: {place} has another meaning in a command line; use another name.")
        if not any(place in setup for setup in found):
            raise RequestWrong(f"--sweep {name}: no set-up contains {place}.")
        texts = values.split(",")
        found = [setup.replace(place, text.strip()) for setup in found for text in (texts if place in setup else [""])]
    for setup in (setup for setup in found if "{port}" not in setup):  # a command of the user's own may have braces
        open_name = next((name for name in _PLACE.findall(setup) if name not in _OTHER_PLACES), None)
        if open_name is not None:
            raise RequestWrong(
                f"the set-up {setup!r} has {{{open_name}}}: give its values with --sweep {open_name}=1,2"
            )
    return found


def _workload(
    num_prompts: int | None,
    max_tokens: int | None,
    path: Path | None,
    prompts: list[str],
    files: list[Path],
    *,
    checked: bool,
) -> "WorkloadSettings":
    import msgspec

    from inferometer.core.workload_settings import Builtin
    from inferometer.quality.sets.checked import BuiltinCheckedSettings
    from inferometer.workloads.custom import Custom
    from inferometer.workloads.prompt_list import PromptList
    from inferometer.workloads.sharegpt import ShareGpt
    from inferometer.workloads.trace import Trace

    if checked:
        if prompts or files or path is not None:
            raise RequestWrong("--checked gives the problems: remove --prompt, --prompt-file and --dataset-path.")
        found = BuiltinCheckedSettings(num_prompts=num_prompts)
        return found if max_tokens is None else msgspec.structs.replace(found, max_tokens=max_tokens)
    if prompts or files:
        if path is not None or num_prompts is not None:
            other = "--dataset-path" if path is not None else "-n"
            raise RequestWrong(f"--prompt and --prompt-file give the prompts themselves: remove {other}.")
        return PromptList((*prompts, *map(_text, files)), _or(max_tokens, MAX_TOKENS))
    if path is None:
        return Builtin(_or(num_prompts, PROMPTS), _or(max_tokens, MAX_TOKENS), MAX_CHARS)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise RequestWrong(
            f"--dataset-path {path}: the ending tells the format, and it must be .json (ShareGPT), .jsonl or .csv (a "
            "trace). For a plain text file with one prompt use --prompt-file."
        )
    if kind == "trace":
        return Trace(str(path), num_prompts)
    if kind == "custom":
        return Custom(str(path), _or(num_prompts, PROMPTS), max_tokens)
    return ShareGpt(str(path), _or(num_prompts, PROMPTS), max_tokens)


def _require_prompts(concurrency: int, workload: "WorkloadSettings") -> None:
    """Raises RequestWrong for more streams than prompts: often the -c of llama.cpp, the context, was meant."""
    count = workload.request_count()
    if count is not None and 0 < count < concurrency:
        raise RequestWrong(
            f"-c {concurrency}: {count} prompts cannot keep {concurrency} streams busy. -c is the number of streams "
            "(concurrency). For the context of llama.cpp put -c into the set-up's quotes: inferometer vs -m a.gguf "
            f'"-c {concurrency}" "-c {concurrency} -t 2". For {concurrency} streams give -n {concurrency} or more.'
        )


def _or(given: int | None, default: int) -> int:
    """A given 0 is wrong, and stays, so that the check of the study reports it."""
    return default if given is None else given


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RequestWrong(f"--prompt-file {path} cannot be read: {reason}.") from error

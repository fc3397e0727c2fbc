"""`inferometer engine-bench`: llama-bench's rows, with the bandwidth and arithmetic that each uses."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from inferometer.base.errors import Interrupted, RequestWrong
from inferometer.base.text import escape_for_display

if TYPE_CHECKING:
    from inferometer.core.spec import Arm
    from inferometer.engine_bench.bench_files import SavedRows
    from inferometer.engine_bench.bench_run import RowsRequest
    from inferometer.llama_bench.devices import CardLimits
    from inferometer.llama_bench.row import BenchRow

FORMATS = ("md", "json", "terminal")


class PassingOn(TyperCommand):
    """A command that leaves unknown flags, with their values, in `ctx.args`.

    Click's own way would read `-nkvo 1` as `-n kvo`.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own Context
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        own, others = split_flags(args, known)
        super().parse_args(ctx, own)  # type: ignore[arg-type]  # as above
        ctx.args = others
        return others


COMMAND_CLASS = PassingOn


def split_flags(args: list[str], known: "set[str]") -> tuple[list[str], list[str]]:
    """The words of known flags, and the words of all others. `-1` is a value, not a flag."""
    own: list[str] = []
    others: list[str] = []
    into = own
    for word in args:
        if word.startswith("-") and not word[1:2].isdigit():
            into = own if word.partition("=")[0] in known else others
        into.append(word)
    return own, others


List = list[str] | None


def engine_bench(
    context: typer.Context,
    model: Annotated[List, typer.Option("-m", "--model", help="GGUF file, or standin:demo. May be repeated.")] = None,
    n_prompt: Annotated[List, typer.Option("-p", "--n-prompt", help="Prompt lengths.", show_default="512")] = None,
    n_gen: Annotated[List, typer.Option("-n", "--n-gen", help="Generated lengths.", show_default="128")] = None,
    pair: Annotated[List, typer.Option("-pg", help="Prompt and generated length, as 512,128.")] = None,
    n_depth: Annotated[
        List, typer.Option("-d", "--n-depth", help="Tokens in the context before the test.", show_default="0")
    ] = None,
    repetitions: Annotated[int, typer.Option("-r", "--repetitions", help="Measurements per test.")] = 5,
    flash_attn: Annotated[
        List, typer.Option("-fa", "--flash-attn", help="Flash attention: 0, 1, on, off or auto.")
    ] = None,
    gpu_layers: Annotated[List, typer.Option("-ngl", "--n-gpu-layers", help="Layers on the GPU.")] = None,
    threads: Annotated[List, typer.Option("-t", "--threads", help="CPU threads.")] = None,
    batch: Annotated[List, typer.Option("-b", "--batch-size", help="Batch size.")] = None,
    ubatch: Annotated[List, typer.Option("-ub", "--ubatch-size", help="Micro-batch size.")] = None,
    cache_type_k: Annotated[List, typer.Option("-ctk", "--cache-type-k", help="Data type of the key cache.")] = None,
    cache_type_v: Annotated[List, typer.Option("-ctv", "--cache-type-v", help="Data type of the value cache.")] = None,
    llama_bench: Annotated[
        str | None, typer.Option(help="Path of llama-bench.", show_default="on PATH, if any")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Measure through this server: embedded, llama-server or external.", show_default="none"),
    ] = None,
    llama_server: Annotated[str | None, typer.Option(help="Path of llama-server.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of a running server.")] = None,
    served_model: Annotated[str, typer.Option(help="Model name at --url.", show_default="the server's first")] = "",
    both: Annotated[
        bool, typer.Option("--both", help="Measure with llama-bench and through a server, side by side.")
    ] = False,
    card: Annotated[str | None, typer.Option(help="GPU or CPU name, if the engine does not report it.")] = None,
    bandwidth: Annotated[float | None, typer.Option(help="Memory bandwidth of the card, GB/s.")] = None,
    tflops: Annotated[float | None, typer.Option(help="Peak arithmetic rate of the card, TFLOP/s.")] = None,
    read: Annotated[
        Path | None,
        typer.Option(help="Do not measure: show a folder made by --out, or llama-bench output in any format."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for rows.json, rows.md and engine logs.")] = None,
    format: Annotated[str, typer.Option("--format", help="Output format: md, json or terminal.")] = "md",
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the result, no progress.")] = False,
) -> None:
    """Measure the engine alone, as llama-bench does.

    The rows (pp512, tg128, …) come from llama-bench or from a server, with the bandwidth and arithmetic that they
    use. Lists and ranges are written as in llama-bench: -p 512,1024 -d 0-8192+4096 -fa 0,1. Unknown flags are passed
    on to llama-bench.
    """
    if as_json:
        if format not in ("md", "json"):
            raise RequestWrong(f"--json and --format {format} exclude each other: give one.")
        format = "json"
    if format not in FORMATS:
        raise RequestWrong(f"unknown --format {format!r}; known: {', '.join(FORMATS)}.")
    stated, everywhere = _stated(card, bandwidth, tflops)
    if read is not None:
        from inferometer.engine_bench.bench_files import read_rows

        saved = read_rows(read)
        print(_rendered(saved, stated, everywhere, [], format), end="")
        raise typer.Exit(1 if any(row.error for row in saved.rows) else 0)
    given = {
        "n_gpu_layers": gpu_layers,
        "n_threads": threads,
        "n_batch": batch,
        "n_ubatch": ubatch,
        "type_k": cache_type_k,
        "type_v": cache_type_v,
        "flash_attn": flash_attn,
    }
    asked = _asked(
        model or [], (n_prompt, n_gen, pair, n_depth), repetitions, given, tuple(context.args),
        *_ways(llama_bench, _arm(engine, llama_server, url, served_model), both),
    )  # fmt: skip
    raise typer.Exit(_measure(asked, stated, everywhere, out, format, _nothing if quiet else _say))


def _stated(card: str | None, bandwidth: float | None, tflops: float | None) -> "tuple[CardLimits | None, bool]":
    """The limits of the card that the flags name or state, and whether they also apply to rows on a CPU."""
    from inferometer.engine_bench.bench_files import known_devices
    from inferometer.llama_bench.devices import CardLimits, Figure, requested_device

    for flag, value in (("--bandwidth", bandwidth), ("--tflops", tflops)):
        if value is not None and not 0 < value < float("inf"):
            raise RequestWrong(f"{flag} must be greater than 0, not {value:g}.")
    named = None if card is None else requested_device(known_devices(), card)
    if bandwidth is None and tflops is None:
        return named, False
    if named is not None:
        raise RequestWrong("--card and the figures (--bandwidth, --tflops) exclude each other: give one.")
    by_user = [None if value is None else Figure(value, "the command line") for value in (bandwidth, tflops)]
    return CardLimits("as stated", (), by_user[0], by_user[1]), True


def _arm(engine: str | None, llama_server: str | None, url: str | None, served_model: str) -> "Arm | None":
    """The requested server, or None."""
    from inferometer.core.spec import Arm
    from inferometer.engines.catalog import describe

    implied = "external" if url is not None else "llama-server" if llama_server is not None else None
    if engine is not None and implied is not None and engine != implied:
        flag = "--url" if url is not None else "--llama-server"
        raise RequestWrong(f"{flag} is for --engine {implied}, not for {engine}.")
    if url is not None and llama_server is not None:
        raise RequestWrong("--url (a running server) and --llama-server (one to start) exclude each other: give one.")
    name = engine or implied
    if name is None:
        return None
    if not describe(name).is_started:
        if url is None:
            raise RequestWrong(f"--engine {name} needs --url, the address of the server.")
        return Arm(name, model=served_model, url=url.rstrip("/"), api="openai")
    return Arm(name, binary=llama_server or "llama-server", api="openai")


def _ways(llama_bench: str | None, arm: "Arm | None", both: bool) -> "tuple[str | None, Arm | None]":
    """The llama-bench to run and the server to start. By default llama-bench if it is found, else a server."""
    import shutil

    from inferometer.core.spec import Arm
    from inferometer.engine_bench.binary_rows import binary_path

    binary = binary_path(llama_bench)
    if both and binary is None:
        raise RequestWrong("--both needs llama-bench, which is not on PATH. Name it with --llama-bench.")
    if arm is not None and not both and llama_bench is None:
        return None, arm
    if arm is not None and not both:
        raise RequestWrong("--llama-bench and a server are both named. Add --both to measure with both.")
    if arm is None and (both or binary is None):
        sibling = None if binary is None else shutil.which(str(Path(binary).with_name("llama-server")))
        server = sibling or shutil.which("llama-server")
        arm = Arm("llama-server", binary=server, api="openai") if server else Arm("embedded", api="openai")
    return binary, arm


def _asked(
    models: list[str],
    tests: tuple[List, List, List, List],
    repetitions: int,
    given: dict[str, List],
    extra: tuple[str, ...],
    binary: str | None,
    arm: "Arm | None",
) -> "RowsRequest":
    from inferometer.engine_bench.bench_run import RowsRequest
    from inferometer.llama_bench.row import bench_tests, flag_numbers, length_pairs
    from inferometer.standin.model_names import model_file

    if repetitions < 1:
        raise RequestWrong(f"-r must be at least 1, not {repetitions}.")
    if not models and (arm is None or not arm.runs_already or binary is not None):
        raise RequestWrong("-m is missing: name a GGUF file, or standin:demo to try it without a model file.")
    prompts = flag_numbers(tests[0] or ["512"], "-p")
    generated = flag_numbers(tests[1] or ["128"], "-n")
    pairs = length_pairs(tests[2] or [], "-pg")
    depths = flag_numbers(tests[3] or ["0"], "-d")
    files = tuple(model_file(name, "target") for name in models)
    flags = ["-p", _list(prompts), "-n", _list(generated), "-d", _list(depths)]
    flags += [word for pair in pairs for word in ("-pg", f"{pair[0]},{pair[1]}")]
    return RowsRequest(
        models=files,
        tests=tuple(bench_tests(prompts, generated, pairs, depths)),
        test_flags=tuple(flags if any(depths) else flags[:4] + flags[6:]),  # builds before 2025 lack -d
        repetitions=repetitions,
        settings={name: _values(name, values) for name, values in given.items() if values},
        binary=binary,
        arm=arm,
        extra=extra,
    )


def _list(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


_LEAST = {"n_gpu_layers": -1, "n_threads": 1, "n_batch": 1, "n_ubatch": 1}


def _values(name: str, texts: list[str]) -> tuple[str, ...]:
    """The values of a setting, as separate strings."""
    from inferometer.engine_bench.server_rows import FLAGS, FLASH_ATTN_WORDS
    from inferometer.llama_bench.row import flag_numbers

    if name in _LEAST:
        return tuple(map(str, flag_numbers(texts, FLAGS[name], _LEAST[name])))
    values = tuple(part.strip() for text in texts for part in text.split(","))
    allowed = tuple(FLASH_ATTN_WORDS) if name == "flash_attn" else None
    wrong = next((value for value in values if not value or (allowed and value not in allowed)), None)
    if wrong is not None:
        raise RequestWrong(
            f"{FLAGS[name]} takes {', '.join(allowed) if allowed else 'names separated by commas'}, not {wrong!r}."
        )
    return values


def _measure(
    asked: "RowsRequest",
    stated: "CardLimits | None",
    everywhere: bool,
    out: Path | None,
    format: str,
    say: Callable[[str], None],
) -> int:
    """Checks, measures and prints; returns the exit code. After an interrupt the finished rows are kept and printed."""
    from inferometer.cli.study_run import request_headers
    from inferometer.engine_bench.bench_files import FORMAT_VERSION, SavedRows
    from inferometer.engine_bench.bench_run import check_request, measure_rows
    from inferometer.llama_bench.sheet import PASSED_ON
    from inferometer.probes.machine_facts import machine_facts

    headers = request_headers([])
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestWrong(f"--out: {out} exists and is not empty. Name a new folder.")
    models = check_request(asked, headers)
    machine = {fact.name: fact.value for fact in machine_facts()}
    rows: list[BenchRow] = []
    interrupted = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestWrong(f"--out: {folder} cannot be created: {error.strerror}. Name another folder.") from error
        try:
            for row in measure_rows(asked, models, headers, folder, say):
                rows.append(row)
                say(f"  {_line(row)}")
                _keep(out, SavedRows(FORMAT_VERSION, tuple(rows), models, machine))
        except KeyboardInterrupt:
            interrupted = True
    if rows:
        saved = SavedRows(FORMAT_VERSION, tuple(rows), models, machine)
        columns = [*asked.settings, *(PASSED_ON[flag] for flag in asked.extra if flag in PASSED_ON)]
        print(_rendered(saved, stated, everywhere, columns, format), end="")
        if out is not None:
            shown = _rendered(saved, stated, everywhere, columns, "md")
            (out / "rows.md").write_text(shown, encoding="utf-8")
            say(f"rows: {out}")
    if interrupted:
        raise Interrupted(f"interrupted after {len(rows)} measured row(s).")
    return 1 if any(row.error for row in rows) else 0


def _say(text: str) -> None:
    print(escape_for_display(text, lines=True), file=sys.stderr, flush=True)


def _nothing(text: str) -> None:
    """Drops the progress text: used with `--quiet`."""


def _line(row: "BenchRow") -> str:
    from inferometer.base.units import rate_text

    return f"{row.test.label}: {row.error or rate_text(row.rate_per_s, row.deviation_per_s) + ' tok/s'}"


def _keep(out: Path | None, saved: "SavedRows") -> None:
    import msgspec

    if out is not None:
        (out / "rows.json").write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=1) + b"\n")


def _rendered(saved: "SavedRows", stated: "CardLimits | None", everywhere: bool, asked: list[str], format: str) -> str:
    from inferometer.engine_bench.bench_files import known_devices
    from inferometer.llama_bench.judging import document, judged
    from inferometer.llama_bench.sheet import sheet
    from inferometer.report.engine_rows import markdown, terminal

    entries = judged(saved.rows, saved.models, known_devices(), stated, everywhere=everywhere)
    if format == "json":
        return _json({"rows": [document(entry) for entry in entries], "models": saved.models, "machine": saved.machine})
    content = sheet(entries, asked)
    return markdown(content) if format == "md" else terminal(content)


def _json(content: Any) -> str:
    """JSON text. Any: whatever msgspec can encode."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"

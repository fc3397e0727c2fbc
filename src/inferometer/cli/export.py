"""`inferometer export`: a study in another format, to a file, a folder or standard output."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.exports import OutputFile, TableName


def export(
    studies: Annotated[list[Path], typer.Argument(help="Study folders, or zips of them.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            "--format",
            help="Format: csv, md, json, vllm-block, vllm-json, parquet or zip.",
            show_default="by the file name",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            "--out",
            help="File to write, a folder (one file per study), or - for standard output.",
            show_default="-",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")] = False,
    table: Annotated[
        str | None,
        typer.Option(
            help="Table for csv and parquet: metrics, requests or events.", show_default="metrics; parquet: requests"
        ),
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Export only the trials of this arm.")] = None,
    trial: Annotated[int | None, typer.Option(help="Export only the trial with this number.")] = None,
    metric_dialect: Annotated[
        str | None,
        typer.Option(
            help="Metric definitions: inferometer, vllm-0.6.5 or vllm-0.33.",
            show_default="inferometer; vllm-* formats: vllm-0.33",
        ),
    ] = None,
    metric_percentiles: Annotated[str, typer.Option(help="Percentiles, separated by commas.")] = "99",
    with_text: Annotated[bool, typer.Option("--with-text", help="Include prompts and answers.")] = False,
    hide_text: Annotated[
        bool, typer.Option("--hide-text", help="With zip: replace each word of prompts and answers by another one.")
    ] = False,
    save_detailed: Annotated[
        bool, typer.Option("--save-detailed", help="With vllm-json: include the lists that vLLM 0.33 omits.")
    ] = False,
    pair: Annotated[list[str] | None, typer.Option(help="Pair to compare, as in `compare`.")] = None,
    no_pairs: Annotated[bool, typer.Option("--no-pairs", help="Compare every arm with the first.")] = False,
) -> None:
    """Write a study as CSV, JSON, Parquet, Markdown or zip.

    vLLM's block and result JSON can be written too.
    """
    from inferometer.cli.bench_flags import percentiles_of
    from inferometer.cli.checked import checked_dialect
    from inferometer.exports import FORMATS, TABLES, ExportRequest, TableName, format_named, output_files

    target = None if output is None or output == "-" else Path(output)
    format = format_named(to, target)
    if table is not None and table not in get_args(TableName):
        raise RequestWrong(f"unknown --table {table!r}; known: {', '.join(TABLES)}.")
    if target is None and not FORMATS[format].is_text:
        raise RequestWrong(f"{format} is a binary format: name a file with -o FILE{FORMATS[format].ending}.")
    into_folder = target is not None and (target.is_dir() or str(output).endswith("/"))
    wish = ExportRequest(
        format=format,
        table=cast("TableName | None", table),
        dialect=None if metric_dialect is None else checked_dialect(metric_dialect),
        percentiles=percentiles_of(metric_percentiles),
        arm=arm,
        trial=trial,
        with_text=with_text,
        hide_text=hide_text,
        save_detailed=save_detailed,
        pairs=None if no_pairs else tuple(pair or ()),
    )
    made = output_files(studies, wish, into_folder=into_folder)
    if target is None:
        _print(made)
    elif into_folder:
        _require_free([target / piece.name for piece in made], force)
        for piece in made:
            _write([piece], target / piece.name)
    else:
        _require_one_file(made, format, target)
        _require_free([target], force)
        _write(made, target)


def _print(made: "Sequence[OutputFile]") -> None:
    for piece in made:
        for part in piece.text() if piece.text is not None else ():
            sys.stdout.write(part)


def _require_one_file(made: "Sequence[OutputFile]", format: str, target: Path) -> None:
    """Raises RequestWrong if several trials would go into one JSON file: only .jsonl holds more than one."""
    if len(made) > 1 and format == "vllm-json" and target.suffix.lower() != ".jsonl":
        raise RequestWrong(
            f"{len(made)} trials were selected, and a vLLM result file holds one. Choose one with --arm and --trial; "
            f"or name a folder (-o {target.with_suffix('')}/) or a .jsonl file (-o {target.with_suffix('.jsonl')})."
        )


def _require_free(paths: Sequence[Path], force: bool) -> None:
    taken = [path for path in paths if path.is_file() or path.is_dir()]
    if taken and not force:
        raise RequestWrong(f"{taken[0]} already exists. Name another file, or add --force to overwrite it.")


def _write(made: "Sequence[OutputFile]", path: Path) -> None:
    """Writes the file whole or not at all: to a temporary file in the same folder, which is then renamed. A device or
    a pipe is written directly."""
    path = path.resolve()
    in_place = path.exists() and not path.is_file()
    aside = path if in_place else path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fill(aside, made)
            if not in_place:
                os.replace(aside, path)
        finally:
            if not in_place:
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise RequestWrong(f"{path} cannot be written: {error.strerror or error}") from error
    print(f"written: {path}", file=sys.stderr)


def _fill(path: Path, made: "Sequence[OutputFile]") -> None:
    if made[0].write is not None:
        made[0].write(path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in made:
            file.writelines(piece.text() if piece.text is not None else ())

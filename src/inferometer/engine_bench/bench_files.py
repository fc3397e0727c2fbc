"""Files of engine-bench: model files, saved rows, and the table of known cards."""

import importlib.resources
from pathlib import Path

import msgspec

from inferometer.base.errors import ModelUnusable, RequestWrong
from inferometer.foreign import readers
from inferometer.llama_bench.devices import CardLimits, read_devices
from inferometer.llama_bench.gguf_facts import Header, ModelFacts, header_of, model_facts, split_names
from inferometer.llama_bench.row import BenchRow

FORMAT_VERSION = 1


class SavedRows(msgspec.Struct, frozen=True):
    """Saved rows: the measurements, with the facts of models and machine that are needed to judge them."""

    format: int
    rows: tuple[BenchRow, ...]
    models: dict[str, ModelFacts]
    machine: dict[str, str] = {}


def known_devices() -> tuple[CardLimits, ...]:
    """The cards in devices.toml, which ships with the program."""
    return read_devices(
        importlib.resources.files("inferometer.llama_bench").joinpath("devices.toml").read_text(encoding="utf-8")
    )


def model_in_file(path: Path) -> ModelFacts:
    """The facts of a GGUF file, or of all parts of a split one. Raises ModelUnusable."""
    first = _header(path)
    parts = first.number("split.count") or 1
    if parts == 1:
        return model_facts([first])
    names = split_names(path.name, parts)
    if names is None:
        raise ModelUnusable(
            f"{path} is one of {parts} parts of a model: name the first part, …-00001-of-{parts:05d}.gguf"
        )
    return model_facts([first, *(_header(path.with_name(name)) for name in names[1:])])


def read_rows(path: Path) -> SavedRows:
    """Rows saved by `--out`, or the output of llama-bench in any of its formats, also tables within a text. Raises
    RequestWrong."""
    if path.is_dir():
        path = path / "rows.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestWrong(f"{path} cannot be read: {error}") from error
    try:
        if '"format"' in text[:200]:
            saved = msgspec.json.decode(text, type=SavedRows)
            if saved.format != FORMAT_VERSION:
                raise RequestWrong(f"{path} has format {saved.format}; this version reads format {FORMAT_VERSION}.")
            return saved
        rows = tuple(row for run in readers.read(text, path.stem) or () for row in run.rows)
    except msgspec.DecodeError as error:
        raise RequestWrong(f"{path} contains no rows: {error}") from error
    if not rows:
        raise RequestWrong(
            f"{path} contains no rows: name a file with llama-bench's output (md, csv, json, jsonl or sql), or a "
            "folder written by --out."
        )
    files = {row.model for row in rows if Path(row.model).is_file()}
    return SavedRows(FORMAT_VERSION, rows, {name: model_in_file(Path(name)) for name in files})


def _header(path: Path) -> Header:
    if path.is_dir():
        raise ModelUnusable(f"-m: {path} is a folder: name a .gguf file in it.")
    try:
        with path.open("rb") as file:
            return header_of(file, str(path))
    except FileNotFoundError as error:
        raise ModelUnusable(f"-m: file not found: {path}. To try without a model file, use -m standin:demo.") from error
    except OSError as error:
        raise ModelUnusable(f"-m: {path} cannot be read: {error.strerror}") from error

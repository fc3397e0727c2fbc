"""Which rows were asked for, by which way, and what do they come to? Checks all of it, then measures row by row."""

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from inferometer.base.errors import ModelUnusable, RequestWrong, TrialFailed
from inferometer.core.spec import Arm
from inferometer.engine_bench import from_binary, from_server
from inferometer.engine_bench.from_server import FLAGS, Say
from inferometer.foreign import readers
from inferometer.llama_bench.devices import CardLimits, find_device, read_devices
from inferometer.llama_bench.efficiency import efficiency, facts_from_size
from inferometer.llama_bench.gguf_facts import Header, ModelFacts, header_of, model_facts, split_names
from inferometer.llama_bench.row import BenchRow, BenchTest
from inferometer.llama_bench.sheet import RatedRow

FORMAT_VERSION = 1
CARRIED = ("n_gpu_layers", "n_threads")
"""Settings that a server gets from llama-bench's rows where both measure and the user said nothing: their defaults
differ, and the rows are to be compared."""


class RowsRequest(msgspec.Struct, frozen=True):
    """What to measure. `settings`: values by llama-bench's field names (those of FLAGS), only those given.

    `binary`: the llama-bench to run; `arm`: the server to ask, its model one of `models`. At least one of the two.
    `extra`: flags passed on as they are, to llama-bench and to the server. `models` are files; for a server of
    another it may be empty.
    """

    models: tuple[str, ...]
    tests: tuple[BenchTest, ...]
    test_flags: tuple[str, ...]
    repetitions: int
    settings: dict[str, tuple[str, ...]]
    binary: str | None = None
    arm: Arm | None = None
    extra: tuple[str, ...] = ()


class SavedRows(msgspec.Struct, frozen=True):
    """Rows as they are kept: what was measured, and the facts of the models and the machine that it is judged by."""

    format: int
    rows: tuple[BenchRow, ...]
    models: dict[str, ModelFacts]
    machine: dict[str, str] = {}


def check(asked: RowsRequest, headers: Mapping[str, str]) -> dict[str, ModelFacts]:
    """The models' facts by file. Raises RequestWrong or ModelUnusable for what cannot be done; measures nothing."""
    models = {model: model_in_file(Path(model)) for model in asked.models}
    if asked.binary is not None:
        from_binary.check(asked.binary, binary_flags(asked, ""))
    for arm in _arms(asked):
        from_server.check(arm, asked.settings, headers)
    return models


def measured(
    asked: RowsRequest, models: Mapping[str, ModelFacts], headers: Mapping[str, str], log_folder: Path, say: Say
) -> Iterator[BenchRow]:
    """Every row as it is measured: all by llama-bench, then all by the server. Failures are rows with an error."""
    carried: dict[str, tuple[str, ...]] = {}
    for model in asked.models if asked.binary is not None else ():
        say(f"llama-bench: {Path(model).name}")
        try:
            for row in from_binary.rows_by_binary(str(asked.binary), binary_flags(asked, model)):
                carried = carried or _carried(row)
                yield row
        except TrialFailed as error:
            yield _failed_binary(model, models[model], str(error))
    for arm in _arms(asked):
        settings = {**carried, **asked.settings} if not arm.runs_already else asked.settings
        model = models.get(asked.models[0] if arm.runs_already and asked.models else arm.model)
        yield from from_server.rows_by_server(
            arm, asked.tests, settings, asked.repetitions, model, headers, log_folder / f"{arm.engine}.log", say
        )


def binary_flags(asked: RowsRequest, model: str) -> list[str]:
    """llama-bench's command line, without the program and the output's format."""
    flags = ["-m", model, *asked.test_flags, "-r", str(asked.repetitions)]
    for name, values in asked.settings.items():
        # Builds that know only 0 and 1 take `on` for 0, without a word.
        flags += [FLAGS[name], ",".join(from_binary.FLASH_ATTN.get(value, value) for value in values)]
    return [*flags, *asked.extra]


def judged(
    rows: Sequence[BenchRow], models: Mapping[str, ModelFacts], stated: CardLimits | None, *, everywhere: bool
) -> list[RatedRow]:
    """The rows with what they say of the machine. `stated`: the card that the user named, or, where it is for rows on a
    CPU too (`everywhere`), the figures that the user gave."""
    known = known_devices()
    found: list[RatedRow] = []
    for row in rows:
        model = models.get(row.model) or facts_from_size(row)
        device, why = _device(row, known, stated, everywhere=everywhere)
        found.append(RatedRow(row, efficiency(row, model, device, why), model, device))
    return found


def known_devices() -> tuple[CardLimits, ...]:
    """Those of devices.toml, which ships with the program."""
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
            f"{path} is one of {parts} parts of a model; name the first of them, …-00001-of-{parts:05d}.gguf"
        )
    return model_facts([first, *(_header(path.with_name(name)) for name in names[1:])])


def read_rows(path: Path) -> SavedRows:
    """Rows kept by `--out`, or what llama-bench printed in any of its formats, tables in a text too. Raises
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
                raise RequestWrong(f"{path} is of format {saved.format}; this version reads {FORMAT_VERSION}.")
            return saved
        rows = tuple(row for run in readers.read(text, path.stem) or () for row in run.rows)
    except msgspec.DecodeError as error:
        raise RequestWrong(f"{path} holds no rows: {error}") from error
    if not rows:
        raise RequestWrong(
            f"{path} holds no rows: give what llama-bench printed (md, csv, json, jsonl or sql), or a folder of --out."
        )
    files = {row.model for row in rows if Path(row.model).is_file()}
    return SavedRows(FORMAT_VERSION, rows, {name: model_in_file(Path(name)) for name in files})


def document(entry: RatedRow) -> dict[str, Any]:
    """A row as JSON with what was computed from it; unrounded. Any: JSON."""
    row, used, device = entry.row, entry.efficiency, entry.device
    return {
        **msgspec.to_builtins(row),
        "label": row.test.label,
        "rate_per_s": row.rate_per_s,
        "deviation_per_s": row.deviation_per_s,
        "efficiency": msgspec.to_builtins(used),
        "device": None if device is None else msgspec.to_builtins(device),
    }


def _device(
    row: BenchRow, known: Sequence[CardLimits], stated: CardLimits | None, *, everywhere: bool
) -> tuple[CardLimits | None, str]:
    """The card that a row's figures are held against, or None and why."""
    on_cpu = row.backend in ("CPU", "BLAS", "BLAS,CPU")
    if stated is not None and (everywhere or not on_cpu):
        return stated, ""
    if on_cpu:
        return None, "it ran on the CPU, and how fast its memory is nobody says; state it with --bandwidth (GB/s)"
    if len(row.devices) == 0:
        return None, "which card it ran on is not known; name it with --card"
    if len(row.devices) > 1:
        return (
            None,
            f"it could use {len(row.devices)} cards, and a share is of one; leave one visible, or name one with --card",
        )
    (name,) = row.devices
    why = f"there are no figures of a card {name!r}; name a known one with --card, or state them: --bandwidth, --tflops"
    device = find_device(known, name)
    return device, "" if device else why


def _arms(asked: RowsRequest) -> list[Arm]:
    """The server's arm for each model."""
    if asked.arm is None:
        return []
    arm = msgspec.structs.replace(asked.arm, args=(*asked.extra, *asked.arm.args))
    if arm.runs_already:
        return [arm]
    return [msgspec.structs.replace(arm, model=model) for model in asked.models]


def _carried(row: BenchRow) -> dict[str, tuple[str, ...]]:
    """A row's own settings for the server; -1 is llama.cpp's way to say that nothing was asked."""
    return {name: (row.settings[name],) for name in CARRIED if row.settings.get(name, "-1") != "-1"}


def _failed_binary(model: str, facts: ModelFacts, error: str) -> BenchRow:
    return BenchRow(
        test=BenchTest(0, 0),
        way="llama-bench",
        clock="llama-bench",
        engine="llama-bench",
        model=model,
        description=facts.description,
        size_bytes=facts.weight_bytes,
        parameters=facts.parameters,
        backend="",
        error=error,
    )


def _header(path: Path) -> Header:
    if path.is_dir():
        raise ModelUnusable(f"-m: {path} is a folder; name a .gguf file in it.")
    try:
        with path.open("rb") as file:
            return header_of(file, str(path))
    except FileNotFoundError as error:
        raise ModelUnusable(f"-m: there is no file {path}. standin:demo is a model to try without one.") from error
    except OSError as error:
        raise ModelUnusable(f"-m: {path} cannot be read: {error.strerror}") from error

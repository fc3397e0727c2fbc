"""Measuring rows: checks a request, then measures row by row through llama-bench, a server, or both."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from inferometer.base.errors import TrialFailed
from inferometer.core.spec import Arm
from inferometer.engine_bench import binary_rows, server_rows
from inferometer.engine_bench.bench_files import model_in_file
from inferometer.engine_bench.server_rows import FLAGS, OnStep
from inferometer.llama_bench.gguf_facts import ModelFacts
from inferometer.llama_bench.row import BenchRow, BenchTest

SHARED_SETTINGS = ("n_gpu_layers", "n_threads")
"""Settings that a server takes over from llama-bench's rows if both measure and the user gave none: their defaults
differ, and the rows must be comparable."""


class RowsRequest(msgspec.Struct, frozen=True):
    """What to measure. `settings`: values by llama-bench's field names (those of FLAGS), only those that were given.

    `binary`: the llama-bench to run; `arm`: the server to measure, its model one of `models`. At least one of the two.
    `extra`: flags passed on unchanged to llama-bench and to the server. `models`: files; may be empty for an external
    server.
    """

    models: tuple[str, ...]
    tests: tuple[BenchTest, ...]
    test_flags: tuple[str, ...]
    repetitions: int
    settings: dict[str, tuple[str, ...]]
    binary: str | None = None
    arm: Arm | None = None
    extra: tuple[str, ...] = ()


def check_request(request: RowsRequest, headers: Mapping[str, str]) -> dict[str, ModelFacts]:
    """Check the request; returns the models' facts by file. Measures nothing. Raises RequestWrong or ModelUnusable."""
    models = {model: model_in_file(Path(model)) for model in request.models}
    if request.binary is not None:
        binary_rows.check_binary(request.binary, binary_flags(request, ""))
    for arm in _arms(request):
        server_rows.check_server(arm, request.settings, headers)
    return models


def measure_rows(
    request: RowsRequest,
    models: Mapping[str, ModelFacts],
    headers: Mapping[str, str],
    log_folder: Path,
    on_step: OnStep,
) -> Iterator[BenchRow]:
    """Yield each row when it is measured: first llama-bench's, then the server's. A failure is a row with an error."""
    shared: dict[str, tuple[str, ...]] = {}
    for model in request.models if request.binary is not None else ():
        on_step(f"llama-bench: {Path(model).name}")
        try:
            for row in binary_rows.rows_by_binary(str(request.binary), binary_flags(request, model)):
                shared = shared or _shared_settings(row)
                yield row
        except TrialFailed as error:
            yield _failed_binary_row(model, models[model], str(error))
    for arm in _arms(request):
        settings = {**shared, **request.settings} if not arm.runs_already else request.settings
        model = models.get(request.models[0] if arm.runs_already and request.models else arm.model)
        yield from server_rows.rows_by_server(
            arm, request.tests, settings, request.repetitions, model, headers, log_folder / f"{arm.engine}.log", on_step
        )


def binary_flags(request: RowsRequest, model: str) -> list[str]:
    """llama-bench's command line, without the program and the output's format."""
    flags = ["-m", model, *request.test_flags, "-r", str(request.repetitions)]
    for name, values in request.settings.items():
        # Builds that know only 0 and 1 read `on` as 0 without a warning.
        flags += [FLAGS[name], ",".join(binary_rows.FLASH_ATTN.get(value, value) for value in values)]
    return [*flags, *request.extra]


def _arms(request: RowsRequest) -> list[Arm]:
    """The server's arms, one for each model."""
    if request.arm is None:
        return []
    arm = msgspec.structs.replace(request.arm, args=(*request.extra, *request.arm.args))
    if arm.runs_already:
        return [arm]
    return [msgspec.structs.replace(arm, model=model) for model in request.models]


def _shared_settings(row: BenchRow) -> dict[str, tuple[str, ...]]:
    """The settings of a row that the server takes over; -1 means in llama.cpp that none was requested."""
    return {name: (row.settings[name],) for name in SHARED_SETTINGS if row.settings.get(name, "-1") != "-1"}


def _failed_binary_row(model: str, facts: ModelFacts, error: str) -> BenchRow:
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

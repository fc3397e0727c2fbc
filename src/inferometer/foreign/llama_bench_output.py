"""Reader of llama-bench's JSON (an array or one object per line), csv and sql; checked with build 11434.

`llama_bench_table` reads its Markdown.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from inferometer.base.errors import RequestWrong, TrialFailed
from inferometer.base.text import sanitize
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.log_heads import remover
from inferometer.llama_bench.row import BenchRow, BenchTest

SETTINGS = (
    "n_gpu_layers", "n_cpu_moe", "n_threads", "n_batch", "n_ubatch", "type_k", "type_v", "main_gpu", "split_mode",
    "no_kv_offload", "flash_attn", "devices", "tensor_split", "use_mmap", "load_mode", "embeddings", "no_op_offload",
)  # fmt: skip
"""The fields with a row's settings, in the order of llama-bench's columns."""

_KNOWN_BY = frozenset({"n_prompt", "n_gen", "avg_ts"})
"""Fields that every version writes, and that no other tool has together."""
_INSERT = re.compile(r"INSERT INTO \w+ \((?P<fields>[^)]*)\) VALUES \((?P<values>.*)\);\s*$")


class _Entry(msgspec.Struct):
    """The fields that rows need, by build 11434's source. Fields with a default are missing in builds of 2024, and
    `samples_ns` exists only in JSON."""

    n_prompt: int
    n_gen: int
    model_filename: str
    model_type: str
    model_size: int
    model_n_params: int
    build_commit: str
    build_number: int
    gpu_info: str
    n_depth: int = 0
    backends: str = ""
    samples_ns: tuple[int, ...] = ()
    avg_ts: float | None = None
    stddev_ts: float | None = None


def runs_of(text: str, name: str) -> Sequence[ForeignRun] | None:
    """One run, of all rows of a file. Raises RequestWrong for llama-bench output that cannot be read."""
    rows = _rows_of_json(text) or _rows_of_csv(text) or _rows_of_sql(text)
    return [ForeignRun(name, "llama-bench", rows=tuple(rows))] if rows else None


def rows_of(text: str) -> list[BenchRow]:
    """All rows of a JSON output, in its order. Raises TrialFailed if it is not output of llama-bench."""
    stripped = text.strip()
    if stripped.startswith("["):
        entries = _decoded(stripped)
        return [row_of(entry) for entry in (cast("list[Any]", entries) if isinstance(entries, list) else [entries])]
    return [row_of(_decoded(line)) for line in stripped.splitlines() if line.startswith("{")]


def row_of_line(line: str) -> BenchRow | None:
    """The row of one line of `-o jsonl`; None for a line without a row."""
    return row_of(_decoded(line)) if line.lstrip().startswith("{") else None


def row_of(entry: Any) -> BenchRow:
    """One object of the output as a row. Raises TrialFailed. `entry`: any JSON value, or a dict of texts."""
    try:
        found = msgspec.convert(entry, _Entry, strict=False)
    except msgspec.ValidationError as error:
        raise TrialFailed(
            f"llama-bench's output has an unknown form: {error}. Check that the program is llama-bench."
        ) from error
    if any(sample <= 0 for sample in found.samples_ns):
        raise TrialFailed("llama-bench's output has a test that took no time. Check that the program is llama-bench.")
    fields = cast("dict[str, Any]", entry)
    return BenchRow(
        test=BenchTest(found.n_prompt, found.n_gen, found.n_depth),
        way="llama-bench",
        clock="llama-bench",
        engine=engine_of(found.build_commit, found.build_number),
        model=sanitize(found.model_filename),
        description=sanitize(found.model_type),
        size_bytes=found.model_size,
        parameters=found.model_n_params,
        backend=sanitize(found.backends) or _older_backend(fields),
        devices=_devices(found),
        settings={name: _word(fields[name]) for name in SETTINGS if name in fields},
        samples_ns=found.samples_ns,
        reported_rate_per_s=None if found.samples_ns else _finite(found.avg_ts),
        reported_deviation_per_s=None if found.samples_ns else _finite(found.stddev_ts),
    )


def engine_of(commit: str, number: int) -> str:
    """Name of a build: by its number, else by its commit."""
    return "llama-bench " + (f"b{number}" if number else sanitize(commit) or "unknown build")


def _rows_of_json(text: str) -> list[BenchRow]:
    """Empty for anything but JSON of llama-bench."""
    begin = text.lstrip()[:4000]
    if not begin.startswith(("[", "{")) or not all(f'"{field}"' in begin for field in _KNOWN_BY):
        return []
    return _readable(lambda: rows_of(text))


def _rows_of_csv(text: str) -> list[BenchRow]:
    """Output on standard error may be mixed into the lines."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if set(line.replace('"', "").split(",")) >= _KNOWN_BY), None)
    if start is None:
        return []
    head = lines[start][: max(0, lines[start].find("build_commit"))].removesuffix('"')
    removed = remover(head)
    table = [removed(line) or line for line in lines[start:]] if head.strip() else lines[start:]
    return _readable(lambda: _rows_of_lines(table))


def _rows_of_sql(text: str) -> list[BenchRow]:
    rows: list[BenchRow] = []
    for line in text.splitlines():
        found = _INSERT.match(line)
        if found is None:
            continue
        fields, values = found["fields"].replace(" ", ""), found["values"]
        if set(fields.split(",")) >= _KNOWN_BY:
            rows += _readable(lambda lines=(fields, values): _rows_of_lines(lines, quotechar="'"))
    return rows


def _rows_of_lines(lines: Iterable[str], quotechar: str = '"') -> list[BenchRow]:
    """The first line names the fields; lines with another number of fields are skipped."""
    fields, *entries = csv.reader(lines, quotechar=quotechar, skipinitialspace=True)
    return [row_of(dict(zip(fields, entry, strict=True))) for entry in entries if len(entry) == len(fields)]


def _readable(rows: Callable[[], list[BenchRow]]) -> list[BenchRow]:
    """The rows. Errors, and a result without rows, become RequestWrong: the file is wrong, and no trial failed."""
    try:
        found = rows()
    except (TrialFailed, ValueError, csv.Error) as error:
        raise RequestWrong(f"the llama-bench output cannot be read, it may be cut off: {error}") from error
    if not found:
        raise RequestWrong("the llama-bench output has no row: it may have been stopped before its first test ended.")
    return found


def _devices(entry: _Entry) -> tuple[str, ...]:
    """The GPUs that the build sees, separated by commas, in 2024 by slashes."""
    return tuple(name.strip() for name in re.split(r", |/", sanitize(entry.gpu_info)) if name.strip())


def _older_backend(fields: dict[str, Any]) -> str:
    """The backend in builds before the field `backends`, which had one flag each; CUDA's flag included ROCm."""
    known = {"cuda": "CUDA/ROCm", "vulkan": "Vulkan", "metal": "Metal", "sycl": "SYCL", "gpu_blas": "GPU BLAS"}
    return next((name for flag, name in known.items() if fields.get(flag) not in (None, False, 0, "0", "")), "CPU")


def _word(value: Any) -> str:
    """A value as llama-bench's table prints it: true is 1."""
    if isinstance(value, bool):
        return str(int(value))
    return sanitize(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise TrialFailed(f"llama-bench did not write JSON: {error}: {text[:200]!r}") from error

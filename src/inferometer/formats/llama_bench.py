"""What did llama-bench measure? Its JSON, an array or one object a line, as rows; checked on build 11434."""

import re
from typing import Any, cast

import msgspec

from inferometer.bench_row import Row, Test
from inferometer.errors import TrialFailed
from inferometer.untrusted import harmless

SETTINGS = (
    "n_gpu_layers", "n_cpu_moe", "n_threads", "n_batch", "n_ubatch", "type_k", "type_v", "main_gpu", "split_mode",
    "no_kv_offload", "flash_attn", "devices", "tensor_split", "use_mmap", "load_mode", "embeddings", "no_op_offload",
)  # fmt: skip
"""The fields that say how a row was run, in the order of llama-bench's columns."""


class _Entry(msgspec.Struct):
    """The fields that rows are made of, by build 11434's source; those with a default are not in that of 2024."""

    n_prompt: int
    n_gen: int
    model_filename: str
    model_type: str
    model_size: int
    model_n_params: int
    samples_ns: tuple[int, ...]
    build_commit: str
    build_number: int
    gpu_info: str
    n_depth: int = 0
    backends: str = ""


def rows_of(text: str) -> list[Row]:
    """All rows of an output, in its order. Raises TrialFailed where it is no output of llama-bench."""
    stripped = text.strip()
    if stripped.startswith("["):
        entries = _decoded(stripped)
        return [row_of(entry) for entry in (cast("list[Any]", entries) if isinstance(entries, list) else [entries])]
    return [row_of(_decoded(line)) for line in stripped.splitlines() if line.startswith("{")]


def row_of_line(line: str) -> Row | None:
    """The row of one line of `-o jsonl`; None for a line that holds none."""
    return row_of(_decoded(line)) if line.lstrip().startswith("{") else None


def row_of(entry: Any) -> Row:
    """One object of the output as a row. Raises TrialFailed. `entry` is whatever the JSON held."""
    try:
        found = msgspec.convert(entry, _Entry)
    except msgspec.ValidationError as error:
        raise TrialFailed(f"llama-bench's JSON has another form than known: {error}. Is it another program?") from error
    fields = cast("dict[str, Any]", entry)
    build = f"b{found.build_number}" if found.build_number else harmless(found.build_commit) or "unknown build"
    return Row(
        test=Test(found.n_prompt, found.n_gen, found.n_depth),
        way="llama-bench",
        clock="llama-bench",
        engine=f"llama-bench {build}",
        model=harmless(found.model_filename),
        description=harmless(found.model_type),
        size_bytes=found.model_size,
        parameters=found.model_n_params,
        backend=harmless(found.backends) or _older_backend(fields),
        devices=_devices(found),
        settings={name: _word(fields[name]) for name in SETTINGS if name in fields},
        samples_ns=found.samples_ns,
    )


def _devices(entry: _Entry) -> tuple[str, ...]:
    """The GPUs that the build sees: by commas, in 2024 by strokes."""
    return tuple(name.strip() for name in re.split(r", |/", harmless(entry.gpu_info)) if name.strip())


def _older_backend(fields: dict[str, Any]) -> str:
    """Builds before `backends` had a flag for each; one for CUDA was for ROCm too."""
    known = {"cuda": "CUDA/ROCm", "vulkan": "Vulkan", "metal": "Metal", "sycl": "SYCL", "gpu_blas": "GPU BLAS"}
    return next((name for flag, name in known.items() if fields.get(flag)), "CPU")


def _word(value: Any) -> str:
    """A value as llama-bench's table prints it: true is 1."""
    if isinstance(value, bool):
        return str(int(value))
    return harmless(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise TrialFailed(f"llama-bench wrote no JSON: {error}: {text[:200]!r}") from error

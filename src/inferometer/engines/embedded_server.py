"""The program of the embedded engine's process: llama.cpp's HTTP server from the xllamacpp wheel.

It is started by path, not as a module of the package, and imports only xllamacpp, because everything in this process
counts as the engine's memory. Its settings arrive as one line of JSON. It ends when its standard input closes, that is,
when the program that started it has ended.
"""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

GPU_LAYERS = {"auto": -1, "all": -2}
FLASH_ATTN = ("on", "off", "auto")


class Settings(NamedTuple):
    """Settings of the server. None leaves a setting to llama.cpp. `context`: tokens of all slots together.

    `gpu_layers`: -1 as many as fit, -2 all. `flash_attn`: on, off or auto. `draft_model`: "" for no speculation.
    `verbosity`: the log level; llama.cpp's default is 3. `parameters`: more attributes of CommonParams, each with its
    value and the name of the value's enumeration, "" for a plain value.
    """

    model: str
    port: int
    context: int
    parallel: int = 1
    host: str = "127.0.0.1"
    threads: int | None = None
    flash_attn: str = "auto"
    gpu_layers: int | None = None
    draft_model: str = ""
    draft_n_max: int | None = None
    draft_n_min: int | None = None
    draft_p_min: float | None = None
    draft_gpu_layers: int | None = None
    verbosity: int = 3
    parameters: Sequence[Sequence[Any]] = ()


def serve(settings: Settings) -> Any:
    """A running xllamacpp.Server (the wheel ships no types); the server stops when the object is deleted.

    Raises RuntimeError if it cannot start; the reason is on stderr.
    """
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.hostnames = [settings.host]
    params.port = settings.port
    params.n_ctx = settings.context
    params.n_parallel = settings.parallel
    params.verbosity = settings.verbosity
    params.endpoint_metrics = True
    flash_attn = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = {
        "on": flash_attn.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": flash_attn.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": flash_attn.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }[settings.flash_attn]
    _set(params, n_gpu_layers=settings.gpu_layers)
    pools = [params.cpuparams, params.cpuparams_batch]
    if settings.draft_model:
        speculative = params.speculative
        speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = speculative.draft
        draft.mparams.path = settings.draft_model
        _set(draft, n_max=settings.draft_n_max, n_min=settings.draft_n_min, p_min=settings.draft_p_min)
        _set(draft, n_gpu_layers=settings.draft_gpu_layers)
        pools += [draft.cpuparams, draft.cpuparams_batch]
    for pool in pools:
        _set(pool, n_threads=settings.threads)
    for attribute, value, enumeration in settings.parameters:
        _set_attribute(params, attribute, _member(xllamacpp, enumeration, value) if enumeration else value)
    return xllamacpp.Server(params)


def _member(xllamacpp: Any, enumeration: str, value: Any) -> Any:
    """The member of one of the wheel's enumerations, or the members. Raises RuntimeError for an unknown one."""
    members: Any = getattr(xllamacpp, enumeration)
    try:
        return members[value] if isinstance(value, str) else [members[name] for name in value]
    except KeyError as error:
        known = ", ".join(member.name for member in members)
        raise RuntimeError(f"{enumeration} has no member {error}; known: {known}") from error


def _set_attribute(params: Any, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        params = getattr(params, parent)
    setattr(params, name, set(value) if isinstance(getattr(params, name), set) else value)


def _set(target: Any, **values: float | None) -> None:
    """Set each value that is not None on one of xllamacpp's untyped objects."""
    for name, value in values.items():
        if value is not None:
            setattr(target, name, value)


def gpu_names() -> list[str]:
    """Devices that can hold layers in this build of llama.cpp, except the CPU and its accelerators (ACCEL)."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    kinds = xllamacpp.ggml_backend_dev_type
    helpers = (kinds.GGML_BACKEND_DEVICE_TYPE_CPU, kinds.GGML_BACKEND_DEVICE_TYPE_ACCEL)
    return [str(device["name"]) for device in xllamacpp.get_device_info() if device["type"] not in helpers]


def main() -> None:
    if "--devices" in sys.argv:
        sys.stdout.writelines(f"{name}\n" for name in gpu_names())
        return
    settings = Settings(**json.loads(sys.stdin.readline()))
    try:
        server = serve(settings)
    except RuntimeError as error:
        sys.exit(f"the embedded engine could not start: {error}")
    sys.stdin.read()
    del server
    os._exit(0)  # skips Python's cleanup: threads of the server may still wait


if __name__ == "__main__":
    main()

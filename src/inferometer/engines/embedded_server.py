"""The program of the embedded engine's process: llama.cpp's HTTP server from the xllamacpp wheel.

Started by path, not as a module of the package, and with nothing imported but xllamacpp: what this process holds counts
as the engine's memory. Its settings come as one line of JSON; it ends when its standard input closes, that is when
whoever started it is gone.
"""

import importlib
import json
import os
import sys
from typing import Any, NamedTuple


class Settings(NamedTuple):
    """What the server is told. None leaves a setting to llama.cpp. `context` is the tokens of all slots together.

    `gpu_layers`: -1 as many as fit, -2 all. `flash_attn`: on, off or auto. `draft_model` "" is no speculation.
    `verbosity`: how much it logs; 3 is llama.cpp's own choice.
    """

    model: str
    port: int
    context: int
    parallel: int = 1
    host: str = "127.0.0.1"
    threads: int | None = None
    batch: int | None = None
    micro_batch: int | None = None
    flash_attn: str = "auto"
    gpu_layers: int | None = None
    draft_model: str = ""
    draft_n_max: int | None = None
    draft_n_min: int | None = None
    draft_p_min: float | None = None
    draft_gpu_layers: int | None = None
    verbosity: int = 3


def serve(settings: Settings) -> Any:
    """A running server; it ends with the object. Raises RuntimeError where it cannot start: stderr says why.

    An xllamacpp.Server: the wheel ships no types.
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
    _set(params, n_batch=settings.batch, n_ubatch=settings.micro_batch, n_gpu_layers=settings.gpu_layers)
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
    return xllamacpp.Server(params)


def _set(target: Any, **values: float | None) -> None:
    """Sets what is not None on one of xllamacpp's untyped objects."""
    for name, value in values.items():
        if value is not None:
            setattr(target, name, value)


def gpu_names() -> list[str]:
    """What this build of llama.cpp can put layers on, but the CPU and what merely helps it (ACCEL)."""
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
    os._exit(0)  # nothing of Python's own to tidy up; threads of the server may still wait


if __name__ == "__main__":
    main()

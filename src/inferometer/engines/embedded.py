"""The engine `embedded`: llama.cpp's server from the xllamacpp wheel, in a separate process."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from inferometer.base.errors import RequestWrong
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.named_models import NAMED_MODELS
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Sampling
from inferometer.engines import embedded_server, visible_devices
from inferometer.engines.base import (
    DEFAULT_SAMPLING,
    LLAMA_CPP,
    EngineDescription,
    Gpus,
    Inspection,
    Machine,
    OnSpawn,
    unwatched,
)
from inferometer.engines.command_line import in_place
from inferometer.engines.command_words import take
from inferometer.engines.embedded_flags import Parameter, flag_lines, parameter, unknown_flag
from inferometer.engines.embedded_server import FLASH_ATTN, GPU_LAYERS, Settings
from inferometer.engines.gpu_listing import gpus_of_wheel
from inferometer.engines.llama_cpp import DRAFT_FILE_FLAGS, DRAFT_FLAGS, METRIC_NAMES
from inferometer.engines.model_files import model_facts
from inferometer.engines.process import LOCALHOST, Launch, environment, free_port, late_facts, shown_command, started
from inferometer.engines.requested_settings import requested_settings

SLOT_CONTEXT_TOKENS = 4096
"""Context of each slot if the arm names none. llama.cpp's default is the model's maximum, which may not fit."""

MOST_SLOTS = 256
"""Of llama.cpp: LLAMA_MAX_SEQ."""

LOG_VERBOSITY = 4
"""llama.cpp's "trace", which logs effective settings and draft statistics. Its cost: docs/reference/engines.md."""

FLAGS = {
    "-c": "context", "--ctx-size": "context",
    "-t": "threads", "--threads": "threads",
    "-np": "parallel", "--parallel": "parallel",
    "-fa": "flash_attn", "--flash-attn": "flash_attn",
    "-md": "draft_model", "--spec-draft-model": "draft_model", "--model-draft": "draft_model",
    "-lv": "verbosity", "--verbosity": "verbosity",
    "-ngl": "gpu_layers", "--gpu-layers": "gpu_layers", "--n-gpu-layers": "gpu_layers",
}  # fmt: skip
"""llama-server's flags that the embedded engine accepts → the setting that each flag sets."""


def _inspect(machine: Machine) -> Inspection:
    try:
        return Inspection("has", f"xllamacpp {importlib.metadata.version('xllamacpp')}")
    except importlib.metadata.PackageNotFoundError:
        return Inspection("none", "xllamacpp is not installed", "pip install xllamacpp")


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    """A model file with flags, or flags alone: `a.gguf -t 2`, `-t 2`, or nothing where the model is given apart."""
    is_model = bool(words) and (
        words[0].endswith(".gguf") or words[0].startswith("standin:") or words[0].lower() in NAMED_MODELS
    )
    if words and not is_model and not words[0].startswith("-"):
        return None
    model, args = take(words[is_model:], "-m", "--model")
    return {"model": words[0] if is_model else model, "args": args}


def _typed_command(arm: Arm) -> list[str]:
    """llama-server with the same settings."""
    found = settings_of(arm, port=0)
    ours = {"-c": found.context, "-np": found.parallel, "-t": found.threads}
    args = [part for word in arm.args for part in _without_equals(word)]
    known = {FLAGS[word] for word in args if word in FLAGS}
    words = ["llama-server", "-m", found.model]
    words += [part for flag, value in ours.items() if FLAGS[flag] not in known for part in (flag, str(value))]
    if arm.draft is not None:
        draft = {"-md": arm.draft.model, "--spec-type": "draft-simple", "--spec-draft-n-max": arm.draft.n_max,
                 "--spec-draft-n-min": arm.draft.n_min, "--spec-draft-p-min": arm.draft.p_min,
                 "-ngld": arm.draft.gpu_layers}  # fmt: skip
        words += [part for flag, value in draft.items() if value is not None for part in (flag, str(value))]
    return [*words, *args]


def _without_equals(word: str) -> list[str]:
    """`-ub=64` as `-ub 64`: llama-server takes a flag and its value as two words."""
    flag, equals, value = word.partition("=")
    return [flag, value] if equals and flag.startswith("-") else [word]


def _flag_lines() -> list[str]:
    own: dict[str, list[str]] = {}
    for spelling, setting in FLAGS.items():
        own.setdefault(setting, []).append(spelling)
    return [", ".join(spellings) for spellings in own.values()] + flag_lines()


class Embedded:
    """llama.cpp's server in a child process of this Python. It needs no key: `headers` are not sent to it."""

    description: ClassVar = EngineDescription(
        name="embedded",
        summary="llama.cpp's server from the xllamacpp wheel that is installed with Inferometer",
        family=LLAMA_CPP,
        takes_command=False,
        draft_flags=DRAFT_FLAGS,
        draft_file_flags=DRAFT_FILE_FLAGS,
        metric_names=METRIC_NAMES,
        inspect=_inspect,
        arm_of_command=_arm_of_command,
        typed_command=_typed_command,
        flags=_flag_lines,
    )

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        pass

    def check(self, arm: Arm) -> None:
        visible_devices.require_visible(arm.env)
        arm = in_place(arm)
        _version_facts()
        model_facts(arm)
        _require_gpu(settings_of(arm, port=0), arm)

    def start(
        self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched, sampling: Sampling = DEFAULT_SAMPLING
    ) -> AbstractContextManager[Endpoint]:
        arm = in_place(arm)
        facts = (*_version_facts(), *model_facts(arm))
        settings = settings_of(arm, free_port())
        command = (sys.executable, "-P", embedded_server.__file__)
        said = " ".join(f"{name}={value}" for name, value in settings._asdict().items() if value not in (None, ""))
        launch = Launch(
            name="the embedded engine",
            command=command,
            shown=f"{shown_command(command, arm.env)} # {said}",
            base_url=f"http://{LOCALHOST}:{settings.port}",
            env=arm.env,
            first_line=json.dumps(settings._asdict()),
            facts=(*facts, *requested_settings(arm, DRAFT_FLAGS)),
            model=Path(arm.model).name,
            llama_cpp=True,
            cwd=arm.cwd,
        )
        return started(launch, arm, log_path, on_spawn, sampling)

    def facts_at_end(self, endpoint: Endpoint) -> tuple[Fact, ...]:
        return late_facts(endpoint)

    def gpus(self, arm: Arm) -> Gpus | None:
        return gpus_of_wheel()

    def flash_attn_flags(self, arm: Arm, word: str) -> list[str]:
        return ["-fa", word]

    def gpu_layers_word(self, value: str) -> str:
        return "auto" if value == str(GPU_LAYERS["auto"]) else value

    def threads(self, arm: Arm) -> int | None:
        return settings_of(arm, port=0).threads


def settings_of(arm: Arm, port: int) -> Settings:
    """The arm as settings; `args` win over `threads` and `context`. Raises RequestWrong for a wrong flag or value."""
    given, parameters = _flags(arm.args)
    parallel = int(given.get("parallel", arm.slots or 1))
    if parallel > MOST_SLOTS:
        raise RequestWrong(
            f"llama.cpp has at most {MOST_SLOTS} slots, and {parallel} were asked for, one for each concurrent request."
            f" Lower the concurrency, or give the arm `slots: {MOST_SLOTS}`, and requests wait for one."
        )
    draft = arm.draft
    return Settings(
        model=arm.model,
        port=port,
        parallel=parallel,
        context=int(given.get("context", arm.context or SLOT_CONTEXT_TOKENS * parallel)),
        threads=int(given.get("threads", arm.threads or default_threads())),
        flash_attn=str(given.get("flash_attn", "auto")),
        gpu_layers=_int_or_none(given.get("gpu_layers")),
        draft_model=str(given.get("draft_model", "")) if draft is None else draft.model,
        draft_n_max=None if draft is None else draft.n_max,
        draft_n_min=None if draft is None else draft.n_min,
        draft_p_min=None if draft is None else draft.p_min,
        draft_gpu_layers=None if draft is None else draft.gpu_layers,
        verbosity=int(given.get("verbosity", LOG_VERBOSITY)),
        parameters=parameters,
    )


def default_threads() -> int:
    """The physical cores that this process may use, minus one for the client; at least 1.

    llama.cpp's own default takes all cores. Its threads wait for each other by spinning, so another process on one of
    the cores stops all threads. Measured on 2 cores with the demo's model: with 2 threads 56 tok/s on an idle machine
    and 2 to 11 on a busy one; with 1 thread 31 and 20.
    """
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, usable) - 1)


def _flags(args: tuple[str, ...]) -> tuple[dict[str, int | str], list[Parameter]]:
    """Settings by name and further parameters, parsed from flags in llama-server's form."""
    given: dict[str, int | str] = {}
    parameters: list[Parameter] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag in FLAGS:
            given[FLAGS[flag]] = _value(flag, value if equals else rest.pop(0) if rest else None)
            continue
        found = parameter(word, rest)
        if found is None:
            raise unknown_flag(word, list(FLAGS))
        parameters.append(found)
    return given, parameters


def _value(flag: str, text: str | None) -> int | str:
    if text is None:
        raise RequestWrong(f"{flag} needs a value after it")
    if FLAGS[flag] == "draft_model":
        return text
    if FLAGS[flag] == "flash_attn":
        if text not in FLASH_ATTN:
            raise RequestWrong(f"{flag} is one of {', '.join(FLASH_ATTN)}, not {text!r}")
        return text
    if FLAGS[flag] == "gpu_layers" and text in GPU_LAYERS:
        return GPU_LAYERS[text]
    least = 0 if FLAGS[flag] in ("gpu_layers", "context") else 1
    if not text.isdecimal() or int(text) < least:
        raise RequestWrong(f"{flag} needs a whole number of at least {least}, not {text!r}")
    return int(text)


def _require_gpu(settings: Settings, arm: Arm) -> None:
    """Raises RequestWrong if the arm wants layers on a GPU and the wheel sees none: llama.cpp would use the CPU."""
    asked = {"-ngl": settings.gpu_layers, "draft.gpu_layers": settings.draft_gpu_layers}
    name, layers = next(((name, value) for name, value in asked.items() if value not in (None, 0, -1)), ("", 0))
    if name and not _gpus(tuple(sorted(arm.env.items()))):
        said = "all" if layers == GPU_LAYERS["all"] else layers
        raise RequestWrong(
            f"{name} {said} asks for layers on a GPU, and the embedded engine knows none: the wheel of xllamacpp is "
            "built for a CPU. Leave it out, or use engine: llama-server with a build for your GPU."
        )


@functools.cache
def _gpus(env: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The wheel's devices except the CPU. Listed in a separate process, because the wheel's library is large."""
    done = subprocess.run(
        [sys.executable, "-P", embedded_server.__file__, "--devices"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(dict(env)),
        check=False,
    )
    return tuple(done.stdout.splitlines())


def _int_or_none(value: int | str | None) -> int | None:
    return None if value is None else int(value)


def _version_facts() -> tuple[Fact, ...]:
    """The wheel's version; its last part is llama.cpp's build number. Raises RequestWrong if no wheel is installed."""
    try:
        version = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError as error:
        raise RequestWrong("the embedded engine needs xllamacpp: pip install xllamacpp") from error
    build = version.rpartition(".")[2]
    return (
        Fact(quantities.ENGINE, Embedded.description.name, "the arm"),
        Fact(quantities.ENGINE_VERSION, f"llama.cpp b{build} (xllamacpp {version})", "the installed package"),
    )

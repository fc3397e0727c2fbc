"""The engine `llama-server`: any build or fork of llama.cpp's server; the arm's own flags are passed on unchanged."""

import functools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.redactor import Redactor
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.redaction import redactor_for
from inferometer.core.spec import Arm, Draft
from inferometer.engines import visible_devices
from inferometer.engines.base import LLAMA_CPP, EngineDescription, Gpus, Inspection, Machine
from inferometer.engines.command import Command
from inferometer.engines.command_line import address_of, given, in_place, listening_flags, program
from inferometer.engines.command_words import is_program, take, with_listening, without_placeholders, wrapped_command
from inferometer.engines.failure_log import advice
from inferometer.engines.gpu_listing import listed
from inferometer.engines.help_text import arguments_of, complaint
from inferometer.engines.llama_cpp import DRAFT_FILE_FLAGS, DRAFT_FLAGS, METRIC_NAMES
from inferometer.engines.model_files import model_facts
from inferometer.engines.process import Launch, environment, shown_command
from inferometer.engines.requested_settings import GPU_LAYER_FLAGS, requested_settings

QUESTION_TIMEOUT_S = 60.0
"""For --version and --help: a GPU build initialises its driver first."""

MODEL_FLAGS = ("-m", "--model")
DRAFT_GPU_LAYER_FLAGS = ("-ngld", "--spec-draft-ngl", "--gpu-layers-draft", "--n-gpu-layers-draft")
ELSEWHERE_FLAGS = frozenset({"--rpc", "--device", "-dev"})
"""With one of these flags, the devices are not the ones that we can list."""
LOG_FLAGS = frozenset({"-lv", "--verbosity", "--log-verbosity", "-v", "--verbose", "--log-verbose", "--log-disable"})
LOG_VERBOSITY = "4"
"""Level "trace". Its cost: docs/reference/engines.md."""
_DOWNLOAD_FLAGS = frozenset({"-hf", "-hfr", "--hf-repo", "-mu", "--model-url"})
ADVICE = (
    "Give the path of a llama-server (binary: /path/to/llama.cpp/build/bin/llama-server), or use engine: embedded, "
    "which needs none."
)


_FLASH_ATTN_TAKES_VALUE = re.compile(r"--flash-attn +(?:\[|\{|<|[A-Z]{2,}\b)")
"""`-fa,   --flash-attn [on|off|auto]` or `FA`; in older help the description of the switch follows."""


def _inspect(machine: Machine) -> Inspection:
    """Version and devices of the llama-server on PATH. A CPU build on a machine with a GPU is reported as `part`."""
    backend = " -DGGML_CUDA=ON" if machine.nvidia_gpus else " -DGGML_HIP=ON" if machine.amd_gpus else ""
    build = f"cmake -B build{backend} && cmake --build build --target llama-server llama-bench, in llama.cpp's source"
    path = machine.which("llama-server")
    if path is None:
        return Inspection("none", "not on PATH (a study can name one: binary:)", build)
    try:
        lines, listing = (_answer(path, 0, flag, (), "") for flag in ("--version", "--list-devices"))
    except RequestWrong:
        lines, listing = "", ""
    version = next((line.strip() for line in lines.splitlines() if line.startswith("version")), "unknown version")
    seen = devices_listed(listing)
    said = f"{path}: {version}; devices: {'; '.join(seen) or 'no GPU'}"
    if (machine.nvidia_gpus or machine.amd_gpus) and not seen:
        return Inspection("part", said, build)
    return Inspection("has", said)


def _arm_of_command(words: Sequence[str]) -> dict[str, Any] | None:
    if not words or not is_program(words[0], "llama-server"):
        return wrapped_command(words, "llama-server")
    model, args = take(without_placeholders(words[1:]), *MODEL_FLAGS)
    if not model and any(word.partition("=")[0] in _DOWNLOAD_FLAGS for word in words):
        return {"command": with_listening(words)}
    return {"binary": words[0], "model": model, "args": args}


class LlamaServer(Command):
    """llama.cpp's server, installed on this machine. Its key (--api-key, LLAMA_API_KEY) goes with every request."""

    description: ClassVar = EngineDescription(
        name="llama-server",
        summary="llama.cpp's server: any build or fork on this machine",
        family=LLAMA_CPP,
        draft_flags=DRAFT_FLAGS,
        draft_file_flags=DRAFT_FILE_FLAGS,
        metric_names=METRIC_NAMES,
        inspect=_inspect,
        arm_of_command=_arm_of_command,
    )

    def launch(self, arm: Arm) -> Launch:
        if arm.command:
            return super().launch(arm)
        visible_devices.require_visible(arm.env)
        arm = _with_given_model(in_place(arm))
        facts = model_facts(arm)
        binary = program(arm, "llama-server", ADVICE)
        version = _version(binary, arm)
        help_text = _ask(binary, "--help", arm)
        address = address_of(arm)
        command = (binary, *own_flags(arm, listening_flags(arm, address), help_text), *arm.args)
        _require_known(binary, command[1:], help_text, redactor_for([arm]))
        _require_gpu(binary, arm, help_text)
        key = (given(arm.args, "--api-key") or arm.env.get("LLAMA_API_KEY", "")).partition(",")[0]
        return Launch(
            name=Path(binary).name,
            command=command,
            shown=shown_command(command, arm.env),
            base_url=address.base_url,
            env=arm.env,
            headers={**self.headers, **({"Authorization": f"Bearer {key}"} if key else {})},
            facts=(
                Fact(quantities.ENGINE, self.description.name, "the arm"),
                Fact(quantities.ENGINE_VERSION, version, f"{Path(binary).name} --version"),
                *facts,
                *requested_settings(arm, DRAFT_FLAGS, arguments_of(help_text)),
            ),
            model=Path(arm.model).name,
            llama_cpp=True,
            cwd=arm.cwd,
        )

    def gpus(self, arm: Arm) -> Gpus | None:
        return listed(_ask(program(arm, "llama-server", ADVICE), "--list-devices", arm))

    def flash_attn_flags(self, arm: Arm, word: str) -> list[str]:
        """Builds before late 2025 have a switch without a value: `-fa` or nothing."""
        if _FLASH_ATTN_TAKES_VALUE.search(_ask(program(arm, "llama-server", ADVICE), "--help", arm)):
            return ["-fa", word]
        if word == "auto":
            raise RequestWrong(f"-fa auto: {arm.binary} knows only on and off; give -fa 0 or -fa 1.")
        return ["-fa"] if word == "on" else []

    def gpu_layers_word(self, value: str) -> str:
        return value

    def threads(self, arm: Arm) -> int | None:
        return None


def own_flags(arm: Arm, listening: list[str], help_text: str) -> list[str]:
    """The flags that we add: the model if the arm's args do not give it, `listening`, the draft's, `--metrics`.

    They come before the arm's own flags, so that the arm's win. Builds with a log level "trace" log the effective
    settings and the draft's work only at that level, so we set it.
    """
    flags = ["-m", arm.model] if given(arm.args, *MODEL_FLAGS) is None else []
    flags += listening
    if "4: trace" in help_text and "LLAMA_ARG_LOG_VERBOSITY" not in arm.env and LOG_FLAGS.isdisjoint(arm.args):
        flags += ["-lv", LOG_VERBOSITY]
    if _names(help_text, "--metrics") and "--metrics" not in arm.args:
        flags.append("--metrics")  # probes sample the engine's own counters
    return flags if arm.draft is None else flags + draft_flags(arm.draft, help_text)


def draft_flags(draft: Draft, help_text: str) -> list[str]:
    """The draft's flags as this binary's --help spells them.

    Builds with `--spec-type draft-simple` silently ignore a draft model without that flag; earlier builds (9093) refuse
    the flag. The help of builds with --spec-draft-n-max still lists the older flags, as removed. ik_llama.cpp takes the
    numbers within --spec-type.
    """
    flags = ["-md", draft.model]
    numbers = {"n_max": draft.n_max, "n_min": draft.n_min, "p_min": draft.p_min}
    said = {name: f"{value:g}" for name, value in numbers.items() if value is not None}
    if "--spec-type SPEC[:k=v" in help_text:
        stage = ",".join(f"{name}={value}" for name, value in said.items())
        return [*flags, "--spec-type", f"draft:{stage}" if stage else "draft", *_draft_layers(draft, help_text)]
    if _names(help_text, "draft-simple"):
        flags += ["--spec-type", "draft-simple"]
    is_new = _names(help_text, "--spec-draft-n-max")
    for name, value in said.items():
        older = {"n_max": "--draft-max", "n_min": "--draft-min", "p_min": "--draft-p-min"}[name]
        flags += [f"--spec-draft-{name.replace('_', '-')}" if is_new else older, value]
    return flags + _draft_layers(draft, help_text)


def _draft_layers(draft: Draft, help_text: str) -> list[str]:
    """The flag for the draft's layers on a GPU; empty if the draft does not say."""
    if draft.gpu_layers is None:
        return []
    known = [flag for flag in DRAFT_GPU_LAYER_FLAGS if _names(help_text, flag)]
    return [*(known or DRAFT_GPU_LAYER_FLAGS)[:1], str(draft.gpu_layers)]


def asks_for_gpu(arm: Arm) -> str:
    """The flag that requests layers on a GPU; "" if the arm requests none, or leaves it to llama.cpp."""
    for flags, value in (
        (GPU_LAYER_FLAGS, given(arm.args, *GPU_LAYER_FLAGS)),
        (DRAFT_GPU_LAYER_FLAGS, given(arm.args, *DRAFT_GPU_LAYER_FLAGS)),
    ):
        if value == "all" or (value is not None and value.isdecimal() and int(value) > 0):
            return f"{next(flag for flag in flags if flag in arm.args)} {value}"
    layers = 0 if arm.draft is None else arm.draft.gpu_layers or 0
    return f"draft.gpu_layers {layers}" if layers > 0 else ""


def devices_listed(text: str) -> list[str]:
    """The devices that --list-devices names: `CUDA0: NVIDIA …`."""
    _, _, listing = text.partition("Available devices:")
    return [line.strip() for line in listing.splitlines() if re.match(r"\s+\w+: ", line)]


def _require_known(binary: str, args: tuple[str, ...], help_text: str, redactor: Redactor) -> None:
    """Raises RequestWrong for an argument that the binary does not know, and for a program that is not a server."""
    known = arguments_of(help_text)
    if known and "--port" not in known:
        raise RequestWrong(
            f"binary: {binary} is another of llama.cpp's programs: its --help knows no --port. Name the llama-server "
            "next to it."
        )
    said = redactor.redact(complaint(args, known))
    if said:
        raise RequestWrong(
            f"binary: {binary} would not start: {said}\nSee its --help. A start command of your own (`command:`) is "
            "passed on unchecked."
        )


def _require_gpu(binary: str, arm: Arm, help_text: str) -> None:
    """Raises RequestWrong if the arm requests layers on a GPU and the binary sees none: it would use the CPU."""
    asked = asks_for_gpu(arm)
    if not asked or not ELSEWHERE_FLAGS.isdisjoint(arm.args) or "--list-devices" not in help_text:
        return
    listing = _ask(binary, "--list-devices", arm)
    if "Available devices:" in listing and not devices_listed(listing):
        hidden = [name for name in visible_devices.VISIBLE if name in arm.env]
        why = f"{hidden[0]}={arm.env[hidden[0]]} hides it, " if hidden else ""
        raise RequestWrong(
            f"{asked} asks for layers on a GPU, and {binary} sees none (--list-devices): {why}its driver is absent, or "
            "it was built for a CPU. It would run on the CPU without a word. Leave the flag out, or take a build for "
            "your GPU; inferometer doctor says what this machine has."
        )


def _with_given_model(arm: Arm) -> Arm:
    """The arm with the model that its args name, if they name one; a relative path starts at the arm's `cwd`."""
    model = given(arm.args, *MODEL_FLAGS)
    if model is None:
        return arm
    return msgspec.structs.replace(arm, model=str(Path(arm.cwd).expanduser() / model) if arm.cwd else model)


def _names(help_text: str, flag: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", help_text) is not None


def _version(binary: str, arm: Arm) -> str:
    """The output of --version: `version: 11434 (c0ffee)`. Raises RequestWrong if this is not a llama.cpp program."""
    text = _ask(binary, "--version", arm)
    versions = [line.strip() for line in text.splitlines() if line.startswith(("version", "built with"))]
    if not any(line.startswith("version") for line in versions):
        said = sanitize(" ".join(text.split()), 200) or "nothing"
        raise RequestWrong(
            f"binary: {binary} is not a llama-server: it answers --version with: {said}\nTry: {advice(text, ADVICE)}"
        )
    return "; ".join(versions)


def _ask(binary: str, flag: str, arm: Arm) -> str:
    """Everything that the program prints for `flag`, on stdout and stderr. Cached by file and environment."""
    changed_ns = Path(binary).stat().st_mtime_ns if Path(binary).exists() else 0
    return _answer(binary, changed_ns, flag, tuple(sorted(arm.env.items())), arm.cwd)


@functools.cache
def _answer(binary: str, changed_ns: int, flag: str, env: tuple[tuple[str, str], ...], cwd: str) -> str:
    """`changed_ns` distinguishes a program from an earlier one at the same path."""
    try:
        done = subprocess.run(
            [binary, flag],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(dict(env)),
            cwd=Path(cwd).expanduser() if cwd else None,
            timeout=QUESTION_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise RequestWrong(f"binary: {binary} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RequestWrong(f"binary: {binary} {flag} did not end in {QUESTION_TIMEOUT_S:g} s") from error
    return done.stdout.decode(errors="replace")

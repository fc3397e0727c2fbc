"""How is any llama-server binary started? Any build, any fork, any flags: the arm's own are passed on unchanged."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from inferometer.endpoint import Endpoint
from inferometer.engines.base import OnSpawn, unwatched
from inferometer.engines.model_files import model_facts
from inferometer.engines.process import LOCALHOST, Launch, free_port, refuse_used_port, shown_command, started
from inferometer.errors import RequestWrong
from inferometer.record import Fact
from inferometer.spec import Arm, Draft

QUESTION_TIMEOUT_S = 60.0
"""For --version and --help: a build for a GPU starts its driver first."""

MODEL_FLAGS = ("-m", "--model")
DRAFT_GPU_LAYER_FLAGS = ("-ngld", "--spec-draft-ngl", "--gpu-layers-draft", "--n-gpu-layers-draft")
ANY_HOST = ("0.0.0.0", "::", "[::]")


class LlamaServer:
    """llama.cpp's server as a program of the user's machine. A key given to it (--api-key, LLAMA_API_KEY) is sent."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})

    def check(self, arm: Arm) -> None:
        model_facts(_with_given_model(arm))
        _version(_binary(arm), arm)

    def start(self, arm: Arm, log_path: Path, on_spawn: OnSpawn = unwatched) -> AbstractContextManager[Endpoint]:
        arm = _with_given_model(arm)
        facts = model_facts(arm)
        binary = _binary(arm)
        version = _version(binary, arm)
        help_text = "" if arm.draft is None else _ask(binary, "--help", arm)
        port = int(_given(arm.args, "--port") or 0)
        host = _given(arm.args, "--host") or LOCALHOST
        host = LOCALHOST if host in ANY_HOST else host.strip("[]")
        if port:
            refuse_used_port(host, port)
        port = port or free_port()
        key = (_given(arm.args, "--api-key") or arm.env.get("LLAMA_API_KEY", "")).partition(",")[0]
        command = (binary, *own_flags(arm, port, help_text), *arm.args)
        launch = Launch(
            name=Path(binary).name,
            command=command,
            shown=shown_command(command, arm.env),
            base_url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
            env=arm.env,
            headers={**self._headers, **({"Authorization": f"Bearer {key}"} if key else {})},
            facts=(
                Fact("engine", "llama-server", "the arm"),
                Fact("engine_version", version, f"{Path(binary).name} --version"),
                *facts,
            ),
            model=Path(arm.model).name,
        )
        return started(launch, arm, log_path, on_spawn)


def own_flags(arm: Arm, port: int, help_text: str) -> list[str]:
    """The flags that we add: model, host and port where the arm's args do not give them, and the draft's.

    They come before the arm's own, so that the arm's win.
    """
    flags: list[str] = []
    if _given(arm.args, *MODEL_FLAGS) is None:
        flags += ["-m", arm.model]
    if _given(arm.args, "--host") is None:
        flags += ["--host", LOCALHOST]
    if _given(arm.args, "--port") is None:
        flags += ["--port", str(port)]
    return flags if arm.draft is None else flags + draft_flags(arm.draft, help_text)


def draft_flags(draft: Draft, help_text: str) -> list[str]:
    """The draft spelled as this binary's --help does.

    Builds that know --spec-draft-n-max ignore a draft model, without a word, unless --spec-type asks for it. Help of
    these builds still names the older flags, to say that they are gone.
    """
    if _names(help_text, "--spec-draft-n-max"):
        flags = ["-md", draft.model, "--spec-type", "draft-simple"]
        spelled = ("--spec-draft-n-max", "--spec-draft-n-min", "--spec-draft-p-min")
    else:
        flags = ["-md", draft.model]
        spelled = ("--draft-max", "--draft-min", "--draft-p-min")
    for flag, value in zip(spelled, (draft.n_max, draft.n_min, draft.p_min), strict=True):
        if value is not None:
            flags += [flag, f"{value:g}"]
    if draft.gpu_layers is not None:
        known = [flag for flag in DRAFT_GPU_LAYER_FLAGS if _names(help_text, flag)]
        flags += [*(known or DRAFT_GPU_LAYER_FLAGS)[:1], str(draft.gpu_layers)]
    return flags


def _with_given_model(arm: Arm) -> Arm:
    """The arm with the model that its own args name, where they do."""
    return msgspec.structs.replace(arm, model=_given(arm.args, *MODEL_FLAGS) or arm.model)


def _names(help_text: str, flag: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", help_text) is not None


def _given(args: tuple[str, ...], *flags: str) -> str | None:
    """The value after the last of `flags` in `args`; None where none is there."""
    values = [args[i + 1] for i in range(len(args) - 1) if args[i] in flags]
    return values[-1] if values else None


def _binary(arm: Arm) -> str:
    """The program's path. Raises RequestWrong where there is none that can be run."""
    found = shutil.which(arm.binary, path={**os.environ, **arm.env}.get("PATH"))
    if found is not None:
        return found
    path = Path(arm.binary)
    if path.is_dir():
        raise RequestWrong(f"binary: {arm.binary} is a folder; name the program in it ({path / 'llama-server'}?)")
    if path.exists():
        raise RequestWrong(f"binary: {arm.binary} may not be executed; try chmod +x {arm.binary}")
    where = "there is no such file" if path.name != arm.binary else "it is not on PATH"
    raise RequestWrong(
        f"binary: {arm.binary}: {where}. Give the path of a llama-server (binary: /path/to/llama.cpp/build/bin/"
        "llama-server), or use engine: embedded, which needs none."
    )


def _version(binary: str, arm: Arm) -> str:
    """What --version says: `version: 11434 (c0ffee)`. Raises RequestWrong where this is no llama.cpp program."""
    text = _ask(binary, "--version", arm)
    versions = [line.strip() for line in text.splitlines() if line.startswith(("version", "built with"))]
    if not any(line.startswith("version") for line in versions):
        said = " ".join(text.split())[:200] or "nothing"
        raise RequestWrong(f"binary: {binary} is no llama-server: to --version it says: {said}")
    return "; ".join(versions)


def _ask(binary: str, flag: str, arm: Arm) -> str:
    """All that the program prints for `flag`, on stdout and stderr."""
    try:
        done = subprocess.run(
            [binary, flag],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **arm.env},
            timeout=QUESTION_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise RequestWrong(f"binary: {binary} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RequestWrong(f"binary: {binary} {flag} did not end in {QUESTION_TIMEOUT_S:g} s") from error
    return done.stdout.decode(errors="replace")

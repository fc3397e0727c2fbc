"""Models named by a Hugging Face name or folder, for engines that load them themselves."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inferometer.base.errors import ModelUnusable, RequestWrong
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Draft
from inferometer.engines.command_words import is_program, take, without_placeholders, wrapped_command
from inferometer.engines.model_files import GGUF_MAGIC

CONFIG = "config.json"
OWN_ENVIRONMENT = "in a separate environment, and name its program in the study (binary:)"


def source_facts(arm: Arm, engine: str) -> tuple[Fact, ...]:
    """Facts of the model and the draft. Raises ModelUnusable: a GGUF file, a folder without config, a missing path."""
    facts = _facts("model", arm.model, engine)
    return facts if arm.draft is None else facts + _facts("draft", arm.draft.model, engine)


def require_plain(draft: Draft, engine: str, instead: str) -> None:
    """Raises RequestWrong for draft settings that only llama.cpp has."""
    for name, value in (("n_min", draft.n_min), ("p_min", draft.p_min), ("gpu_layers", draft.gpu_layers)):
        if value is not None:
            raise RequestWrong(
                f"draft.{name}: {engine} has no such setting; of ours it takes `model` and `n_max`. {instead}"
            )
    if draft.n_max is None:
        raise RequestWrong(f"draft.n_max: {engine} needs the number of tokens to draft; for example n_max: 5")


def require_quotes(args: Sequence[str]) -> None:
    """Raises RequestWrong for a JSON argument whose quotes a shell has removed: the engine notices it after a minute of
    imports."""
    for arg in args:
        if found := re.search(r"(?:^|=)(\{\s*\w+\s*:.*)", arg, re.DOTALL):
            raise RequestWrong(
                f"args: {found[1]} is JSON without its quotes: a set-up of inferometer vs is read as a shell reads it. "
                """Put single quotes around it, as in "… '{\\"method\\": \\"ngram\\"}'"."""
            )


def arm_of_serve_command(
    words: Sequence[str], program: str, modules: Sequence[str], *model_flags: str
) -> dict[str, Any] | None:
    """The arm's fields from `PROGRAM serve MODEL …` or `python -m MODULE …`; None for another command line.

    `model_flags`: flags that name the model where it does not follow `serve`.
    """
    if len(words) > 1 and is_program(words[0], program) and words[1] == "serve":
        rest = list(words[2:])
    elif len(words) > 2 and words[1] == "-m" and words[2] in modules:
        rest = list(words[3:])
        rest = rest[1:] if rest[:1] == ["serve"] else rest
    else:
        return wrapped_command(words, program)
    model = rest.pop(0) if rest and not rest[0].startswith("-") else ""
    named, args = take(without_placeholders(rest), *model_flags)
    return {"binary": words[0], "model": model or named, "args": args}


def _facts(role: quantities.Role, name: str, engine: str) -> tuple[Fact, ...]:
    path = Path(name).expanduser()
    if path.is_dir():
        try:
            config = (path / CONFIG).read_bytes()
        except OSError as error:
            raise ModelUnusable(
                f"the {role} folder {path} has no {CONFIG} that can be read: {error.strerror}"
            ) from error
        return (
            Fact(quantities.model_fact(role, "folder"), path.name, "the folder"),
            Fact(
                quantities.model_fact(role, "config_sha256"),
                hashlib.sha256(config).hexdigest(),
                f"the folder's {CONFIG}",
            ),
        )
    if path.is_file():
        with path.open("rb") as file:
            is_gguf = file.read(4) == GGUF_MAGIC
        what = "a GGUF file" if is_gguf else "a file"
        raise ModelUnusable(
            f"the {role} {path} is {what}: {engine} takes a Hugging Face name (Qwen/Qwen2.5-Coder-32B-Instruct) or a "
            f"folder with a {CONFIG}. For a GGUF file use engine: llama-server or embedded."
        )
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is None or name.endswith(".gguf"):
        raise ModelUnusable(
            f"no {role} {name}: there is no such folder, and it is not a Hugging Face name (owner/name)"
        )
    return (Fact(quantities.model_fact(role, "name"), name, "the arm"),)

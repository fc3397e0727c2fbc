"""Models named by a Hugging Face name or folder, for engines that load them themselves."""

import hashlib
import re
from pathlib import Path

from inferometer.base.errors import ModelUnusable, RequestWrong
from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Draft
from inferometer.engines.model_files import GGUF_MAGIC

CONFIG = "config.json"
OWN_ENVIRONMENT = "in a separate environment, and name its program in the study (binary:)"


def source_facts(arm: Arm, engine: str) -> tuple[Fact, ...]:
    """The arm's model and its draft. Raises ModelUnusable: a GGUF, a folder without a config, a path to nothing."""
    facts = _facts("model", arm.model, engine)
    return facts if arm.draft is None else facts + _facts("draft", arm.draft.model, engine)


def require_plain(draft: Draft, engine: str, instead: str) -> None:
    """Raises RequestWrong for settings of a draft that only llama.cpp has."""
    for name, value in (("n_min", draft.n_min), ("p_min", draft.p_min), ("gpu_layers", draft.gpu_layers)):
        if value is not None:
            raise RequestWrong(
                f"draft.{name}: {engine} has no such setting; of ours it takes `model` and `n_max`. {instead}"
            )
    if draft.n_max is None:
        raise RequestWrong(f"draft.n_max: {engine} must be told how many tokens to draft; give n_max: 5, say")


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

"""Model names in a spec, resolved to files. The file of `standin:demo` is made at its first use."""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.named_models import NAMED_MODELS
from inferometer.core.spec import Arm
from inferometer.standin.cache import default_cache_dir
from inferometer.standin.named_model_files import named_model_file

STANDIN = "standin:"
SIZES = ("demo", "tiny")


def resolve(arm: Arm, draft_file_flags: Collection[str] = ()) -> Arm:
    """The arm with `standin:SIZE` and named models replaced by files: its model, its draft, and the values of
    `draft_file_flags` in its `args`. Raises RequestWrong for an unknown size, and for a named model that is not on this
    machine."""
    draft = arm.draft
    if draft is not None:
        draft = msgspec.structs.replace(draft, model=model_file(draft.model, "draft"))
    args = _with_files(arm.args, draft_file_flags)
    return msgspec.structs.replace(arm, model=model_file(arm.model, "target"), args=args, draft=draft)


def _with_files(words: Sequence[str], flags: Collection[str]) -> tuple[str, ...]:
    """The words with the values of `flags`, as `--flag value` or `--flag=value`, as files."""
    found: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag in flags:
            found.append(f"{flag}={model_file(value, 'draft')}")
        else:
            found.append(model_file(word, "draft") if found and found[-1] in flags else word)
    return tuple(found)


def standin_file(size: str, role: Literal["target", "draft"]) -> Path:
    """The stand-in's file, made on this machine at its first use. Raises RequestWrong for an unknown size."""
    if size not in SIZES:
        near = difflib.get_close_matches(size, SIZES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RequestWrong(f"there is no stand-in of size {size!r}.{hint} Known: {', '.join(SIZES)}.")
    from inferometer.standin.pairs import standin_pair  # imports numpy and gguf, so only when needed

    target, draft = standin_pair(default_cache_dir(), size)
    return target if role == "target" else draft


def model_file(name: str, role: Literal["target", "draft"]) -> str:
    """The path of a stand-in or a named model; any other name as it is. Raises RequestWrong as `resolve` does."""
    if name.lower() in NAMED_MODELS:
        return str(named_model_file(name.lower()))
    return str(standin_file(name.removeprefix(STANDIN), role)) if name.startswith(STANDIN) else name

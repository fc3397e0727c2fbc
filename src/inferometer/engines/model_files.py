"""GGUF files of an arm: checked before each start of an engine, identified by name, size, time and hashes."""

import difflib
import hashlib
import re
import struct
from pathlib import Path

from inferometer.base.errors import ModelUnusable
from inferometer.base.text import sanitize
from inferometer.core import quantities
from inferometer.core.named_models import NAMED_MODELS
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines.command_words import take
from inferometer.engines.llama_cpp import DRAFT_FILE_FLAGS

GGUF_MAGIC = b"GGUF"
HEAD_BYTES = 1024**2
SAMPLES = 64
SAMPLE_BYTES = 4096


_NO_FILE = ". Give the path of a GGUF file, or the name of a model: inferometer models list"


def model_facts(arm: Arm) -> tuple[Fact, ...]:
    """Name, size, time and hashes of the model and the draft. Raises ModelUnusable: missing, or not a GGUF."""
    facts = _file_facts("model", Path(arm.model))
    draft = take(arm.args, *DRAFT_FILE_FLAGS)[0] if arm.draft is None else arm.draft.model
    return facts + _file_facts("draft", Path(draft)) if draft else facts


def _file_facts(role: quantities.Role, path: Path) -> tuple[Fact, ...]:
    """`role`: `model` or `draft`. The head holds metadata and vocabulary; hashing the whole file would take long."""
    if path.is_dir():
        raise ModelUnusable(f"the {role} {path} is a folder; name a .gguf file in it{_inside(path)}")
    if not path.exists():
        raise ModelUnusable(f"no {role} file {path}{_near(path) or _NO_FILE}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ModelUnusable(f"the {role} file {path} cannot be read: {error.strerror}") from error
    if not head.startswith(GGUF_MAGIC):
        raise ModelUnusable(
            f"the {role} file {path} is not a GGUF file: it begins with {head[:4]!r}, not {GGUF_MAGIC!r}. "
            "A Git LFS pointer or a broken download looks like this; fetch the file again."
        )
    name = _own_name(head)
    return (
        *([] if name is None else [Fact(quantities.model_fact(role, "name"), name, "the file's general.name")]),
        Fact(quantities.model_fact(role, "file"), path.name, "the file"),
        Fact(quantities.model_fact(role, "bytes"), str(path.stat().st_size), "the file"),
        Fact(quantities.model_fact(role, "changed_ns"), str(path.stat().st_mtime_ns), "the file's time of change"),
        Fact(
            quantities.model_fact(role, "head_sha256"),
            hashlib.sha256(head).hexdigest(),
            f"the file's first {HEAD_BYTES} bytes",
        ),
        Fact(
            quantities.model_fact(role, "samples_sha256"),
            _samples_sha256(path),
            f"{SAMPLES} pieces of {SAMPLE_BYTES} bytes, at equal distances up to the file's end",
        ),
    )


def _samples_sha256(path: Path) -> str:
    """A hash of pieces of the weights: a file whose head stays may be requantised, merged or overwritten."""
    found = hashlib.sha256()
    last = max(0, path.stat().st_size - SAMPLE_BYTES)
    with path.open("rb") as file:
        for number in range(1, SAMPLES + 1):
            file.seek(last * number // SAMPLES)
            found.update(file.read(SAMPLE_BYTES))
    return found.hexdigest()


_NAME_KEY = re.compile(rb"\x0c\0{7}general\.name\x08\0{3}")  # a length of 12, the key, and the type of a string


def _own_name(head: bytes) -> str | None:
    """The GGUF's `general.name`; None if it has none. Stand-ins are recognised by this name."""
    found = _NAME_KEY.search(head)
    if found is None or found.end() + 8 > len(head):
        return None
    (length,) = struct.unpack_from("<Q", head, found.end())
    text = head[found.end() + 8 : found.end() + 8 + length].decode(errors="replace")
    return sanitize(text) if length < 1024 else None


def _near(path: Path) -> str:
    """`; did you mean …?` with the nearest name in the same folder, or of a named model."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    names += [*NAMED_MODELS] if path.parent == Path() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def _inside(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.glob("*.gguf"))
    return f": {', '.join(names[:5])}" if names else "; it has none"

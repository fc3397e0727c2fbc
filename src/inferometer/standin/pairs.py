"""Stand-in model files: writing them, and the cached pairs of target and draft."""

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.named_models import SMOLLM2, SMOLLM2_DRAFT
from inferometer.standin import lossless
from inferometer.standin.free_space import require_room
from inferometer.standin.growth import fit_problems, grown_rms_eps, grown_tensors
from inferometer.standin.model_file import NAME_PREFIX, PART, Head, whole_or_nothing, write_model
from inferometer.standin.random_weights import DRIFT, FORMAT_VERSION, write_random
from inferometer.standin.shapes import StandinShape
from inferometer.standin.tensor_types import QUANTISATIONS, tensor_bytes
from inferometer.standin.trained_weights import SMOLLM2_SHAPE, Small, StandinRole, first_layers, network_inside
from inferometer.standin.vocabulary import corpus

GROWTH_VERSION = 2  # part of a cached file's name: raise it when growth produces different bytes


class StandinPair(NamedTuple):
    """Two files that one engine can use as target and draft."""

    target: Path
    draft: Path


# In this pair the target is 4 times as wide as the draft. The square root of that, by which norms are scaled, is a
# power of two, and the target repeats the draft's arithmetic to the last bit until its own layers begin.
TINY_TARGET = StandinShape(layers=3, hidden=256, ffn=512, heads=8, kv_heads=4)
TINY_DRAFT = StandinShape(layers=1, hidden=64, ffn=192, heads=2, kv_heads=1)

SIZES = ("demo", "tiny")


# The draft of SmolLM2 is in both files, because it comes with this program. A CPU reads a target of 270 MB
# in a tenth of a second.
DEMO_TARGET = StandinShape(layers=7, hidden=1536, ffn=4096, heads=12, kv_heads=4, vocab=49152, tied=True)
DEMO_DRAFT = StandinShape(layers=4, hidden=320, ffn=768, heads=5, kv_heads=1, vocab=49152, tied=True)


def default_network(shape: StandinShape, role: StandinRole) -> str:
    """The name of the network that a stand-in of this shape has inside: SmolLM2 in a target that has room for it, else
    SmolLM2's draft."""
    return SMOLLM2.name if role == "target" and not fit_problems(SMOLLM2_SHAPE, shape) else SMOLLM2_DRAFT.name


def standin_pair(cache_dir: Path, size: str = "demo", *, seed: int = 1) -> StandinPair:
    """The files of a target and its draft, written to the cache if missing. `size`: demo (SmolLM2's draft; its first
    layers are the draft) or tiny (random weights from `seed`). Raises RequestWrong for another size, or if the cache
    cannot be written.
    """
    if size == "demo":
        return StandinPair(
            target=_cached_trained(cache_dir, "target", DEMO_TARGET),
            draft=_cached_trained(cache_dir, "draft", DEMO_DRAFT),
        )
    if size == "tiny":
        return StandinPair(
            target=_cached_random(cache_dir, "target", TINY_TARGET, seed, DRIFT),
            draft=_cached_random(cache_dir, "draft", TINY_DRAFT, seed, 0.0),
        )
    raise RequestWrong(f"there is no stand-in of size {size!r}. Known: {', '.join(SIZES)}.")


def write_trained(
    path: Path, shape: StandinShape, quantisation: str, small: Small, *, like: str, force: bool = False
) -> None:
    """Write the small network grown to this shape. `path` is complete afterwards, or does not exist.

    `like`: the model with this shape, for the file's metadata. `force`: overwrite an existing file, and allow a file
    larger than this machine's memory. Raises RequestWrong before anything is written.
    """
    require_writable(path, shape, quantisation, small, like=like, force=force)
    _write(path, shape, quantisation, small, like)


def require_writable(
    path: Path, shape: StandinShape, quantisation: str, small: Small, *, like: str, force: bool = False
) -> None:
    """Raises RequestWrong if `write_trained` with the same arguments would."""
    if problems := fit_problems(small.shape, shape):
        raise RequestWrong(
            f"a stand-in for {like} cannot be made:\n" + "\n".join(f"  - {problem}" for problem in problems)
        )
    require_room(path, tensor_bytes(shape, quantisation), force=force)


def write_standin(
    path: Path, shape: StandinShape, *, seed: int = 1, core: StandinShape | None = None, drift: float = DRIFT
) -> None:
    """Write one stand-in of random weights. Equal arguments give equal bytes; `path` is complete or does not exist.

    `core`: the shape of the draft that it must agree with, written with the same seed; None: no draft. `drift`: the
    magnitude of all layers beyond the core's together, as a share of a layer of the core; 0: full agreement. Raises
    RequestWrong for an invalid shape.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_nothing(path) as part:
            write_random(part, shape, seed=seed, core=core or shape, drift=drift)
    except OSError as error:
        raise _not_written(path, tensor_bytes(shape, "Q8_0"), error) from error


def _write(path: Path, shape: StandinShape, quantisation: str, small: Small, like: str) -> None:
    inner = small.shape
    spread = lossless.is_possible(small, shape, quantisation)
    tensors = (lossless.lossless_tensors if spread else grown_tensors)(small, shape, quantisation)
    head = Head(
        name=f"{NAME_PREFIX} for {like}, {quantisation}",
        description=(
            f"A stand-in by inferometer: the shape and cost of {like}, and the behaviour of a trained network of "
            f"{inner.layers} layers of {inner.hidden} inside it. It is not that model."
        ),
        shape=shape,
        words=small.words.filled_up(shape.vocab),
        rms_eps=grown_rms_eps(small, shape) * (lossless.COPIES if spread else 1),
        rope_base=small.rope_base,
        file_type=QUANTISATIONS[quantisation][1],
        size_label=_size_label(shape, like),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_nothing(path) as part:
            write_model(part, head, list(tensors))
    except OSError as error:
        raise _not_written(path, tensor_bytes(shape, quantisation), error) from error


def _size_label(shape: StandinShape, like: str) -> str:
    """The size from the model's name (`32B`), else from its parameters; llama-bench shows it in its tables."""
    named = re.search(r"(?:^|-)(\d+(?:\.\d+)?)[bB](?:-|$)", like)
    return f"{named[1]}B" if named else f"{shape.parameters / 1e9:.2g}B"


def _not_written(path: Path, size: int, error: OSError) -> RequestWrong:
    return RequestWrong(
        f"the stand-in model cannot be written to {path}: {error.strerror or error}.\n"
        f"It takes {size / 1e6:.0f} MB. Free some space, or name another folder (the cache's is INFEROMETER_CACHE)."
    )


# --- the cache: a file's name contains all that determines its bytes, so an existing file is always right ------------


def _cached_trained(cache_dir: Path, role: StandinRole, shape: StandinShape) -> Path:
    decides = msgspec.json.encode([GROWTH_VERSION, shape])
    path = cache_dir / f"standin-demo-{role}-{_digest(decides, SMOLLM2_DRAFT.sha256.encode())}.gguf"
    if not path.exists():
        _remove_abandoned(cache_dir)
        small = first_layers(network_inside(SMOLLM2_DRAFT.name), shape.layers)
        _write(path, shape, "Q8_0", small, f"nothing in particular, {shape.layers}x{shape.hidden}")
    return path


def _cached_random(cache_dir: Path, role: StandinRole, shape: StandinShape, seed: int, drift: float) -> Path:
    decides = msgspec.json.encode([FORMAT_VERSION, shape, TINY_DRAFT, seed, drift])
    path = cache_dir / f"standin-tiny-{role}-{_digest(decides, corpus().encode())}.gguf"
    if not path.exists():
        _remove_abandoned(cache_dir)
        write_standin(path, shape, seed=seed, core=TINY_DRAFT, drift=drift)
    return path


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def _remove_abandoned(cache_dir: Path) -> None:
    """Remove partial files of killed runs. A recent one may belong to another run that is still writing it."""
    for part in cache_dir.glob(f"*{PART}"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S:
                part.unlink()


_ABANDONED_AFTER_S = 3600

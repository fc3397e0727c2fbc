"""Trained weights of the small target and draft networks, from this package's data.

Made by tools/train_standin.py; data/recipe.json says from what.
"""

import functools
import importlib.resources
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from inferometer.standin.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

Role = Literal["target", "draft"]

FORMAT = 1
_BLOCK = 32


class SmallShape(msgspec.Struct, frozen=True):
    """A Qwen2 network without biases whose output is its embedding. RoPE turns the halves of each head."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int


class Small(msgspec.Struct, frozen=True):
    """A trained network. `tensors` by their names in GGUF files, F32, rows first.

    `final_rms`: the typical root mean square of the last norm's input.
    """

    shape: SmallShape
    rope_base: float
    rms_eps: float
    final_rms: float
    tensors: "Mapping[str, NDArray[np.float32]]"
    words: Vocabulary


class _Meta(msgspec.Struct):
    format: int
    shape: SmallShape
    rope_base: float
    rms_eps: float
    final_rms: float


@functools.cache
def trained(role: Role) -> Small:
    """The network that plays this role."""
    return read_small(data_file(f"{role}.npz"), data_file("tokenizer.json"))


def data_file(name: str) -> bytes:
    return importlib.resources.files("inferometer.standin").joinpath("data", name).read_bytes()


def read_small(weights: bytes, tokenizer_json: bytes) -> Small:
    """From a weights file as tools/train_standin.py writes it: Q8_0 values with their scales, and vectors as F32."""
    with np.load(io.BytesIO(weights)) as file:
        arrays = {name: file[name] for name in file.files}
    meta = msgspec.json.decode(arrays.pop("meta").tobytes(), type=_Meta)
    if meta.format != FORMAT:
        raise ValueError(f"weights of format {meta.format}; this version reads {FORMAT}")
    tensors = {
        name: _exact(values, arrays[f"{name}.scale"]) if values.ndim == 2 else values.astype(np.float32)
        for name, values in arrays.items()
        if not name.endswith(".scale")
    }
    words = read_vocabulary(tokenizer_json)
    return Small(meta.shape, meta.rope_base, meta.rms_eps, meta.final_rms, tensors, words)


def _exact(values: "NDArray[np.int8]", scale: "NDArray[np.float16]") -> "NDArray[np.float32]":
    blocks = values.reshape(len(values), -1, _BLOCK).astype(np.float32) * scale.astype(np.float32)[..., None]
    return blocks.reshape(values.shape)

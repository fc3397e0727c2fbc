"""Trained weights of the small target and draft networks, from this package's data.

Made by tools/train_standin.py; data/recipe.json says from what.
"""

import functools
import importlib.resources
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize

from inferometer.base.errors import RequestWrong
from inferometer.core.named_models import NAMED_MODELS
from inferometer.standin.named_model_files import named_model_file
from inferometer.standin.vocabulary import TokenKind, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

StandinRole = Literal["target", "draft"]

FORMAT = 1
SMOLLM2_FINAL_RMS = 27.0  # the median of 27 tokens of a chat
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

    `final_rms`: the typical root mean square of the last norm's input. `is_quantised`: matrices have values of Q4_1 and
    the embedding of Q8_0.
    """

    shape: SmallShape
    rope_base: float
    rms_eps: float
    final_rms: float
    tensors: "Mapping[str, NDArray[np.float32]]"
    words: Vocabulary
    is_quantised: bool = False


class _Meta(msgspec.Struct):
    format: int
    shape: SmallShape
    rope_base: float
    rms_eps: float
    final_rms: float


@functools.cache
def trained(role: StandinRole) -> Small:
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


# --- networks of GGUF files -------------------------------------------------------------------------------------------


@functools.cache
def network_inside(name: str, role: StandinRole) -> Small:
    """`code`: the small code model that plays this role; a named model; or the GGUF file of a Llama network. Raises
    RequestWrong for a named model that is not on this machine, with the command that gets it, and for other files."""
    if name == "code":
        return trained(role)
    path = named_model_file(name) if name in NAMED_MODELS else Path(name)
    try:
        return read_gguf(path)
    except (OSError, ValueError, KeyError) as error:
        raise RequestWrong(
            f"{path} is not the GGUF file of a Llama network with its tokenizer: {error!r}. Use smollm2-135m, or code."
        ) from error


def read_gguf(path: Path, final_rms: float = SMOLLM2_FINAL_RMS) -> Small:
    """A Llama network whose output is its embedding, from its file. `final_rms`: as in Small."""
    reader = GGUFReader(path)
    held = {name: field.contents() for name, field in reader.fields.items()}
    own = {name.removeprefix("llama."): value for name, value in held.items() if name.startswith("llama.")}
    shape = SmallShape(
        layers=own["block_count"],
        hidden=own["embedding_length"],
        ffn=own["feed_forward_length"],
        heads=own["attention.head_count"],
        kv_heads=own["attention.head_count_kv"],
        vocab=own["vocab_size"],
        head_dim=own["rope.dimension_count"],
    )
    tensors = {one.name: dequantize(one.data, one.tensor_type).astype(np.float32) for one in reader.tensors}
    for name, values in tensors.items():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            tensors[name] = _halves(values, shape.head_dim)
    kinds = {one.tensor_type for one in reader.tensors if one.name.startswith("blk.") and len(one.shape) == 2}
    return Small(
        shape=shape,
        rope_base=own["rope.freq_base"],
        rms_eps=own["attention.layer_norm_rms_epsilon"],
        final_rms=final_rms,
        tensors=tensors,
        words=_vocabulary(held),
        is_quantised=kinds == {GGMLQuantizationType.Q4_1},
    )


def _halves(rows: "NDArray[np.float32]", head_dim: int) -> "NDArray[np.float32]":
    """Files of Llama have the two dimensions that RoPE turns together side by side."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _vocabulary(held: Mapping[str, Any]) -> Vocabulary:
    words = {name.removeprefix("tokenizer.ggml."): value for name, value in held.items()}
    tokens = words["tokens"]
    kinds: dict[int, TokenKind] = {TokenType.CONTROL: "control", TokenType.UNUSED: "unused"}
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(words["merges"]),
        kinds=tuple(kinds.get(kind, "text") for kind in words["token_type"]),
        cuts=words["pre"],
        begin=tokens[words["bos_token_id"]],
        end=tokens[words["eos_token_id"]],
        pad=tokens[words["padding_token_id"]],
        template=held["tokenizer.chat_template"],
    )

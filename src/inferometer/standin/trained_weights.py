"""Trained networks that stand-ins have inside, read from GGUF files."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize

from inferometer.base.errors import RequestWrong
from inferometer.core.named_models import NAMED_MODELS, SMOLLM2, SMOLLM2_DRAFT
from inferometer.standin.named_model_files import named_model_file
from inferometer.standin.vocabulary import TokenKind, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

StandinRole = Literal["target", "draft"]

FINAL_RMS = {SMOLLM2.name: 27.0, SMOLLM2_DRAFT.name: 3.3}
"""The typical root mean square of the last norm's input: the median of some 25 tokens of a chat."""


class SmallShape(msgspec.Struct, frozen=True):
    """A network without biases whose output is its embedding. RoPE turns the halves of each head."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int


SMOLLM2_SHAPE = SmallShape(layers=30, hidden=576, ffn=1536, heads=9, kv_heads=3, vocab=49152, head_dim=64)


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


@functools.cache
def network_inside(name: str) -> Small:
    """The network of a named model, or of the GGUF file of a Llama. Raises RequestWrong for other files, and with the
    command that gets it for a named model that is not on this machine."""
    path = named_model_file(name) if name in NAMED_MODELS else Path(name)
    try:
        return read_gguf(path, FINAL_RMS.get(name, FINAL_RMS[SMOLLM2.name]))
    except (OSError, ValueError, KeyError) as error:
        raise RequestWrong(
            f"{path} is not the GGUF file of a Llama network with its tokenizer: {error!r}. Use smollm2-135m."
        ) from error


def first_layers(small: Small, count: int) -> Small:
    """The network without its last layers, which often names the same token: a draft for it."""
    kept = {
        name: values
        for name, values in small.tensors.items()
        if not name.startswith("blk.") or int(name.split(".")[1]) < count
    }
    return msgspec.structs.replace(small, shape=msgspec.structs.replace(small.shape, layers=count), tensors=kept)


class _Reader(GGUFReader):
    """Slices a plain array instead of a memory map: a vocabulary has 100,000 strings, and each costs a third."""

    @property
    def data(self) -> "NDArray[np.uint8]":
        return self._plain

    @data.setter
    def data(self, mapped: "np.memmap[Any, Any]") -> None:
        self._plain = mapped.view(np.ndarray)


def read_gguf(path: Path, final_rms: float) -> Small:
    """A Llama network whose output is its embedding, from its file. `final_rms`: as in Small."""
    reader = _Reader(path)
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

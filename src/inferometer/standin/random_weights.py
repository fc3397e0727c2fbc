"""Stand-ins of random weights in Qwen2's shape, from a seed: quick to make, and enough for tests.

Its text is made of words and means nothing. A pair shares one small core network. The draft is the core alone; the
target is the core padded with zeros to a larger width, which changes nothing in what it computes, and then layers whose
output projections are scaled down (`drift`), so that the two mostly name the same next token. How often is for the
engine to say: it is set nowhere.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType
from tokenizers import decoders

from inferometer.base.errors import RequestWrong
from inferometer.standin.model_file import NAME_PREFIX, Head, PlannedTensor, write_model
from inferometer.standin.shapes import StandinShape
from inferometer.standin.vocabulary import MIN_VOCAB, learnt_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]  # Any: Q8_0 blocks are a structured dtype, which numpy's types can't name

FORMAT_VERSION = 1  # part of a cached file's name: raise it when the same shape and seed would give other bytes
DRIFT = 0.006


_BLOCK = 32
_BLOCK_BYTES = 34
_UNIFORM_STD = 255 / math.sqrt(12)  # of the integers from -127 to 127, nearly
_RMS_EPS = 1e-6
_ROPE_BASE = 10_000.0

# Gains, found by trial: attention sharp enough for the text to hang on the whole prompt, and logits far enough apart
# for the likeliest token to be about as probable as a trained model's, so that a draft's p_min means something.
_ATTENTION_GAIN = 1.6
_GATE_GAIN = 1.5
_FFN_GAIN = 2.0
_LOGIT_STD = 12.0


def _problems(shape: StandinShape, core: StandinShape, seed: int, drift: float) -> list[str]:
    problems = shape.problems()
    if core != shape:
        problems += [f"core: {problem}" for problem in core.problems()]
    if seed < 0:
        problems.append(f"seed is {seed}; it must be at least 0")
    if not 0 <= drift < math.inf:
        problems.append(f"drift is {drift}; it must be a number of at least 0")
    if core.vocab < MIN_VOCAB or shape.vocab < MIN_VOCAB:
        problems.append(f"vocab is {shape.vocab}; bytes and special tokens alone need {MIN_VOCAB}")
    if problems:
        return problems
    for name in ("layers", "hidden", "ffn", "heads"):
        if getattr(core, name) > getattr(shape, name):
            problems.append(f"{name} {getattr(shape, name)} has no room for the core's {getattr(core, name)}")
    if core.vocab != shape.vocab:
        problems.append(f"vocab {shape.vocab} is not the core's {core.vocab}")
    if core.head_dim != shape.head_dim:
        problems.append(f"a head of {shape.head_dim} elements is not as wide as the core's of {core.head_dim}")
    if core.heads * shape.kv_heads != shape.heads * core.kv_heads:
        problems.append(
            f"{shape.heads} heads on {shape.kv_heads} kv_heads share otherwise than the core's "
            f"{core.heads} on {core.kv_heads}"
        )
    return problems


def write_random(path: Path, shape: StandinShape, *, seed: int, core: StandinShape, drift: float) -> None:
    """Raises RequestWrong for a shape that cannot be, and OSError. Takes three times the largest matrix in memory."""
    if problems := _problems(shape, core, seed, drift):
        raise RequestWrong("this stand-in cannot be written:\n" + "\n".join(f"  - {problem}" for problem in problems))
    head = Head(
        name=f"{NAME_PREFIX} {shape.layers}x{shape.hidden}, random weights of seed {seed}",
        description="A stand-in by inferometer: random weights that cost what real ones cost. Its text means nothing.",
        shape=shape,
        words=learnt_vocabulary(shape.vocab),
        # A mean over more elements, the new ones zero, is smaller by this ratio; so must be what is added to it.
        rms_eps=_RMS_EPS * core.hidden / shape.hidden,
        rope_base=_ROPE_BASE,
        file_type=LlamaFileType.MOSTLY_Q8_0,
    )
    write_model(path, head, list(_Planned(shape, core, seed, drift).tensors()))


class _Planned:
    """The model's tensors, each with what fills it.

    The core's part of a matrix is its first rows and columns, and the same in every model with this core and seed. In
    the core's layers, what is beyond it may read what it likes, but writes nothing.
    """

    def __init__(self, shape: StandinShape, core: StandinShape, seed: int, drift: float) -> None:
        self._shape = shape
        self._core = core
        self._seed = seed
        self._drift = drift
        # Beyond the core's width the stream is zero or nearly so: what sums over all of it sums over the core's width.
        self._spread = 1 / math.sqrt(core.hidden)

    def tensors(self) -> Iterator[PlannedTensor]:
        """In the file's order."""
        shape = self._shape
        yield self._matrix("token_embd.weight", shape.vocab, shape.hidden, self._embedding)
        for layer in range(shape.layers):
            yield from self._layer(layer)
        yield _vector("output_norm.weight", shape.hidden, math.sqrt(self._core.hidden / shape.hidden))
        yield self._matrix("output.weight", shape.vocab, shape.hidden, self._output)

    def _layer(self, layer: int) -> Iterator[PlannedTensor]:
        shape, core = self._shape, self._core
        scale = math.sqrt(core.hidden / shape.hidden)
        yield _vector(f"blk.{layer}.attn_norm.weight", shape.hidden, scale)
        yield self._reads(layer, "attn_q", shape.hidden, core.hidden, _ATTENTION_GAIN)
        yield self._reads(layer, "attn_k", shape.kv_width, core.kv_width, _ATTENTION_GAIN)
        yield self._reads(layer, "attn_v", shape.kv_width, core.kv_width, 1)
        yield _vector(f"blk.{layer}.attn_q.bias", shape.hidden, 0)
        yield _vector(f"blk.{layer}.attn_k.bias", shape.kv_width, 0)
        yield _vector(f"blk.{layer}.attn_v.bias", shape.kv_width, 0)
        yield self._writes(layer, "attn_output", shape.hidden, core.hidden, 1)
        yield _vector(f"blk.{layer}.ffn_norm.weight", shape.hidden, scale)
        yield self._reads(layer, "ffn_gate", shape.ffn, core.ffn, _GATE_GAIN)
        yield self._reads(layer, "ffn_up", shape.ffn, core.ffn, 1)
        yield self._writes(layer, "ffn_down", shape.ffn, core.ffn, _FFN_GAIN)

    def _reads(self, layer: int, name: str, rows: int, core_rows: int, gain: float) -> PlannedTensor:
        """A matrix that reads the stream."""
        width, std = self._shape.hidden, gain * self._spread

        def fill(random: _Random) -> "Tensor":
            if layer >= self._core.layers:
                return random.blocks(rows, width, std)
            return random.around(random.blocks(core_rows, self._core.hidden, std), rows, width, std)

        return self._matrix(f"blk.{layer}.{name}.weight", rows, width, fill)

    def _writes(self, layer: int, name: str, columns: int, core_columns: int, gain: float) -> PlannedTensor:
        """A matrix that adds to the stream."""
        shape, core = self._shape, self._core

        def fill(random: _Random) -> "Tensor":
            if layer >= core.layers:
                loudness = self._drift * gain / math.sqrt((shape.layers - core.layers) * columns)
                return random.blocks(shape.hidden, columns, loudness)
            inner = random.blocks(core.hidden, core_columns, gain / math.sqrt(core.layers * core_columns))
            return random.around(inner, shape.hidden, columns, 0)

        return self._matrix(f"blk.{layer}.{name}.weight", shape.hidden, columns, fill)

    def _embedding(self, random: "_Random") -> "Tensor":
        core = self._core
        inner = _with_row_norms(random.blocks(core.vocab, core.hidden, 1), math.sqrt(core.hidden))
        return random.around(inner, self._shape.vocab, self._shape.hidden, 0)

    def _output(self, random: "_Random") -> "Tensor":
        # Rows of one length, or the longest would win everywhere. A row of zeros never wins against 4000 random ones:
        # generation therefore ends at max_tokens only.
        shape, core = self._shape, self._core
        inner = _with_row_norms(random.blocks(core.vocab, core.hidden, 1), _LOGIT_STD)
        outer = random.around(inner, shape.vocab, shape.hidden, _LOGIT_STD * self._spread)
        outer["scale"][~np.array(_sayable(shape.vocab))] = 0
        return outer

    def _matrix(self, name: str, rows: int, columns: int, fill: Callable[["_Random"], "Tensor"]) -> PlannedTensor:
        size = rows * columns // _BLOCK * _BLOCK_BYTES
        return PlannedTensor(
            name,
            (rows, columns),
            GGMLQuantizationType.Q8_0,
            size,
            lambda: [fill(_Random(self._seed, name)).view(np.uint8)],
        )


def _vector(name: str, width: int, value: float) -> PlannedTensor:
    return PlannedTensor(
        name, (width,), GGMLQuantizationType.F32, 4 * width, lambda: [np.full(width, value, np.float32).tobytes()]
    )


@functools.cache
def _sayable(vocab: int) -> tuple[bool, ...]:
    """Whether the model may write it, for each token.

    Each token said must be text at once, or a stream has fewer chunks than tokens: the server holds back half a
    character (decoded as U+FFFD) and what may become a tag, and strips white space.
    """
    words, text_of = learnt_vocabulary(vocab), decoders.ByteLevel()

    def says(token: str) -> bool:
        text = text_of.decode([token])
        return text.isprintable() and text.strip() != "" and "\ufffd" not in text and "<" not in text

    return tuple(kind == "text" and says(token) for token, kind in zip(words.tokens, words.kinds, strict=True))


class _Random:
    """Random Q8_0 blocks of one tensor. Each tensor has its own stream: a shape doesn't shift what the core draws."""

    def __init__(self, seed: int, tensor: str) -> None:
        self._rng = np.random.default_rng([seed, zlib.crc32(tensor.encode())])

    def blocks(self, rows: int, columns: int, std: float) -> "Tensor":
        """Elements of mean 0 and this standard deviation (uniform, which after a sum of many is normal)."""
        made = np.empty((rows, columns // _BLOCK), np.dtype([("scale", "<f2"), ("values", "i1", (_BLOCK,))]))
        drawn = np.frombuffer(self._rng.bytes(rows * columns), np.int8).reshape(made["values"].shape)
        # A quantizer never writes -128, and kernels that negate in 8 bits get it wrong.
        np.maximum(drawn, -127, out=made["values"])
        made["scale"] = std / _UNIFORM_STD
        return made

    def around(self, inner: "Tensor", rows: int, columns: int, std: float) -> "Tensor":
        """A matrix of this size that begins with `inner` and continues with blocks of `std`."""
        if inner.shape == (rows, columns // _BLOCK):
            return inner
        outer = self.blocks(rows, columns, std)
        outer[: inner.shape[0], : inner.shape[1]] = inner
        return outer


def _with_row_norms(blocks: "Tensor", norm: float) -> "Tensor":
    """The same rows, each scaled to this length."""
    squares = np.einsum("rbv,rbv->r", blocks["values"], blocks["values"], dtype=np.float32)
    blocks["scale"] = (norm / np.sqrt(squares))[:, None]
    return blocks

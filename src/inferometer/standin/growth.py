"""Function-preserving growth: a small network enlarged to any shape, with the same output.

After Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer" (2016), with zeros in place
of their copies:

*wider*: the small network's channels come first and the others stay zero. A mean of squares over more channels is
smaller, so norm weights are scaled by √(small/large), and what is added below the root by small/large.
*more heads*: a small head has a place among the large ones, on a key-value head of its group; if a large group is
smaller than a small one, the key-value head is repeated. Unused heads are zero. A head
of 64 fits into one of 128, 192, …: RoPE's angles there are those of 64 and others between, and queries are scaled as
the root of a head's size is divided by.
*longer vocabulary*: every known token's embedding has a small constant in a channel that no layer reads. The last norm
amplifies it, and the output rows of unused tokens have a negative number there: their logits are about -100.
*deeper*: layers whose attention and feed-forward outputs are zero.

Zeros cost as much as other numbers: the same bytes are read and the same products are summed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType

from inferometer.standin.model_file import PlannedTensor, Zeros
from inferometer.standin.quantise import block_elements, quantised, row_bytes
from inferometer.standin.shapes import StandinShape
from inferometer.standin.tensor_types import tensor_types
from inferometer.standin.trained_weights import Small, SmallShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

_CHANNEL_STEP = 256  # the largest block: the constant shares its scale with nothing
_CONSTANT = 2.0**-10  # of a known word; its square is too small to matter in a mean of squares
_UNUSED = -8.0  # of an unused word's output row
_UNUSED_LOGIT = -100.0
_REPEATED_ROWS = 4096


class Axis(NamedTuple):
    """Positions of a small tensor's parts in a large one: `places[i]` receives the part at `sources[i]`."""

    places: "Places"
    sources: "Places"


def fit_problems(inner: SmallShape, shape: StandinShape) -> list[str]:
    """Why the small network does not fit into this shape: one line per reason, empty if it fits."""
    problems = shape.problems()
    if problems:
        return problems
    for name in ("layers", "hidden", "ffn", "heads", "vocab"):
        if getattr(shape, name) < getattr(inner, name):
            problems.append(
                f"{name} {getattr(shape, name)} is smaller than the trained network's {getattr(inner, name)}"
            )
    if shape.head_dim % inner.head_dim:
        problems.append(f"a head of {shape.head_dim} is not a multiple of the trained network's {inner.head_dim}")
    copies = math.ceil(_group(inner.heads, inner.kv_heads) / _group(shape.heads, shape.kv_heads))
    if inner.kv_heads * copies > shape.kv_heads:
        problems.append(
            f"{shape.kv_heads} kv_heads of {shape.heads} heads have no room for the trained network's "
            f"{inner.kv_heads} of {inner.heads}"
        )
    if shape.vocab > inner.vocab and _channel(inner, shape) >= shape.hidden:
        problems.append(
            f"hidden {shape.hidden} has no channel beyond the trained network's {inner.hidden} for a vocabulary of "
            f"{shape.vocab} instead of {inner.vocab}"
        )
    return problems


def grown_rms_eps(small: Small, shape: StandinShape) -> float:
    """The RMS norm's epsilon of the grown network: zeros lower the mean of the squares by the ratio of the widths."""
    return small.rms_eps * small.shape.hidden / shape.hidden


def grown_tensors(small: Small, shape: StandinShape, quantisation: str) -> Iterator[PlannedTensor]:
    """The large network's tensors in the file's order. The shape must fit (`fit_problems`)."""
    vectors, matrices = shape.vectors(), shape.matrices()
    types = tensor_types(shape, quantisation)
    axes = _axes(small, shape)
    for name, width in vectors.items():
        yield vector(name, _grown_vector(name, width, small, shape))
    for name, (rows, columns) in matrices.items():
        yield _matrix(name, rows, columns, types[name], _filling(name, small, shape, axes))


class _Filling(NamedTuple):
    """A matrix: `values` at `rows` (rising), from the first column on; `rest` in each row after the last."""

    rows: "Places"
    values: "Floats"
    rest: "Floats | None" = None


def vector(name: str, values: "Floats") -> PlannedTensor:
    """Any vector: all are F32."""
    return PlannedTensor(name, values.shape, GGMLQuantizationType.F32, values.nbytes, lambda: [values.tobytes()])


def _grown_vector(name: str, width: int, small: Small, shape: StandinShape) -> "Floats":
    """Norms, scaled: the small network's, ones in layers beyond it, zero in channels beyond it. Biases are zero."""
    values = np.zeros(width, np.float32)
    if name.endswith(".bias"):
        return values
    scale = math.sqrt(small.shape.hidden / shape.hidden)
    values[: small.shape.hidden] = small.tensors.get(name, 1) * np.float32(scale)
    if name == "output_norm.weight" and shape.vocab > small.shape.vocab:
        values[_channel(small.shape, shape)] = constants_of_norms(small.final_rms * scale, _CONSTANT, _UNUSED)
    return values


def constants_of_norms(rms: float, constant: float, unused: float) -> float:
    """The last norm's weight that turns the constant into the value with which an unused token's row yields its logit.
    `rms`: of the norm's input."""
    return _UNUSED_LOGIT / unused / constant * rms


def _matrix(
    name: str, rows: int, columns: int, kind: GGMLQuantizationType, filling: "Callable[[], _Filling] | None"
) -> PlannedTensor:
    size = row_bytes(columns, kind)

    def pieces() -> Iterator["bytes | np.ndarray | Zeros"]:
        if filling is None:
            yield Zeros(rows * size)
            return
        held = filling()
        made = _rows(held.values, columns, kind)
        done = 0
        for first, last in _runs(held.rows):
            yield Zeros((int(held.rows[first]) - done) * size)
            yield made[first:last]
            done = int(held.rows[last - 1]) + 1
        if held.rest is None:
            yield Zeros((rows - done) * size)
            return
        repeated = np.repeat(_rows(held.rest[None], columns, kind), min(_REPEATED_ROWS, rows - done), axis=0)
        for at in range(done, rows, _REPEATED_ROWS):
            yield repeated[: min(_REPEATED_ROWS, rows - at)]

    return PlannedTensor(name, (rows, columns), kind, rows * size, pieces)


def _rows(values: "Floats", columns: int, kind: GGMLQuantizationType) -> "NDArray[np.uint8]":
    """Complete rows of the matrix as bytes: the values, followed by zeros."""
    block = block_elements(kind)
    used = -(-values.shape[1] // block) * block
    padded = np.zeros((len(values), used), np.float32)
    padded[:, : values.shape[1]] = values
    made = np.zeros((len(values), row_bytes(columns, kind)), np.uint8)
    made[:, : row_bytes(used, kind)] = quantised(padded, kind)
    return made


def _runs(rows: "Places") -> Iterator[tuple[int, int]]:
    """The stretches of neighbouring rows: the indices of the first and after the last."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    yield from zip([0, *cuts.tolist()], [*cuts.tolist(), len(rows)], strict=True)


def _filling(
    name: str, small: Small, shape: StandinShape, axes: Mapping[str, tuple[Axis, Axis]]
) -> "Callable[[], _Filling] | None":
    """The nonzero contents of this matrix; None if there are none."""
    if name == "output.weight" or (shape.tied and name == "token_embd.weight"):
        return lambda: _token_rows(small, shape, _CONSTANT if shape.tied else 0, unused=True)
    if name == "token_embd.weight":
        return lambda: _token_rows(small, shape, _CONSTANT, unused=False)
    if name not in small.tensors:
        return None
    part = name.split(".")[2]
    row_axis, column_axis = axes[part]
    factor = math.sqrt(shape.head_dim / small.shape.head_dim) if part == "attn_q" else 1

    def placed() -> _Filling:
        rows = np.unique(row_axis.places)
        values = np.zeros((len(rows), int(column_axis.places.max()) + 1), np.float32)
        inner = small.tensors[name][np.ix_(row_axis.sources, column_axis.sources)] * np.float32(factor)
        values[np.ix_(np.searchsorted(rows, row_axis.places), column_axis.places)] = inner
        return _Filling(rows, values)

    return placed


def _token_rows(small: Small, shape: StandinShape, constant: float, *, unused: bool) -> _Filling:
    """Rows of the embedding; for a longer vocabulary with the constants of known and unused tokens."""
    inner = small.tensors["token_embd.weight"]
    rows = np.arange(len(inner))
    if shape.vocab == len(inner):
        return _Filling(rows, inner)
    channel = _channel(small.shape, shape)
    values = np.zeros((len(inner), channel + 1), np.float32)
    values[:, : inner.shape[1]] = inner
    values[:, channel] = constant
    rest = np.zeros(channel + 1, np.float32)
    rest[channel] = _UNUSED
    return _Filling(rows, values, rest if unused else None)


def _channel(inner: SmallShape, shape: StandinShape) -> int:
    """The channel of the constant: beyond the small network, first in a block (of the largest kind if possible)."""
    for step in (_CHANNEL_STEP, 32):
        if (found := -(-inner.hidden // step) * step) < shape.hidden:
            return found
    return inner.hidden


def _group(heads: int, kv_heads: int) -> int:
    """Heads that share a key-value head."""
    return heads // kv_heads


def _axes(small: Small, shape: StandinShape) -> dict[str, tuple[Axis, Axis]]:
    """Positions of rows and columns of each part of a layer."""
    inner = small.shape
    wide, ffn = _same(inner.hidden), _same(inner.ffn)
    heads, plain = np.arange(inner.heads), np.arange(inner.head_dim)
    head_places, kv_places, kv_sources, turned = head_axes(small, shape)

    def in_heads(places: "Places", sources: "Places", dims: "Places") -> Axis:
        return Axis(
            (places[:, None] * shape.head_dim + dims).reshape(-1),
            (sources[:, None] * inner.head_dim + np.arange(inner.head_dim)).reshape(-1),
        )

    return {
        "attn_q": (in_heads(head_places, heads, turned), wide),
        "attn_k": (in_heads(kv_places, kv_sources, turned), wide),
        "attn_v": (in_heads(kv_places, kv_sources, plain), wide),
        "attn_output": (wide, in_heads(head_places, heads, plain)),
        "ffn_gate": (ffn, wide),
        "ffn_up": (ffn, wide),
        "ffn_down": (wide, ffn),
    }


def head_axes(small: Small, shape: StandinShape) -> "tuple[Places, Places, Places, Places]":
    """Positions of the small network's heads, of its key-value heads' copies and their sources, and of a head's
    dimensions under RoPE."""
    inner = small.shape
    inner_group, group = _group(inner.heads, inner.kv_heads), _group(shape.heads, shape.kv_heads)
    copies = math.ceil(inner_group / group)
    heads = np.arange(inner.heads)
    # For each head: its copy of the key-value head, and its position among the heads of that copy.
    kv_places = heads // inner_group * copies + heads % inner_group // group
    head_places = kv_places * group + heads % inner_group % group
    kv_sources = np.repeat(np.arange(inner.kv_heads), copies)
    return head_places, np.unique(kv_places), kv_sources, _rope_dims(small, shape)


def _same(count: int) -> Axis:
    return Axis(np.arange(count), np.arange(count))


def _rope_dims(small: Small, shape: StandinShape) -> "Places":
    """Positions of a small head's dimensions in a large one, so that RoPE rotates each pair by the same angle.

    Pair i of a head of n rotates by base^(-2i/n): in a head f times as large that is pair f·i. Qwen2 pairs a dimension
    with that half a head away; files of Llama have pairs side by side.
    """
    half = small.shape.head_dim // 2
    pairs = np.arange(half) * (shape.head_dim // small.shape.head_dim)
    if shape.architecture == "llama":
        return np.concatenate([2 * pairs, 2 * pairs + 1])
    return np.concatenate([pairs, pairs + shape.head_dim // 2])

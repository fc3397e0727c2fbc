"""Growth into a file of Q4_K_M without loss, for a small network of Q4_1 matrices and a Q8_0 embedding.

Growth as in `growth`, which packs the small network's channels side by side, would quantise it once more: the eight
blocks of a superblock share their scale. Here each block of 32 channels has a superblock to itself:

*main*: the first block of the superblock. A block alone in a superblock of Q4_K keeps all values of a Q4_1 block.
*again*: the third block. The channels are there a second time, and a matrix whose type rounds them (Q6_K) has there
what the first place lost.
*low*: the second block. The embedding's 8 bits are its upper 4 at *main* and *again* and its lower 4 here.

The first layer adds the lower bits to the upper ones. Its gates read a constant channel, so that its feed-forward part
is linear; and a *level* channel makes the stream of each token equally long, so that its norm is one constant.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from inferometer.standin.growth import Axis, constants_of_norms, head_axes, vector
from inferometer.standin.model_file import PlannedTensor, Zeros
from inferometer.standin.quantise import K_BLOCK, Shifted, block_elements, packed, packed_6, quantised, row_bytes
from inferometer.standin.shapes import BLOCK, StandinShape
from inferometer.standin.tensor_types import tensor_types
from inferometer.standin.trained_weights import Small

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

COPIES = 2  # of each channel in the stream, when the first layer is done
_KIND = "Q4_K_M"
_CONSTANT = 2.0**-10
_UNUSED = -8.0
_GATE = 16.0  # silu(16) is 16 up to a millionth
_ROWS = 2048
_GAIN = 16.0  # a power of two: what is lost is too small for scales of 6 bits, and must not become the largest
_ROUNDS = 2  # what is added at `again` can change the superblock's scale, and with it what is lost


def is_possible(small: Small, shape: StandinShape, quantisation: str) -> bool:
    """Whether the shape has room for the small network, spread out. It must fit as `growth.fit_problems` says."""
    inner = small.shape
    superblocks = math.ceil(inner.hidden / BLOCK)
    return (
        small.is_quantised
        and quantisation == _KIND
        and not shape.tied
        and shape.layers > inner.layers
        and shape.hidden >= (superblocks + 1) * K_BLOCK + BLOCK
        and shape.ffn >= max(math.ceil(inner.ffn / BLOCK), superblocks + 1) * K_BLOCK
        and shape.head_dim >= 2 * inner.head_dim
        and shape.vocab > inner.vocab
    )


def lossless_tensors(small: Small, shape: StandinShape, quantisation: str) -> Iterator[PlannedTensor]:
    """The large network's tensors in the file's order."""
    grown = _Grown(small, shape)
    types = tensor_types(shape, quantisation)
    for name, width in shape.vectors().items():
        yield vector(name, grown.vector(name, width))
    for name, (rows, columns) in shape.matrices().items():
        kind = types[name]
        if name == "token_embd.weight":
            pieces = grown.embedding_pieces(rows, columns, kind)
        else:
            pieces = _pieces(grown.part(name, kind), rows, columns, kind)
        yield PlannedTensor(name, (rows, columns), kind, rows * row_bytes(columns, kind), pieces)


class _Part(NamedTuple):
    """The contents of a matrix: `values` at `columns`, and what the type loses of them at `again`. Row `rows.places[i]`
    has `values[rows.sources[i]]`; `rest` is in each row after the last. `encode`: makes bytes of the used columns.
    `gain`: what is lost counts this much at `again`, where the input is smaller by this factor."""

    values: "Floats"
    rows: Axis
    columns: "Places"
    again: "Places | None" = None
    rest: "tuple[int, float] | None" = None
    encode: "Callable[[Floats], NDArray[np.uint8]] | None" = None
    gain: float = 1


def _pieces(
    part: "Callable[[], _Part] | None", rows: int, columns: int, kind: GGMLQuantizationType
) -> "Callable[[], Iterator[bytes | np.ndarray | Zeros]]":
    size = row_bytes(columns, kind)

    def pieces() -> "Iterator[bytes | np.ndarray | Zeros]":
        done = 0
        if part is not None:
            held = part()
            for at in range(0, len(held.rows.places), _ROWS):
                places, sources = (axis[at : at + _ROWS] for axis in held.rows)
                used, which = np.unique(sources, return_inverse=True)
                made = _encoded(held, used, columns, kind)[which]
                cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
                for first, last in itertools.pairwise(cuts):
                    yield Zeros((int(places[first]) - done) * size)
                    yield made[first:last]
                    done = int(places[last - 1]) + 1
            if held.rest is not None:
                row = np.zeros((1, columns), np.float32)
                row[0, held.rest[0]] = held.rest[1]
                repeated = np.repeat(quantised(row, kind), min(_ROWS, rows - done), axis=0)
                for at in range(done, rows, _ROWS):
                    yield repeated[: min(_ROWS, rows - at)]
                return
        yield Zeros((rows - done) * size)

    return pieces


def _encoded(part: _Part, used: "Places", columns: int, kind: GGMLQuantizationType) -> "NDArray[np.uint8]":
    """These rows of the values as complete rows of the matrix."""
    values = part.values[used]
    if part.encode is not None:
        made = part.encode(values)
    else:
        block = block_elements(kind)
        last = max(int(part.columns.max()), 0 if part.again is None else int(part.again.max()))
        padded = np.zeros((len(used), -(-(last + 1) // block) * block), np.float32)
        padded[:, part.columns] = values
        made = quantised(padded, kind)
        for _ in range(_ROUNDS if part.again is not None else 0):
            lost = values - dequantize(made, kind).reshape(len(used), -1)[:, part.columns]
            padded[:, part.again] = lost * part.gain
            made = quantised(padded, kind)
    whole = np.zeros((len(used), row_bytes(columns, kind)), np.uint8)
    whole[:, : made.shape[1]] = made
    return whole


def _output_rows(rows: "Floats") -> "NDArray[np.uint8]":
    """Rows of Q8_0 in Q6_K: the upper 6 bits in the main place, the lower 2 in the second one."""
    whole, unit = _whole_numbers(rows)
    q = np.zeros((*whole.shape[:2], 8, BLOCK), np.int8)
    q[:, :, 0], q[:, :, 2] = np.floor(whole / 4), whole % 4
    scales = np.tile(np.repeat(np.array([4, 0, 1, 0, 0, 0, 0, 0]), 2), (unit.size, 1))
    return packed_6(unit.reshape(-1), scales, q.reshape(-1, 16, 16)).reshape(len(rows), -1)


class _Grown:
    """Where everything of the small network is in the large one."""

    def __init__(self, small: Small, shape: StandinShape) -> None:
        inner = small.shape
        self.small, self.shape = small, shape
        self.superblocks = math.ceil(inner.hidden / BLOCK)
        self.main = _spread(inner.hidden)
        self.low, self.again = self.main + BLOCK, self.main + 2 * BLOCK
        self.constant, self.level = self.superblocks * K_BLOCK, (self.superblocks + 1) * K_BLOCK
        self.ffn = _spread(inner.ffn)
        self.heads, self.kv_heads, self.kv_sources, self.turned = head_axes(small, shape)
        self.scale = math.sqrt(COPIES * inner.hidden / shape.hidden)
        self.eps = small.rms_eps * COPIES * inner.hidden / shape.hidden
        whole, unit = _whole_numbers(small.tensors["token_embd.weight"])
        upper, lower = np.floor(whole / 16) * 16, whole % 16
        self.squares = ((2 * upper**2 + lower**2) * unit[..., None] ** 2).sum((1, 2)) + _CONSTANT**2
        self.longest = float(self.squares.max()) * 1.0001

    def vector(self, name: str, width: int) -> "Floats":
        values = np.zeros(width, np.float32)
        if name == "output_norm.weight":
            values[self.constant] = constants_of_norms(self.small.final_rms * self.scale, _CONSTANT, _UNUSED)
            inner = name
        elif name == "blk.0.ffn_norm.weight":
            rms = math.sqrt(self.longest / self.shape.hidden + self.eps)
            values[[*self.low, self.level]] = rms
            values[self.constant] = rms / _CONSTANT
            return values
        else:
            inner = self._inner_name(name)
        if inner in self.small.tensors:
            values[self.main] = values[self.again] = self.small.tensors[inner] * np.float32(self.scale)
        return values

    def _inner_name(self, name: str) -> str:
        """The small network's name of this tensor: its layers come after the first."""
        parts = name.split(".")
        if parts[0] != "blk":
            return name
        return ".".join(["blk", str(int(parts[1]) - 1), *parts[2:]])

    def part(self, name: str, kind: GGMLQuantizationType) -> "Callable[[], _Part] | None":
        """The contents of this matrix; None if there are none."""
        rounds = kind != GGMLQuantizationType.Q4_K
        again = self.again if rounds else None
        if name == "output.weight":
            inner = self.small.tensors["token_embd.weight"]
            rest = (self.constant, _UNUSED)
            encode = _output_rows if kind == GGMLQuantizationType.Q6_K else None
            return lambda: _Part(inner, _as_they_are(np.arange(len(inner))), self.main, again, rest, encode)
        if name.startswith("blk.0."):
            return self._first_layer(name.split(".")[2])
        inner_name = self._inner_name(name)
        if inner_name not in self.small.tensors:
            return None
        part = name.split(".")[2]
        factor = math.sqrt(self.shape.head_dim / self.small.shape.head_dim) if part == "attn_q" else 1
        places = self._places(part, again, rounds=rounds)
        if part == "attn_v":
            return lambda: _Part(_with_small_copy(self.small.tensors[inner_name]), *places)
        gain = _GAIN if part == "attn_output" else 1
        return lambda: _Part(self.small.tensors[inner_name] * np.float32(factor), *places, gain=gain)

    def _places(self, part: str, again: "Places | None", *, rounds: bool) -> "tuple[Axis, Places, Places | None]":
        """Rows, columns and the columns of what is lost."""
        both = _twice(self.main, self.again)
        plain = np.arange(self.small.shape.head_dim)
        match part:
            case "attn_q":
                return _as_they_are(self._in_heads(self.heads, self.turned)), self.main, again
            case "attn_k":
                return self._of_kv_heads(self.turned), self.main, again
            case "attn_v":
                rows, second = self._of_kv_heads(plain), self._of_kv_heads(plain + len(plain))
                sources = np.concatenate([rows.sources, second.sources + len(np.unique(rows.sources))])
                return _sorted(np.concatenate([rows.places, second.places]), sources), self.main, again
            case "attn_output":
                heads = self._in_heads(self.heads, plain), self._in_heads(self.heads, plain + len(plain))
                return both, *heads
            case "ffn_down":
                return both, self.ffn, self.ffn + BLOCK if rounds else None
            case _:
                twice = _twice(self.ffn, self.ffn + BLOCK)
                return twice, self.main, again

    def _in_heads(self, heads: "Places", dims: "Places") -> "Places":
        return (heads[:, None] * self.shape.head_dim + dims).reshape(-1)

    def _of_kv_heads(self, dims: "Places") -> Axis:
        inner = self.small.shape.head_dim
        sources = (self.kv_sources[:, None] * inner + np.arange(inner)).reshape(-1)
        return _sorted(self._in_heads(self.kv_heads, dims), sources)

    def _first_layer(self, part: str) -> "Callable[[], _Part] | None":
        """The feed-forward part that adds the lower bits to the upper ones, and clears them and the level."""
        count = len(self.main) + 1
        rows, eye = _spread(count), np.eye(count, dtype=np.float32)
        read = np.array([*self.low, self.level])
        if part == "ffn_gate":
            gates = np.full((count, 1), _GATE, np.float32)
            return lambda: _Part(gates, _as_they_are(rows), np.array([self.constant]))
        if part == "ffn_up":
            return lambda: _Part(eye, _as_they_are(rows), read)
        if part == "ffn_down":
            values = np.concatenate([eye[:-1], -eye]) / np.float32(_GATE)
            places = np.concatenate([self.main, self.again, read])
            sources = np.concatenate([np.arange(count - 1)] * 2 + [np.arange(count - 1, 2 * count - 1)])
            return lambda: _Part(values, _sorted(places, sources), rows)
        return None

    def embedding_pieces(
        self, rows: int, columns: int, kind: GGMLQuantizationType
    ) -> "Callable[[], Iterator[bytes | np.ndarray | Zeros]]":
        inner = self.small.tensors["token_embd.weight"]
        size = row_bytes(columns, kind)

        def pieces() -> "Iterator[bytes | np.ndarray | Zeros]":
            for at in range(0, len(inner), _ROWS):
                whole, unit = _whole_numbers(inner[at : at + _ROWS])
                upper = (np.floor(whole / 16) + 8).astype(np.uint8)
                q = np.zeros((*whole.shape[:2], 8, BLOCK), np.uint8)
                q[:, :, 0] = q[:, :, 2] = upper
                q[:, :, 1] = whole % 16
                scales = np.tile(np.array([16, 1, 16, 0, 0, 0, 0, 0]), (q.shape[0] * q.shape[1], 1))
                mins = np.tile(np.array([32, 0, 32, 0, 0, 0, 0, 0]), (len(scales), 1))
                d = unit.reshape(-1)
                channels = packed(Shifted(d, 4 * d, scales, mins, q.reshape(-1, 8, BLOCK)), kind)
                others = np.zeros((len(whole), 2 * K_BLOCK), np.float32)
                others[:, 0] = _CONSTANT
                others[:, K_BLOCK] = np.sqrt(self.longest - self.squares[at : at + _ROWS])
                made = np.zeros((len(whole), size), np.uint8)
                channels = channels.reshape(len(whole), -1)
                made[:, : channels.shape[1]] = channels
                second = quantised(others, kind)
                made[:, channels.shape[1] : channels.shape[1] + second.shape[1]] = second
                yield made
            yield Zeros((rows - len(inner)) * size)

        return pieces


def _with_small_copy(values: "Floats") -> "Floats":
    """Values, and once more divided by the gain: what the attention's output loses is multiplied by it."""
    return np.concatenate([values, values / np.float32(_GAIN)])


def _spread(count: int) -> "Places":
    """Positions of channels whose blocks of 32 have a superblock each."""
    places = np.arange(count)
    return places // BLOCK * K_BLOCK + places % BLOCK


def _as_they_are(places: "Places") -> Axis:
    return _sorted(places, np.arange(len(places)))


def _twice(first: "Places", second: "Places") -> Axis:
    return _sorted(np.concatenate([first, second]), np.concatenate([np.arange(len(first))] * 2))


def _sorted(places: "Places", sources: "Places") -> Axis:
    order = np.argsort(places)
    return Axis(places[order], sources[order])


def _whole_numbers(rows: "Floats") -> "tuple[NDArray[np.int16], Floats]":
    """Rows of Q8_0 as whole numbers (rows, blocks, 32) and the unit of each block."""
    made = quantised(np.ascontiguousarray(rows, np.float32), GGMLQuantizationType.Q8_0)
    blocks = made.reshape(len(rows), -1, 2 + BLOCK)
    unit = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].astype(np.float32)
    return blocks[..., 2:].view(np.int8).astype(np.int16), unit

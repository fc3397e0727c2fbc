"""Quantisation of F32 rows to llama.cpp's blocks, with our own code for Q4_K, Q5_K and Q6_K.

The gguf package writes F16, Q5_0, Q5_1 and Q8_0 and can read all of them, but writes no K-quant. Layouts are those that
its readers expect. In every type, zero bytes encode zero values: growth relies on it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # Any: arithmetic of mixed widths has unions of types that say less than these names do.
    Floats = NDArray[Any]
    Bytes = NDArray[Any]
    Integers = NDArray[Any]

K_BLOCK = 256
_STEPS = 8  # scales tried for each sub-block of a Q4_K or Q5_K
_AT_ONCE = 1 << 22  # elements: the search takes some ten times this in memory


def block_elements(kind: GGMLQuantizationType) -> int:
    """Number of values in a block of this type."""
    return GGML_QUANT_SIZES[kind][0]


def row_bytes(columns: int, kind: GGMLQuantizationType) -> int:
    """Size of a row. `columns` must be a multiple of the block."""
    elements, size = GGML_QUANT_SIZES[kind]
    return columns // elements * size


def quantised(rows: "Floats", kind: GGMLQuantizationType) -> "Bytes":
    """The rows' blocks as bytes, one row for each row. Raises ValueError if rows are not whole blocks."""
    if rows.shape[1] % block_elements(kind):
        raise ValueError(f"{rows.shape[1]} columns are not whole blocks of {kind.name}")
    make = _OURS.get(kind)
    if make is None:
        return quantize(rows, kind).view(np.uint8).reshape(len(rows), -1)
    blocks = rows.reshape(-1, K_BLOCK)
    many = _AT_ONCE // K_BLOCK
    made = [make(blocks[i : i + many]) for i in range(0, len(blocks), many)]
    return np.concatenate(made).reshape(len(rows), -1)


def _q4_k(blocks: "Floats") -> "Bytes":
    return packed(_scaled_and_shifted(blocks, 15), GGMLQuantizationType.Q4_K)


def _q5_k(blocks: "Floats") -> "Bytes":
    return packed(_scaled_and_shifted(blocks, 31), GGMLQuantizationType.Q5_K)


class Shifted(NamedTuple):
    """Blocks of Q4_K or Q5_K: 8 sub-blocks of 32 values d·scale·q − dmin·min, with scales and mins of 6 bits.

    `d`, `dmin`: (blocks,); `scales`, `mins`: (blocks, 8); `q`: (blocks, 8, 32), of 4 or 5 bits.
    """

    d: "Floats"
    dmin: "Floats"
    scales: "Integers"
    mins: "Integers"
    q: "Integers"


def packed(blocks: Shifted, kind: GGMLQuantizationType) -> "Bytes":
    """As bytes, one row for each block. In Q5_K, bit i of byte j is the fifth bit of value j in sub-block i."""
    s, m, q = blocks.scales.astype(np.uint8), blocks.mins.astype(np.uint8), blocks.q.astype(np.uint8)
    parts = [
        _half(blocks.d),
        _half(blocks.dmin),
        s[:, :4] | (s[:, 4:] >> 4) << 6,
        m[:, :4] | (m[:, 4:] >> 4) << 6,
        (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4,
    ]
    if kind == GGMLQuantizationType.Q5_K:
        parts.append(np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1))
    pairs = (q & 15).reshape(-1, 4, 2, 32)
    return np.concatenate([*parts, (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)], axis=1)


def _q6_k(blocks: "Floats") -> "Bytes":
    x = blocks.reshape(-1, 16, 16)
    largest = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    scale = largest / -32  # the largest is then −32 exactly, and the other sign's 31 is nearly as far
    d, whole = _share(np.abs(scale), 127)
    signed = np.where(scale < 0, -whole, whole)
    q = np.rint(_divided(x, (d[:, None] * signed)[..., None])).clip(-32, 31).astype(np.int8)
    return packed_6(d, signed, q)


def packed_6(d: "Floats", scales: "Integers", q: "Integers") -> "Bytes":
    """Blocks of Q6_K as bytes: 16 sub-blocks of 16 values d·scale·q, with q of −32 to 31 and scales of 8 bits."""
    q = np.where(scales[..., None] == 0, 0, q + 32).astype(np.uint8)  # zeros are zero bytes
    low = (q.reshape(-1, 2, 2, 64) & 15).astype(np.uint8)
    high = (q.reshape(-1, 2, 4, 32) >> 4).astype(np.uint8)
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    parts = [
        (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128),
        high.reshape(-1, 64),
        scales.astype(np.int8).view(np.uint8),
        _half(d),
    ]
    return np.concatenate(parts, axis=1)


_OURS: "dict[GGMLQuantizationType, Callable[[Floats], Bytes]]" = {
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}


def _scaled_and_shifted(blocks: "Floats", most: int) -> Shifted:
    """The search is for sub-blocks that are not zero: in a grown network they are few."""
    x = blocks.reshape(-1, 8, 32)
    used = x.any(-1)
    scale, low = np.zeros(used.shape, np.float32), np.zeros(used.shape, np.float32)
    scale[used], low[used] = _best_steps(x[used], most)
    d, scales = _share(scale, 63)
    dmin, mins = _share(low, 63)
    step, shift = (d[:, None] * scales)[used][:, None], (dmin[:, None] * mins)[used][:, None]
    found = np.rint(_divided(x[used] + shift, step)).clip(0, most).astype(np.uint8)
    q = np.zeros(x.shape, np.uint8)
    q[used] = np.where(step == 0, 0, found)
    return Shifted(d, dmin, scales, mins, q)


def _best_steps(x: "Floats", most: int) -> "tuple[Floats, Floats]":
    """For each sub-block the step and how far below zero it begins, such that its values' squared error is small.

    A few steps about the one that spans all values are tried; for each, step and start are then the best for the
    values that it gives (least squares).
    """
    low = np.minimum(x.min(-1), 0)
    span = np.maximum(x.max(-1), 0) - low
    best_step, best_low = span / most, 0 - low  # `-low` would make a zero negative, whose bytes are not zero
    best_error = np.full(span.shape, np.inf, np.float32)
    mean_x = x.mean(-1)
    for i in range(_STEPS):
        inverse = _divided(np.float32(most - 1 + 2 * i / (_STEPS - 1)), span)
        q = np.rint((x - low[..., None]) * inverse[..., None]).clip(0, most)
        mean_q = q.mean(-1)
        spread = (q * q).mean(-1) - mean_q * mean_q
        step = _divided((q * x).mean(-1) - mean_q * mean_x, spread)
        start = mean_x - step * mean_q
        above = start > 0  # the format only knows starts at or below zero
        step = np.where(above, _divided((q * x).mean(-1), (q * q).mean(-1)), step)
        start = np.where(above, 0, start)
        error = np.square(step[..., None] * q + start[..., None] - x).sum(-1)
        better = (error < best_error) & (step > 0)
        best_error = np.where(better, error, best_error)
        best_step = np.where(better, step, best_step)
        best_low = np.where(better, 0 - start, best_low)
    return best_step.astype(np.float32), best_low.astype(np.float32)


def _share(values: "Floats", most: int) -> "tuple[Floats, Floats]":
    """A half-precision unit for each block, and each of its values as a whole number of 0 to `most` units.

    A value alone in its block has the unit that half precision rounds least: a step of Q4_1 stays as it is. Of 8 units
    or fewer, the next whole number is taken: values beyond the block's range would cost more than a coarser step.
    """
    best = np.full(len(values), np.inf, np.float32)
    unit, whole = np.zeros(len(values), np.float32), np.zeros(values.shape, np.float32)
    alone = (values > 0).sum(-1) == 1
    for divisor in (most, *_DIVISORS):
        one = (values.max(-1) / divisor).astype(np.float16).astype(np.float32)
        ratio = _divided(values, one[:, None])
        found = np.where(ratio < 8, np.ceil(ratio - 1e-3), np.rint(ratio)).clip(0, most)
        error = np.square(found * one[:, None] - values).sum(-1)
        better = (error < best) & (alone | (divisor == most))
        best[better], unit[better], whole[better] = error[better], one[better], found[better]
        if divisor == most and not alone.any():
            break
    return unit, whole


_DIVISORS = (1, *range(44, 63))


def _divided(upper: "Floats | np.float32", lower: "Floats") -> "Floats":
    """The quotient; zero where the divisor is zero."""
    shape = np.broadcast_shapes(np.shape(upper), lower.shape)
    return np.divide(upper, lower, out=np.zeros(shape, np.float32), where=np.broadcast_to(lower != 0, shape))


def _half(values: "Floats") -> "Bytes":
    return values.astype(np.float16)[:, None].view(np.uint8)

"""Quantisation of F32 rows to llama.cpp's blocks, with our own code for Q4_K, Q5_K and Q6_K.

The gguf package writes F16, Q5_0, Q5_1 and Q8_0 and can read all of them, but writes no K-quant. Layouts are those that
its readers expect. In every type, zero bytes encode zero values: growth relies on it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    """8 sub-blocks of 32 values q in 4 bits: d·scale·q − dmin·min, with scales and mins of 6 bits."""
    head, q = _scaled_and_shifted(blocks, 15)
    pairs = q.reshape(-1, 4, 2, 32)
    return np.concatenate([head, (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)], axis=1)


def _q5_k(blocks: "Floats") -> "Bytes":
    """As Q4_K, with a fifth bit of each value apart: bit i of byte j is that of value j in sub-block i."""
    head, q = _scaled_and_shifted(blocks, 31)
    fifth = np.zeros((len(blocks), 32), np.uint8)
    for i in range(8):
        fifth |= (q[:, i] >> 4) << i
    pairs = (q & 15).reshape(-1, 4, 2, 32)
    return np.concatenate([head, fifth, (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)], axis=1)


def _q6_k(blocks: "Floats") -> "Bytes":
    """16 sub-blocks of 16 values q in 6 bits, less 32: d·scale·(q − 32), with scales of 8 bits."""
    x = blocks.reshape(-1, 16, 16)
    largest = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    scale = largest / -32  # the largest is then −32 exactly, and the other sign's 31 is nearly as far
    d, whole = _share(np.abs(scale), 127)
    signed = np.where(scale < 0, -whole, whole)
    q = np.rint(_divided(x, (d[:, None] * signed)[..., None])).clip(-32, 31).astype(np.int8) + 32
    q = np.where(signed[..., None] == 0, 0, q).astype(np.uint8)  # nothing to say, so that zeros are zero bytes
    low = (q.reshape(-1, 2, 2, 64) & 15).astype(np.uint8)
    high = (q.reshape(-1, 2, 4, 32) >> 4).astype(np.uint8)
    high = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    parts = [
        (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128),
        high.reshape(-1, 64),
        signed.astype(np.int8).view(np.uint8),
        _half(d),
    ]
    return np.concatenate(parts, axis=1)


_OURS: "dict[GGMLQuantizationType, Callable[[Floats], Bytes]]" = {
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}


def _scaled_and_shifted(blocks: "Floats", most: int) -> "tuple[Bytes, Integers]":
    """d, dmin and the packed scales and mins as bytes; and the values, of 0 to `most`, as (blocks, 8, 32)."""
    x = blocks.reshape(-1, 8, 32)
    scale, low = _best_steps(x, most)
    d, scales = _share(scale, 63)
    dmin, mins = _share(low, 63)
    step, shift = (d[:, None] * scales)[..., None], (dmin[:, None] * mins)[..., None]
    q = np.rint(_divided(x + shift, step)).clip(0, most).astype(np.uint8)
    q = np.where(step == 0, 0, q).astype(np.uint8)
    s, m = scales.astype(np.uint8), mins.astype(np.uint8)
    packed = [
        s[:, :4] | (s[:, 4:] >> 4) << 6,
        m[:, :4] | (m[:, 4:] >> 4) << 6,
        (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4,
    ]
    return np.concatenate([_half(d), _half(dmin), *packed], axis=1), q


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
    """A half-precision unit for each block, and each of its values as a whole number of 0 to `most` units."""
    unit = (values.max(-1) / most).astype(np.float16).astype(np.float32)
    whole = np.rint(_divided(values, unit[:, None])).clip(0, most)
    return unit, whole.astype(np.float32)


def _divided(upper: "Floats | np.float32", lower: "Floats") -> "Floats":
    """The quotient; zero where the divisor is zero."""
    shape = np.broadcast_shapes(np.shape(upper), lower.shape)
    return np.divide(upper, lower, out=np.zeros(shape, np.float32), where=np.broadcast_to(lower != 0, shape))


def _half(values: "Floats") -> "Bytes":
    return values.astype(np.float16)[:, None].view(np.uint8)

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from hypothesis import example, given
from hypothesis import strategies as st

from inferometer.standin.quantise import quantised, row_bytes

K_QUANTS = (Type.Q4_K, Type.Q5_K, Type.Q6_K)
KINDS = (*K_QUANTS, Type.Q8_0, Type.Q5_0, Type.Q5_1, Type.F16)
STEPS = {Type.Q4_K: 15, Type.Q5_K: 31}
"""From a sub-block's lowest value to its highest."""


def read_back(rows: np.ndarray, kind: Type) -> np.ndarray:
    return dequantize(quantised(rows, kind), kind)


def sub_blocks(rows: np.ndarray, kind: Type) -> np.ndarray:
    return rows.reshape(-1, 16 if kind == Type.Q6_K else 32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_takes_as_many_bytes_as_the_format_says(kind):
    assert quantised(np.ones((3, 512), np.float32), kind).shape == (3, row_bytes(512, kind))


def test_bits_per_weight_are_the_formats_own():
    per_weight = {kind.name: row_bytes(256, kind) * 8 / 256 for kind in K_QUANTS}
    assert per_weight == {"Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_all_zero_stand_for_zeros(kind):
    nothing = np.zeros((2, row_bytes(512, kind)), np.uint8)
    assert not dequantize(nothing, kind).any()


@pytest.mark.parametrize("kind", K_QUANTS)
def test_zeros_become_bytes_that_are_all_zero(kind):
    assert not quantised(np.zeros((2, 512), np.float32), kind).any()


@example(137530, Type.Q6_K, 0.005)  # its scale's scale is so small that F16 has few digits for it
@given(st.integers(0, 2**32 - 1), st.sampled_from(K_QUANTS), st.sampled_from([0.005, 0.02, 1.0, 300.0]))
def test_what_is_read_back_is_within_a_step(seed, kind, size):
    rng = np.random.default_rng(seed)
    # Sub-blocks of unlike sizes, all of which share a scale's scale.
    rows = (rng.normal(0, size, (2, 512)) * rng.choice([0.1, 1.0], (2, 512 // 32)).repeat(32, axis=1)).astype("f4")
    error = np.abs(sub_blocks(read_back(rows, kind) - rows, kind)).max(-1)
    groups = sub_blocks(rows, kind)
    largest = np.abs(rows).reshape(-1, 256).max(-1).repeat(256 // groups.shape[1])
    if kind == Type.Q6_K:  # 32 steps to the largest, 31 to the other side; half a unit of 127 in the scale
        step, unit, units = np.abs(groups).max(-1) / 32, largest / 127, 127 * 32
    else:  # half a step by rounding, half by the search; half a unit of 63 in the scale and in the start
        step, unit = (np.maximum(groups.max(-1), 0) - np.minimum(groups.min(-1), 0)) / STEPS[kind], 2 * largest / 63
        units = 63 * (STEPS[kind] + 1)
    half_digit = 2.0**-25  # of the scale's scale, where F16 is at its least
    assert (error <= step + unit + half_digit * units).all()


@pytest.mark.parametrize(("kind", "most"), [(Type.Q4_K, 0.076), (Type.Q5_K, 0.038), (Type.Q6_K, 0.020)])
def test_normally_distributed_weights_lose_as_little_as_their_bits_allow(kind, most):
    # 32 normal values span 4.1 standard deviations: rounding to 15 steps of that has an error of 4.1/15/√12 = 0.079.
    rows = np.random.default_rng(1).normal(0, 1, (64, 1024)).astype(np.float32)
    assert np.sqrt(np.square(read_back(rows, kind) - rows).mean()) < most


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q5_K])
def test_values_on_the_grid_come_back_as_they_were(kind):
    # Scales 1/1024·(1…8)·… are whole shares of the largest: 63 units of it make 7·9.
    steps = np.repeat(np.array([9, 18, 27, 36, 45, 54, 63, 63], np.float32) / 1024, 32)
    values = np.random.default_rng(2).integers(0, STEPS[kind] + 1, (4, 8, 32))
    values[:, :, 0], values[:, :, 1] = 0, STEPS[kind]  # so that each sub-block spans all
    rows = (values.reshape(4, 256) * steps).astype(np.float32)
    np.testing.assert_allclose(read_back(rows, kind), rows, rtol=1e-3, atol=1e-6)


def test_q6_k_values_on_the_grid_come_back_as_they_were():
    scales = np.repeat(np.array([127, -127, 64, -1] * 4, np.float32) / 4096, 16)
    values = np.random.default_rng(3).integers(-31, 32, (4, 16, 16))
    values[:, :, 5] = -32
    rows = (values.reshape(4, 256) * scales).astype(np.float32)
    np.testing.assert_allclose(read_back(rows, Type.Q6_K), rows, rtol=1e-3, atol=1e-6)


def test_a_row_that_is_no_whole_number_of_blocks_is_an_error():
    with pytest.raises(ValueError, match="300 columns are not whole blocks of Q4_K"):
        quantised(np.zeros((1, 300), np.float32), Type.Q4_K)

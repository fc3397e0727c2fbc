from collections import Counter

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.standin.shapes import NAMED, StandinShape, named_shape
from inferometer.standin.tensor_types import known_quantisation, tensor_bytes, tensor_types

GIB, MIB = 2**30, 2**20


@pytest.mark.parametrize(
    ("name", "quantisation", "size", "parameters"),
    [
        # As llama-bench shows the real files: the 32B from the seed's rows, the others from llama.cpp's own tables.
        ("qwen2.5-coder-32b", "Q4_K_M", f"{18.48:.2f} GiB", "32.76 B"),
        ("qwen2.5-coder-7b", "Q4_K_M", "4.36 GiB", "7.62 B"),
        ("llama-3-8b", "Q4_K_M", "4.58 GiB", "8.03 B"),
        ("llama-3-8b", "F16", "14.96 GiB", "8.03 B"),
        ("llama-3-70b", "Q4_K_M", "39.59 GiB", "70.55 B"),
    ],
)
def test_sizes_and_parameters_are_the_real_models(name, quantisation, size, parameters):
    shape = NAMED[name]
    assert f"{tensor_bytes(shape, quantisation) / GIB:.2f} GiB" == size
    assert f"{shape.parameters / 1e9:.2f} B" == parameters


def test_the_32b_has_q6_k_in_its_output_and_in_half_of_two_kinds_of_matrices():
    types = tensor_types(NAMED["qwen2.5-coder-32b"], "Q4_K_M")
    assert types["output.weight"].name == "Q6_K"
    assert types["token_embd.weight"].name == "Q4_K"
    richer = [name for name, kind in types.items() if kind.name == "Q6_K" and name != "output.weight"]
    # Layers 0 to 7, 56 to 63, and of the 48 between each third, beginning with the third: 10, 13, … 55.
    layers = [*range(8), *range(10, 56, 3), *range(56, 64)]
    assert richer == [f"blk.{i}.{part}.weight" for i in layers for part in ("attn_v", "ffn_down")]
    assert set(Counter(kind.name for kind in types.values())) == {"Q4_K", "Q6_K"}


def test_a_tied_embedding_has_the_outputs_type():
    types = tensor_types(NAMED["qwen2.5-coder-1.5b"], "Q4_K_M")
    assert types["token_embd.weight"].name == "Q6_K"
    assert "output.weight" not in types


def test_rows_that_are_no_multiple_of_256_fall_back():
    types = tensor_types(NAMED["qwen2.5-coder-0.5b"], "Q4_K_M")  # hidden 896, feed-forward 4864 = 19 × 256
    assert types["token_embd.weight"].name == "Q8_0"
    assert types["blk.10.attn_q.weight"].name == "Q5_0"
    assert types["blk.0.attn_v.weight"].name == "Q8_0"
    assert types["blk.0.ffn_down.weight"].name == "Q6_K"
    assert types["blk.3.ffn_down.weight"].name == "Q4_K"


def test_a_70b_has_five_bits_in_its_values():
    types = tensor_types(NAMED["llama-3-70b"], "Q4_K_M")
    assert types["blk.10.attn_v.weight"].name == "Q5_K"
    assert types["blk.12.attn_v.weight"].name == "Q6_K"


def test_q8_0_is_q8_0_throughout():
    assert {kind.name for kind in tensor_types(NAMED["llama-3-8b"], "Q8_0").values()} == {"Q8_0"}


def test_llama_has_no_biases():
    shape = StandinShape(layers=1, hidden=64, ffn=32, heads=2, kv_heads=1, vocab=10, architecture="llama")
    assert [name for name in shape.vectors() if "bias" in name] == []
    assert shape.parameters == 2 * 64 * 10 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 32 + 3 * 64


@pytest.mark.parametrize(
    ("asked", "said"),
    [("Q4_K", "The nearest is Q4_K_M"), ("q4-k-m", "The nearest is Q4_K_M"), ("IQ9", "Known: F32, F16, Q8_0")],
)
def test_an_unknown_quantisation_is_refused_with_the_nearest(asked, said):
    with pytest.raises(RequestWrong, match=said):
        known_quantisation(asked)


def test_a_quantisation_is_known_in_small_letters():
    assert known_quantisation("q4_k_m") == "Q4_K_M"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(RequestWrong, match=r"Did you mean qwen2\.5-coder-32b\?"):
        named_shape("qwen2.5-coder32b")

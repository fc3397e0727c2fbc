import msgspec
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from inferometer.base.errors import RequestWrong
from inferometer.standin.pairs import write_trained
from inferometer.standin.shapes import StandinShape

TEXT = [int(i) for i in np.random.default_rng(1).integers(0, 500, 40)]

SHAPES = {
    "wider": StandinShape(layers=2, hidden=256, ffn=160, heads=16, kv_heads=4, vocab=512),
    "deeper": StandinShape(layers=5, hidden=256, ffn=128, heads=16, kv_heads=4, vocab=512),
    "heads of twice the size": StandinShape(layers=2, hidden=256, ffn=96, heads=8, kv_heads=2, vocab=512),
    "heads of three times the size": StandinShape(layers=2, hidden=384, ffn=96, heads=8, kv_heads=1, vocab=512),
    "groups smaller than the small network's": StandinShape(
        layers=2, hidden=128, ffn=96, heads=8, kv_heads=4, vocab=512
    ),
    "no groups at all": StandinShape(layers=2, hidden=128, ffn=96, heads=8, kv_heads=8, vocab=512),
    "more words": StandinShape(layers=2, hidden=128, ffn=96, heads=8, kv_heads=2, vocab=700),
    "more words, tied": StandinShape(layers=3, hidden=512, ffn=256, heads=32, kv_heads=4, vocab=2000, tied=True),
    "Llama": StandinShape(layers=3, hidden=320, ffn=128, heads=10, kv_heads=2, vocab=700, architecture="llama"),
    "Llama, heads of the same size": StandinShape(
        layers=2, hidden=96, ffn=96, heads=6, kv_heads=1, vocab=512, architecture="llama"
    ),
}


@pytest.fixture(scope="session")
def answer(original) -> list[int]:
    """What the small network says after the text."""
    return original.greedy(TEXT, 24)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_grown_network_has_the_small_ones_logits_and_says_the_same(
    small, original, answer, network, tmp_path, shape
):
    write_trained(tmp_path / "grown.gguf", shape, "F32", small, like="a test")
    grown = network(tmp_path / "grown.gguf")
    expected, found = original.logits(TEXT), grown.logits(TEXT + answer)
    known = found[: len(TEXT), :512]
    # A tied output adds the same to each known word's logit, which changes no choice and no probability.
    shift = (known - expected).mean(-1, keepdims=True)
    assert np.abs(shift).max() < (0.1 if shape.tied else 1e-3)
    np.testing.assert_allclose(known - shift, expected, atol=2e-3)
    assert found[len(TEXT) - 1 : -1].argmax(-1).tolist() == answer  # its choice after each beginning of the answer


def test_the_small_networks_text_is_varied_or_these_tests_would_show_little(answer):
    assert len(set(answer)) > 12


@pytest.mark.parametrize("quantisation", ["F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"])
@pytest.mark.parametrize("name", ["more words", "more words, tied"])
def test_unused_words_never_come_near_to_winning(small, network, tmp_path, name, quantisation):
    shape = SHAPES[name]
    write_trained(tmp_path / "grown.gguf", shape, quantisation, small, like="a test")
    grown = network(tmp_path / "grown.gguf")
    logits = np.concatenate([grown.logits(list(range(i, i + 64))) for i in range(0, 512, 64)])  # after each known word
    least_gap = (logits[:, :512].max(-1) - logits[:, 512:].max(-1)).min()
    assert least_gap > 40  # e^-40 of the likeliest's chance: a million of them don't matter


def behind(network, said) -> float:
    """By how much the engine's tokens are behind the likeliest by the formulas, at worst. It rounds activations."""
    logits = network.logits(TEXT + said)[len(TEXT) - 1 : -1]
    return float((logits.max(-1) - logits[np.arange(len(said)), said]).max())


def test_the_engine_says_what_the_small_network_says(small, answer, engine_tokens, tmp_path):
    write_trained(tmp_path / "grown.gguf", SHAPES["more words, tied"], "F32", small, like="a test")
    assert engine_tokens(tmp_path / "grown.gguf", TEXT, 24) == answer


def test_the_engine_loads_a_grown_llama_and_says_the_same(small, answer, engine_tokens, tmp_path):
    write_trained(tmp_path / "llama.gguf", SHAPES["Llama"], "F32", small, like="a test")
    assert engine_tokens(tmp_path / "llama.gguf", TEXT, 24) == answer


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q5_K_M", "Q4_K_M"])
def test_the_engine_reads_quantised_files_as_we_wrote_them(small, network, engine_tokens, tmp_path, quantisation):
    write_trained(tmp_path / "grown.gguf", SHAPES["more words, tied"], quantisation, small, like="a test")
    said = engine_tokens(tmp_path / "grown.gguf", TEXT, 16)
    assert len(set(said)) > 8
    assert behind(network(tmp_path / "grown.gguf"), said) < 1.0


def test_a_q8_0_file_says_what_the_small_network_says(small, original, engine_tokens, tmp_path):
    write_trained(tmp_path / "grown.gguf", SHAPES["wider"], "Q8_0", small, like="a test")
    assert behind(original, engine_tokens(tmp_path / "grown.gguf", TEXT, 16)) < 1.0


def test_the_engine_takes_a_pair_of_grown_networks(small, answer, engine_tokens, tmp_path):
    write_trained(tmp_path / "target.gguf", SHAPES["more words"], "F32", small, like="a test")
    draft = StandinShape(layers=2, hidden=96, ffn=96, heads=6, kv_heads=1, vocab=701, tied=True)
    write_trained(tmp_path / "draft.gguf", draft, "Q8_0", small, like="a test")
    said = engine_tokens(tmp_path / "target.gguf", TEXT, 24, tmp_path / "draft.gguf")
    assert said == answer


def in_few_bits(small):
    """The small network with matrices of Q4_1 and an embedding of Q8_0, and heads of 32."""

    def rounded(name, values):
        kind = GGMLQuantizationType.Q8_0 if name == "token_embd.weight" else GGMLQuantizationType.Q4_1
        return values if values.ndim == 1 else dequantize(quantize(values, kind), kind)

    tensors = {name: rounded(name, values) for name, values in small.tensors.items()}
    for i in range(small.shape.layers):
        for part in ("attn_k", "attn_v"):
            tensors[f"blk.{i}.{part}.weight"] = np.repeat(tensors[f"blk.{i}.{part}.weight"], 2, axis=0)
    shape = msgspec.structs.replace(small.shape, heads=2, kv_heads=1, head_dim=32)
    return msgspec.structs.replace(small, shape=shape, tensors=tensors, is_quantised=True)


def test_q4_k_m_loses_nothing_of_a_network_of_few_bits_if_there_is_room(small, network, engine_tokens, tmp_path):
    few = in_few_bits(small)
    itself = StandinShape(layers=2, hidden=64, ffn=96, heads=2, kv_heads=1, vocab=512, tied=True)
    write_trained(tmp_path / "itself.gguf", itself, "F32", few, like="a test")
    room = StandinShape(layers=3, hidden=1024, ffn=768, heads=16, kv_heads=4, vocab=600)
    write_trained(tmp_path / "grown.gguf", room, "Q4_K_M", few, like="a test")
    before, after = network(tmp_path / "itself.gguf"), network(tmp_path / "grown.gguf")
    expected, found = before.logits(TEXT), after.logits(TEXT)
    np.testing.assert_allclose(found[:, :512], expected, atol=0.2)
    assert found[:, 512:].max() < found[:, :512].max(-1).min() - 40
    assert behind(before, engine_tokens(tmp_path / "grown.gguf", TEXT, 16)) < 1.0


def changed(**fields) -> StandinShape:
    return msgspec.structs.replace(SHAPES["wider"], **fields)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (changed(layers=1), "layers 1 is smaller than the trained network's 2"),
        (changed(hidden=32, heads=2, kv_heads=1), "hidden 32 is smaller than the trained network's 64"),
        (changed(ffn=64), "ffn 64 is smaller than the trained network's 96"),
        (changed(heads=2, kv_heads=1), "heads 2 is smaller than the trained network's 4"),
        (changed(vocab=400), "vocab 400 is smaller than the trained network's 512"),
        (changed(hidden=160, heads=4, kv_heads=1), "a head of 40 is not a multiple of the trained network's 16"),
        (changed(heads=16, kv_heads=16, hidden=250), "hidden is 250; blocks of a quantised row need a multiple of 32"),
        (
            changed(heads=4, kv_heads=1, hidden=64, vocab=513),
            "hidden 64 has no channel beyond the trained network's 64",
        ),
        (changed(heads=0), "heads is 0; it must be at least 1"),
    ],
)
def test_a_shape_without_room_is_refused_before_anything_is_written(small, tmp_path, shape, message):
    with pytest.raises(RequestWrong) as refused:
        write_trained(tmp_path / "grown.gguf", shape, "F32", small, like="a test")
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_says_that_it_is_a_stand_in_and_whose_shape_it_has(small, network, tmp_path):
    write_trained(tmp_path / "grown.gguf", SHAPES["Llama"], "Q4_K_M", small, like="llama-9-1b")
    fields = network(tmp_path / "grown.gguf").fields
    assert fields["general.name"] == "stand-in for llama-9-1b, Q4_K_M"
    assert "It is not that model" in fields["general.description"]
    assert fields["general.architecture"] == "llama"
    assert len(fields["tokenizer.ggml.tokens"]) == 700
    assert len(set(fields["tokenizer.ggml.tokens"])) == 700

import io
import struct
from pathlib import Path

import pytest

from inferometer.base.errors import ModelUnusable
from inferometer.engine_bench.bench_files import model_in_file
from inferometer.llama_bench.gguf_facts import (
    ArrayLength,
    Attention,
    Header,
    Tensor,
    file_type_name,
    header_of,
    model_facts,
    split_names,
)
from inferometer.standin.pairs import write_standin
from inferometer.standin.shapes import StandinShape

Q4_K, Q6_K, F32 = 144 / 256, 210 / 256, 4.0
"""Bytes per weight, by GGUF's block sizes: 256 weights in 144 and 210 bytes."""


def tensor(name: str, *shape: int, bytes_each: float = 1.0) -> Tensor:
    count = 1
    for width in shape:
        count *= width
    return Tensor(name, shape, round(count * bytes_each))


def qwen_32b() -> Header:
    """Qwen2.5-Coder-32B as Q4_K_M, from its config.json and llama.cpp's rule for which tensors get Q6_K."""
    layers, hidden, ffn, kv, vocab = 64, 5120, 27648, 1024, 152064
    tensors = [
        tensor("token_embd.weight", hidden, vocab, bytes_each=Q4_K),
        tensor("output.weight", hidden, vocab, bytes_each=Q6_K),
        tensor("output_norm.weight", hidden, bytes_each=F32),
    ]
    for i in range(layers):
        better = Q6_K if i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2 else Q4_K
        block = f"blk.{i}."
        tensors += [
            tensor(block + "attn_q.weight", hidden, hidden, bytes_each=Q4_K),
            tensor(block + "attn_k.weight", hidden, kv, bytes_each=Q4_K),
            tensor(block + "attn_v.weight", hidden, kv, bytes_each=better),
            tensor(block + "attn_output.weight", hidden, hidden, bytes_each=Q4_K),
            tensor(block + "ffn_gate.weight", hidden, ffn, bytes_each=Q4_K),
            tensor(block + "ffn_up.weight", hidden, ffn, bytes_each=Q4_K),
            tensor(block + "ffn_down.weight", ffn, hidden, bytes_each=better),
            *(tensor(block + name, width, bytes_each=F32) for name, width in (
                ("attn_q.bias", hidden), ("attn_k.bias", kv), ("attn_v.bias", kv),
                ("attn_norm.weight", hidden), ("ffn_norm.weight", hidden),
            )),
        ]  # fmt: skip
    metadata: dict[str, str | float | bool | ArrayLength] = {
        "general.architecture": "qwen2",
        "general.size_label": "32B",
        "general.file_type": 15,
        "qwen2.block_count": layers,
        "qwen2.embedding_length": hidden,
        "qwen2.attention.head_count": 40,
        "qwen2.attention.head_count_kv": 8,
        "tokenizer.ggml.tokens": ArrayLength(vocab),
    }
    return Header(metadata, tuple(tensors))


def test_the_seed_s_model_has_the_seed_s_size_and_parameters():
    model = model_facts([qwen_32b()])
    assert f"{model.weight_bytes / 1024**3:.2f} GiB" == "18.48 GiB"
    assert f"{model.parameters / 1e9:.2f} B" == "32.76 B"
    assert model.description == "qwen2 32B Q4_K - Medium"
    assert model.vocabulary == 152064
    assert model.attention == Attention(layers=64, heads=40, kv_heads=8, key_width=128, value_width=128)


def test_a_token_reads_all_but_the_token_embedding():
    model = model_facts([qwen_32b()])
    assert model.looked_up_bytes == 152064 * 5120 * 144 // 256  # 437,944,320
    assert model.token_bytes == model.weight_bytes - 437_944_320
    assert model.batch_bytes == model.token_bytes


def test_norms_biases_and_the_token_embedding_do_not_multiply():
    model = model_facts([qwen_32b()])
    layer = 2 * 5120 * 5120 + 2 * 5120 * 1024 + 3 * 5120 * 27648  # 487,587,840
    assert model.multiplied == 64 * layer + 152064 * 5120
    assert model.multiplied_at_output == 3 * 5120 * 27648 + 152064 * 5120


def test_a_tied_embedding_is_read_and_multiplies_as_the_output_matrix():
    header = Header(
        {"general.architecture": "llama"}, (tensor("token_embd.weight", 4, 10), tensor("blk.0.attn_q.weight", 4, 4))
    )
    model = model_facts([header])
    assert (model.token_bytes, model.looked_up_bytes) == (56, 0)
    assert (model.multiplied, model.multiplied_at_output) == (56, 40)


def experts(**metadata: str | float | bool | ArrayLength) -> Header:
    """8 experts of 100 weights in each of 3 matrices, a router and an output."""
    tensors = (
        tensor("token_embd.weight", 10, 50),
        tensor("output.weight", 10, 50),
        tensor("blk.0.ffn_gate_inp.weight", 10, 8),
        *(tensor(f"blk.0.ffn_{part}_exps.weight", 10, 10, 8) for part in ("gate", "up", "down")),
    )
    return Header({"general.architecture": "moe", "moe.block_count": 1, **metadata}, tensors)


def test_of_experts_a_token_reads_those_that_it_uses():
    model = model_facts([experts(**{"moe.expert_count": 8, "moe.expert_used_count": 2})])
    assert model.weight_bytes == 500 + 500 + 80 + 2400
    assert model.token_bytes == 500 + 80 + 600
    assert model.multiplied == 500 + 80 + 600
    assert model.batch_bytes is None  # the router decides
    assert (model.experts, model.experts_used) == (8, 2)


def test_where_the_file_does_not_say_how_many_experts_nothing_is_guessed():
    model = model_facts([experts()])
    assert (model.token_bytes, model.multiplied) == (None, None)


def test_layers_that_only_guess_ahead_are_not_read():
    tensors = (tensor("output.weight", 4, 4), tensor("blk.0.ffn_up.weight", 4, 4), tensor("blk.1.ffn_up.weight", 4, 4))
    header = Header({"general.architecture": "a", "a.block_count": 2, "a.nextn_predict_layers": 1}, tensors)
    assert model_facts([header]).token_bytes == 32


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("attention.sliding_window", 4096, "sliding-window attention"),
        ("attention.kv_lora_rank", 512, "latent attention"),
        ("ssm.state_size", 128, "recurrent layers"),
        ("attention.head_count_kv", ArrayLength(64), "one number of heads for all layers"),
    ],
)
def test_attention_of_another_kind_is_not_counted_and_said(key: str, value: int | ArrayLength, why: str):
    plain = qwen_32b()
    model = model_facts([Header({**plain.metadata, f"qwen2.{key}": value}, plain.tensors)])
    assert model.attention is None
    assert why in model.attention_unknown


def test_a_real_file_is_read_by_its_header_alone(tmp_path: Path):
    path = tmp_path / "m.gguf"
    write_standin(path, StandinShape(layers=2, hidden=64, ffn=96, heads=2, kv_heads=1, vocab=2048))
    whole = model_in_file(path)
    data = path.read_bytes()
    begin = len(data) - whole.weight_bytes
    path.write_bytes(data[: begin + 100])  # 100 bytes of the first tensor are left
    assert model_in_file(path) == whole
    assert whole.description == "qwen2 ?B Q8_0"
    assert whole.stand_in == "stand-in 2x64, random weights of seed 1"
    assert whole.vocabulary == 2048
    assert whole.looked_up_bytes == 2048 * 64 * 34 // 32
    assert whole.attention == Attention(layers=2, heads=2, kv_heads=1, key_width=32, value_width=32)


def test_the_tensors_of_all_parts_of_a_split_model_count(tmp_path: Path):
    parts = {"split.count": 2}
    for number, name in ((1, "output.weight"), (2, "blk.0.ffn_up.weight")):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(gguf(parts, [(name, (32, 2))]))
    model = model_in_file(tmp_path / "m-00001-of-00002.gguf")
    assert (model.parameters, model.weight_bytes) == (128, 512)


def test_another_part_than_the_first_is_refused(tmp_path: Path):
    path = tmp_path / "m-00002-of-00002.gguf"
    path.write_bytes(gguf({"split.count": 2}, []))
    with pytest.raises(ModelUnusable, match=r"name the first part, …-00001-of-00002\.gguf"):
        model_in_file(path)


def test_a_missing_part_is_named(tmp_path: Path):
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(gguf({"split.count": 2}, []))
    with pytest.raises(ModelUnusable, match=r"m-00002-of-00002\.gguf"):
        model_in_file(path)


def gguf(numbers: dict[str, int], tensors: list[tuple[str, tuple[int, ...]]], version: int = 3) -> bytes:
    """A header as GGUF's specification has it: F32 tensors, 32-bit numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    data = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(numbers))
    for key, value in numbers.items():
        data += text(key) + struct.pack("<II", 4, value)
    for name, shape in tensors:
        data += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
    return data


def test_a_header_that_is_cut_off_is_told():
    whole = gguf({"general.file_type": 7}, [("output.weight", (32, 2))])
    assert header_of(io.BytesIO(whole), "m.gguf").tensors == (Tensor("output.weight", (32, 2), 256),)
    for end in range(4, len(whole)):
        with pytest.raises(ModelUnusable, match=r"m\.gguf is cut off or damaged"):
            header_of(io.BytesIO(whole[:end]), "m.gguf")


def test_a_length_beyond_reason_is_a_damaged_file_and_takes_no_memory():
    with pytest.raises(ModelUnusable, match="cut off or damaged"):
        header_of(io.BytesIO(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63)), "m.gguf")


def test_what_is_no_gguf_and_what_is_too_old_is_told():
    with pytest.raises(ModelUnusable, match="is not a GGUF file"):
        header_of(io.BytesIO(b"version https://git-lfs.github.com"), "m.gguf")
    with pytest.raises(ModelUnusable, match="GGUF version 1"):
        header_of(io.BytesIO(gguf({}, [], version=1)), "m.gguf")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "all F32"),
        (1, "F16"),
        (7, "Q8_0"),
        (10, "Q2_K - Medium"),
        (15, "Q4_K - Medium"),
        (18, "Q6_K"),
        (None, "unknown"),
    ],
)
def test_file_types_are_named_as_llama_cpp_names_them(number: int | None, name: str):
    assert file_type_name(number) == name


def test_the_parts_of_a_split_model_are_found_by_the_first_s_name():
    assert split_names("m-00001-of-00003.gguf", 3) == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert split_names("m.gguf", 3) is None

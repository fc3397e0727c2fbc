import subprocess
import sys

import msgspec
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from inferometer.base.errors import RequestWrong
from inferometer.standin import random_weights
from inferometer.standin.cache import default_cache_dir
from inferometer.standin.pairs import (
    DEMO_DRAFT,
    DEMO_TARGET,
    TINY_DRAFT,
    TINY_TARGET,
    standin_pair,
    write_standin,
)
from inferometer.standin.shapes import StandinShape
from inferometer.standin.tensor_types import tensor_bytes

MAX_TOKENS = 64


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return standin_pair(tmp_path_factory.mktemp("cache"), "tiny")


@pytest.fixture(scope="module")
def metadata(tiny):
    fields = GGUFReader(tiny.target).fields
    return {name: field.contents() for name, field in fields.items()}


def changed(shape, **fields) -> StandinShape:
    return msgspec.structs.replace(shape, **fields)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny, tmp_path):
    write_standin(tmp_path / "same", TINY_TARGET, seed=1, core=TINY_DRAFT)
    write_standin(tmp_path / "other", TINY_TARGET, seed=2, core=TINY_DRAFT)
    assert (tmp_path / "same").read_bytes() == tiny.target.read_bytes() != (tmp_path / "other").read_bytes()


def test_another_process_gives_the_same_bytes(tiny, tmp_path):
    # The tokenizer's training keeps its counts in hash maps, whose order differs from one process to the next.
    code = "import sys; from inferometer.standin.pairs import *; write_standin(Path(sys.argv[1]), TINY_DRAFT)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "draft")], check=True, timeout=60)
    assert (tmp_path / "draft").read_bytes() == tiny.draft.read_bytes()


def test_what_is_in_the_cache_is_not_written_again(tiny):
    tiny.target.touch()
    before = tiny.target.stat().st_mtime_ns
    assert standin_pair(tiny.target.parent, "tiny") == tiny
    assert tiny.target.stat().st_mtime_ns == before


def test_another_seed_is_another_file_of_the_cache(tiny):
    assert standin_pair(tiny.target.parent, "tiny", seed=7).draft != tiny.draft
    assert len({path.name for path in tiny.target.parent.iterdir()}) == 4


def test_a_run_that_is_cut_off_leaves_no_file(tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(*_):
        raise Stop

    monkeypatch.setattr(random_weights, "_with_row_norms", stop)  # in the middle of writing
    with pytest.raises(Stop):
        write_standin(tmp_path / "model.gguf", TINY_DRAFT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_says_that_it_is_a_stand_in_and_of_what_shape(metadata):
    assert metadata["general.name"] == "stand-in 3x256, random weights of seed 1"
    assert metadata["general.architecture"] == "qwen2"
    assert metadata["qwen2.block_count"] == 3
    assert metadata["qwen2.embedding_length"] == 256


def test_the_matrices_are_q8_0_of_the_size_foretold(tiny):
    tensors = GGUFReader(tiny.target).tensors
    matrices = [tensor for tensor in tensors if tensor.tensor_type == GGMLQuantizationType.Q8_0]
    assert len(matrices) == 2 + 3 * 7
    assert sum(tensor.n_bytes for tensor in tensors) == tensor_bytes(TINY_TARGET, "Q8_0")


def test_sizes_are_as_announced():
    assert 250e6 < tensor_bytes(DEMO_TARGET, "Q8_0") < 290e6
    assert tensor_bytes(DEMO_DRAFT, "Q8_0") < 25e6
    assert tensor_bytes(TINY_DRAFT, "Q8_0") < tensor_bytes(TINY_TARGET, "Q8_0") < 8e6


def test_the_vocabulary_is_as_large_as_the_shape_says_and_ends_with_the_special_tokens(metadata):
    assert len(metadata["tokenizer.ggml.tokens"]) == 4096
    assert metadata["tokenizer.ggml.tokens"][-3:] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert metadata["tokenizer.ggml.eos_token_id"] == 4095


def test_a_vocabulary_larger_than_the_text_gives_is_filled_up(tmp_path):
    write_standin(tmp_path / "model.gguf", changed(TINY_DRAFT, hidden=32, heads=1, ffn=32, vocab=9000))
    tokens = GGUFReader(tmp_path / "model.gguf").fields["tokenizer.ggml.tokens"].contents()
    assert len(set(tokens)) == 9000
    assert "<|unused_0|>" in tokens


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed(TINY_TARGET, layers=0), "layers is 0; it must be at least 1"),
        (changed(TINY_TARGET, ffn=500), "ffn is 500; blocks of a quantised row need a multiple of 32"),
        (changed(TINY_TARGET, heads=7), "hidden 256 does not split into 7 heads"),
        (changed(TINY_TARGET, kv_heads=3), "heads 8 is not a multiple of kv_heads 3"),
        (changed(TINY_TARGET, vocab=100), "vocab is 100; bytes and special tokens alone need 259"),
        (changed(TINY_TARGET, vocab=2048), "vocab 2048 is not the core's 4096"),
        (changed(TINY_TARGET, ffn=64), "ffn 64 has no room for the core's 192"),
        (changed(TINY_TARGET, heads=4, kv_heads=2), "a head of 64 elements is not as wide as the core's of 32"),
        (changed(TINY_TARGET, kv_heads=8), "8 heads on 8 kv_heads share otherwise than the core's 2 on 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_the_reason(tmp_path, wrong, message):
    with pytest.raises(RequestWrong) as refused:
        write_standin(tmp_path / "model.gguf", wrong, core=TINY_DRAFT)
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_refused(tmp_path):
    with pytest.raises(RequestWrong, match=r"no stand-in of size 'huge'\. Known: demo, tiny"):
        standin_pair(tmp_path, "huge")


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestWrong, match="INFEROMETER_CACHE"):
        standin_pair(tmp_path / "file", "tiny")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"INFEROMETER_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/inferometer"),
        ({"HOME": "/c"}, "/c/.cache/inferometer"),
    ],
)
def test_where_the_cache_is(monkeypatch, environment, expected):
    for name in ("INFEROMETER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(default_cache_dir()) == expected


@pytest.fixture(scope="module")
def alone(tiny, engine_chat):
    return engine_chat(tiny.target, max_tokens=MAX_TOKENS)


def test_the_engine_says_one_piece_of_text_for_each_token_until_the_limit(alone):
    assert alone["finish"] == "length"
    assert len(alone["texts"]) == MAX_TOKENS


def test_the_text_is_printable_and_varied(alone):
    assert "".join(alone["texts"]).isprintable()
    assert len(set(alone["texts"])) > MAX_TOKENS // 2


def test_the_engine_accepts_much_of_the_draft_and_says_the_same(tiny, alone, engine_chat):
    drafted = engine_chat(tiny.target, tiny.draft, max_tokens=MAX_TOKENS)
    assert drafted["texts"] == alone["texts"]
    timings = drafted["timings"]
    assert timings["draft_n"] > 0
    assert 0.5 < timings["draft_n_accepted"] / timings["draft_n"] <= 1

"""Flags of the embedded engine: what of xllamacpp can be set, in llama-server's words."""

from typing import Any

import pytest
import xllamacpp as wheel

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engines.embedded import settings_of
from inferometer.engines.embedded_flags import ENUM_WORDS, FLAGS

WHEEL: Any = wheel  # it ships no types
NGRAMS = ["COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE", "COMMON_SPECULATIVE_TYPE_NGRAM_MOD"]


def attribute(path: str) -> Any:
    found: Any = WHEEL.CommonParams()
    for name in path.split("."):
        found = getattr(found, name)
    return found


def parameters(*args: str) -> list[tuple[str, Any, str]]:
    return [tuple(one) for one in settings_of(Arm("embedded", model="m", args=args), 1).parameters]  # type: ignore[misc]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: (*flag.spellings, *flag.off)[0])
def test_every_flag_sets_an_attribute_of_the_installed_wheel(flag: Any):
    now = attribute(flag.attribute)
    kinds = {"int": int, "float": float, "switch": bool, "on/off": bool, "0/1": bool}
    if flag.kind in kinds:
        assert isinstance(now, kinds[flag.kind])


@pytest.mark.parametrize("name", ENUM_WORDS)
def test_every_word_is_a_member_of_the_installed_wheel_s_enumeration(name: str):
    members = {member.name for member in getattr(WHEEL, name)}
    assert set(ENUM_WORDS[name].values()) <= members


def test_no_spelling_belongs_to_two_flags():
    spellings = [name for flag in FLAGS for name in (*flag.spellings, *flag.off)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("-ctk", "q8_0"), ("cache_type_k", "GGML_TYPE_Q8_0", "ggml_type")),
        (
            ("--spec-type=ngram-simple,ngram-mod",),
            (
                "speculative.types",
                ["COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE", "COMMON_SPECULATIVE_TYPE_NGRAM_MOD"],
                "common_speculative_type",
            ),
        ),
        (("-lm", "mmap+mlock"), ("load_mode", "LLAMA_LOAD_MODE_MMAP_MLOCK", "llama_load_mode")),
        (("--no-mmap",), ("load_mode", "LLAMA_LOAD_MODE_NONE", "llama_load_mode")),
        (("-nkvo",), ("no_kv_offload", True, "")),
        (("--kv-offload",), ("no_kv_offload", False, "")),
        (("--no-warmup",), ("warmup", False, "")),
        (("-ub", "64"), ("n_ubatch", 64, "")),
        (("--poll", "0"), ("cpuparams.poll", 0, "")),
    ],
)
def test_a_flag_is_the_attribute_that_llama_server_sets(args: tuple[str, ...], expected: tuple[str, Any, str]):
    assert parameters(*args) == [expected]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-ctk", "q9"), "-ctk is one of f32, f16"),
        (("--spec-type", "ngram"), "--spec-type is one of none, draft-simple"),
        (("-ub", "many"), "-ub needs a whole number, not 'many'"),
        (("-ub",), "-ub needs a value after it"),
        (("--cache-typ-k", "f16"), "did you mean --cache-type-k?"),
    ],
)
def test_a_wrong_flag_or_value_is_refused_with_what_there_is(args: tuple[str, ...], says: str):
    with pytest.raises(RequestWrong) as caught:
        parameters(*args)
    assert says in str(caught.value)

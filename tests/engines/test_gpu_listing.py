from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm
from inferometer.engines.base import Gpus
from inferometer.engines.embedded import Embedded
from inferometer.engines.gpu_listing import listed
from inferometer.engines.llama_server import LlamaServer

# How builds 4295 (December 2024), mid 2025 and 11434 (2026) spell it in their --help.
SWITCH = "-fa,   --flash-attn                     enable Flash Attention (default: disabled)"
NAMED = "-fa,   --flash-attn FA                  set Flash Attention use ('on', 'off', or 'auto', default: 'auto')"
LISTED = "-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')"


def saying(folder: Path, text: str) -> Arm:
    """An arm whose binary prints this, whatever it is asked."""
    binary = folder / "llama-server"
    binary.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    binary.chmod(0o755)
    return Arm("llama-server", binary=str(binary))


@pytest.mark.parametrize("spelled", [NAMED, LISTED])
@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_today_flash_attention_has_a_value(tmp_path: Path, spelled: str, word: str):
    assert LlamaServer().flash_attn_flags(saying(tmp_path, spelled), word) == ["-fa", word]


def test_once_it_was_a_switch(tmp_path: Path):
    arm = saying(tmp_path, SWITCH)
    assert LlamaServer().flash_attn_flags(arm, "on") == ["-fa"]
    assert LlamaServer().flash_attn_flags(arm, "off") == []
    with pytest.raises(RequestWrong, match="knows only on and off; give -fa 0 or -fa 1"):
        LlamaServer().flash_attn_flags(arm, "auto")


def test_the_embedded_engine_is_asked_nothing():
    assert Embedded().flash_attn_flags(Arm("embedded"), "on") == ["-fa", "on"]


def test_gpus_are_listed_by_backend_and_name(tmp_path: Path):
    """As build 11434's source prints them."""
    text = (
        "ggml_cuda_init: found 2 CUDA devices:\n"
        "Available devices:\n"
        "  CUDA0: NVIDIA H200 (143771 MiB, 143189 MiB free)\n"
        "  CUDA1: NVIDIA GeForce RTX 3090 (24126 MiB, 23871 MiB free)"
    )
    found = Gpus("CUDA", ("NVIDIA H200", "NVIDIA GeForce RTX 3090"))
    assert listed(text) == found
    assert LlamaServer().gpus(saying(tmp_path, text)) == found


def test_a_name_may_have_parentheses_of_its_own():
    text = "Available devices:\n  Vulkan0: AMD Radeon PRO W7900 (RADV NAVI31) (49152 MiB, 48000 MiB free)\n"
    assert listed(text) == Gpus("Vulkan", ("AMD Radeon PRO W7900 (RADV NAVI31)",))


def test_no_gpu_is_a_cpu():
    """As the CPU build of 11434 printed it."""
    assert listed("Available devices:\n  (none)\n") == Gpus("CPU")


def test_a_build_that_does_not_know_the_question_says_nothing():
    assert listed("error: invalid argument: --list-devices\n") is None


def test_the_wheel_says_what_it_sees():
    assert Embedded().gpus(Arm("embedded")).backend != ""

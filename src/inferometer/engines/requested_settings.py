"""Settings that an arm requests, in the same words as the effective settings."""

from collections.abc import Mapping, Sequence

from inferometer.core import quantities
from inferometer.core.record import Fact
from inferometer.core.spec import Arm
from inferometer.engines.command_line import given
from inferometer.engines.help_text import Argument

FLASH_ATTN_FLAGS = ("-fa", "--flash-attn")
CONTEXT_FLAGS = ("-c", "--ctx-size")
_OTHER_CONTEXT_FLAGS = ("--max-model-len", "--max_model_len", "--context-length")  # of vLLM and SGLang
_DRAFT_CONTEXT_FLAGS = ("-cd", "--ctx-size-draft", "--spec-draft-ctx-size")
_CONTEXT_VARIABLE = "LLAMA_ARG_CTX_SIZE"
GPU_LAYER_FLAGS = ("-ngl", "--gpu-layers", "--n-gpu-layers")

_SWITCH = {
    **dict.fromkeys(("1", "true", "enabled"), "on"),
    **dict.fromkeys(("0", "false", "disabled"), "off"),
    "-1": "auto",
}
"""llama.cpp's other words for -fa."""


def requested_settings(
    arm: Arm, draft_flags: Sequence[str], known: Mapping[str, Argument] | None = None
) -> tuple[Fact, ...]:
    """`asked_draft`; also `asked_flash_attn`, `asked_gpu_layers` and `asked_context` if the arm requests them.

    A setting that is left to the engine (auto, or 0 for the model's whole context) is not a request. `known`: the
    arguments of this llama-server, because -fa takes no value in some builds.
    """
    wants = {
        quantities.REQUESTED_DRAFT: _on_off(
            arm.draft is not None or given(arm.args, *draft_flags) not in (None, "none")
        ),
        quantities.REQUESTED_FLASH_ATTN: _flash_attn(arm, known or {}),
        quantities.REQUESTED_GPU_LAYERS: given(arm.args, *GPU_LAYER_FLAGS),
        quantities.REQUESTED_CONTEXT: given(arm.args, *CONTEXT_FLAGS)
        or (None if arm.context is None else str(arm.context)),
    }
    left_to_engine = {
        quantities.REQUESTED_FLASH_ATTN: ("auto",),
        quantities.REQUESTED_GPU_LAYERS: ("auto", "-1"),
        quantities.REQUESTED_CONTEXT: ("0",),
    }
    return tuple(
        Fact(name, value, "the arm")
        for name, value in wants.items()
        if value is not None and value not in left_to_engine.get(name, ())
    )


def stated_contexts(arm: Arm) -> dict[str, int]:
    """The contexts in tokens that the arm states, of its model and of its draft; without those left to the engine."""
    words = (*arm.args, *(arm.command.split() if isinstance(arm.command, str) else arm.command))
    context = given(words, *CONTEXT_FLAGS, *_OTHER_CONTEXT_FLAGS) or arm.env.get(_CONTEXT_VARIABLE)
    stated = {"context": context or str(arm.context or 0), "draft's context": given(words, *_DRAFT_CONTEXT_FLAGS)}
    return {name: int(value) for name, value in stated.items() if value and value.isdecimal() and int(value)}


def _flash_attn(arm: Arm, known: Mapping[str, Argument]) -> str | None:
    if any(flag in arm.args and known[flag].takes == 0 for flag in FLASH_ATTN_FLAGS if flag in known):
        return "on"
    value = given(arm.args, *FLASH_ATTN_FLAGS)
    return _SWITCH.get(value or "", value)


def _on_off(value: bool) -> str:
    return "on" if value else "off"

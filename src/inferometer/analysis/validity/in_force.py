"""Settings in force: what really differs between two arms, by the facts that their engines report."""

from collections.abc import Iterator, Sequence

import msgspec

from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.core.spec import Arm

_FACTS = {
    quantities.ENGINE: "engine",
    quantities.ENGINE_VERSION: "version",
    quantities.ENGINE_BUILD: "build",
    quantities.MODEL_BYTES: "model size",
    quantities.MODEL_HEAD_SHA256: "model hash",
    quantities.MODEL_SAMPLES_SHA256: "hash of model samples",
    quantities.DRAFT_HEAD_SHA256: "draft hash",
    quantities.EFFECTIVE_DRAFT: "draft",
    quantities.EFFECTIVE_FLASH_ATTN: "flash attention",
    quantities.EFFECTIVE_CACHE_TYPES: "KV cache",
    quantities.EFFECTIVE_GPU_LAYERS: "GPU layers",
    quantities.EFFECTIVE_CONTEXT: "context",
    quantities.SLOTS: "slots",
    quantities.SLOT_CONTEXT_TOKENS: "context of a slot",
}
"""Facts that describe a setting in force, with their names in messages."""
_KNOWN_FLAGS = {
    **dict.fromkeys(("-fa", "--flash-attn"), quantities.EFFECTIVE_FLASH_ATTN),
    **dict.fromkeys(("-ctk", "--cache-type-k", "-ctv", "--cache-type-v"), quantities.EFFECTIVE_CACHE_TYPES),
    **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers"), quantities.EFFECTIVE_GPU_LAYERS),
    **dict.fromkeys(("-c", "--ctx-size"), quantities.EFFECTIVE_CONTEXT),
}
"""Flags whose effect the engine reports, with the fact."""


def differences_in_force(first: ArmTrials, other: ArmTrials) -> list[str]:
    """What differs, each as `flash attention on, not off`; facts that one of the arms does not report are left out."""
    mine, theirs = _facts(other), _facts(first)
    return [
        f"{word} {_short(mine[name])}, not {_short(theirs[name])}"
        for name, word in _FACTS.items()
        if name in mine and name in theirs and mine[name] != theirs[name]
    ]


def nothing_differs(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Arms that the engine runs with the same settings as the baseline."""
    first, *others = arms
    for case in others:
        if not first.done or not case.done or case.study != first.study or differences_in_force(first, case):
            continue
        rest, flags = _unexplained(case.arm)
        base_rest, base_flags = _unexplained(first.arm)
        is_known = all(name in _facts(arm) for name in flags | base_flags for arm in (first, case))
        if rest != base_rest or not (is_known or case.arm == first.arm):
            continue
        same = "the arms are written alike" if flags | base_flags == set() else "what was set has the same effect"
        external = case.arm.runs_already
        yield case.finding(
            "note" if external else "warning",
            "nothing-differs",
            f"nothing differs in force between it and {first.name}: {same}.",
            "" if external else "Check the arms: a default (`auto`) may already be what you set.",
        )


def _unexplained(arm: Arm) -> tuple[Arm, set[str]]:
    """The arm without the settings whose effect the engine reports, and the facts of these settings."""
    rest: list[str] = []
    facts: set[str] = set()
    is_value = False
    for word in arm.args:
        flag, _, value = word.partition("=")
        if flag in _KNOWN_FLAGS:
            facts.add(_KNOWN_FLAGS[flag])
            is_value = not value
        elif is_value and (not word.startswith("-") or word[1:].isdecimal()):
            is_value = False
        else:
            is_value = False
            rest.append(word)
    if arm.context is not None:
        facts.add(quantities.EFFECTIVE_CONTEXT)
    url = "" if arm.runs_already else arm.url
    return msgspec.structs.replace(arm, args=tuple(rest), context=None, url=url), facts


def _facts(case: ArmTrials) -> dict[str, str]:
    return {fact.name: fact.value for trial in case.done[:1] for fact in trial.trial.facts}


def _short(value: str) -> str:
    value = value.partition(";")[0].removeprefix("version: ")  # llama.cpp's: `version: 427 (7a2e57f); built with …`
    return value if len(value) <= 24 else value[:12] + "…"

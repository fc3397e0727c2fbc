"""What the arms of a comparison are: engine, model, command, and what differs between them in force."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import msgspec

from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.analysis.validity.workload_equivalence import agreement
from inferometer.core import quantities
from inferometer.core.spec import Arm, Draft

_EFFECTIVE = (
    (quantities.EFFECTIVE_DRAFT, quantities.REQUESTED_DRAFT, "draft"),
    (quantities.EFFECTIVE_FLASH_ATTN, quantities.REQUESTED_FLASH_ATTN, "flash attention"),
    (quantities.EFFECTIVE_GPU_LAYERS, quantities.REQUESTED_GPU_LAYERS, "GPU layers"),
    (quantities.EFFECTIVE_CONTEXT, quantities.REQUESTED_CONTEXT, "context"),
)
"""Effective setting, the request for it, and its name: shown where the engine decided it, or decided otherwise."""


class ArmSetUp(msgspec.Struct, frozen=True):
    """`engine` and `version`, `model`, `command` as the engine reports them; "" if unknown. `differs`: the settings
    that not all arms share. `same_answers`: requests whose greedy answer equals the baseline's, and requests compared.
    `model_name`, `model_bytes`: the name in the model file, and the file's size; "" and None if unknown.
    """

    arm: str
    engine: str = ""
    version: str = ""
    model: str = ""
    command: str = ""
    differs: tuple[str, ...] = ()
    same_answers: tuple[int, int] | None = None
    model_name: str = ""
    model_bytes: int | None = None


class StudyExtent(msgspec.Struct, frozen=True):
    """Size of a study: measured requests per trial, rounds, and seconds from the first start to the last answer.
    `is_open_loop`: requests are sent at given times, which limits the throughput."""

    prompts: int
    rounds: int
    seconds: float | None = None
    is_open_loop: bool = False


def arm_set_ups(arms: Sequence[ArmTrials]) -> tuple[ArmSetUp, ...]:
    """The set-up of each arm. `arms`: the baseline first."""
    parts = [list(_parts(case)) for case in arms]
    shared = set(parts[0]).intersection(*parts[1:]) if parts else set[str]()
    return tuple(
        ArmSetUp(
            case.name,
            case.arm.engine,
            _version(case),
            _model(case),
            _fact(case, quantities.ENGINE_COMMAND),
            tuple(part for part in own if part not in shared) if len(arms) > 1 else (),
            _same_answers(arms[0], case),
            _fact(case, quantities.MODEL_NAME),
            int(size) if (size := _fact(case, quantities.MODEL_BYTES)).isdecimal() else None,
        )
        for case, own in zip(arms, parts, strict=True)
    )


def _same_answers(first: ArmTrials, case: ArmTrials) -> tuple[int, int] | None:
    is_greedy = case.sampling.temperature == 0 and first.sampling.temperature == 0
    if case is first or case.plan != first.plan or not first.done or not case.done or not is_greedy:
        return None
    found = agreement(first.done[0], case.done[0])
    return None if found is None else (found.same, found.compared)


def _fact(case: ArmTrials, name: str) -> str:
    return next((fact.value for trial in case.trials for fact in trial.trial.facts if fact.name == name), "")


def _model(case: ArmTrials) -> str:
    """The model file without its ending, else the model's name."""
    file = _fact(case, quantities.MODEL_FILE) or PurePath(case.arm.model).name
    return file.removesuffix(".gguf") or _fact(case, quantities.MODEL_NAME)


def _version(case: ArmTrials) -> str:
    """The engine's version in a few words: llama.cpp's build number as b11434, else the text without brackets."""
    text = _fact(case, quantities.ENGINE_VERSION)
    build = re.search(r"\bbuild:? (\d+)\b|\bversion: (\d{3,})\b|\b(b\d{3,})\b", text)
    if build is not None:
        return build[3] or f"b{build[1] or build[2]}"
    return text.partition(" (")[0].strip()[:24]


def _parts(case: ArmTrials) -> Iterator[str]:
    """Everything about an arm that may differ, as short texts: as requested, then as the engine reports it."""
    arm = case.arm
    yield f"{arm.engine} {_version(case)}".strip()
    yield from filter(None, (_model(case), arm.url))
    yield from _draft_parts(arm.draft)
    yield from _word_parts(arm)
    for name in ("threads", "context"):
        value = getattr(arm, name)
        if value is not None:
            yield f"{name} {value}"
    yield from (f"{name}={value}" for name, value in arm.env.items())
    yield from (f"request {name} {value}" for name, value in arm.request.items())
    for effective, requested, word in _EFFECTIVE:
        value, asked = _fact(case, effective), _fact(case, requested)
        if value and asked in ("", "auto") and not (effective == quantities.EFFECTIVE_DRAFT and value == "off"):
            yield f"{word} {value}"


def _draft_parts(draft: Draft | None) -> Iterator[str]:
    if draft is None:
        return
    yield f"draft {PurePath(draft.model).name.removesuffix('.gguf')}"
    for name in ("n_max", "n_min", "p_min"):
        value = getattr(draft, name)
        if value is not None:
            yield f"{name} {value:g}"


def _word_parts(arm: Arm) -> Iterator[str]:
    """Each flag of the command line with its values."""
    words = arm.command.split() if isinstance(arm.command, str) else [*arm.args, *arm.command]
    part = ""
    for word in words:
        is_flag = word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())
        if part and (is_flag or not part.startswith("-")):
            yield part
            part = ""
        part = f"{part} {word}".strip()
    if part:
        yield part

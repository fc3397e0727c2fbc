"""Checks of arms from different studies: machine, data set, seed, engine build, model files, settings.

Within one study these are equal, or they are what the study compares. Between two studies they may differ by accident.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.core import quantities
from inferometer.core.record import Fact, Finding
from inferometer.core.spec import Arm


def other_study(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Differences between the baseline and each arm of another study."""
    first, *others = arms
    for case in others:
        if case.study != first.study:
            yield from _study_differences(case, first)
            yield from _arm_differences(case, first)


def _study_differences(case: ArmTrials, first: ArmTrials) -> Iterator[Finding]:
    """Differences in what all arms of a study share. The findings name the studies and not the arms, so that equal
    findings of several pairs can be merged."""
    if differences := _differences(_hardware(case.machine), _hardware(first.machine)):
        yield Finding(
            "warning",
            "other-machine",
            f"{case.study} was measured on a different machine than {first.study}: {differences}.",
            "Unless you want to compare machines, measure both on one machine, preferably in one study.",
        )
    if differences := _differences(case.workload, first.workload):
        yield Finding(
            "warning",
            "other-workload",
            f"{case.study} has a different workload than {first.study}: {differences}.",
            "Use the same data set and tokenizer for both.",
        )
    if case.seed != first.seed:
        yield Finding(
            "warning",
            "other-seed",
            f"{case.study} has seed {case.seed}, {first.study} has seed {first.seed}: prompts, order and times differ.",
            "Use the same seed for both.",
        )


def _arm_differences(case: ArmTrials, first: ArmTrials) -> Iterator[Finding]:
    """Differences in engine, model, draft and settings of two arms."""
    if differences := _differences(_build(case), _build(first)):
        yield case.finding(
            "warning",
            "other-build",
            f"its engine differs from {first.name}'s: {differences}.",
            "Unless you want to compare engines, run both with the same build.",
        )
    if differences := _file_difference(case, first, "model"):
        yield case.finding(
            "warning",
            "other-model",
            f"its model differs from {first.name}'s: {differences}.",
            "Unless you want to compare models, use the same file for both.",
        )
    both_draft = case.arm.draft is not None and first.arm.draft is not None
    if both_draft and (differences := _file_difference(case, first, "draft")):
        yield case.finding(
            "warning",
            "other-draft",
            f"its draft differs from {first.name}'s: {differences}.",
            "Unless you want to compare drafts, use the same file for both.",
        )
    if _name_in_study(case) == _name_in_study(first) and (
        differences := _differences(_settings(case.arm), _settings(first.arm))
    ):
        yield case.finding(
            "warning",
            "other-settings",
            f"its settings differ from {first.name}'s: {differences}.",
            "Unless you want to compare these settings, use the same for both.",
        )


def _name_in_study(case: ArmTrials) -> str:
    return case.name.removeprefix(f"{case.study}/")


def _differences(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Each name whose values differ, with both values; "" if all are equal."""
    names = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
    return "; ".join(
        f"{name.replace('_', ' ')} {_short(mine.get(name))}, not {_short(theirs.get(name))}" for name in names
    )


def _short(value: str | None) -> str:
    """The value, shortened to twelve digits if it is a hash."""
    if value is None:
        return "unknown"
    is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_hash else value or "none"


def _hardware(facts: Sequence[Fact]) -> dict[str, str]:
    """Hardware and system, without facts that change at every boot and without the client's Python version."""
    kept = ("os", "cpu", quantities.CPU_CORES_PHYSICAL, quantities.CPU_CORES_LOGICAL, "memory", "inferometer")
    return {fact.name: fact.value for fact in facts if fact.name in kept or fact.name.startswith("gpu")}


def _facts(case: ArmTrials) -> dict[str, str]:
    """The facts of the arm's first trial that has any."""
    facts = next((trial.trial.facts for trial in case.trials if trial.trial.facts), ())
    return {fact.name: fact.value for fact in facts}


def _build(case: ArmTrials) -> dict[str, str]:
    facts = _facts(case)
    known = {"build": facts.get(quantities.ENGINE_VERSION), "server header": facts.get(quantities.ENGINE_SERVER_HEADER)}
    return {"engine": case.arm.engine} | {name: value for name, value in known.items() if value is not None}


def _file_difference(case: ArmTrials, first: ArmTrials, role: str) -> str:
    """By hash and size if both have them, else by name; "" for the same file, and if nothing is known."""
    mine, theirs = _facts(case), _facts(first)
    name, other = _model_name(case, mine, role), _model_name(first, theirs, role)
    hashed = [hash_name for hash_name in _HASHES if f"{role}_{hash_name}" in mine.keys() & theirs.keys()]
    if not hashed:
        text = f"{name or 'unknown'}, not {other or 'unknown'} (compared by name: a hash is missing)"
        return "" if name == other else text
    hash_name = f"{role}_{hashed[0]}"
    if all(mine.get(fact) == theirs.get(fact) for fact in (hash_name, f"{role}_bytes")):
        return ""
    return f"{name} (sha256 {_short(mine[hash_name])}), not {other} (sha256 {_short(theirs[hash_name])})"


_HASHES = ("head_sha256", "config_sha256")


def _model_name(case: ArmTrials, facts: Mapping[str, str], role: str) -> str:
    for name in (f"{role}_file", f"{role}_folder", f"{role}_name"):
        if name in facts:
            return facts[name]
    if role == "draft":
        return "" if case.arm.draft is None else case.arm.draft.model.rpartition("/")[2]
    reported = (name for trial in case.trials for name in trial.records.models.words if name)
    return next(reported, case.arm.model).rpartition("/")[2]


def _settings(arm: Arm) -> dict[str, str]:
    """The arm's settings, without paths of files. Only the names of environment variables: values may be secrets."""
    plain: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(arm).items()
        if name in ("args", "api", "threads", "context", "slots")
    }
    draft = {} if arm.draft is None else msgspec.structs.asdict(arm.draft)
    plain |= {"draft": [f"{name}={value}" for name, value in draft.items() if name != "model"], "env": sorted(arm.env)}
    return {name: _text(value) for name, value in plain.items()}


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] # any setting

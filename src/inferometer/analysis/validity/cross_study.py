"""What else differs between arms of two studies: machine, data set, seed, engine build, model files, settings?

Within one study they are its own or what it compares; between two they may differ without anybody meaning it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.core import quantities
from inferometer.core.record import Fact, Finding
from inferometer.core.spec import Arm


def of_two_studies(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    first, *others = cases
    for case in others:
        if case.study != first.study:
            yield from _grounds(case, first)
            yield from _set_ups(case, first)


def _grounds(case: ArmTrials, first: ArmTrials) -> Iterator[Finding]:
    """What all arms of a study share: said of the studies, so that it is said once however many arms are paired."""
    if unlike := _unlike(_hardware(case.machine), _hardware(first.machine)):
        yield Finding(
            "warning",
            "other-machine",
            f"{case.study} was measured on another machine than {first.study}: {unlike}.",
            "Unless the machines are what you compare, measure both on one, best in one study.",
        )
    if unlike := _unlike(case.workload, first.workload):
        yield Finding(
            "warning",
            "other-workload",
            f"the requests of {case.study} come from elsewhere than those of {first.study}: {unlike}.",
            "Give both the same data set and tokenizer.",
        )
    if case.seed != first.seed:
        yield Finding(
            "warning",
            "other-seed",
            f"{case.study} has seed {case.seed}, {first.study} {first.seed}: which prompts, in which order, when.",
            "Give both the same seed.",
        )


def _set_ups(case: ArmTrials, first: ArmTrials) -> Iterator[Finding]:
    if unlike := _unlike(_build(case), _build(first)):
        yield case.finding(
            "warning",
            "other-build",
            f"its engine is not that of {first.name}: {unlike}.",
            "Unless the engines are what you compare, run both with one build.",
        )
    if unlike := _unlike_file(case, first, "model"):
        yield case.finding(
            "warning",
            "other-model",
            f"its model is not that of {first.name}: {unlike}.",
            "Unless the models are what you compare, give both the same file.",
        )
    both_draft = case.arm.draft is not None and first.arm.draft is not None
    if both_draft and (unlike := _unlike_file(case, first, "draft")):
        yield case.finding(
            "warning",
            "other-draft",
            f"its draft is not that of {first.name}: {unlike}.",
            "Unless the drafts are what you compare, give both the same file.",
        )
    if _own_name(case) == _own_name(first) and (unlike := _unlike(_settings(case.arm), _settings(first.arm))):
        yield case.finding(
            "warning",
            "other-settings",
            f"it is not set up as {first.name}: {unlike}.",
            "Unless these settings are what you compare, give both the same.",
        )


def _own_name(case: ArmTrials) -> str:
    return case.name.removeprefix(f"{case.study}/")


def _unlike(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Each name whose values differ, with both; "" where none does."""
    names = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
    return "; ".join(
        f"{name.replace('_', ' ')} {_short(mine.get(name))} against {_short(theirs.get(name))}" for name in names
    )


def _short(value: str | None) -> str:
    """A hash by its first twelve digits."""
    if value is None:
        return "unknown"
    is_hash = len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_hash else value or "none"


def _hardware(facts: Sequence[Fact]) -> dict[str, str]:
    """Without what differs from one start of a machine to the next, and without the client's Python."""
    kept = (
        quantities.OS,
        quantities.CPU,
        quantities.CPU_CORES_PHYSICAL,
        quantities.CPU_CORES_LOGICAL,
        quantities.MEMORY,
        quantities.INFEROMETER,
    )
    return {fact.name: fact.value for fact in facts if fact.name in kept or fact.name.startswith("gpu")}


def _facts(case: ArmTrials) -> dict[str, str]:
    """Of the arm's first trial that has any."""
    facts = next((trial.trial.facts for trial in case.trials if trial.trial.facts), ())
    return {fact.name: fact.value for fact in facts}


def _build(case: ArmTrials) -> dict[str, str]:
    facts = _facts(case)
    known = {"build": facts.get(quantities.ENGINE_VERSION), "server header": facts.get(quantities.ENGINE_SERVER_HEADER)}
    return {"engine": case.arm.engine} | {name: value for name, value in known.items() if value is not None}


def _unlike_file(case: ArmTrials, first: ArmTrials, role: quantities.Role) -> str:
    """By hash and size where both have these, else by name; "" for the same, and where nothing is known."""
    mine, theirs = _facts(case), _facts(first)
    name, other = _model_name(case, mine, role), _model_name(first, theirs, role)
    hashed: list[quantities.ModelAttribute] = [
        hash_name for hash_name in _HASHES if quantities.model_fact(role, hash_name) in mine.keys() & theirs.keys()
    ]
    if not hashed:
        said = f"{name or 'unknown'} against {other or 'unknown'} (by name: not both have a hash)"
        return "" if name == other else said
    hash_name = quantities.model_fact(role, hashed[0])
    if all(mine.get(fact) == theirs.get(fact) for fact in (hash_name, quantities.model_fact(role, "bytes"))):
        return ""
    return f"{name} (sha256 {_short(mine[hash_name])}) against {other} (sha256 {_short(theirs[hash_name])})"


_HASHES: tuple[quantities.ModelAttribute, ...] = ("head_sha256", "config_sha256")


def _model_name(case: ArmTrials, facts: Mapping[str, str], role: quantities.Role) -> str:
    for name in (
        quantities.model_fact(role, "file"),
        quantities.model_fact(role, "folder"),
        quantities.model_fact(role, "name"),
    ):
        if name in facts:
            return facts[name]
    if role == "draft":
        return "" if case.arm.draft is None else case.arm.draft.model.rpartition("/")[2]
    told = (request.record.model for trial in case.trials for request in trial.requests if request.record.model)
    return next(told, case.arm.model).rpartition("/")[2]


def _settings(arm: Arm) -> dict[str, str]:
    """How the arm is set up, but for where its files lie. Of its environment only the names: values may be secrets."""
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

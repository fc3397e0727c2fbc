"""Arms of a search: the baseline with other settings, checked against its engine before anything starts."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from inferometer.analysis.search.proposals import Settings
from inferometer.base.errors import RequestWrong
from inferometer.base.extensions import factory
from inferometer.core.arm_sets import with_setting
from inferometer.core.search_settings import Search, Value
from inferometer.core.spec import Arm, Draft
from inferometer.engines.catalog import arm_problems, describe
from inferometer.standin.model_names import resolve


def tuned_arm(baseline: Arm, settings: Mapping[str, Value]) -> Arm:
    """The baseline with these settings. Raises RequestWrong for a setting that an arm does not have."""
    raw: dict[str, Any] = msgspec.to_builtins(baseline)
    for path, value in settings.items():
        try:
            raw = with_setting(raw, _place(baseline, path), _written(path, value))
        except ValueError as error:
            raise RequestWrong(f"{path}: {error}") from error
    try:
        return msgspec.convert(raw, Arm)
    except msgspec.ValidationError as error:
        raise RequestWrong(str(error)) from error


def _place(baseline: Arm, path: str) -> str:
    """`args.FLAG` is a flag of `command` where the arm has one."""
    first, _, rest = path.partition(".")
    return f"command.{rest}" if first == "args" and baseline.command else path


def _written(path: str, value: Value) -> Any:
    """As it stands in a study file: words and variables are text, true sets a flag without a value."""
    is_text = path.partition(".")[0] in ("args", "command", "env")
    return str(value) if is_text and value is not None and not isinstance(value, bool) else value


def refusal(arm: Arm, headers: dict[str, str]) -> str:
    """Why the arm's engine cannot be started with these settings; "" if nothing speaks against it."""
    if problems := arm_problems(arm):
        return problems[0]
    try:
        factory("engine", arm.engine)(headers).check(resolve(arm, describe(arm.engine).draft_file_flags))
    except RequestWrong as error:
        return str(error)
    return ""


def require_parameters(search: Search, baseline: Arm, headers: dict[str, str]) -> None:
    """Raises RequestWrong, before anything starts, for a parameter that the arm or its engine does not have: one of
    which every value is refused."""
    if why := refusal(baseline, headers):
        raise RequestWrong(f"the baseline cannot be started: {why}")
    fixed = {path: one.levels()[0] for path, one in search.parameters.items() if one.is_fixed}
    for path, parameter in search.parameters.items():
        _require_field(path, has_draft=baseline.draft is not None or "draft.model" in search.parameters)
        levels = parameter.levels()
        reasons = [_reason(baseline, fixed | {path: value}, headers) for value in (levels[0], levels[-1])]
        if all(reasons):
            raise RequestWrong(f"search.parameters.{path}: {reasons[0]}")


def _reason(baseline: Arm, settings: Mapping[str, Value], headers: dict[str, str]) -> str:
    try:
        return refusal(tuned_arm(baseline, settings), headers)
    except RequestWrong as error:
        return str(error)


def _require_field(path: str, *, has_draft: bool) -> None:
    first, dot, rest = path.partition(".")
    fields: tuple[str, ...] = Draft.__struct_fields__ if first == "draft" and dot else Arm.__struct_fields__
    name = rest if first == "draft" and dot else first
    if first == "draft" and dot and not has_draft:
        raise RequestWrong(
            f"search.parameters.{path}: the arm has no draft model. Add draft: {{model: …}} to it, or search "
            "draft.model too, so that the baseline has none."
        )
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.4)
        hint = f" Did you mean {path.replace(name, near[0])!r}?" if near else ""
        raise RequestWrong(
            f"search.parameters.{path}: an arm has no setting {name!r}.{hint} For a flag of the command line write "
            "args.FLAG."
        )


def arm_of(search: Search, baseline: Arm, settings: Settings) -> Arm:
    """The baseline's arm with these settings, one value per parameter of the search."""
    return tuned_arm(baseline, dict(zip(search.parameters, settings, strict=True)))

"""Chunks whose text is sound and whose reports are odd: a count that is not a whole number is unknown. Pure."""

import json
from typing import Any, TypeVar, cast

import msgspec

from inferometer.base.error_message import is_failed

_T = TypeVar("_T")
_WHOLE = {"usage", "timings"}
_TEXTS = ("model", "object")


def chunk_without_odd_reports(data: bytes, chunk: type[_T]) -> _T | None:
    """`data` as a chunk, without what is not a number in `usage` and `timings`, and without names that are not text.

    None if the rest is not a chunk either. NaN and Infinity are left out: JSON does not have them."""
    try:
        strict = json.dumps(json.loads(data, parse_constant=lambda _: None))
        value: Any = msgspec.json.decode(strict)  # refuses half a character, which json.loads takes
        if not isinstance(value, dict):
            return None
        fields = cast("dict[str, Any]", value)
        kept = {name: _numbers(found) if name in _WHOLE else found for name, found in fields.items()}
        kept["x_groq"] = {"usage": _numbers(_member(fields.get("x_groq"), "usage"))}
        for name in _TEXTS:
            kept[name] = found if isinstance(found := kept.get(name), str) else None
        kept["choices"] = _with_text_reasons(kept.get("choices"))
        return msgspec.convert(kept, chunk, strict=False)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def _numbers(value: Any) -> dict[str, Any] | None:
    """The members that are numbers, and the members of their objects; counts are whole."""
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    for name, member in cast("dict[str, Any]", value).items():
        is_object = name.endswith("_details")
        if is_object or isinstance(member, bool) or not isinstance(member, int | float):
            found[name] = _numbers(member) if is_object else None
        elif abs(member) < 1e15 and (name.endswith("_ms") or float(member).is_integer()):
            found[name] = member
    return found


def _member(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _with_text_reasons(choices: Any) -> Any:
    if not isinstance(choices, list):
        return choices
    return [_with_text_reason(one) for one in cast("list[Any]", choices)]


def _with_text_reason(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    fields: dict[str, Any] = {**choice, "usage": _numbers(_member(choice, "usage"))}
    reason: Any = fields.get("finish_reason")
    if isinstance(reason, str | None):
        return fields
    of_sglang = cast("dict[str, Any]", reason) if isinstance(reason, dict) else {}
    kind = of_sglang.get("type")
    error = of_sglang if is_failed(kind) else fields.get("error")
    return {**fields, "finish_reason": kind if isinstance(kind, str) else None, "error": error}

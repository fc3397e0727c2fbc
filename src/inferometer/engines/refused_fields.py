"""The request field that a server refuses, as its error names the field. Pure."""

import re
from collections.abc import Collection, Iterator
from typing import Any, cast

from inferometer.base.error_message import json_of

_REFUSAL = re.compile(
    r"unsupported|not supported|does ?n[o']t (?:support|accept)|unrecogni[sz]ed|unknown|unexpected|extra_forbid"
    r"|extra (?:input|field|param|arg)|not (?:permitted|allowed|accepted|available|implemented)|forbidden"
    r"|additional propert|invalid (?:field|param|arg)|no such (?:field|param)|deprecated|remove",
    re.IGNORECASE,
)
_ABOUT_THE_VALUE = re.compile(
    r"minimum|maximum|at least|at most|less than|greater|out of range|too (?:large|small|long|short|high|low)|exceeds?"
    r"|must be (?:an? |>|<|be|in)|>=|<=",
    re.IGNORECASE,
)
"""The field is known, and its value is wrong: a request without the field would be a different request."""


def refused_field(answer: bytes, fields: Collection[str]) -> str:
    """The one of `fields` that the error body `answer` refuses; "" if the body refuses none of them.

    It is named by OpenAI's `param`, by the `loc` of FastAPI and pydantic, or in a sentence: "Unsupported parameter:
    'x'", "unknown field `x`", "x: Extra inputs are not permitted".
    """
    said = json_of(answer)
    texts = list(_texts(said)) if said is not None else [answer.decode(errors="replace")]
    whole = " ".join(texts)
    for place in _places(said):
        if place in fields:
            return "" if _ABOUT_THE_VALUE.search(whole) and not _REFUSAL.search(whole) else place
    if not _REFUSAL.search(whole):
        return ""
    mentions = ((re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", whole), name) for name in fields)
    found = [(at.start(), name) for at, name in mentions if at]
    return min(found)[1] if found else ""


def is_refusal(answer: bytes) -> bool:
    """Whether an error body seems to refuse a field, named or not."""
    said = json_of(answer)
    return bool(_REFUSAL.search(answer.decode(errors="replace") if said is None else " ".join(_texts(said))))


def _places(value: Any) -> Iterator[str]:
    """The names in every `param` and `loc`, at any depth: `stream_options.include_usage` is `stream_options`."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = json_of(value)
    if isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from _places(member)
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        for name in ("param", "parameter", "field"):
            if isinstance(text := fields.get(name), str):
                yield re.split(r"[.\[]", text.removeprefix("body.").removeprefix("$."))[0]
        if isinstance(place := fields.get("loc"), list):
            yield from (str(step) for step in cast("list[Any]", place))
        for member in fields.values():
            yield from _places(member)


def _texts(value: Any) -> Iterator[str]:
    """Every text in JSON of any shape, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in cast("dict[str, Any]", value).values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from _texts(member)

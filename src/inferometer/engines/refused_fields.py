"""The request field that a server refuses, as its error names the field. Pure."""

import re
from collections.abc import Collection, Iterator
from typing import Any, cast

from inferometer.base.error_message import json_of
from inferometer.core.request import LIMIT_FIELDS

_REFUSAL = re.compile(
    r"unsupported|not supported|does ?n[o']t (?:support|accept)|unrecogni[sz]ed|unknown|unexpected|extra_forbid"
    r"|extra (?:input|field|param|arg)|not (?:permitted|allowed|accepted|available|implemented|a valid)|forbidden"
    r"|extraneous|additional ?propert|invalid (?:field|param|arg)|no such (?:field|param)|deprecated|remove"
    r"|should not (?:exist|be)|is(?: not |n't |n’t | in)valid|\binstead\b|only (?:allowed|supported|accepted|valid)",
    re.IGNORECASE,
)
_ABOUT_THE_VALUE = re.compile(
    r"minimum|maximum|at least|at most|less than|greater|out of range|too (?:large|small|long|short|high|low)|exceeds?"
    r"|must be|>=|<=|positive|only .{1,40}(?:allowed|supported|accepted)|\binvalid\b|higher|limit was reached",
    re.IGNORECASE,
)
"""The field is known, and its value is wrong."""
_SUGGESTS = re.compile(
    r"(?:(?<!not )(?<!cannot )(?<!can't )\b(?:use|using|try)|\brequires?|\bwants?|\bneeds?|\breplaced (?:by|with)"
    r"|\bfavou?r of|\bdid you mean|\bexpected(?: one of)?)[\s:]+(?:the )?(?:(?:field|parameter|argument) )?[\"'`]?$",
    re.IGNORECASE,
)
"""Ends before the name of the field to send instead."""
_PATH = re.compile(r"[\w$./\[\]-]{1,80}")


def refused_field(answer: bytes, fields: Collection[str]) -> str:
    """The one of `fields` that the error body `answer` refuses; "" if the body refuses none of them.

    It is named by OpenAI's `param`, by the `loc` of FastAPI and pydantic, or in a sentence: "Unsupported parameter:
    'x'", "unknown field `x`", "x: Extra inputs are not permitted". A refused value counts too ("temperature must be
    1"), except of the length limit: a request without a limit is another request.
    """
    said = json_of(answer)
    texts = list(_texts(said)) if said is not None else [answer.decode(errors="replace")]
    whole = " ".join(texts)
    is_value = bool(_ABOUT_THE_VALUE.search(whole))
    refused = bool(_REFUSAL.search(whole))
    for name in (name for text in texts for name in _named_by_place(text, fields)):
        return "" if name in LIMIT_FIELDS and is_value and not refused else name
    mentions = [(name == "stream", at, name) for name in fields for at in _mentions(whole, name)]
    for _, _, name in sorted(mentions):  # without `stream` little can be measured: rather another field
        if refused or (is_value and name not in LIMIT_FIELDS):
            return name
    return ""


def refuses_the_limit(answer: bytes) -> bool:
    """Whether an error body says that the length limit is too small."""
    said = json_of(answer)
    whole = answer.decode(errors="replace") if said is None else " ".join(_texts(said))
    names_it = any(name in whole for name in (*LIMIT_FIELDS, "max_output_tokens"))
    return names_it and bool(re.search(r"at least|minimum|greater|higher|>=?|too (?:small|low)", whole, re.IGNORECASE))


def is_refusal(answer: bytes) -> bool:
    """Whether an error body seems to refuse a field, named or not."""
    said = json_of(answer)
    return bool(_REFUSAL.search(answer.decode(errors="replace") if said is None else " ".join(_texts(said))))


def _named_by_place(text: str, fields: Collection[str]) -> Iterator[str]:
    """The field that a text names as a place and nothing else: `stream_options.include_usage`, `/ignore_eos`."""
    if _PATH.fullmatch(text):
        yield from (step for step in re.split(r"[./\[\]$]", text) if step in fields)


def _mentions(whole: str, name: str) -> list[int]:
    """Where a sentence names a field, in any spelling of it, and does not suggest it."""
    between = "_?" if name in LIMIT_FIELDS else "[ _-]?"
    spelled = between.join(name.split("_")) + ("(?:ing)?" if name == "stream" else "")
    pattern = re.compile(rf"(?<![\w-]){spelled}(?![\w-])", re.IGNORECASE)
    return [at.start() for at in pattern.finditer(whole) if not _SUGGESTS.search(whole[: at.start()])]


def _texts(value: Any) -> Iterator[str]:
    """Every text in JSON of any shape, in order; JSON within a text is opened."""
    if isinstance(value, str):
        inner = json_of(value) if value.lstrip()[:1] in ("{", "[") else None
        if inner is None:
            yield value
        else:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for member in cast("dict[str, Any]", value).values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from _texts(member)

"""The server's own message in the body of an error, in whichever of the common forms the body has. Pure."""

import re
from typing import Any, cast

import msgspec

BOM = b"\xef\xbb\xbf"
_MESSAGE_FIELDS = (
    *("message", "detail", "msg", "error", "errors", "error_description", "title"),
    *("error_message", "errorMessage", "error_msg", "errorMsg", "exception", "fault", "faultstring", "reason"),
)
_ERROR_FIELD = re.compile(r"(?:error|exception|fault)(?:s|_?(?:msg|message|description|string))?", re.IGNORECASE)
_FAILED = ("error", "failed", "failure", "abort", "aborted")
_MOST_DEPTH = 6
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # RecursionError: endless open brackets


def json_of(data: bytes | str) -> Any:
    """`data` as JSON, of any shape; None if it is not JSON. A byte-order mark is ignored."""
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    try:
        return msgspec.json.decode(raw.removeprefix(BOM))
    except _NOT_JSON:
        return None


def error_message(data: bytes) -> str:
    """The message in an error body; "" if the body has none.

    OpenAI: `{"error": {"message": …}}`. FastAPI: `{"detail": …}`, also as a list of `{"loc": …, "msg": …}`. Others:
    `{"error": "…"}`, `{"message": …}`, `{"errors": […]}`, lists of these, and JSON inside of a message.
    """
    return _message(json_of(data), 0)


def is_error_body(value: Any) -> bool:
    """Whether JSON of any shape is an error and not a chunk of an answer."""
    if isinstance(value, list):
        members = cast("list[Any]", value)
        return bool(members) and is_error_body(members[0])
    if not isinstance(value, dict):
        return False
    fields = cast("dict[str, Any]", value)
    if fields.get("error") or fields.get("object") == "error" or fields.get("type") == "error":
        return True
    if fields.get("choices") or fields.get("usage"):
        return False
    texts: list[Any] = [fields.get(name) for name in ("detail", "message", "msg")]
    texts += [value for name, value in fields.items() if _ERROR_FIELD.fullmatch(name)]
    has_text = any(isinstance(text, str | list | dict) and text not in ("", [], {}) for text in texts)
    return has_text or is_failed(fields.get("status")) or is_failed(fields.get("type"))


def is_failed(word: Any) -> bool:
    """Whether a word for the end of an answer, such as a finish reason, means that the server failed."""
    return isinstance(word, str) and word.lower() in _FAILED


def _message(value: Any, depth: int) -> str:
    if depth > _MOST_DEPTH:
        return ""
    if isinstance(value, str):
        inner = json_of(value) if value.lstrip()[:1] in ("{", "[") else None
        return _message(inner, depth + 1) or value
    if isinstance(value, list):
        found = [_message(member, depth + 1) for member in cast("list[Any]", value)]
        return "; ".join(text for text in found if text)
    if not isinstance(value, dict):
        return ""
    fields = cast("dict[str, Any]", value)
    text = next((found for name in _MESSAGE_FIELDS if (found := _message(fields.get(name), depth + 1))), "")
    place = fields.get("loc")
    if text and isinstance(place, list) and place:
        return f"{'.'.join(map(str, cast('list[Any]', place)))}: {text}"
    return text

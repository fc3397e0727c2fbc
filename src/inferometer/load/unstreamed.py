"""Answers that are not an event stream: one JSON object, or one JSON object on each line. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from inferometer.base.error_message import BOM, json_of


def events_of_json(pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """Stamp, name and data of each JSON object in a body, as `sse.events` gives them; empty for another body.

    A whole answer has `message` where a chunk has `delta`; it becomes a chunk. Its stamp is that of its last byte.
    """
    body = b"".join(piece for _, piece in pieces)
    if not body.removeprefix(BOM).lstrip().startswith(b"{"):
        return []
    whole = json_of(body)
    if whole is not None:
        return [(pieces[-1][0], b"", msgspec.json.encode(_as_chunk(whole)))] if _is_answer(whole) else []
    lines = [(at_ns, json_of(line)) for at_ns, line in _lines(pieces)]
    if not any(_is_answer(value) for _, value in lines) or any(value is None for _, value in lines[:-1]):
        return []
    return [(at_ns, b"", msgspec.json.encode(_as_chunk(value))) for at_ns, value in lines if value is not None]


def _lines(pieces: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Each line that is not empty, with the stamp of the piece that completed it."""
    rest, at_ns = b"", 0
    for at_ns, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from ((at_ns, line) for line in lines if line.strip())
    if rest.strip():
        yield at_ns, rest


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and bool(cast("dict[str, Any]", value).get("choices"))


def _as_chunk(value: Any) -> Any:
    if not _is_answer(value):
        return value
    choices: Any = value["choices"]
    return (
        {**value, "choices": list(map(_as_delta, cast("list[Any]", choices)))} if isinstance(choices, list) else value
    )


def _as_delta(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    fields = cast("dict[str, Any]", choice)
    return {**fields, "delta": fields["message"]} if "message" in fields and "delta" not in fields else fields

"""Answers that are not an event stream: one JSON object, or one JSON object on each line. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from inferometer.base.error_message import BOM, json_of


def events_of_json(pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """Stamp, name and data of each JSON object in a body, as `sse.events` gives them; empty for another body.

    The stamp of a whole answer is that of its last byte.
    """
    body = b"".join(piece for _, piece in pieces)
    if not body.removeprefix(BOM).lstrip().startswith(b"{"):
        return []
    whole = json_of(body)
    if whole is not None:
        return [(pieces[-1][0], b"", msgspec.json.encode(whole))] if _is_answer(whole) else []
    lines = [(at_ns, json_of(line)) for at_ns, line in _lines(pieces)]
    if not any(_is_answer(value) for _, value in lines) or any(value is None for _, value in lines[:-1]):
        return []
    return [(at_ns, b"", msgspec.json.encode(value)) for at_ns, value in lines if value is not None]


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

"""JSON values in a text of other lines: behind device lines, behind a logger's head, or several after one another.

A dict as Python prints it is read too.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from inferometer.foreign.log_heads import remover, without_head

_OPENS = re.compile(r"(?<![\w\"'])(?:\{(?=\s*(?:[\"']|\}|$))|\[(?=\s*(?:\{|$)))")
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|(?<=[{\[(:, ])'(?:[^'\\]|\\.)*'|[\[\]{}]")
_NO_LITERAL = re.compile(r"(?<=[:,\[] )-?(?:nan|inf)\b")
_MOST_LOOKS = 4
"""How often the characters of a text may be looked at: brackets that never close would make it the square."""


class JsonPart(msgspec.Struct, frozen=True):
    """One value: `text` on one line, out of the lines from `first` up to `after`."""

    first: int
    after: int
    text: str


def json_parts(lines: Sequence[str]) -> list[JsonPart]:
    """The objects, and the arrays of objects, in the order of the lines. What is not whole is none."""
    parts: list[JsonPart] = []
    looks_left = _MOST_LOOKS * sum(len(line) + 1 for line in lines)
    at = column = 0
    while at < len(lines) and looks_left > 0:
        opens = _OPENS.search(lines[at], column)
        if opens is None:
            at, column = at + 1, 0
            continue
        text, after, end = _balanced(lines, at, opens.start())
        looks_left -= len(text)
        value = _value(text) if after else None
        if value is None:
            at, column = (at, opens.end()) if after == at + 1 else (at + 1, 0)
            continue
        parts.append(JsonPart(at, after, json.dumps(value)))
        at, column = after - 1, end
    return parts


def _balanced(lines: Sequence[str], first: int, start: int) -> tuple[str, int, int]:
    """The text from an opening bracket to its end, the line after its last, and the column where that line goes on.
    The line is 0 where the bracket never closes."""
    head = lines[first][:start]
    removed = remover(head) if head.strip() else None
    taken: list[str] = []
    depth = 0
    for at in range(first, len(lines)):
        line, offset = lines[at], 0
        if at == first:
            line, offset = line[start:], start
        elif removed is not None:
            plain = removed(line)
            plain = without_head(line) if plain is None else plain
            line, offset = plain, len(line) - len(plain)
        for token in _TOKEN.finditer(line):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth == 0:
                return "\n".join([*taken, line[: token.end()]]), at + 1, offset + token.end()
        taken.append(line)
    return "\n".join(taken), 0, 0


def _value(text: str) -> Any:
    """An object, or an array of objects; None for all else."""
    try:
        found = json.loads(text)  # not msgspec: Python's writers write NaN and Infinity
    except (ValueError, RecursionError):
        found = _python_value(text)
    entries: list[Any] = cast("list[Any]", found) if isinstance(found, list) else [found]
    return cast("Any", found) if found and all(isinstance(one, dict) for one in entries) else None


def _python_value(text: str) -> Any:
    """The value of Python's own notation; None for all else."""
    if not re.match(r"[{\[\s]+'", text):
        return None
    try:
        value = ast.literal_eval(_NO_LITERAL.sub("None", text))
        json.dumps(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return value

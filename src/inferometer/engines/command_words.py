"""Words of a command line, taken apart: a flag's value, placeholders, and the program's name. Pure."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

LISTENING = ("--host", "{host}", "--port", "{port}")


def is_program(word: str, *names: str) -> bool:
    """Whether a word is one of these programs, with or without a path and `.exe`."""
    return PurePath(word).name.removesuffix(".exe") in names


def take(words: Sequence[str], *flags: str) -> tuple[str, list[str]]:
    """The value of the last of `flags`, as `--flag value` or `--flag=value`, and the words without it; "" for none."""
    value = ""
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, text = word.partition("=")
        if flag not in flags:
            kept.append(word)
        elif equals:
            value = text
        elif rest:
            value = rest.pop(0)
    return value, kept


def without_placeholders(words: Sequence[str]) -> list[str]:
    """The words without `--host {host}` and `--port {port}`, which an engine that we start gets anyway."""
    kept: list[str] = []
    for word in words:
        flag, _, value = word.partition("=")
        if word in ("{host}", "{port}") and kept and kept[-1].startswith("-"):
            kept.pop()
        elif value not in ("{host}", "{port}") or not flag.startswith("-"):
            kept.append(word)
    return kept


def with_listening(words: Sequence[str]) -> list[str]:
    """The words of a start command, with the flags for its host and port unless it has them."""
    has_port = any("{port}" in word for word in words)
    return [*words] if has_port else [*words, *LISTENING]


def wrapped_command(words: Sequence[str], *programs: str) -> dict[str, Any] | None:
    """`command:` of an arm whose program is started by another one (numactl, taskset, nice); None if it is not."""
    if not words or not any(is_program(word, *programs) for word in words[1:]):
        return None
    return {"command": with_listening(words)}

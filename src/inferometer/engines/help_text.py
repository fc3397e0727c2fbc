"""Arguments that a llama-server knows, read from its --help; an unknown argument is refused by name."""

import difflib
import re
from collections.abc import Mapping, Sequence

import msgspec

_LEAST_ARGUMENTS = 20
"""A text with fewer was not understood: no argument is refused by it."""
_NAME = r"-{1,2}[A-Za-z][\w.-]*"
_ENTRY = re.compile(rf" {{0,8}}(?P<names>{_NAME}(?:,\s+{_NAME})*)(?: (?P<values>\S.*?))?(?:\s{{2,}}.*)?")
_REMOVED = re.compile(r"the argument has been removed\.?\s*(.*)")


class Argument(msgspec.Struct, frozen=True):
    """`takes`: how many values follow it. `shown`: its values as --help writes them. `removed`: what --help says to use
    instead of an argument that is gone; None where it is not gone."""

    takes: int
    shown: str = ""
    removed: str | None = None


def arguments_of(help_text: str) -> dict[str, Argument]:
    """Every argument that --help lists, by each of its names; empty where the text is not of llama-server's form."""
    found: dict[str, Argument] = {}
    lines = help_text.splitlines()
    for number, line in enumerate(lines):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            continue
        shown = entry["values"] or ""
        argument = Argument(_value_count(shown), shown, _removal(lines[number : number + 3]))
        found |= dict.fromkeys(re.split(r",\s+", entry["names"]), argument)
    return found if len(found) >= _LEAST_ARGUMENTS else {}


def complaint(args: Sequence[str], known: Mapping[str, Argument]) -> str:
    """What this binary does not understand of `args`, with the nearest that it does; "" where it understands all.

    Reads them as llama.cpp does: a known argument takes the words after it as its values, whatever they look like, and
    underscores in a long one are hyphens.
    """
    if not known:
        return ""
    at, before = 0, ""
    while at < len(args):
        word = args[at]
        argument = known.get(_normal(word))
        if argument is None:
            return _stray(word, before, known)
        if argument.removed is not None:
            return f"{word} is gone from this build; its --help says: {argument.removed or 'removed'}"
        values = args[at + 1 : at + 1 + argument.takes]
        missing = len(values) < argument.takes or (argument.takes == 1 and _normal(values[0]) in known)
        if missing:
            then = f", and {values[0]} follows it" if values else ""
            return f"{word} takes a value in this build ({argument.shown}){then}"
        at += 1 + argument.takes
        before = word
    return ""


def _stray(word: str, before: str, known: Mapping[str, Argument]) -> str:
    """A word that stands where an argument is expected."""
    if not word.startswith("-") or re.match(r"-\d", word):
        after = f"; {before} takes {known[_normal(before)].takes or 'no'} value(s) in this build" if before else ""
        return f"{word!r} stands where an argument is expected{after}"
    name, equals, value = word.partition("=")
    if equals and _normal(name) in known:
        return f"{word} is written {name} {value}, as two words, for this program"
    near = difflib.get_close_matches(_normal(name), known, n=1, cutoff=0.5)
    return f"{word} is not an argument of this build" + (f"; did you mean {near[0]}?" if near else "")


def _normal(word: str) -> str:
    return word.replace("_", "-") if word.startswith("--") else word


def _value_count(shown: str) -> int:
    """How many words `N`, `[on|off|auto]`, `<a b>=<c>,...` or `FNAME SCALE` stand for."""
    return len(re.sub(r"<[^>]*>|\{[^}]*\}|\[[^\]]*\]", "x", shown).split())


def _removal(lines: Sequence[str]) -> str | None:
    """What an entry says of its removal: on its own line, or on the two below it, which are indented."""
    own = [lines[0], *[line for line in lines[1:] if line.startswith(" " * 20)]]
    text = " ".join(line.strip() for line in own)
    gone = _REMOVED.search(text)
    return None if gone is None else re.sub(r"\s*\(env: \w+\)", "", gone[1]).strip()

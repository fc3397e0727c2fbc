"""Arguments that a llama-server knows, read from its --help, and the check of a command line against them."""

import difflib
import re
from collections.abc import Mapping, Sequence

import msgspec

_LEAST_ARGUMENTS = 20
"""With fewer arguments, the text was not understood, and no argument is refused."""
_NAME = r"-{1,2}[A-Za-z][\w.-]*"
_ENTRY = re.compile(rf" {{0,9}}(?P<names>{_NAME}(?:,\s+{_NAME})*)(?: (?P<values>\S.*?))?(?:\s{{2,}}.*)?")
_REMOVED = re.compile(r"the argument has been removed\.?\s*(.*)")


class Argument(msgspec.Struct, frozen=True):
    """`takes`: the number of values that follow it. `shown`: its values as --help writes them. `removed`: the
    replacement that --help gives for a removed argument; None if it was not removed."""

    takes: int
    shown: str = ""
    removed: str | None = None


def arguments_of(help_text: str) -> dict[str, Argument]:
    """Every argument that --help lists, by each of its names; empty if the text does not have llama-server's form.

    Empty also for ik_llama.cpp: it lists some names twice, with a value and without one, and leaves out others' values
    and 72 names that it takes, so that its help cannot say what is wrong.
    """
    found: dict[str, Argument] = {}
    lines = help_text.splitlines()
    for number, line in enumerate(lines):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            continue
        shown = entry["values"] or ""
        argument = Argument(_value_count(shown), shown, _removal(lines[number : number + 3]))
        names = re.split(r",\s+", entry["names"])
        if any(bool(found.get(name, argument).takes) != bool(argument.takes) for name in names):
            return {}
        found |= dict.fromkeys(names, argument)
    return found if len(found) >= _LEAST_ARGUMENTS else {}


def complaint(args: Sequence[str], known: Mapping[str, Argument]) -> str:
    """The first argument in `args` that this binary does not understand, with the nearest known one; "" if none.

    Parses as llama.cpp does: a known argument takes the words after it as its values, whatever they look like, and
    underscores in a long argument count as hyphens.
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
    """The complaint about a word at a place where an argument is expected."""
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
    """The number of words that `N`, `[on|off|auto]`, `<a b>=<c>,...` or `FNAME SCALE` stand for."""
    return len(re.sub(r"<[^>]*>|\{[^}]*\}|\[[^\]]*\]", "x", shown).split())


def _removal(lines: Sequence[str]) -> str | None:
    """An entry's note about its removal, from its own line or the two indented lines below it; None if it has none."""
    own = [lines[0], *[line for line in lines[1:] if line.startswith(" " * 20)]]
    text = " ".join(line.strip() for line in own)
    gone = _REMOVED.search(text)
    return None if gone is None else re.sub(r"\s*\(env: \w+\)", "", gone[1]).strip()

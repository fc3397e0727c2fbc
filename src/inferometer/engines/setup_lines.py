"""Set-ups written as one line: a server's command line, a URL, a model file or flags, read as the fields of an arm."""

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inferometer.base.errors import RequestWrong
from inferometer.core.arm_sets import distinct_names
from inferometer.engines.catalog import descriptions

_ENVIRONMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)", re.DOTALL)
_NAME = re.compile(r"(\w[\w.+,()%&#-]*(?: [\w+(&#][\w.+,()%&#-]*)*)=(?!=)(.*)", re.DOTALL)
_FLAG = re.compile(r"-{1,2}[A-Za-z][\w-]*")


class SetUp(NamedTuple):
    """One set-up. `name`: as the user gave it; "" if not. `arm`: the fields of an arm. `parts`: for a derived name;
    `full_parts`: the same with the folder of each path."""

    name: str
    arm: dict[str, Any]
    parts: tuple[str, ...]
    full_parts: tuple[str, ...]


def read_setup(line: str, model: str = "") -> SetUp:
    """The set-up in one line: `[NAME=][VARIABLE=value …] COMMAND`, a URL, a model file, or flags.

    Capital letters before `=` are an environment variable, anything else a name. `model`: for a set-up that names none.
    Raises RequestWrong if no engine recognises the line.
    """
    name, text = _split_name(line)
    words = _words(text)
    if len(words) == 1 and " " in words[0] and not Path(words[0]).exists():
        words = _words(words[0])  # quoted twice: '"-t 1"'
    env: dict[str, str] = {}
    while words and (match := _ENVIRONMENT.fullmatch(words[0])) is not None:
        env[match[1]] = match[2]
        words.pop(0)
    for description in descriptions():
        arm = description.arm_of_command and description.arm_of_command(words)
        if arm is None:
            continue
        arm = {"engine": description.name, **arm}
        if env:
            arm["env"] = env
        if model and description.needs_model and not arm.get("model") and not arm.get("command"):
            arm["model"] = model
        given = [*(f"{variable}={value}" for variable, value in env.items()), *words]
        return SetUp(name, arm, _parts(given, 1), _parts(given, 2))
    raise RequestWrong(_unknown(line, words))


def read_setups(lines: Sequence[str], model: str = "") -> dict[str, dict[str, Any]]:
    """The arms of several set-ups by name: the given name, or one made of what differs. Raises RequestWrong."""
    setups = [read_setup(line, model) for line in lines]
    derived = distinct_names([setup.parts for setup in setups])
    if any(" #" in name for name in derived):  # the same program in two folders
        derived = distinct_names([setup.full_parts for setup in setups])
    names = [setup.name or name for setup, name in zip(setups, derived, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestWrong(f"two set-ups are named {twice!r}: give each a NAME= that differs.")
    return {name: setup.arm for name, setup in zip(names, setups, strict=True)}


def _words(text: str) -> list[str]:
    """The words as a shell splits them. Raises RequestWrong for a quotation without an end."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RequestWrong(
            f"the set-up {text!r} has an unfinished quotation: {error}. Put each set-up into one pair of quotes."
        ) from error


def _split_name(line: str) -> tuple[str, str]:
    """`NAME=` and the rest. The value of a flag, a URL's query and an environment variable are not names."""
    text = line.strip()
    match = _NAME.fullmatch(text)
    if match is None or _ENVIRONMENT.fullmatch(text) is not None:
        return "", text
    first, *others = match[1].split(" ")
    if others and shutil.which(first) is not None:  # `python server.py port={port}` is a command
        return "", text
    return match[1], match[2].strip()


def _parts(words: Sequence[str], depth: int) -> tuple[str, ...]:
    """Program, model file and each flag with its values, as short texts. `depth`: how much of a path to show."""
    parts: list[str] = []
    for word in words:
        short = _short(word, depth)
        if parts and _FLAG.match(parts[-1]) and " " not in parts[-1] and _FLAG.fullmatch(word) is None:
            parts[-1] += f" {short}"
        else:
            parts.append(short)
    return tuple(parts)


def _short(word: str, depth: int) -> str:
    """A path by its last `depth` parts, without the ending of a model file; a URL without its scheme."""
    if re.match(r"https?://", word):
        return re.sub(r"^https?://", "", word).rstrip("/")
    short = "/".join(Path(word).parts[-depth:]) if "/" in word and not word.startswith("-") else word
    return short.removesuffix(".gguf") or word


def _unknown(line: str, words: Sequence[str]) -> str:
    if not words:
        return "a set-up is empty: give a command line, a URL or a model file; or name the model with -m."
    path = Path(words[0]).expanduser()
    if re.fullmatch(r"[\w.-]+(:\d+)(/.*)?", words[0]):
        return f"the set-up {line!r} looks like an address: write it as http://{words[0]}."
    if path.is_dir():
        return f"the set-up {line!r} is a folder. A study in it is opened by: inferometer compare {words[0]}"
    if path.suffix in (".yaml", ".yml"):
        return f"the set-up {line!r} is a study file: run it with: inferometer run {words[0]}"
    if len(words) == 1 and re.fullmatch(r"[\w.-]+", words[0]):
        return (
            f"the set-up {line!r} is not a known engine, URL or model. A running server is written as "
            f"http://{words[0]}:PORT, a model file with its ending .gguf; inferometer models list shows models by name."
        )
    return (
        f"the program {words[0]!r} is not an engine that Inferometer knows. Write {{port}} where the port belongs in "
        f"its command line ({line.strip()} --port {{port}}), or start it yourself and give its URL."
    )

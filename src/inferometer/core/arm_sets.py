"""Sets of arms: one for each combination of settings (`matrix:`) or for each model file (`ladder:`), and names made of
what differs between arms."""

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

ARGUMENT_LISTS = ("args", "command")
MOST_ARMS = 64
"""A study with more arms takes hours per round and shows nothing for most of them."""
MOST_NAME_CHARS = 32


def with_setting(arm: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The arm, as a mapping, with one setting changed.

    `path`: a field (`threads`), a field of a field (`draft.n_max`, `env.NAME`), a field of each request
    (`request.top_k`), or a flag of the command line (`args.-ub`, `command.--ubatch-size`); a flag that is not there yet
    is appended. The value None removes a flag.
    Raises ValueError with the reason where the path leads nowhere.
    """
    first, dot, rest = path.partition(".")
    changed = dict(arm)
    if not dot:
        changed[first] = value
    elif first == "request":  # names of fields may have dots
        changed[first] = {**(arm.get(first) or {}), rest: value}
    elif first in ARGUMENT_LISTS:
        changed[first] = _with_flag(arm.get(first, []), rest, value, first)
    else:
        inner: Any = arm.get(first) or {}
        if not isinstance(inner, dict):
            raise ValueError(f"{first} is one value and has no settings below it")
        changed[first] = with_setting(cast("dict[str, Any]", inner), rest, value)
    return changed


def _with_flag(words: Any, flag: str, value: Any, field: str) -> list[Any]:
    """The words with `flag` set to `value`. A value of `true` sets a flag without a value."""
    if isinstance(words, str):
        raise ValueError(f"{field} is one line of text; give it as a list of words")
    if not flag.startswith("-"):
        raise ValueError(f"{field}.{flag} is not a flag; write it as on the command line, for example {field}.-ub")
    kept: list[Any] = []
    at = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = str(word).partition("=")
        if name != flag:
            kept.append(word)
            continue
        at = len(kept) if at is None else at
        if not equals and rest and not _is_flag(rest[0]):
            rest.pop(0)
    new = [] if value is None or value is False else [flag] if value is True else [flag, value]
    at = len(kept) if at is None else at
    return [*kept[:at], *new, *kept[at:]]


def _is_flag(word: Any) -> bool:
    return re.match(r"-{1,2}[A-Za-z]", str(word)) is not None


def matrix_arms(
    arms: Mapping[str, Any], matrix: Mapping[str, Sequence[Any]], exclude: Sequence[Mapping[str, Any]] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Every arm with every combination of the settings, and what is wrong with the request.

    `matrix`: path of a setting (see `with_setting`) → its values. `exclude`: combinations to leave out; one that names
    only some settings leaves out every combination that contains them. Arms are named by their settings
    (`threads 2, n_max 8`), after the arm's own name if there are several.
    """
    problems = [f"matrix.{path}: needs a list of values" for path, values in matrix.items() if not _is_list(values)]
    for entry in exclude:
        problems += [
            f"exclude: {path!r} is not in the matrix{_nearest(path, list(matrix))}"
            for path in entry
            if path not in matrix
        ]
    if problems:
        return dict(arms), problems
    made: dict[str, Any] = {}
    for (arm_name, arm), values in itertools.product(arms.items(), itertools.product(*matrix.values())):
        settings = dict(zip(matrix, values, strict=True))
        if any(all(settings[path] == value for path, value in entry.items()) for entry in exclude):
            continue
        changed: Any = arm
        for path, value in settings.items():
            try:
                changed = with_setting(changed, path, value)
            except ValueError as error:
                return dict(arms), [f"matrix.{path}: {error}"]
        words = ", ".join(f"{path.rpartition('.')[2]} {_shown(value)}" for path, value in settings.items())
        made[f"{arm_name}, {words}" if len(arms) > 1 else words] = changed
    if not made:
        problems.append("exclude: leaves no arm")
    if len(made) > MOST_ARMS:
        problems.append(f"matrix: makes {len(made)} arms, and a study has at most {MOST_ARMS}; use fewer values")
    return made, problems


_QUANTISATION = re.compile(
    r"(?<![A-Za-z0-9])(I?Q\d\w*|TQ\d_\d|MXFP4\w*|BF16|FP?16|FP?32)(?![A-Za-z0-9])", re.IGNORECASE
)


def quantisation_of(file: str) -> tuple[str, str]:
    """The quantisation that a model file's name has, such as Q4_K_M, "" without one, and the rest of the name."""
    stem = PurePath(file).name.removesuffix(".gguf")
    found = list(_QUANTISATION.finditer(stem))
    if not found:
        return "", stem
    last = found[-1]
    return last[0], (stem[: last.start()] + stem[last.end() :]).strip("-._ ")


def ladder_arms(arms: Mapping[str, Any], files: Any) -> tuple[dict[str, Any], list[str]]:
    """The only arm with each of the model files, and what is wrong with the request. The arms are named by their
    quantisation, or by their files. Arms that have these files already are kept."""
    if not _is_list(files) or not all(isinstance(file, str) and file for file in files) or len(set(files)) < 2:
        return dict(arms), ["ladder: needs a list of two or more different model files, the largest first"]
    if len(set(files)) < len(files):
        return dict(arms), ["ladder: has a file twice"]
    models = [cast("dict[str, Any]", arm).get("model") for arm in arms.values() if isinstance(arm, dict)]
    if set(files) <= set(models):
        return dict(arms), []
    if len(arms) != 1:
        return dict(arms), [f"ladder: needs one arm, the set-up that all files share, and arms: has {len(arms)}"]
    arm = next(iter(arms.values()))
    if not isinstance(arm, dict):
        return dict(arms), []
    short = [quantisation_of(file)[0] for file in files]
    stems = [PurePath(file).name.removesuffix(".gguf") for file in files]
    names = short if all(short) and len(set(short)) == len(short) else distinct_names([[stem] for stem in stems])
    return {
        name: with_setting(cast("dict[str, Any]", arm), "model", file) for name, file in zip(names, files, strict=True)
    }, []


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple) and bool(cast("Sequence[Any]", values))


def _shown(value: Any) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else "none" if value is None else str(value)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def distinct_names(words_of_arms: Sequence[Sequence[str]]) -> list[str]:
    """A name for each arm, made of what the others do not share.

    `words_of_arms`: each arm's parts in order, such as a program, a model and each flag with its value. An arm whose
    parts all arms share is `plain`. Names are cut at MOST_NAME_CHARS; arms that then have one name leave out, after the
    first part, what they share, and are numbered if that is not enough.
    """
    shared = set(words_of_arms[0]).intersection(*words_of_arms[1:]) if words_of_arms else set[str]()
    left = [[part for part in parts if part not in shared] for parts in words_of_arms]
    names = [_cut(" ".join(parts)) or "plain" for parts in left]
    for name in {name for name in names if names.count(name) > 1 and name.endswith("…")}:
        places = [place for place, other in enumerate(names) if other == name]
        common = set(left[places[0]]).intersection(*(left[place] for place in places))
        for place in places:
            first, *rest = left[place]
            names[place] = _cut(" ".join([first, *(part for part in rest if part not in common)]))
    counts: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if names.count(name) == 1 else f"{name} #{counts[name]}")
    return unique


def _cut(name: str) -> str:
    name = name.strip()
    return name if len(name) <= MOST_NAME_CHARS else name[: MOST_NAME_CHARS - 1].rstrip() + "…"

"""Study files: parsing YAML into a `Spec`, with every problem in the file reported at once."""

import difflib
import re
import shlex
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from inferometer.base.errors import RequestWrong, SpecInvalid
from inferometer.base.text import sanitize
from inferometer.core.arm_sets import ladder_arms, matrix_arms
from inferometer.core.search_settings import Search
from inferometer.core.spec import Spec
from inferometer.core.spec_checks import StudyRules, checked
from inferometer.core.workload_settings import Builtin, KeptWorkload, WorkloadSettings

if TYPE_CHECKING:
    import yaml

_RENAMED = {"output_tokens": "max_tokens"}
MOST_CHARACTERS = 1_000_000
MOST_NODES = 20_000
MOST_DEPTH = 32
"""Limits of a study file: a larger one was made to exhaust the program that reads it."""


def parse_search(text: str, source: str, rules: StudyRules | None = None) -> tuple[Spec, Search]:
    """A study with a section `search:`, for `inferometer tune`. Raises SpecInvalid as `parse`."""
    raw = _loaded(text, source)
    entries = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    section = entries.pop("search", None)
    if not isinstance(section, dict):
        raise SpecInvalid(source, ["search: is missing; it names the parameters to vary, such as\n"
                                   "      search: {parameters: {threads: {int: [1, 8]}}}"])  # fmt: skip
    if problems := _struct_problems(cast("dict[str, Any]", section), Search, "search"):
        raise SpecInvalid(source, [sanitize(problem) for problem in problems])
    return _parsed(entries, source, rules), msgspec.convert(section, Search)


def parse(text: str, source: str, rules: StudyRules | None = None) -> Spec:
    """A Spec from YAML. Raises SpecInvalid with every problem at once, each with its place in the file and the nearest
    valid name.

    `rules`: None for a stored study whose results are read. Its engines and workloads need not be installed then, and
    settings of a workload other than the default are kept as they are.
    """
    return _parsed(_loaded(text, source), source, rules)


def _parsed(raw: Any, source: str, rules: StudyRules | None) -> Spec:
    if not isinstance(raw, dict):
        raise SpecInvalid(source, ["it must be a mapping with `arms:`; see the example in README"])
    raw = dict(cast("dict[str, Any]", raw))  # any content, checked below
    problems: list[str] = []
    if "arms" in raw:
        raw["arms"] = _with_bases(_with_words(raw["arms"], problems), problems)
        raw["arms"] = _with_matrix(raw["arms"], raw.pop("matrix", None), raw.pop("exclude", None), problems)
        raw["arms"] = _with_ladder(raw["arms"], raw.get("ladder"), problems)
    workload = _workload(raw.pop("workload"), rules, problems) if "workload" in raw else Builtin()
    if raw.pop("search", None) is not None:
        problems.append(f"search: belongs to another command: inferometer tune {source}")
    problems += _problems(raw, Spec, "")
    if rules is not None:
        problems += _unknown_engines(raw.get("arms"), rules.engine_names)
    if problems:
        raise SpecInvalid(source, [sanitize(problem) for problem in problems])
    try:
        spec = msgspec.structs.replace(msgspec.convert(raw, Spec), workload=workload)
    except msgspec.ValidationError as error:  # for example, an arm's name that is not text
        raise SpecInvalid(source, [str(error)]) from error
    return checked(spec, source, rules)


def _unknown_engines(arms: Any, known: Sequence[str]) -> list[str]:
    """Problems of the arms that name an engine that is not installed. `arms`: whatever the file holds."""
    named = cast("dict[str, Any]", arms) if isinstance(arms, dict) else {}
    whole = {name: cast("dict[str, Any]", arm) for name, arm in named.items() if isinstance(arm, dict)}
    engines = {name: arm.get("engine") for name, arm in whole.items()}
    return [
        f"arms.{name}.engine: {_unknown(engine, list(known))}"
        for name, engine in engines.items()
        if isinstance(engine, str) and engine not in known
    ]


def _workload(raw: Any, rules: StudyRules | None, problems: list[str]) -> WorkloadSettings:
    """The settings in `raw`; what is wrong with them is added to `problems`, and the default returned."""
    found: list[str] = []
    entries = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    kind = entries.get("kind")
    struct: Any = Builtin if kind == "builtin" else None
    kinds = ["builtin"] if rules is None else list(rules.workload_kinds)
    if not isinstance(raw, dict):
        found.append(f"workload: must be a mapping with `kind:`, not {type(raw).__name__}")
    elif kind is None:
        found.append(f"workload.kind: is missing; it is one of {', '.join(kinds)}")
    elif rules is None and isinstance(kind, str) and struct is None:
        settings = {name: value for name, value in entries.items() if name != "kind"}
        if kind == "sharegpt" and "output_tokens" in settings:  # as studies were stored until this field was renamed
            settings = {_RENAMED.get(name, name): value for name, value in settings.items()}
        return KeptWorkload(kind, settings)
    elif kind not in kinds:
        found.append(f"workload.kind: {_unknown(kind, list(kinds))}")
    elif rules is not None and struct is None:
        try:
            struct = rules.workload_settings(kind)
        except RequestWrong as error:
            found.append(f"workload.kind: {error}")
    if struct is not None:
        entries = _with_names(entries, struct.ALIASES, found)
        found += _struct_problems(entries, struct, "workload")
    problems += found
    return Builtin() if found else msgspec.convert(entries, struct)


def _with_names(entries: dict[str, Any], aliases: Mapping[str, str], found: list[str]) -> dict[str, Any]:
    """The settings with each alias replaced by the field's name; a setting under both names is added to `found`."""
    both = [f"workload.{alias}: is another name of {name}; give one of them" for alias, name in aliases.items()
            if alias in entries and name in entries]  # fmt: skip
    found += both
    return {aliases.get(name, name): value for name, value in entries.items() if not (both and name in aliases)}


def _loaded(text: str, source: str) -> Any:
    """The content of the YAML: mappings, lists and plain values only. Raises SpecInvalid.

    The events are checked before the file is loaded, because loading follows aliases and nesting without a limit.
    """
    import yaml

    problem = f"it is larger than {MOST_CHARACTERS:,} characters" if len(text) > MOST_CHARACTERS else ""
    try:
        problem = problem or _yaml_problem(cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.CSafeLoader)))
        repeated = [] if problem else _repeated_keys(cast("Iterator[yaml.Event]", yaml.parse(text, yaml.CSafeLoader)))
        if not problem and not repeated:
            return msgspec.yaml.decode(text)
        if repeated:
            raise SpecInvalid(source, repeated)
    except (msgspec.DecodeError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month
        problem = f"it is not valid YAML: {_syntax_problem(text, error)}"
    raise SpecInvalid(source, [problem])


_SYNTAX_FIXES = {
    "mapping values are not allowed in this context": "Indent the keys of one level alike; quote a text with a colon",
    "found character that cannot start any token": "Put the value into quotes",
}


def _syntax_problem(text: str, error: Exception) -> str:
    """Where the YAML is wrong, the line itself, and the likely fix."""
    import yaml

    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return sanitize(str(error)).replace('in "<unicode string>", ', "")
    number, lines = error.problem_mark.line, text.splitlines()
    line = lines[number] if number < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"line {number + 1} is indented with a tab; use spaces"
    shown = f" in `{sanitize(line.strip(), 80)}`" if line.strip() else ""
    fix = _SYNTAX_FIXES.get(str(error.problem), "")
    place = f"line {number + 1}, column {error.problem_mark.column + 1}"
    return f"{place}: {error.problem}{shown}{f'. {fix}' if fix else ''}"


def _yaml_problem(events: "Iterator[yaml.Event]") -> str:
    """Why the file must not be loaded; "" if it may be. An alias counts as many nodes as the value it stands for. An
    alias inside its own value is endless."""
    import yaml

    nodes = 0
    sizes: dict[str, int] = {}
    open_at: list[tuple[str | None, int]] = []
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_at.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
            continue
        if isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(str(event.anchor), MOST_NODES)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            nodes += 1
            if event.tag is not None:
                return f"it has a tag ({sanitize(str(event.tag), 80)}); a study file needs none"
            anchor = None if event.anchor is None else str(event.anchor)
            if isinstance(event, yaml.CollectionStartEvent):
                open_at.append((anchor, nodes - 1))
                sizes.pop(anchor or "", None)
            elif anchor is not None:
                sizes[anchor] = 1
        if nodes > MOST_NODES:
            return f"it has more than {MOST_NODES:,} values, counting the values that aliases (*name) stand for"
        if len(open_at) > MOST_DEPTH:
            return f"it is nested more than {MOST_DEPTH} deep"
    return ""


def _repeated_keys(events: "Iterator[yaml.Event]") -> list[str]:
    """Keys that one mapping has twice, each with both lines: YAML would keep only the second without a word."""
    import yaml

    found: list[str] = []
    open_at: list[_OpenNode] = []
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            open_at.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        parent = open_at[-1] if open_at else None
        key = None
        if parent is not None and parent.is_mapping:
            parent.expects_key = not parent.expects_key
            if not parent.expects_key:
                key = str(event.value) if isinstance(event, yaml.ScalarEvent) else None
                parent.key = key or ""
                line = event.start_mark.line + 1
                if key is not None and key in parent.lines:
                    place = ".".join([node.key for node in open_at[:-1] if node.key] + [key])
                    found.append(f"{sanitize(place, 80)}: is given twice, in lines {parent.lines[key]} and {line}")
                elif key is not None:
                    parent.lines[key] = line
        if isinstance(event, yaml.CollectionStartEvent):
            open_at.append(_OpenNode(isinstance(event, yaml.MappingStartEvent)))
    return found


class _OpenNode:
    """A mapping or list whose end has not come yet. `lines`: the line of each key so far; `key`: the last one."""

    def __init__(self, is_mapping: bool) -> None:
        self.is_mapping = is_mapping
        self.expects_key = True
        self.key = ""
        self.lines: dict[str, int] = {}


def to_yaml(spec: Spec) -> str:
    """The resolved spec as a file, from which `parse` reads the same Spec."""
    raw = msgspec.to_builtins(spec)
    if isinstance(spec.workload, KeptWorkload):
        raw["workload"] = {"kind": spec.workload.kind, **spec.workload.settings}
    return msgspec.yaml.encode(raw, order=None).decode()


def to_short_yaml(spec: Spec) -> str:
    """The spec as a person would write it, without settings that have their default; `parse` reads the same Spec."""
    return msgspec.yaml.encode(_without_defaults(spec), order=None).decode()


def _without_defaults(value: Any) -> Any:
    """A struct as a mapping of its tag and the fields that differ from their defaults; other values as plain ones."""
    if isinstance(value, dict):
        return {key: _without_defaults(entry) for key, entry in cast("dict[str, Any]", value).items()}
    if not isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    config = value.__struct_config__
    found = {config.tag_field: config.tag} if config.tag_field is not None else {}
    for field in msgspec.structs.fields(value):
        entry = getattr(value, field.name)
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if field.required or entry != default:
            found[field.name] = _without_defaults(entry)
    return found


def _with_words(arms: Any, problems: list[str]) -> Any:
    """Arms whose `args` may be one line of text, which is split into words as a shell does."""
    if not isinstance(arms, dict):
        return arms
    found: dict[str, Any] = {}
    for name, arm in cast("dict[str, Any]", arms).items():
        found[name] = arm
        args = cast("dict[str, Any]", arm).get("args") if isinstance(arm, dict) else None
        if isinstance(args, str):
            try:
                found[name] = cast("dict[str, Any]", arm) | {"args": shlex.split(args)}
            except ValueError as error:  # a quotation that does not end
                problems.append(f"arms.{name}.args: cannot be split into words: {error}")
                found[name] = cast("dict[str, Any]", arm) | {"args": []}
    return found


def _with_bases(arms: Any, problems: list[str]) -> Any:
    """Arms with `base:` replaced by that arm's fields. Own fields take precedence; `env` is merged."""
    if not isinstance(arms, dict):
        return arms
    arms = cast("dict[str, Any]", arms)  # from YAML
    resolved: dict[str, Any] = {}

    def resolve(name: str, chain: tuple[str, ...]) -> Any:
        raw = arms[name]
        if name in resolved or not isinstance(raw, dict) or "base" not in raw:
            return resolved.get(name, raw)
        own = dict(cast("dict[str, Any]", raw))
        base = str(own.pop("base"))
        if base not in arms:
            problems.append(f"arms.{name}.base: unknown arm {base!r}{_nearest(base, list(arms))}")
            return own
        if base in chain:
            problems.append(f"arms.{name}.base: {' -> '.join((*chain, base))} is circular")
            return own
        parent = resolve(base, (*chain, base))
        if not isinstance(parent, dict):
            return own
        parent = cast("dict[str, Any]", parent)
        merged = {**parent, **own}
        if isinstance(parent.get("env"), dict) and isinstance(own.get("env"), dict):
            merged["env"] = cast("dict[str, Any]", parent["env"]) | cast("dict[str, Any]", own["env"])
        return merged

    for name in arms:
        resolved[name] = _with_text(resolve(name, (name,)))
    return resolved


def _with_matrix(given: Any, matrix: Any, exclude: Any, problems: list[str]) -> Any:
    """The arms, each with every combination of the settings in `matrix:` without those in `exclude:`."""
    if (matrix is None and exclude is None) or not isinstance(given, dict):
        return given
    arms = cast("dict[str, Any]", given)
    if not isinstance(matrix, dict) or not matrix:
        problems.append("matrix: must be a mapping from settings to lists of values, such as `threads: [1, 2, 4]`")
        return arms
    left_out = cast("list[Any]", exclude if isinstance(exclude, list) else [])
    if not isinstance(exclude, list | None) or not all(isinstance(entry, dict) for entry in left_out):
        problems.append("exclude: must be a list of mappings, such as `- {threads: 4, draft.n_max: 16}`")
        return arms
    made, found = matrix_arms(arms, cast("dict[str, list[Any]]", matrix), left_out)
    problems += found
    return {name: _with_text(arm) for name, arm in made.items()}


def _with_ladder(given: Any, files: Any, problems: list[str]) -> Any:
    """The arms, one for each model file of `ladder:`."""
    if not files or not isinstance(given, dict):
        return given
    made, found = ladder_arms(cast("dict[str, Any]", given), files)
    problems += found
    return made


def _with_text(arm: Any) -> Any:
    """The arm with `args`, `command` and `env` as text: YAML reads 99 as a number and `on` as true."""
    if not isinstance(arm, dict):
        return arm
    found = dict(cast("dict[str, Any]", arm))
    for field in ("args", "command"):
        if isinstance(found.get(field), list):
            found[field] = [_as_text(value) for value in cast("list[Any]", found[field])]
    if isinstance(found.get("env"), dict):
        found["env"] = {name: _as_text(value) for name, value in cast("dict[str, Any]", found["env"]).items()}
    return found


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def _problems(value: Any, kind: Any, place: str) -> list[str]:
    """Every reason why `value` is not a `kind`, each with its place in the file."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        if value is None and len(members) < len(typing.get_args(kind)):
            return []
        if all(_is_struct(member) for member in members) and isinstance(value, dict):
            return _union_problems(cast("dict[str, Any]", value), members, place)
    if _is_struct(kind) and isinstance(value, dict):
        return _struct_problems(cast("dict[str, Any]", value), kind, place)
    if origin is dict and isinstance(value, dict) and _is_struct(typing.get_args(kind)[1]):
        entries = cast("dict[str, Any]", value)
        member = typing.get_args(kind)[1]
        return [line for key, entry in entries.items() for line in _problems(entry, member, _join(place, str(key)))]
    if choices := _choices(kind):
        return [] if value in choices else [f"{place}: {_unknown(value, choices)}"]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [f"{place}: {_type_problem(str(error), value)}"]
    return []


_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def _type_problem(message: str, value: Any) -> str:
    """msgspec's message in the words of YAML, with the value: `expected a whole number, got text 'two'`."""
    words = re.sub(r"`(\w+)( \| null)?`", lambda found: _TYPE_WORDS.get(found[1], found[0]), message)
    is_whole = isinstance(value, str | int | float) and " - at " not in words
    return f"{words[0].lower()}{words[1:]}{f' {sanitize(repr(value), 60)}' if is_whole else ''}"


def _choices(kind: Any) -> list[str]:
    """The values of a Literal of texts; empty for another type."""
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return [member for member in members if isinstance(member, str)]


def _unknown(value: Any, known: list[str]) -> str:
    near = _nearest(str(value), known)
    return f"{value!r} is unknown{f'{near} All:' if near else '; it is one of'} {', '.join(known)}"


def _union_problems(value: dict[str, Any], members: list[Any], place: str) -> list[str]:
    """Problems of a value with a `kind:`, or of an optional struct."""
    if len(members) == 1:
        return _struct_problems(value, members[0], place)
    by_tag = {str(member.__struct_config__.tag): member for member in members}
    tag = value.get("kind")
    if not isinstance(tag, str) or tag not in by_tag:
        problem = f"is missing; it is one of {', '.join(by_tag)}" if tag is None else _unknown(tag, list(by_tag))
        return [f"{_join(place, 'kind')}: {problem}"]
    return _struct_problems(value, by_tag[tag], place)


def _struct_problems(value: dict[str, Any], struct: Any, place: str) -> list[str]:
    hints = typing.get_type_hints(struct)
    known = [*struct.__struct_fields__]
    tag_field = struct.__struct_config__.tag_field
    problems: list[str] = []
    for key, entry in value.items():
        if key in hints:
            problems += _problems(entry, hints[key], _join(place, key))
        elif key != tag_field:
            problems.append(f"{_join(place, str(key))}: unknown field{_nearest(str(key), known)}")
    required = [field.name for field in msgspec.structs.fields(struct) if field.required]
    problems += [f"{_join(place, name)}: is missing" for name in required if name not in value]
    if not problems and hasattr(struct, "problems"):
        problems = [_join(place, line) for line in msgspec.convert(value, struct).problems()]
    return problems


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _nearest(name: str, known: list[str] | Mapping[str, Any]) -> str:
    """`; did you mean …?` with the nearest known name, or "" if no name is similar."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

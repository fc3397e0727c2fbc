"""What was asked? The study file as types, and every problem in it at once."""

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec

from inferometer.base.errors import RequestWrong, SpecInvalid
from inferometer.base.text import sanitize
from inferometer.core.schedule import Closed, Replay, Schedule, concurrency_limit
from inferometer.core.workload_settings import Builtin, KeptWorkload, WorkloadSettings

if TYPE_CHECKING:
    import yaml

MOST_CHARACTERS = 1_000_000
MOST_NODES = 20_000
MOST_DEPTH = 32
"""Of a study file: more is no study, but made to exhaust whoever reads it."""

Api = Literal["openai-chat", "openai"]
"""`openai-chat`: /v1/chat/completions; `openai`: /v1/completions."""

API_PATHS: dict[Api, str] = {"openai-chat": "/v1/chat/completions", "openai": "/v1/completions"}


OnFailure = Literal["next", "retry", "stop"]


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft model for speculative decoding; None leaves a setting to the engine's own default.

    `n_max`, `n_min`: how many tokens it drafts a step, at most and at least. `p_min`: it stops drafting at a token less
    likely than this. `gpu_layers`: how many of its layers are on the GPU.
    """

    model: str
    n_max: int | None = None
    n_min: int | None = None
    p_min: float | None = None
    gpu_layers: int | None = None


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set-up under comparison.

    `engine`: the name of an engine (docs/engines.md lists them). `model`: a GGUF file, `standin:demo` or
    `standin:tiny` (made on this machine), for vllm and sglang a Hugging Face name or folder, or for `external` the name
    sent in each request. `binary`, `args`, `env`, `cwd` (working directory): how a server is started; "": the engine's
    own program on PATH, and this process's directory. `command`: a start command of the user's own in place of binary
    and args, as words, or with `shell` as one line; `{model}`, `{draft_model}`, `{host}` and `{port}` stand for what
    they say. `url`: where an external server answers (http, https, or `unix:///path/to.sock`), or a `command` without
    `{port}`. `pid`, `container`: whose memory an external server's is. `ca_file`: what its certificate is checked
    against; None: the system's store. `insecure`: it is not checked at all. `api`: which of OpenAI's APIs is spoken, at
    `path`, None: its usual one. `threads`, `context`, `slots`: of an embedded engine; None: its default, and for
    `slots` (requests answered at once) the schedule's concurrency. `ready_timeout_s`: how long it may take from its
    start to its first token.
    """

    engine: str
    model: str = ""
    draft: Draft | None = None
    binary: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    command: tuple[str, ...] | str = ()
    shell: bool = False
    url: str = ""
    pid: int | None = None
    container: str = ""
    insecure: bool = False
    ca_file: str | None = None
    api: Api = "openai-chat"
    path: str | None = None
    threads: int | None = None
    context: int | None = None
    slots: int | None = None
    ready_timeout_s: float = 600.0

    @property
    def runs_already(self) -> bool:
        """Whether `url` names a server that somebody else started: an arm with a `url` and no start command."""
        return bool(self.url) and not self.command

    @property
    def api_path(self) -> str:
        return API_PATHS[self.api] if self.path is None else self.path


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every request asks of the sampler. `extra_body` is merged last; a null in it removes the field."""

    temperature: float | None = 0.0
    ignore_eos: bool = False
    extra_body: dict[str, Any] = {}  # any JSON: it is the user's own to send


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a request may take, in seconds, before it ends as `timeout`; None: as long as it likes. `connect_s`:
    until the connection stands. `first_token_s`: from sending to the first token, and `between_tokens_s`: from one to
    the next, or to the answer's end. `request_s`: from sending to the answer's end. They are looked at every 0.2 s."""

    connect_s: float | None = 10.0
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    request_s: float | None = 6 * 3600.0

    def problems(self) -> list[str]:
        limits = ((name, value) for name, value in msgspec.structs.asdict(self).items() if value is not None)
        return [f"{name} must be more than 0 s, not {value:g}" for name, value in limits if not value > 0]


class Settle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pause before each trial but the first: `seconds`, and then until every GPU is at most `temperature_c` warmer
    than before the first trial and its clock at most `clock_percent` lower, but not longer than `at_most_s`. A distance
    of None is not looked at."""

    seconds: float = 0.0
    temperature_c: float | None = None
    clock_percent: float | None = None
    at_most_s: float = 600.0


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A study: the arms in the order of comparison (the first is the baseline), what they are asked, and how often.

    `trials` of each arm. `until` ("±2%", or 2) goes on after these, up to `max_trials`, until the interval of
    `metric`'s difference is that narrow, or that far from 0, for every arm: see `stopping`. `metric`: what the verdict
    is about. `restart`: `always` starts an engine anew for each trial, `never` keeps it. `settle`: see Settle; a number
    is its seconds. `parallel`: the trials of a round run at once, each arm on devices of its own. `on_failure`: what
    comes after a trial that failed: the `next` one, the same once more (`retry`) and then the next, or nothing
    (`stop`). `timeouts`: see Timeouts.
    `tokenizer`: a Hugging Face name, a folder or a tokenizer.json; `server` asks the engine's own /tokenize;
    `none` counts nothing. `warmups`: requests sent before the clock starts, never one of the measured prompts.
    `workers`: load processes that share the plan; None: one, or with --ray one on each node.
    """

    name: str = ""
    arms: dict[str, Arm]
    workload: WorkloadSettings = Builtin()
    schedule: Schedule = Closed()
    sampling: Sampling = Sampling()
    timeouts: Timeouts = Timeouts()
    seed: int = 1
    trials: int = 3
    until: str | float | None = None
    max_trials: int = 10
    metric: str = "output_throughput"
    restart: Literal["always", "never"] = "always"
    on_failure: OnFailure = "next"
    settle: float | Settle = 0.0
    parallel: bool = False
    warmups: int = 1
    workers: int | None = None
    tokenizer: str = "server"

    @property
    def until_percent(self) -> float | None:
        """`until` as a number. Raises ValueError where it is none above 0."""
        if self.until is None:
            return None
        text = str(self.until).strip().removeprefix("±").removeprefix("+-").removeprefix("+/-").removesuffix("%")
        value = float(text)
        if not 0 < value < 100:
            raise ValueError(f"{self.until} is not between 0% and 100%")
        return value

    @property
    def settling(self) -> Settle:
        return self.settle if isinstance(self.settle, Settle) else Settle(float(self.settle))


class TrialSpec(msgspec.Struct, frozen=True):
    """Which trial comes next: `number` counts this arm's trials from 1."""

    arm_name: str
    arm: Arm
    number: int


class StudyRules(NamedTuple):
    """What the installed engines and workloads demand of a study file. `workload_kinds`: the known kinds.
    `workload_settings`: the struct of a kind; raises RequestWrong if the workload cannot be loaded. `arm_problems`:
    what is wrong with an arm for its engine, each as `field: …`."""

    workload_kinds: Sequence[str]
    workload_settings: Callable[[str], type[WorkloadSettings]]
    arm_problems: Callable[[Arm], list[str]]


def parse(text: str, source: str, rules: StudyRules | None = None) -> Spec:
    """A Spec from YAML. Raises SpecInvalid with every problem at once, each at its place and with the nearest name.

    `rules`: None for a stored study whose results are read. Its engines and workloads need not be installed then, and
    settings of a workload other than the default are kept as they are.
    """
    raw = _loaded(text, source)
    if not isinstance(raw, dict):
        raise SpecInvalid(source, ["it must be a mapping with `arms:`; see the example in README"])
    raw = dict(cast("dict[str, Any]", raw))  # whatever the file holds, checked just below
    problems: list[str] = []
    if "arms" in raw:
        raw["arms"] = _with_bases(raw["arms"], problems)
    workload = _workload(raw.pop("workload"), rules, problems) if "workload" in raw else Builtin()
    problems += _problems(raw, Spec, "")
    if problems:
        raise SpecInvalid(source, [sanitize(problem) for problem in problems])
    try:
        spec = msgspec.structs.replace(msgspec.convert(raw, Spec), workload=workload)
    except msgspec.ValidationError as error:  # the name of an arm that is no text, say
        raise SpecInvalid(source, [str(error)]) from error
    return checked(spec, source, rules)


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
        return KeptWorkload(kind, {name: value for name, value in entries.items() if name != "kind"})
    elif kind not in kinds:
        found.append(f"workload.kind: {kind!r} is unknown{_nearest(str(kind), kinds)}; it is one of {', '.join(kinds)}")
    elif rules is not None and struct is None:
        try:
            struct = rules.workload_settings(kind)
        except RequestWrong as error:
            found.append(f"workload.kind: {error}")
    if struct is not None:
        found += _struct_problems(entries, struct, "workload")
    problems += found
    return Builtin() if found else msgspec.convert(entries, struct)


def _loaded(text: str, source: str) -> Any:
    """What the YAML holds: mappings, lists and plain values, as nothing else is made of it. Raises SpecInvalid.

    It is looked through before it is loaded, event by event, since loading follows aliases and nesting with no bound.
    """
    import yaml

    problem = f"it is larger than {MOST_CHARACTERS:,} characters" if len(text) > MOST_CHARACTERS else ""
    try:
        problem = problem or _yaml_problem(cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.CSafeLoader)))
        if not problem:
            return msgspec.yaml.decode(text)
    except (msgspec.DecodeError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month
        problem = f"it is no YAML: {sanitize(str(error))}"
    raise SpecInvalid(source, [problem])


def _yaml_problem(events: "Iterator[yaml.Event]") -> str:
    """Why this is not loaded, "" where it may be. An alias counts for as many nodes as what it stands for, which has to
    be whole before: that of a node inside itself has no end."""
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
            return f"it has more than {MOST_NODES:,} values, aliases (*name) counted for what they stand for"
        if len(open_at) > MOST_DEPTH:
            return f"it is nested more than {MOST_DEPTH} deep"
    return ""


def checked(spec: Spec, source: str, rules: StudyRules | None = None) -> Spec:
    """The spec itself, if it makes sense as a whole and, with `rules`, to its engines. Raises SpecInvalid."""
    problems = [f"workload.{line}" for line in spec.workload.problems()]
    problems += [f"schedule.{line}" for line in spec.schedule.problems()]
    problems += [f"timeouts.{line}" for line in spec.timeouts.problems()]
    problems += _semantic_problems(spec)
    if rules is not None:
        problems += [f"arms.{name}.{line}" for name, arm in spec.arms.items() for line in rules.arm_problems(arm)]
    if problems:
        raise SpecInvalid(source, problems)
    return spec


def worker_problems(spec: Spec, workers: int) -> list[str]:
    """Why `workers` load processes cannot share this plan: each needs a request, and one of those at once."""
    found: list[str] = []
    requests, at_once = spec.workload.request_count(), concurrency_limit(spec.schedule)
    if requests is not None and workers > requests:
        found.append(f"workers: {workers} cannot share {requests} request(s); give at most {requests}, or ask for more")
    if at_once is not None and workers > at_once:
        found.append(
            f"workers: {workers} cannot share a concurrency of {at_once}; give at most {at_once}, or raise it "
            "(--max-concurrency, schedule.concurrency)"
        )
    return found


def to_yaml(spec: Spec) -> str:
    """The resolved spec as a file that `parse` reads back to the same Spec."""
    raw = msgspec.to_builtins(spec)
    if isinstance(spec.workload, KeptWorkload):
        raw["workload"] = {"kind": spec.workload.kind, **spec.workload.settings}
    return msgspec.yaml.encode(raw, order=None).decode()


def _with_bases(arms: Any, problems: list[str]) -> Any:
    """Arms with `base:` replaced by that arm's fields; own fields win, `env` is merged."""
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
            problems.append(f"arms.{name}.base: no arm {base!r}{_nearest(base, list(arms))}")
            return own
        if base in chain:
            problems.append(f"arms.{name}.base: {' -> '.join((*chain, base))} goes round in a circle")
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
        resolved[name] = _with_words(resolve(name, (name,)))
    return resolved


def _with_words(arm: Any) -> Any:
    """The arm with `args`, `command` and `env` in the user's own words: YAML reads 99 as a number and on as true."""
    if not isinstance(arm, dict):
        return arm
    found = dict(cast("dict[str, Any]", arm))
    for field in ("args", "command"):
        if isinstance(found.get(field), list):
            found[field] = [_word(value) for value in cast("list[Any]", found[field])]
    if isinstance(found.get("env"), dict):
        found["env"] = {name: _word(value) for name, value in cast("dict[str, Any]", found["env"]).items()}
    return found


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def _problems(value: Any, kind: Any, place: str) -> list[str]:
    """Every way in which `value` is not a `kind`, each with its place in the file."""
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
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [f"{place}: {str(error)[0].lower()}{str(error)[1:]}"]
    return []


def _union_problems(value: dict[str, Any], members: list[Any], place: str) -> list[str]:
    """Problems of a value that names its kind (`kind:`), or of a plain optional struct."""
    if len(members) == 1:
        return _struct_problems(value, members[0], place)
    by_tag = {str(member.__struct_config__.tag): member for member in members}
    tag = value.get("kind")
    if not isinstance(tag, str) or tag not in by_tag:
        said = "is missing" if tag is None else f"{tag!r} is unknown"
        return [f"{_join(place, 'kind')}: {said}{_nearest(str(tag), list(by_tag))}; it is one of {', '.join(by_tag)}"]
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


def _semantic_problems(spec: Spec) -> list[str]:
    problems: list[str] = []
    if not spec.arms:
        problems.append("arms: give at least one")
    problems += [
        f"{name}: must be at least {least}, not {number}"
        for name, number, least in (
            ("trials", spec.trials, 1),
            ("workers", spec.workers, 1),
            ("warmups", spec.warmups, 0),
            ("seed", spec.seed, 0),
            ("settle", spec.settling.seconds, 0),
        )
        if number is not None and number < least
    ]
    if spec.on_failure not in typing.get_args(OnFailure):  # by a flag: a file's value was looked at before
        problems.append(f"on_failure: must be one of {', '.join(typing.get_args(OnFailure))}, not {spec.on_failure!r}")
    problems += _until_problems(spec)
    if spec.workers is not None:
        problems += worker_problems(spec, spec.workers)
    knows_times = spec.workload.HAS_TIMES or isinstance(spec.workload, KeptWorkload)
    if isinstance(spec.schedule, Replay) and not knows_times:
        problems.append(
            f"schedule.kind: replay needs the times of a trace, and the workload is {spec.workload.kind}; "
            "use workload.kind trace"
        )
    for name, arm in spec.arms.items():
        problems += [f"arms.{name}.{line}" for line in _command_problems(arm)]
    return problems


def _command_problems(arm: Arm) -> list[str]:
    """What does not go together in how the arm is started, or found."""
    problems: list[str] = []
    if isinstance(arm.command, str) and arm.command and not arm.shell:
        problems.append(
            "command: is one line of text; give a list of words, or shell: true to have /bin/sh read the line"
        )
    if arm.shell and not isinstance(arm.command, str):
        problems.append("shell: a list of words needs no shell; leave it out, or give the command as one line of text")
    if arm.command and (arm.args or arm.binary):
        problems.append("command: takes the place of binary and args; write them into it")
    if arm.pid is not None and arm.container:
        problems.append("pid: and container: both given; one says whose memory it is")
    if arm.pid is not None and arm.pid < 1:
        problems.append(f"pid: must be a process's number, not {arm.pid}")
    return problems


def _until_problems(spec: Spec) -> list[str]:
    try:
        if spec.until_percent is None:
            return []
    except ValueError:
        return [f"until: must be a percentage like ±2%, not {spec.until!r}"]
    problems: list[str] = []
    if len(spec.arms) < 2:
        problems.append("until: needs two arms or more, as it is about their difference")
    if spec.max_trials < max(spec.trials, 3):
        problems.append(
            f"max_trials: must be at least {max(spec.trials, 3)} with `until` (trials, and 3), not {spec.max_trials}"
        )
    return problems


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _nearest(name: str, known: list[str] | Mapping[str, Any]) -> str:
    """`; did you mean …?` with the nearest known name, or "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

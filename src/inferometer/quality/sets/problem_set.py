"""What every problem set shares: its settings, reading its file, and the requests made of its problems."""

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import msgspec

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Message, Request, Sampled, TokenCounter, problem_id, sample_id
from inferometer.core.workload_settings import WorkloadSettings, at_least_one
from inferometer.quality.problem import Problem

_SPARE = 8
_MOST_BYTES = 512 * 1024**2


class SetSettings(WorkloadSettings, frozen=True):
    """Settings of every problem set.

    `path`: the file. `num_prompts`: how many problems to take, chosen by the seed; None: all. `samples`: answers to
    each problem. `max_tokens`: the most output tokens of each. `prompting`: `chat` asks for the code; `completion`
    sends the prompt as it is, for models that continue it (use `api: openai` in the arms).
    """

    path: str = ""
    num_prompts: int | None = None
    samples: int = 1
    max_tokens: int = 512
    prompting: Literal["chat", "completion"] = "chat"

    def request_count(self) -> int | None:
        return None if self.num_prompts is None else self.num_prompts * self.samples

    def problems(self) -> list[str]:
        counts = ("num_prompts", "samples", "max_tokens")
        return [line for name in counts for line in at_least_one(name, getattr(self, name))]


class ProblemSet:
    """Base of the workloads. A subclass states `settings` and reads the problems."""

    settings: ClassVar[type[WorkloadSettings]]
    name: ClassVar[str] = ""

    def __init__(self, spec: SetSettings) -> None:
        self._spec = spec
        self._source: tuple[tuple[str, str], ...] = ()

    def read(self) -> list[Problem]:
        """All problems of the set. Raises DatasetUnusable."""
        raise NotImplementedError

    def problems(self) -> dict[str, Problem]:
        """All problems by id. Raises DatasetUnusable, also for an id that occurs twice."""
        self._source = ()
        is_completion = self._spec.prompting == "completion"
        found: dict[str, Problem] = {}
        for problem in self.read():
            if problem_id(problem.id) != problem.id:
                raise DatasetUnusable(f"{self._spec.path}: the id {problem.id!r} names a sample. Rename it.")
            if problem.id in found:
                raise DatasetUnusable(f"{self._spec.path}: two problems have the id {problem.id!r}. Rename one.")
            found[problem.id] = msgspec.structs.replace(problem, completion=is_completion)
        return found

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        spec = self._spec
        problems = list(self.problems().values())
        random.Random(seed).shuffle(problems)
        count = len(problems) if spec.num_prompts is None else spec.num_prompts
        taken = problems[:count]
        requests = tuple(_request(one, number, spec, counter) for number in range(spec.samples) for one in taken)
        spare = tuple(_request(one, 0, spec, counter) for one in problems[count : count + _SPARE])
        notes = [f"Prompts of {self.name}: {spec.prompting}, {spec.samples} answer(s) to each problem."]
        unchecked = sum(one.check is None for one in taken)
        if unchecked:
            notes.append(f"Without a check: {unchecked} of {len(taken)} problems.")
        if count > len(problems):
            notes.append(f"Only {len(problems)} of {count} problems: the set has no more.")
        return Sampled(requests, spare, tuple(notes), (*self._source, ("prompting", spec.prompting)))

    @property
    def source_sha256(self) -> tuple[str, ...]:
        """SHA-256 of each file, once the problems are read."""
        return tuple(value for name, value in self._source if name == "dataset_sha256")

    def file_entries(self, path: Path) -> list[dict[str, Any]]:
        """The entries of a JSON or JSONL file, which may be compressed with gzip; their hash is kept as the source.
        Raises DatasetUnusable."""
        data = read_bytes(path)
        self._source = (*self._source, ("dataset", path.name), ("dataset_sha256", hashlib.sha256(data).hexdigest()))
        return json_lines(unpacked(data, path), str(path))

    def required_path(self) -> Path:
        if not self._spec.path:
            raise DatasetUnusable(f"the workload {self.name} needs a path: workload: {{kind: {self.name}, path: FILE}}")
        return Path(self._spec.path).expanduser()


def read_bytes(path: Path) -> bytes:
    """The file as it is. Raises DatasetUnusable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetUnusable(
            f"{path} cannot be read: {error.strerror or error}. Check the workload's path."
        ) from error


def unpacked(data: bytes, path: Path) -> bytes:
    """The data, uncompressed if it is gzip. Raises DatasetUnusable."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.open(path) as file:
            plain = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise DatasetUnusable(f"{path} is a damaged gzip file: {error}.") from error
    if len(plain) > _MOST_BYTES:
        raise DatasetUnusable(f"{path} is larger than {_MOST_BYTES // 1024**2} MiB when uncompressed.")
    return plain


def json_lines(data: bytes, name: str) -> list[dict[str, Any]]:
    """The objects of a JSON array, or of one object a line, with NaN and Infinity as EvalPlus writes them. Raises
    DatasetUnusable."""
    plain = data.removeprefix(b"\xef\xbb\xbf").strip()
    if plain[:1] == b"[":
        found = _parsed(plain, name)
    else:
        lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
        found = [_parsed(line, f"{name}, line {number}") for number, line in lines if line.strip()]
    if not found:
        raise DatasetUnusable(f"{name} is empty: it must be a JSON array, or JSONL (one object a line).")
    for number, one in enumerate(cast("list[Any]", found), 1):
        if not isinstance(one, dict):
            raise DatasetUnusable(f"{name}, entry {number} is not an object: {str(cast('object', one))[:60]}.")
    return cast("list[dict[str, Any]]", found)


def _parsed(text: bytes, place: str) -> Any:  # any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetUnusable(f"{place} is not JSON: {error}. Write a JSON array, or one object a line.") from error


def text_of(entry: dict[str, Any], field: str, place: str) -> str:
    """A text of an entry. Raises DatasetUnusable where it is missing."""
    value = entry.get(field)
    if not isinstance(value, str):
        known = ", ".join(map(str, entry))
        found = f"its fields are {known}" if field not in entry else f"its value is {json.dumps(value)[:60]}"
        raise DatasetUnusable(f"{place} has no text {field!r}; {found}. Is it a file of another set?")
    return value


def list_of(entry: dict[str, Any], field: str, place: str) -> list[Any]:
    """A list of an entry. Raises DatasetUnusable where it is missing."""
    value = entry.get(field)
    if not isinstance(value, list):
        raise DatasetUnusable(f"{place} has no list {field!r}. Is it a file of another set?")
    return cast("list[Any]", value)


def asked_for_code(prompt: str, language: str) -> tuple[Message, ...]:
    """The question of a chat for the code that a prompt begins."""
    fence = "" if language == "python" else language
    text = (
        f"Please provide a self-contained {_NAMES.get(language, language)} program that solves the following problem "
        f"in a markdown code block:\n```{fence}\n{prompt.strip()}\n```"
    )
    return (Message("user", text),)


_NAMES = {"python": "Python", "javascript": "JavaScript", "typescript": "TypeScript", "cpp": "C++", "csharp": "C#",
          "php": "PHP"}  # fmt: skip


def _request(problem: Problem, number: int, spec: SetSettings, counter: TokenCounter | None) -> Request:
    messages = (Message("user", problem.text),) if spec.prompting == "completion" else problem.messages
    named = {"set": problem.set, "language": problem.language, "task": problem.task}
    tags = {name: value for name, value in named.items() if value}
    request = Request(sample_id(problem.id, number), messages, spec.max_tokens, tags=tags)
    tokens = None if counter is None else counter.count(request.prompt, special=True)
    return msgspec.structs.replace(request, prompt_tokens=tokens)

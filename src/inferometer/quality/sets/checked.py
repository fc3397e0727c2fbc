"""Problems with their own checks: a file of yours, and the set that ships with the program."""

import hashlib
import importlib.resources
from typing import Any, ClassVar

import msgspec

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Message
from inferometer.quality.problem import AnyCheck, Problem
from inferometer.quality.sets.problem_set import ProblemSet, SetSettings, json_lines

_SHIPPED = "builtin-checked.jsonl"


class CheckedSettings(SetSettings, frozen=True, tag="checked"):
    """A JSONL file of your own: `prompt` or `messages`, and `check` (docs/reference/quality.md lists its kinds)."""


class BuiltinCheckedSettings(SetSettings, frozen=True, tag="builtin-checked"):
    """The set that ships with the program, in nine languages; a part is easy enough for a model of 135 million
    parameters."""

    max_tokens: int = 256


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the file. `solution`: an answer that is right; `wrong`: answers that are not."""

    check: AnyCheck | None = None
    id: str = ""
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    task: str = ""
    language: str = ""
    solution: str = ""
    wrong: tuple[str, ...] = ()


class CheckedFile(ProblemSet):
    """The workload of a file."""

    settings: ClassVar = CheckedSettings
    name = "checked"

    def read(self) -> list[Problem]:
        path = self.required_path()
        return _problems(self.file_entries(path), path.stem, str(path))


class BuiltinChecked(ProblemSet):
    """The workload of the shipped set."""

    settings: ClassVar = BuiltinCheckedSettings
    name = "builtin-checked"

    def read(self) -> list[Problem]:
        data = importlib.resources.files("inferometer.quality").joinpath("data", _SHIPPED).read_bytes()
        self._source = (("dataset", f"built-in {_SHIPPED}"), ("dataset_sha256", hashlib.sha256(data).hexdigest()))
        return _problems(json_lines(data, _SHIPPED), self.name, _SHIPPED)


def _problems(found: list[dict[str, Any]], name: str, path: str) -> list[Problem]:
    problems: list[Problem] = []
    for number, raw in enumerate(found, 1):
        try:
            entry = msgspec.convert(raw, Entry)
        except msgspec.ValidationError as error:
            raise DatasetUnusable(
                f"{path}, entry {number}: {error}. docs/reference/quality.md shows an entry."
            ) from error
        if entry.check is not None and (fault := entry.check.fault()):
            raise DatasetUnusable(f"{path}, entry {number}, check {entry.check.kind}: {fault}.")
        messages = entry.messages or ((Message("user", entry.prompt),) if entry.prompt else ())
        if not messages:
            raise DatasetUnusable(f"{path}, entry {number} has neither prompt nor messages.")
        text = entry.prompt or "\n".join(message.content for message in messages)
        problem = Problem(entry.id or f"{name}/{number}", name, messages, text, entry.check, entry.task, entry.language)
        problems.append(msgspec.structs.replace(problem, solution=entry.solution, wrong=entry.wrong))
    return problems

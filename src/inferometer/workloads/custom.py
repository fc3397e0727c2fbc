"""Prompts from your own JSON or JSONL file, or from a Hugging Face data set saved as such a file."""

import hashlib
import random
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from inferometer.base.errors import DatasetUnusable
from inferometer.base.text import sanitize
from inferometer.core.request import Message, Request, Sampled, TokenCounter
from inferometer.core.workload_settings import WorkloadSettings, at_least_one
from inferometer.workloads.dataset_file import MOST_CHARACTERS, file_bytes, is_prompt

_SPARE = 8
_MAX_TOKENS = 256
_TEXTS = ("prompt", "question", "problem", "query", "text")
"""Fields that may hold the prompt as one text; the first that exists is used."""
_ROLES = {"human": "user", "gpt": "assistant"}


class Custom(WorkloadSettings, frozen=True, tag="custom"):
    """A file with one request in each entry.

    The prompt is in `prompt`, or in `messages`, `conversations` (up to the first answer), `turns` (the first),
    `instruction` with `input`, `question`, `problem`, `query` or `text`. `max_tokens`: the most output tokens of each
    request; None: the entry's `output_tokens`, else 256.
    """

    path: str
    num_prompts: int = 1000
    max_tokens: int | None = None

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        return at_least_one("num_prompts", self.num_prompts) + at_least_one("max_tokens", self.max_tokens)


class CustomFile:
    """The workload. Raises DatasetUnusable if the file cannot be used."""

    settings: ClassVar = Custom

    def __init__(self, spec: Custom) -> None:
        self._spec = spec

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        spec, path = self._spec, Path(self._spec.path).expanduser()
        if path.is_dir():
            raise DatasetUnusable(f"{path} is a folder. Name the JSON or JSONL file in it.")
        data = file_bytes(path)
        found = entries(data, str(path))
        usable = [(number, *told) for number, entry in enumerate(found, start=1) if (told := _told(entry)) is not None]
        if not usable:
            fields = sanitize(", ".join(found[0]), 200) if found else "none"
            raise DatasetUnusable(
                f"{path} has no prompt in its {len(found)} entries; the fields of the first are {fields}.\n"
                'Each entry must look like {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.'
            )
        random.Random(seed).shuffle(usable)
        taken = usable[: spec.num_prompts + _SPARE]
        requests = tuple(
            _request(number, messages, spec.max_tokens or asked, counter) for number, messages, asked in taken
        )
        notes: list[str] = []
        if len(usable) < len(found):
            notes.append(f"{len(found) - len(usable)} of {len(found)} entries have no prompt and are left out.")
        if len(usable) < spec.num_prompts:
            notes.append(f"Only {len(usable)} of {spec.num_prompts} prompts: the file has no more.")
        source = (("dataset", path.name), ("dataset_sha256", hashlib.sha256(data).hexdigest()))
        return Sampled(requests[: spec.num_prompts], requests[spec.num_prompts :], tuple(notes), source)


def entries(data: bytes, name: str) -> list[dict[str, Any]]:
    """The objects of a JSON array or of JSONL. Raises DatasetUnusable for anything else."""
    if data[:4] in (b"PAR1", b"ARRO"):
        raise DatasetUnusable(
            f"{name} is a Parquet or Arrow file, which is not read. Save it as JSONL:\n"
            "  datasets.load_dataset(…, split=…).to_json('prompts.jsonl')"
        )
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    is_array = text.startswith(b"[")
    try:
        found = (
            msgspec.json.decode(text)
            if is_array
            else [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetUnusable(f"{name} is neither a JSON array nor JSONL (one object a line): {error}.") from error
    return [cast("dict[str, Any]", one) for one in found if isinstance(one, dict)]


def _told(entry: dict[str, Any]) -> tuple[tuple[Message, ...], int] | None:
    """The messages of an entry and its output length; None if it has no prompt (null or "", for example)."""
    messages = _messages(entry)
    if not messages or not any(one.role == "user" and is_prompt(one.content) for one in messages):
        return None
    if sum(len(one.content) for one in messages) > MOST_CHARACTERS:
        return None
    asked = entry.get("output_tokens")
    is_count = isinstance(asked, int) and not isinstance(asked, bool) and asked >= 1
    return messages, cast("int", asked) if is_count else _MAX_TOKENS


def _messages(entry: dict[str, Any]) -> tuple[Message, ...]:
    for field, role, content in (("messages", "role", "content"), ("conversations", "from", "value")):
        turns = entry.get(field)
        if isinstance(turns, list):
            return _until_answer(cast("list[Any]", turns), role, content)
    turns = entry.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return (Message("user", turns[0]),)
    instruction = entry.get("instruction")
    if isinstance(instruction, str):
        given = entry.get("input")
        return (Message("user", f"{instruction}\n{given}" if isinstance(given, str) and given else instruction),)
    text = next((entry[field] for field in _TEXTS if isinstance(entry.get(field), str)), None)
    if text is None and isinstance(entry.get("prompt"), list):  # some data sets store a chat here
        return _until_answer(cast("list[Any]", entry["prompt"]), "role", "content")
    return () if text is None else (Message("user", text),)


def _until_answer(turns: list[Any], role: str, content: str) -> tuple[Message, ...]:
    """The turns before the first answer, without empty ones."""
    found: list[Message] = []
    for turn in turns:
        fields = cast("dict[str, Any]", turn) if isinstance(turn, dict) else {}
        speaker, text = _ROLES.get(str(fields.get(role)), str(fields.get(role))), fields.get(content)
        if speaker == "assistant":
            break
        if isinstance(text, str) and text.strip():
            found.append(Message(speaker if speaker == "system" else "user", text))
    return tuple(found)


def _request(number: int, messages: tuple[Message, ...], max_tokens: int, counter: TokenCounter | None) -> Request:
    request = Request(f"custom-{number}", messages, max_tokens=max_tokens)
    tokens = None if counter is None else counter.count(request.prompt, special=True)
    return msgspec.structs.replace(request, prompt_tokens=tokens)

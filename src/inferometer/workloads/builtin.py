"""The built-in coding set: 72 conversations in 8 languages and 4 kinds of task, written for this project.

The set never changes. The seed decides which conversations are used, and in which order.
"""

import hashlib
import importlib.resources
import random
from typing import Any, ClassVar

import msgspec

from inferometer.core.request import Request, Sampled, TokenCounter, user_request
from inferometer.core.workload_settings import Builtin

NAME = "coding.json"


class BuiltinCoding:
    """The workload. Every request asks for at most `max_tokens` tokens."""

    settings: ClassVar = Builtin

    def __init__(self, spec: Builtin) -> None:
        self._spec = spec

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        data = read()
        entries: list[dict[str, Any]] = msgspec.json.decode(data)
        most = self._spec.max_chars
        entries = [entry for entry in entries if most is None or len(_prompt(entry)) <= most]
        random.Random(seed).shuffle(entries)
        requests = tuple(_request(entry, self._spec.max_tokens, counter) for entry in entries)
        count = self._spec.num_prompts
        notes = (
            (f"Only {len(requests)} of {count} prompts: the built-in set has no more{_of_this_length(most)}.",)
            if count > len(requests)
            else ()
        )
        source = (("dataset", f"built-in {NAME}"), ("dataset_sha256", hashlib.sha256(data).hexdigest()))
        return Sampled(requests[:count], requests[count:], notes, source)


def read() -> bytes:
    """The set's file as shipped: a ShareGPT array whose entries also have `id`, `language` and `task`."""
    return importlib.resources.files("inferometer.workloads").joinpath("data", NAME).read_bytes()


def _of_this_length(most: int | None) -> str:
    return "" if most is None else f" of at most {most} characters"


def _prompt(entry: dict[str, Any]) -> str:
    return entry["conversations"][0]["value"]


def _request(entry: dict[str, Any], max_tokens: int, counter: TokenCounter | None) -> Request:
    prompt = _prompt(entry)
    return user_request(
        entry["id"],
        prompt,
        max_tokens=max_tokens,
        prompt_tokens=None if counter is None else counter.count(prompt, special=True),
        tags={"language": entry["language"], "task": entry["task"]},
    )

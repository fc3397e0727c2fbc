"""Requests and workloads. A request contains no URL, server or time."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""The names of the length limit. Newer models of OpenAI refuse the first, many other servers the second."""


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat."""

    role: str
    content: str


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One prompt with its limits.

    `max_tokens` None: the server decides. `prompt_tokens`: the count of our own tokenizer, with special tokens and
    without a chat template; None without a tokenizer. `tags`: the prompt's kind (language, task).
    """

    id: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    tags: dict[str, str] = {}

    @property
    def prompt(self) -> str:
        """The prompt for an API without roles: the contents of all messages, joined with line breaks."""
        return "\n".join(message.content for message in self.messages)


def user_request(id: str, text: str, **fields: int | dict[str, str] | None) -> Request:
    """A request of one user message."""
    return Request(id, (Message("user", text),), **fields)  # pyright: ignore[reportArgumentType] # fields of Request


def with_limit_of(request: Request, fields: Mapping[str, Any]) -> Request:
    """The request with the length limit that `fields`, merged into it before it is sent, state."""
    limit = next((value for name in LIMIT_FIELDS if isinstance(value := fields.get(name), int)), None)
    return request if limit is None else msgspec.structs.replace(request, max_tokens=limit)


_SAMPLE = re.compile(r"#sample-\d+$")


def sample_id(problem: str, number: int) -> str:
    """The id of the request for one of several answers to a problem; `number` counts from 0."""
    return problem if number == 0 else f"{problem}#sample-{number}"


def problem_id(request_id: str) -> str:
    """The problem that the request is about: its id without the number of the sample."""
    return _SAMPLE.sub("", request_id)


class TokenCounter(Protocol):
    """Interface of a tokenizer that counts tokens."""

    @property
    def name(self) -> str: ...

    def count(self, text: str, special: bool) -> int:
        """The number of tokens in `text`; `special` includes the tokenizer's special tokens (BOS for Llama)."""
        ...


class Sampled(msgspec.Struct, frozen=True):
    """The result of sampling a workload: requests to measure in order, spare prompts (for warm-ups), notes for the
    user, and facts about the source (pairs of name and value).

    `recorded_ns`: when each request was sent in the recording, never decreasing, from any origin; empty if the workload
    has no recorded times.
    """

    requests: tuple[Request, ...]
    spare: tuple[Request, ...] = ()
    notes: tuple[str, ...] = ()
    source: tuple[tuple[str, str], ...] = ()
    recorded_ns: tuple[int, ...] = ()


class Workload(Protocol):
    """A source of requests: the same seed gives the same requests in the same order."""

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled: ...

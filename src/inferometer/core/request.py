"""What is one thing to ask? A request knows no URL, no server and no time."""

from typing import Protocol

import msgspec


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat."""

    role: str
    content: str


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to ask.

    `max_tokens` None leaves the end to the server. `prompt_tokens` is our own tokenizer's count with its special tokens
    and without a chat template; None where no tokenizer was at hand. `tags`: the prompt's kind (language, task).
    """

    id: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    tags: dict[str, str] = {}

    @property
    def prompt(self) -> str:
        """The text for an API without roles: the messages' contents, one after another."""
        return "\n".join(message.content for message in self.messages)


def user_request(id: str, text: str, **fields: int | dict[str, str] | None) -> Request:
    """A request of one user message."""
    return Request(id, (Message("user", text),), **fields)  # pyright: ignore[reportArgumentType] # fields of Request


class TokenCounter(Protocol):
    """A tokenizer as far as we need one."""

    @property
    def name(self) -> str: ...

    def count(self, text: str, special: bool) -> int:
        """Tokens of `text`; `special` adds what the tokenizer puts around a text by itself (BOS for Llama)."""
        ...


class Sampled(msgspec.Struct, frozen=True):
    """What a workload gave: the requests to measure in order, prompts to spare (for warm-ups), what is to be said of
    it, and the facts that name its source (pairs of name and value).

    `asked_ns`: when each request was asked where the workload was recorded, never decreasing, from any zero; empty
    where the workload knows no times.
    """

    requests: tuple[Request, ...]
    spare: tuple[Request, ...] = ()
    notes: tuple[str, ...] = ()
    source: tuple[tuple[str, str], ...] = ()
    asked_ns: tuple[int, ...] = ()


class Workload(Protocol):
    """Where requests come from: the same seed gives the same requests in the same order."""

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled: ...

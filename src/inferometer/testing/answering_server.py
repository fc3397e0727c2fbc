"""Servers that answer different prompts in different words, and count, deliver or pace them as a test needs."""

import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Close,
    Received,
    Send,
    Step,
    Wait,
    chunk,
    event,
    inference_server,
)

TOKENS = 20
WORDS = "the model reads each prompt and writes one word for every step that it takes until the last one is out".split()

Usage = dict[str, Any]


def words(prompt: str, count: int = TOKENS) -> list[str]:
    """An answer of `count` pieces that depends on the prompt alone."""
    start = zlib.crc32(prompt.encode())
    return [f" {WORDS[(start * (i + 1) + i) % len(WORDS)]}{(start + i) % 97}" for i in range(count)]


def counted(prompt: str, pieces: list[str], times: float = 1.0, template: int = 20, per_token: int = 4) -> Usage:
    """A usage object: about one token per `per_token` bytes of the prompt, and one per piece, `times` as many."""
    count = len(prompt.encode()) // per_token + template
    return {"prompt_tokens": count, "completion_tokens": round(times * len(pieces))}


class AnsweringServer(msgspec.Struct, frozen=True):
    """How a server answers. `pieces`: its chunks for a prompt. `usage`: its report on a prompt and its pieces.

    `field`: where the text is. `blank`: a first text of white space, this many seconds before the answer. `after_done`:
    text behind [DONE]. `at_once`: everything is sent at the end. `block`: bytes that are sent together.
    `usage_in_each`: a running count in each chunk. `role_apart`: the role comes when the request does, and the first
    text later. `jitter`: the standard deviation of the logarithm of each gap. `closes_after_s`: for how long a
    connection may be idle.
    """

    pieces: Callable[[str], list[str]] = words
    usage: Callable[[str, list[str]], Usage | None] = counted
    timings: dict[str, Any] | None = None
    field: str = "content"
    thoughts: tuple[str, ...] = ()
    blank_s: float = 0.0
    after_done: str = ""
    at_once: bool = False
    block: int = 0
    first_s: float = 0.01
    gap_s: float = 0.003
    finish: str = "length"
    usage_in_each: bool = False
    role_apart: bool = False
    jitter: float = 0.0
    closes_after_s: float | None = None

    def __call__(self, request: Received) -> Iterable[Step]:
        if request.method == "GET" or not request.body.get("stream"):
            return inference_server()(request)
        return self._in_blocks(request) if self.at_once or self.block else self._stream(request)

    def _stream(self, request: Received) -> Iterator[Step]:
        prompt = str(request.body["messages"][-1]["content"])
        pieces = self.pieces(prompt)
        rng = random.Random(prompt)
        yield Wait(0 if self.role_apart else self.first_s)
        yield Send(STREAM_HEAD + _delta(role="assistant", content=""))
        yield Wait(self.first_s if self.role_apart else 0)
        if self.blank_s:
            yield Send(_delta(content="\n"))
            yield Wait(self.blank_s)
        due_s = time.monotonic()
        texts = [("reasoning_content", text) for text in self.thoughts] + [(self.field, text) for text in pieces]
        for count, (field, text) in enumerate(texts, start=1):
            usage = {**(self.usage(prompt, []) or {}), "completion_tokens": count} if self.usage_in_each else None
            yield Send(_delta(usage=usage, **{field: text}))
            due_s += self.gap_s * rng.lognormvariate(0, self.jitter)
            yield Wait(max(0.0, due_s - time.monotonic()))
        yield Send(_delta(self.finish))
        last: dict[str, Any] = {"model": "scripted", "choices": []}
        if (usage := self.usage(prompt, [*self.thoughts, *pieces])) is not None:
            last["usage"] = usage
        if self.timings is not None:
            last["timings"] = self.timings
        yield Send(chunk(event(last)) + chunk(event("[DONE]")))
        if self.after_done:
            yield Send(_delta(content=self.after_done))
        yield Send(STREAM_END)
        if self.closes_after_s is not None:
            yield Wait(self.closes_after_s)
            yield Close()

    def _in_blocks(self, request: Received) -> Iterator[Step]:
        """A proxy that passes bytes on when its buffer is full, or at the end."""
        held = b""
        for step in self._stream(request):
            if isinstance(step, Send):
                held += step.data
                if self.block and len(held) >= self.block:
                    yield Send(held)
                    held = b""
            else:
                yield step
        yield Send(held)


def _delta(finish: str | None = None, usage: Usage | None = None, **inner: str) -> bytes:
    counts = {} if usage is None else {"usage": usage}
    choice = {"index": 0, "delta": inner, "finish_reason": finish}
    return chunk(event({"model": "scripted", "choices": [choice], **counts}))


def with_usage(**fields: Any) -> AnsweringServer:
    """Usage with these fields: constants, or functions of the number of pieces."""
    return AnsweringServer(usage=lambda prompt, pieces: {**counted(prompt, pieces), **fields})


def per_characters(size: int) -> Callable[[str, list[str]], Usage]:
    """A tokenizer whose tokens have `size` characters."""
    return lambda prompt, pieces: {
        "prompt_tokens": len(prompt) // size + 20,
        "completion_tokens": max(1, len("".join(pieces)) // size),
    }


def grouped(size: int) -> Callable[[str], list[str]]:
    """Answers whose words come `size` in a piece."""

    def pieces(prompt: str) -> list[str]:
        singles = words(prompt)
        return ["".join(singles[i : i + size]) for i in range(0, len(singles), size)]

    return pieces


def timings(**fields: Any) -> AnsweringServer:
    """A server that reports llama.cpp's timings, with these fields in place of the plausible ones."""
    known = {"cache_n": 0, "prompt_n": None, "prompt_ms": 5.0, "predicted_n": TOKENS, "predicted_ms": 60.0}
    return AnsweringServer(timings={**known, **fields})

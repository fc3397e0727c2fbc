"""Honest set-ups raise nothing above a note: one run each here, and twenty by `make honest`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferometer.testing.answering_server import (
    TOKENS,
    AnsweringServer,
    Usage,
    counted,
    grouped,
    timings,
    with_usage,
    words,
)

RUNS = int(os.environ.get("INFEROMETER_HONEST_RUNS", "1"))
TABLE = os.environ.get("INFEROMETER_HONEST_TABLE")
"""A file to which each run adds a line: its set-up, findings above a note, those of a busy machine, and exit code."""


def all_counted(prompt: str, pieces: list[str]) -> Usage:
    return {**counted(prompt, pieces), "completion_tokens": TOKENS}


def no_usage(prompt: str, pieces: list[str]) -> None:
    return None


def by_length(prompt: str) -> list[str]:
    """Answers that end by themselves, each after as many words as its prompt asks for."""
    return words(prompt, 8 + len(prompt) % (TOKENS - 8))


def flipped(share: int) -> Callable[[str], list[str]]:
    """Another word in the middle of one answer in `share`, and all words after it, as when requests run in a batch."""
    return lambda prompt: words(prompt, 12) + words(prompt + ("x" if len(prompt) % share == 0 else ""), 20)[12:]


def in_bursts(prompt: str) -> list[str]:
    """Pieces as n-gram speculation accepts them: mostly single tokens, now and then several."""
    singles = iter(words(prompt))
    return ["".join(next(singles) for _ in range(size)) for size in (1, 1, 6, 1, 1, 1, 4, 1, 1, 1, 2)]


THINKING = AnsweringServer(pieces=lambda p: words(p, 10), thoughts=tuple(f" thought{i}" for i in range(10)))
YES = AnsweringServer(pieces=lambda prompt: ["Yes"], finish="stop")
NGRAM = {"cache_n": 0, "predicted_n": TOKENS, "predicted_ms": 60.0}
HONEST: dict[str, tuple[AnsweringServer, AnsweringServer]] = {
    "the same": (AnsweringServer(), AnsweringServer()),
    "a template of 30 tokens": (AnsweringServer(), AnsweringServer(usage=lambda p, o: counted(p, o, template=50))),
    "reasoning on both sides": (THINKING, THINKING),
    "reasoning only, cut by the limit": (
        AnsweringServer(field="reasoning_content"),
        AnsweringServer(field="reasoning_content"),
    ),
    "reasoning under either name": (AnsweringServer(field="reasoning"), AnsweringServer(field="reasoning_content")),
    "quick short answers": (YES, YES),
    "answers that end by themselves": (
        AnsweringServer(pieces=by_length, finish="stop"),
        AnsweringServer(pieces=by_length, finish="stop"),
    ),
    "a stream interval of two": (AnsweringServer(), AnsweringServer(pieces=grouped(2), usage=all_counted, gap_s=0.006)),
    "a stream interval of five": (
        AnsweringServer(),
        AnsweringServer(pieces=grouped(5), usage=all_counted, gap_s=0.015),
    ),
    "an end token counted": (AnsweringServer(), with_usage(completion_tokens=TOKENS + 1)),
    "a fixed number for every prompt": (with_usage(prompt_tokens=7), with_usage(prompt_tokens=7)),
    "MTP": (AnsweringServer(), timings(predicted_n=TOKENS, draft_n=12, draft_n_accepted=9, predicted_ms=60.0)),
    "n-gram": (
        timings(**NGRAM),
        AnsweringServer(
            pieces=in_bursts, usage=all_counted, timings={**NGRAM, "draft_n": 20, "draft_n_accepted": 9}, gap_s=0.005
        ),
    ),
    "a role apart": (AnsweringServer(), AnsweringServer(role_apart=True)),
    "a count in each chunk": (AnsweringServer(), AnsweringServer(usage_in_each=True)),
    "no usage at all": (AnsweringServer(usage=no_usage), AnsweringServer(usage=no_usage)),
    "uneven gaps": (AnsweringServer(jitter=0.5), AnsweringServer(jitter=0.5)),
    "connections that go stale": (AnsweringServer(closes_after_s=0.0), AnsweringServer(closes_after_s=0.004)),
    "a part of the prompt cached": (
        with_usage(prompt_tokens_details={"cached_tokens": 16}),
        with_usage(prompt_tokens_details={"cached_tokens": 32}),
    ),
    "one answer in eight flipped": (AnsweringServer(pieces=flipped(99999)), AnsweringServer(pieces=flipped(8))),
    "a faster server": (AnsweringServer(gap_s=0.006), AnsweringServer(gap_s=0.003)),
    "a busy machine": (AnsweringServer(), AnsweringServer()),
}
FIELDS: dict[str, dict[str, Any]] = {
    "uneven gaps": {"schedule": {"kind": "poisson", "rate_per_s": 10}},
    "connections that go stale": {"schedule": {"kind": "constant", "rate_per_s": 12}},
    "one answer in eight flipped": {"schedule": {"kind": "closed", "concurrency": 2}},
}


@contextmanager
def busy(is_busy: bool) -> Iterator[None]:
    """Another process that computes all the time."""
    if not is_busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("run", range(1, RUNS + 1))
def test_an_honest_set_up_raises_nothing_above_a_note(kind: str, run: int, compared):
    with busy(kind == "a busy machine"):
        result = compared(*HONEST[kind], **FIELDS.get(kind, {}))
    if TABLE:
        with Path(TABLE).open("a") as file:
            file.write(json.dumps([kind, sorted(result.found), sorted(result.noise), result.code]) + "\n")
    assert (result.found, result.code) == (set(), 0), [
        (one["code"], one["message"]) for one in result.content["findings"] if one["severity"] != "note"
    ]

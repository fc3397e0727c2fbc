"""What one known fact refutes is never believed: real runs against servers that count, deliver or work otherwise.

Each server stands for a kind. Set-ups that differ and are honest raise nothing above a note.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from inferometer.cli import app
from inferometer.testing.scripted_server import (
    STREAM_END,
    STREAM_HEAD,
    Received,
    ScriptedServer,
    Send,
    Step,
    Wait,
    chunk,
    event,
    inference_server,
)

TOKENS = 20
WORDS = "the model reads each prompt and writes one word for every step that it takes until the last one is out".split()
SPEED_ROWS = ("output_throughput", "mean_tpot_ms", "median_ttft_ms", "median_itl_ms", "total_token_throughput")

Usage = dict[str, Any]


def words(prompt: str, count: int = TOKENS) -> list[str]:
    start = zlib.crc32(prompt.encode())
    return [f" {WORDS[(start * (i + 1) + i) % len(WORDS)]}{(start + i) % 97}" for i in range(count)]


def counted(prompt: str, pieces: list[str], times: float = 1.0, template: int = 20, per_token: int = 4) -> Usage:
    count = len(prompt.encode()) // per_token + template
    return {"prompt_tokens": count, "completion_tokens": round(times * len(pieces))}


class Server(msgspec.Struct, frozen=True):
    """How a server answers. `pieces`: its chunks for a prompt. `usage`: its report on a prompt and its pieces.

    `field`: where the text is. `blank`: a first text of white space, so many seconds before the answer. `after_done`:
    text behind [DONE]. `at_once`: everything is sent at the end. `block`: bytes that are sent together.
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

    def __call__(self, request: Received) -> Iterable[Step]:
        if request.method == "GET" or not request.body.get("stream"):
            return inference_server()(request)
        return self._in_blocks(request) if self.at_once or self.block else self._stream(request)

    def _stream(self, request: Received) -> Iterator[Step]:
        prompt = str(request.body["messages"][-1]["content"])
        pieces = self.pieces(prompt)
        yield Wait(self.first_s)
        yield Send(STREAM_HEAD + _delta(role="assistant", content=""))
        if self.blank_s:
            yield Send(_delta(content="\n"))
            yield Wait(self.blank_s)
        due_s = time.monotonic()
        for field, texts in (("reasoning_content", self.thoughts), (self.field, pieces)):
            for text in texts:
                yield Send(_delta(**{field: text}))
                due_s += self.gap_s
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


def _delta(finish: str | None = None, **inner: str) -> bytes:
    return chunk(event({"model": "scripted", "choices": [{"index": 0, "delta": inner, "finish_reason": finish}]}))


def with_usage(**fields: Any) -> Server:
    """Usage with these fields: constants, or functions of the number of pieces."""
    return Server(usage=lambda prompt, pieces: {**counted(prompt, pieces), **fields})


def per_characters(size: int) -> Callable[[str, list[str]], Usage]:
    """A tokenizer whose tokens have `size` characters."""
    return lambda prompt, pieces: {
        "prompt_tokens": len(prompt) // size + 20,
        "completion_tokens": max(1, len("".join(pieces)) // size),
    }


def grouped(size: int) -> Callable[[str], list[str]]:
    def pieces(prompt: str) -> list[str]:
        singles = words(prompt)
        return ["".join(singles[i : i + size]) for i in range(0, len(singles), size)]

    return pieces


def timings(**fields: Any) -> Server:
    known = {"cache_n": 0, "prompt_n": None, "prompt_ms": 5.0, "predicted_n": TOKENS, "predicted_ms": 60.0}
    return Server(timings={**known, **fields})


class Compared(msgspec.Struct, frozen=True):
    code: int
    content: dict[str, Any]

    @property
    def found(self) -> set[str]:
        """Codes of the findings above a note."""
        return {one["code"] for one in self.content["findings"] if one["severity"] != "note"} - NOISE

    def verdicts(self, *metrics: str) -> set[str]:
        rows = [row for row in self.content["rows"] if not metrics or row["metric"] in metrics]
        return {one["verdict"] for row in rows for one in row["differences"]}


NOISE = {"machine-busy", "client", "trials-differ", "drift", "not-warm", "clocks-differ"}
"""What a busy machine may rightly raise while tests run on it."""


def compared(folder: Path, base: Server, other: Server, prompts: int = 6, **fields: Any) -> Compared:
    """`inferometer run --json` of two servers."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(ScriptedServer(one)) for name, one in (("base", base), ("other", other))}
        arms = {name: {"engine": "external", "url": one.url, "model": "scripted"} for name, one in servers.items()}
        study = {
            "workload": {"kind": "builtin", "num_prompts": prompts, "max_tokens": TOKENS},
            "trials": 2,
            "tokenizer": "none",
            "arms": arms,
            **fields,
        }
        (folder / "study.yaml").write_bytes(msgspec.yaml.encode(study))
        words = ["run", str(folder / "study.yaml"), "--json", "--out", str(folder / "study")]
        result = CliRunner().invoke(app, words)
    assert result.stdout, result.output
    return Compared(result.exit_code, json.loads(result.stdout))


CANNED = [f" {word}" for word in "I am a helpful assistant and I will answer your question soon .".split()]
INVALID = {
    "usage x10": (with_usage(completion_tokens=10 * TOKENS), "refuted-numbers"),
    "negative usage": (with_usage(completion_tokens=-7), "refuted-numbers"),
    "no output tokens": (with_usage(completion_tokens=0), "refuted-numbers"),
    "usage is half": (with_usage(completion_tokens=TOKENS // 2), "refuted-numbers"),
    "above the limit": (with_usage(completion_tokens=TOKENS + 9), "refuted-numbers"),
    "more cached than read": (with_usage(prompt_tokens_details={"cached_tokens": 99_999}), "refuted-numbers"),
    "negative prompt": (with_usage(prompt_tokens=-1), "refuted-numbers"),
    "more accepted than drafted": (timings(draft_n=7, draft_n_accepted=9), "refuted-numbers"),
    "negative accepted": (timings(draft_n=7, draft_n_accepted=-7), "refuted-numbers"),
    "prompts cut": (
        Server(usage=lambda p, o: {**counted(p, o), "prompt_tokens": min(64, counted(p, o)["prompt_tokens"])}),
        "other-input",
    ),
    "text after [DONE]": (Server(after_done=" and more text"), "refuted-numbers"),
    "blank first": (Server(blank_s=0.15), "refuted-numbers"),
    "reasoning hidden": (with_usage(completion_tokens=400), "refuted-numbers"),
    "canned": (Server(pieces=lambda prompt: CANNED), "canned-answers"),
    "error as answer": (
        Server(pieces=lambda prompt: ["Error:", " the", " model", " is", " overloaded"], finish="stop"),
        "error-answers",
    ),
    "half with stop": (Server(pieces=lambda prompt: words(prompt, TOKENS // 2), finish="stop"), "other-lengths"),
}


_OF_TOKENS = ("output_throughput", "mean_tpot_ms", "total_token_throughput")
RESTS_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("usage x10", "negative usage", "no output tokens", "usage is half", "above the limit", "reasoning hidden"),
        _OF_TOKENS,
    ),
    **dict.fromkeys(("more accepted than drafted", "negative accepted"), ("acceptance_rate_percent",)),
    "more cached than read": ("cached_prompt_tokens",),
    "text after [DONE]": ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms"),
    "blank first": ("median_ttft_ms", "mean_tpot_ms"),
}
"""Rows that rest on the number; all rows of speed where the work was another."""


@pytest.mark.parametrize("kind", INVALID)
def test_a_number_that_a_fact_refutes_is_invalid_and_makes_nothing_faster(kind: str, tmp_path: Path):
    other, code = INVALID[kind]
    result = compared(tmp_path, Server(), other, prompts=12 if code in ("other-lengths", "other-input") else 6)
    assert code in result.found
    assert result.code == 3
    wrong = {"faster", "slower"} & result.verdicts(*RESTS_ON.get(kind, SPEED_ROWS))
    assert not wrong, [(row["metric"], row["differences"]) for row in result.content["rows"]]


WARNED = {
    "other tokenizer, 2 and 6 characters": (
        Server(usage=per_characters(2)),
        Server(usage=per_characters(6)),
        "other-tokenizer",
        ("output_throughput", "mean_tpot_ms"),
    ),
    "events against usage": (
        Server(),
        Server(usage=lambda prompt, pieces: None, pieces=grouped(1)),
        "other-counter",
        ("output_throughput", "mean_tpot_ms"),
    ),
    "at once": (Server(), Server(at_once=True), "not-streamed", ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms")),
    "blocks of 16 KB": (
        Server(),
        Server(block=16_384),
        "not-streamed",
        ("mean_tpot_ms", "median_itl_ms", "median_ttft_ms"),
    ),
    "a template of 200 tokens": (
        Server(),
        Server(usage=lambda prompt, pieces: counted(prompt, pieces, template=220)),
        "other-input",
        SPEED_ROWS,
    ),
}


@pytest.mark.parametrize("kind", WARNED)
def test_numbers_that_are_not_alike_get_no_verdict(kind: str, tmp_path: Path):
    base, other, code, rows = WARNED[kind]
    result = compared(tmp_path, base, other)
    assert code in result.found
    assert result.verdicts(*rows) <= {"unknown", ""}, [
        (row["metric"], row["differences"]) for row in result.content["rows"] if row["metric"] in rows
    ]


HONEST = {
    "the same": (Server(), Server()),
    "a template of 30 tokens": (
        Server(),
        Server(usage=lambda prompt, pieces: counted(prompt, pieces, template=50)),
    ),
    "reasoning on both sides": (
        Server(pieces=lambda p: words(p, 10), thoughts=tuple(f" thought{i}" for i in range(10))),
        Server(pieces=lambda p: words(p, 10), thoughts=tuple(f" thought{i}" for i in range(10))),
    ),
    "quick short answers": (
        Server(pieces=lambda prompt: ["Yes"], finish="stop"),
        Server(pieces=lambda prompt: ["Yes"], finish="stop"),
    ),
    "two tokens a chunk": (
        Server(),
        Server(
            pieces=grouped(2),
            usage=lambda prompt, pieces: {**counted(prompt, pieces), "completion_tokens": TOKENS},
            gap_s=0.006,
        ),
    ),
    "an end token counted": (Server(), with_usage(completion_tokens=TOKENS + 1)),
    "a fixed number for every prompt": (with_usage(prompt_tokens=7), with_usage(prompt_tokens=7)),
    "MTP": (
        Server(),
        Server(
            timings={"cache_n": 0, "predicted_n": TOKENS, "draft_n": 12, "draft_n_accepted": 9, "predicted_ms": 60.0},
        ),
    ),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_set_up_raises_nothing_above_a_note(kind: str, tmp_path: Path):
    result = compared(tmp_path, *HONEST[kind])
    assert (result.found, result.code) == (set(), 0), [
        (one["code"], one["message"]) for one in result.content["findings"] if one["severity"] != "note"
    ]

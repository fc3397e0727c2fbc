"""Which requests does a recorded trace hold, and when were they asked? Lengths and times are the trace's, texts are ours.

Two layouts are known, told apart by the names of their columns, in any case: Mooncake's jsonl (`timestamp` in ms,
`input_length`, `output_length`, and `hash_ids`, one for each block of the prompt) and BurstGPT's csv (`Timestamp` in s,
`Request tokens`, `Response tokens`). A prompt is made of common words, drawn from the seed. No two share a beginning,
but for blocks of equal hash ids: those are of equal text, so that a prefix cache finds what it found in the trace.
"""

import csv
import hashlib
import io
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from inferometer.errors import DatasetUnusable
from inferometer.request import Request, Sampled, TokenCounter, user_request
from inferometer.spec import Trace
from inferometer.units import NS_PER_MS, NS_PER_S
from inferometer.workloads.sharegpt import _read

CHARACTERS_PER_TOKEN = 4
"""Where nobody counts tokens: a word of three letters and its blank, which most tokenizers have as one token."""

_WORDS = """
    act add age ago aid aim air all and any arm art ask bad bag ban bar bed bet big bit box boy bug bus but buy can cap
    car cat cup cut day did die dog dry due ear eat egg end eye far fat few fit fix fly for fun gap gas get god got gun
    guy had has hat her him his hit hot how ice ill its job joy key kid law lay led leg let lie log lot low mad man map
    may men met mix mom nor not now nut odd off oil old one our out own pan par pay pen per pet pie pin pop pot put ran
    raw red rid row run sad sat saw say sea see set sex she sit six sky son sun tag tap tax tea ten the tie tip too top
    toy try two use van via war was way web wet who why win yes yet you zip
""".split()
_FILLERS = (" a", " I", ".", ",", "a", "1", "!")
_LEAST_WORDS = 64  # with fewer, prompts of a few tokens would begin alike


class Row(msgspec.Struct, frozen=True):
    """One request of the trace. `asked_ns` from the trace's own zero; `block_ids`: of the prompt's beginning, in order,
    empty where the trace tells none."""

    line: int
    asked_ns: int
    prompt_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...] = ()


class TraceFile:
    """The workload. The file is read when this is made, before any engine is started; raises DatasetUnusable."""

    def __init__(self, spec: Trace) -> None:
        self._spec = spec
        path = Path(spec.path).expanduser()
        data = _read(path)
        self._skipped: list[int] = []
        found = rows(data, str(path), spec.block_tokens, self._skipped)
        self._rows = list(itertools.islice(found, spec.num_prompts))
        if not self._rows:
            raise DatasetUnusable(f"{path} has no request that asks and gets a token.")
        self._source = (
            ("dataset", path.name),
            ("dataset_sha256", hashlib.sha256(data).hexdigest()),
            ("dataset_requests", str(len(self._rows))),
        )

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        """The trace's requests in its order and with its times. None to spare: they may share blocks with the rest."""
        write = _characters if counter is None else _CountedText(counter).write
        words = _Words(seed, None if counter is None else write.__self__)  # pyright: ignore
        requests: list[Request] = []
        return Sampled(tuple(requests), (), (), self._source, tuple(row.asked_ns for row in self._rows))

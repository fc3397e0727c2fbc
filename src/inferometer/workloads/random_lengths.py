"""Prompts of made-up words with lengths drawn from a range, as vLLM's data set `random`."""

import math
import random
from collections.abc import Iterator
from typing import ClassVar

from inferometer.core.request import Request, Sampled, TokenCounter
from inferometer.core.workload_settings import WorkloadSettings, at_least_one
from inferometer.workloads.trace import MOST_TOKENS, TraceRow, made_requests

_SPARE = 8
_MOST_TOKENS_IN_ALL = 4 * MOST_TOKENS


class RandomLengths(WorkloadSettings, frozen=True, tag="random"):
    """Prompts of made-up words.

    `input_tokens`: of each prompt, with the tokenizer's special tokens and without the prefix. `max_tokens`: the most
    output tokens of each request. `range_ratio`: both lengths are drawn evenly from length × (1 − ratio) to
    length × (1 + ratio), as vLLM does since 0.8.5. `prefix_tokens`: a beginning that all prompts share.
    """

    num_prompts: int = 1000
    input_tokens: int = 1024
    max_tokens: int = 128
    range_ratio: float = 0.0
    prefix_tokens: int = 0

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        found = [
            line
            for name in ("num_prompts", "input_tokens", "max_tokens")
            for line in at_least_one(name, getattr(self, name))
        ]
        if not 0 <= self.range_ratio < 1:
            found.append(f"range_ratio must be at least 0 and less than 1, not {self.range_ratio:g}")
        if self.prefix_tokens < 0:
            found.append(f"prefix_tokens must be at least 0, not {self.prefix_tokens}")
        if self.num_prompts * (self.input_tokens + max(0, self.prefix_tokens)) > _MOST_TOKENS_IN_ALL:
            found.append(f"num_prompts × input_tokens is more than {_MOST_TOKENS_IN_ALL:,} tokens; ask for fewer")
        return found


class RandomLengthsWorkload:
    """The workload. No two prompts share their first three words after the common prefix."""

    settings: ClassVar = RandomLengths

    def __init__(self, spec: RandomLengths) -> None:
        self._spec = spec

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        spec, rng = self._spec, random.Random(seed)
        rows = [
            TraceRow(
                line=number,
                recorded_ns=0,
                prompt_tokens=spec.prefix_tokens + _drawn(rng, spec.input_tokens, spec.range_ratio),
                output_tokens=_drawn(rng, spec.max_tokens, spec.range_ratio),
                block_ids=(0,) if spec.prefix_tokens else (),
            )
            for number in range(spec.num_prompts + _SPARE)
        ]
        made = made_requests(rows, seed, counter, spec.prefix_tokens or 1, "random")
        notes = tuple(_notes(made, rows, counter))
        return Sampled(made[: spec.num_prompts], made[spec.num_prompts :], notes, (("dataset", "random"),))


def _drawn(rng: random.Random, length: int, ratio: float) -> int:
    return rng.randint(max(1, math.floor(length * (1 - ratio))), math.ceil(length * (1 + ratio)))


def _notes(made: tuple[Request, ...], rows: list[TraceRow], counter: TokenCounter | None) -> Iterator[str]:
    if counter is None:
        yield "No tokenizer: prompts have 4 characters for each token. Give --tokenizer to make them exactly as long."
    inexact = sum(
        request.prompt_tokens not in (None, row.prompt_tokens) for request, row in zip(made, rows, strict=True)
    )
    if inexact:
        yield f"{inexact} of {len(made)} prompts could not be made exactly as long as asked."
    yield (
        "Prompts are made-up words (a chat template comes on top); answers have the length asked for only with "
        "ignore_eos (--ignore-eos; in a study file: sampling: {ignore_eos: true})."
    )

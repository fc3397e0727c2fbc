"""Prompts of a ShareGPT file, sampled exactly as vLLM 0.6.5's benchmark_serving.py samples them.

Rules (vLLM 0.6.5, `sample_sharegpt_requests`): keep conversations of at least two turns; take the first two turns as
prompt and answer, whoever spoke; shuffle with Python's generator and the seed. In that order, skip prompts and answers
under 4 tokens, prompts over 1024 and sums over 2048, until enough are found. If too few are left, there are fewer
requests.
"""

import hashlib
import random
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from inferometer.base.errors import DatasetUnusable
from inferometer.core.request import Request, Sampled, TokenCounter, user_request
from inferometer.core.workload_settings import WorkloadSettings, at_least_one
from inferometer.workloads.dataset_file import MOST_CHARACTERS, file_bytes, is_prompt

MIN_TOKENS = 4
MAX_PROMPT_TOKENS = 1024
MAX_TOTAL_TOKENS = 2048
_BYTES_PER_TOKEN = 4
_SPARE = 8


class ShareGpt(WorkloadSettings, frozen=True, tag="sharegpt"):
    """A ShareGPT file, sampled as vLLM 0.6.5 does.

    `max_tokens` (or `output_tokens`): the most output tokens of every request; None: the length of the recorded answer.
    """

    ALIASES: ClassVar = {"output_tokens": "max_tokens"}

    path: str
    num_prompts: int = 1000
    max_tokens: int | None = None

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        return at_least_one("num_prompts", self.num_prompts) + at_least_one("max_tokens", self.max_tokens)


class ShareGptFile:
    """The workload. Raises DatasetUnusable if the file cannot be used."""

    settings: ClassVar = ShareGpt

    def __init__(self, spec: ShareGpt) -> None:
        self._spec = spec

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        path = Path(self._spec.path).expanduser()
        data = file_bytes(path)
        pairs = conversation_pairs(data, str(path))
        return sample(pairs, self._spec, seed, counter, _source(path.name, data, len(pairs)))


def conversation_pairs(data: bytes, name: str) -> list[tuple[str, str]]:
    """First and second turn of each conversation with two turns or more, in the file's order."""
    try:
        entries = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetUnusable(
            f"{name} is not JSON: {error}.\nA ShareGPT file is a JSON array of objects with `conversations`; "
            "a download that gave a web page instead is a common cause."
        ) from error
    if not isinstance(entries, list):
        raise DatasetUnusable(f"{name} is not a ShareGPT file: it must be a JSON array, not {type(entries).__name__}.")
    pairs: list[tuple[str, str]] = []
    for number, entry in enumerate(cast("list[Any]", entries)):  # from a file: checked here
        try:
            turns = entry["conversations"]
            if len(turns) < 2:
                continue
            prompt, answer = (_text(turn["value"]) for turn in (turns[0], turns[1]))
        except (KeyError, TypeError, IndexError) as error:
            raise DatasetUnusable(
                f"{name}, entry {number}: no `conversations` with `value`s in it ({type(error).__name__}: {error}).\n"
                'Each entry must look like {"conversations": [{"from": "human", "value": "..."}, '
                '{"from": "gpt", "value": "..."}]}.'
            ) from error
        if max(len(prompt), len(answer)) > MOST_CHARACTERS:
            raise DatasetUnusable(
                f"{name}, entry {number}: a turn of {max(len(prompt), len(answer)):,} characters; more than "
                f"{MOST_CHARACTERS:,} is not a turn of a conversation. Take that entry out."
            )
        pairs.append((prompt, answer))
    if not pairs:
        raise DatasetUnusable(f"{name} has no conversation of two turns or more.")
    return pairs


def sample(
    pairs: list[tuple[str, str]],
    spec: ShareGpt,
    seed: int,
    counter: TokenCounter | None,
    source: tuple[tuple[str, str], ...] = (),
) -> Sampled:
    """`spec.num_prompts` requests from `pairs` and a few spare ones, in shuffled order."""
    order = list(range(len(pairs)))
    random.Random(seed).shuffle(order)
    found: list[Request] = []
    for index in order:
        if len(found) >= spec.num_prompts + _SPARE:
            break
        if not is_prompt(pairs[index][0]):
            continue
        request = _request(index, *pairs[index], spec.max_tokens, counter)
        if request is not None:
            found.append(request)
    if not found:
        raise DatasetUnusable(
            f"none of the {len(pairs)} conversations is usable: prompts must have {MIN_TOKENS} to {MAX_PROMPT_TOKENS} "
            f"tokens and prompt and answer together at most {MAX_TOTAL_TOKENS}."
        )
    notes = _notes(found, spec, counter)
    if without := sum(not is_prompt(prompt) for prompt, _ in pairs):
        notes += (f"{without} of {len(pairs)} conversations have no prompt (null or empty) and are left out.",)
    return Sampled(tuple(found[: spec.num_prompts]), tuple(found[spec.num_prompts :]), notes, source)


def _request(
    index: int, prompt: str, answer: str, fixed_output: int | None, counter: TokenCounter | None
) -> Request | None:
    """The request of one conversation; None if vLLM's length rules exclude it."""
    if counter is None:
        output = fixed_output or max(MIN_TOKENS, len(answer.encode()) // _BYTES_PER_TOKEN)
        return user_request(f"sharegpt-{index}", prompt, max_tokens=output)
    prompt_tokens = counter.count(prompt, special=True)
    if prompt_tokens < MIN_TOKENS or prompt_tokens > MAX_PROMPT_TOKENS:
        return None
    output = counter.count(answer, special=True) if fixed_output is None else fixed_output
    if (fixed_output is None and output < MIN_TOKENS) or prompt_tokens + output > MAX_TOTAL_TOKENS:
        return None
    return user_request(f"sharegpt-{index}", prompt, max_tokens=output, prompt_tokens=prompt_tokens)


def _notes(found: list[Request], spec: ShareGpt, counter: TokenCounter | None) -> tuple[str, ...]:
    notes: list[str] = []
    if counter is None:
        notes.append(
            "No tokenizer: the length filter could not be applied; token counts come from the server's usage"
            + ("" if spec.max_tokens else ", and the length asked is a quarter of the recorded answer's bytes")
            + ". Give --tokenizer to count as vLLM does."
        )
    if len(found) < spec.num_prompts:
        notes.append(f"Only {len(found)} of {spec.num_prompts} prompts: the data set has no more usable ones.")
    return tuple(notes)


def _text(value: Any) -> str:
    """A turn's text; "" for null. Some files have a number or a list here: its Python form. Raises TypeError for a
    number that is too long for one."""
    if value is None:
        return ""
    try:
        return str(value)
    except ValueError as error:  # a number of several thousand digits
        raise TypeError(error) from error


def _source(name: str, data: bytes, conversations: int) -> tuple[tuple[str, str], ...]:
    return (
        ("dataset", name),
        ("dataset_sha256", hashlib.sha256(data).hexdigest()),
        ("dataset_conversations", str(conversations)),
    )

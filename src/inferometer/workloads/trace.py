"""Requests of a recorded trace: lengths and times come from the trace, the texts are made up.

Two layouts are known. They are recognised by their column names (upper or lower case): Mooncake's jsonl (`timestamp` in
ms, `input_length`, `output_length`, and `hash_ids`, one for each block of the prompt) and BurstGPT's csv (`Timestamp`
in s, `Request tokens`, `Response tokens`). Prompts consist of common words, drawn with the seed. No two prompts share
their first three words, except for blocks with equal hash ids: these have equal text, so that a prefix cache has the
same hits as when the trace was recorded.
"""

import csv
import hashlib
import io
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from inferometer.base.errors import DatasetUnusable
from inferometer.base.text import sanitize
from inferometer.base.units import NS_PER_MS, NS_PER_S
from inferometer.core.request import Request, Sampled, TokenCounter, user_request
from inferometer.core.workload_settings import WorkloadSettings, at_least_one
from inferometer.workloads.dataset_file import file_bytes

_WORDS = """
    act add age ago aid aim air all and any arm art ask bad bag ban bar bed bet big bit box boy bug bus but buy can cap
    car cat cup cut day did die dog dry due ear eat egg end eye far fat few fit fix fly for fun gap gas get god got gun
    guy had has hat her him his hit hot how ice ill its job joy key kid law lay led leg let lie log lot low mad man map
    may men met mix mom nor not now nut odd off oil old one our out own pan par pay pen per pet pie pin pop pot put ran
    raw red rid row run sad sat saw say sea see set sex she sit six sky son sun tag tap tax tea ten the tie tip too top
    toy try two use van via war was way web wet who why win yes yet you zip
""".split()
"""Words of three letters: with its blank, a word has 4 characters and is one token in most tokenizers."""

_LEAST_WORDS = 64  # three such words distinguish 260,000 prompts
MOST_LINE_CHARACTERS = 4 * 1024**2
MOST_TOKENS = 16 * 1024**2
"""Limit for a prompt or an answer: more than any context holds. Prompts are built in memory at this length."""
MOST_SECONDS = 1e11
"""Limit for a time: about 3,000 years in seconds."""
_FILLERS = (" a", ".", ",", "a", "1", "!")


class TraceRow(msgspec.Struct, frozen=True):
    """One request of a trace. `recorded_ns`: time since the trace's own zero. `block_ids`: the blocks at the
    beginning of the prompt, in order; empty if the trace has none."""

    line: int
    recorded_ns: int
    prompt_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...] = ()


class Trace(WorkloadSettings, frozen=True, tag="trace"):
    """Lengths and times of a recorded trace (Mooncake's jsonl, BurstGPT's csv), with prompts made to these lengths.

    `num_prompts` takes this many from the beginning of the trace; None: all. `block_tokens`: how many prompt tokens
    each of a line's `hash_ids` stands for. The times are used by `schedule: {kind: replay}`.
    """

    HAS_TIMES: ClassVar[bool] = True

    path: str
    num_prompts: int | None = None
    block_tokens: int = 512

    def request_count(self) -> int | None:
        return self.num_prompts

    def problems(self) -> list[str]:
        return at_least_one("num_prompts", self.num_prompts) + at_least_one("block_tokens", self.block_tokens)


class TraceFile:
    """The workload. The constructor reads the file, before any engine starts, and raises DatasetUnusable."""

    settings: ClassVar = Trace

    def __init__(self, spec: Trace) -> None:
        self._spec = spec
        path = Path(spec.path).expanduser()
        data = file_bytes(path)
        found = rows(data, str(path), spec.block_tokens)
        self._unanswered = 0
        self._rows: list[TraceRow] = []
        while len(self._rows) != spec.num_prompts and (row := next(found, None)) is not None:
            if row.prompt_tokens and row.output_tokens:
                self._rows.append(row)
            else:
                self._unanswered += 1
        if not self._rows:
            raise DatasetUnusable(f"{path} has no request that asks for a token and got one.")
        self._source = (
            ("dataset", path.name),
            ("dataset_sha256", hashlib.sha256(data).hexdigest()),
            ("dataset_requests", str(len(self._rows))),
        )

    def sample(self, seed: int, counter: TokenCounter | None) -> Sampled:
        """The trace's requests in its order, with its times. No spare ones: they would share blocks with the others."""
        requests = made_requests(self._rows, seed, counter, self._spec.block_tokens, "trace")
        recorded_ns = tuple(row.recorded_ns for row in self._rows)
        return Sampled(requests, (), tuple(self._notes(requests, counter)), self._source, recorded_ns)

    def _notes(self, requests: Sequence[Request], counter: TokenCounter | None) -> Iterator[str]:
        if counter is None:
            yield (
                "No tokenizer: prompts have 4 characters for each token of the trace. "
                "Give --tokenizer to make them as long as they were."
            )
        inexact = sum(
            request.prompt_tokens not in (None, row.prompt_tokens)
            for request, row in zip(requests, self._rows, strict=True)
        )
        if inexact:
            yield f"{inexact} of {len(requests)} prompts could not be made exactly as long as in the trace."
        yield (
            "Prompts are made-up words of the trace's lengths (a chat template comes on top); answers have its lengths "
            "only with ignore_eos (--ignore-eos; in a study file: sampling: {ignore_eos: true})."
        )
        if self._unanswered:
            yield f"{self._unanswered} of the lines read ask for no token, or got none, and are left out."
        wanted = self._spec.num_prompts
        if wanted is not None and len(requests) < wanted:
            yield f"Only {len(requests)} of {wanted} prompts: the trace has no more."


# --- the file -------------------------------------------------------------------------------------


class _Layout(msgspec.Struct, frozen=True):
    """Column names as the tool writes them, and the unit of its times."""

    asked: str
    prompt: str
    output: str
    unit: str
    unit_ns: int


_LAYOUTS = (
    _Layout("timestamp", "input_length", "output_length", "ms", NS_PER_MS),
    _Layout("Timestamp", "Request tokens", "Response tokens", "s", NS_PER_S),
)

_Cells = dict[str, Any]  # by plain column name; the values are checked in `_row`


def rows(data: bytes, name: str, block_tokens: int = 512) -> Iterator[TraceRow]:
    """The requests in the file's order. Raises DatasetUnusable with the line number at the first invalid one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetUnusable(f"{name} is not text: {error}.") from error
    if not text.strip():
        raise DatasetUnusable(f"{name} is empty.")
    lines = _json_lines(text, name) if text.lstrip()[0] in "{[" else _csv_lines(text, name)
    before_ns: int | None = None
    for number, cells in lines:
        row = _row(number, cells, name, block_tokens)
        if before_ns is not None and row.recorded_ns < before_ns:
            raise DatasetUnusable(
                f"{name}, line {number}: its time is {(before_ns - row.recorded_ns) / NS_PER_S:g} s before that of the "
                "line above. The times of a trace never fall: sort it first."
            )
        before_ns = row.recorded_ns
        yield row


def _json_lines(text: str, name: str) -> Iterator[tuple[int, _Cells]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        if len(line) > MOST_LINE_CHARACTERS:
            raise DatasetUnusable(
                f"{name}, line {number} has {len(line):,} characters; more than {MOST_LINE_CHARACTERS:,} is not "
                "a request. Is it one JSON object a line?"
            )
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise DatasetUnusable(f"{name}, line {number} is not JSON: {error}.") from error
        if not isinstance(found, dict):
            raise DatasetUnusable(f"{name}, line {number} is not a JSON object; a trace has one object a line.")
        yield number, {_plain(key): value for key, value in cast("_Cells", found).items()}


def _csv_lines(text: str, name: str) -> Iterator[tuple[int, _Cells]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = [_plain(cell) for cell in next(reader)]
        for cells in reader:
            if cells:
                yield reader.line_num, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise DatasetUnusable(f"{name}, line {reader.line_num} is not csv: {error}.") from error


def _plain(column: str) -> str:
    return column.strip().lower().replace("_", " ")


def _row(number: int, cells: _Cells, name: str, block_tokens: int) -> TraceRow:
    place = f"{name}, line {number}"
    layout = next((each for each in _LAYOUTS if {_plain(each.prompt), _plain(each.output)} <= cells.keys()), None)
    if layout is None or _plain(layout.asked) not in cells:
        wanted = " or ".join(f"{each.asked} (in {each.unit}), {each.prompt}, {each.output}" for each in _LAYOUTS)
        columns = sanitize(", ".join(cells), 300) or "none"
        raise DatasetUnusable(f"{place}: its columns are {columns}.\nA trace has {wanted}.")
    asked = _number(cells[_plain(layout.asked)])
    if asked is None:
        raise DatasetUnusable(f"{place}: {layout.asked} is {_shown(cells, layout.asked)}, which is not a number.")
    if abs(asked) * layout.unit_ns > MOST_SECONDS * NS_PER_S:
        raise DatasetUnusable(f"{place}: {layout.asked} is {_shown(cells, layout.asked)}, which is not a time.")
    prompt_tokens = _count(cells, layout.prompt, place)
    return TraceRow(
        line=number,
        recorded_ns=round(asked * layout.unit_ns),
        prompt_tokens=prompt_tokens,
        output_tokens=_count(cells, layout.output, place),
        block_ids=_block_ids(cells, prompt_tokens, block_tokens, place),
    )


def _count(cells: Mapping[str, Any], column: str, place: str) -> int:
    value = cells[_plain(column)]
    found = _number(value)
    if found is None or found < 0 or found != int(found):
        shown = _shown(cells, column)
        raise DatasetUnusable(f"{place}: {column} is {shown}; it must be a count of tokens, 0 or more.")
    if found > MOST_TOKENS:
        shown = _shown(cells, column)
        raise DatasetUnusable(f"{place}: {column} is {shown}; the limit is {MOST_TOKENS:,} tokens.")
    return int(found)


def _shown(cells: Mapping[str, Any], column: str) -> str:
    """The beginning of a cell's content."""
    value = cells[_plain(column)]
    return repr(sanitize(value, 100)) if isinstance(value, str) else sanitize(msgspec.json.encode(value).decode(), 100)


def _number(value: Any) -> float | None:
    """A finite number from JSON, or from the text of a csv cell; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _block_ids(cells: Mapping[str, Any], prompt_tokens: int, block_tokens: int, place: str) -> tuple[int, ...]:
    """Raises DatasetUnusable if their number does not match the prompt's blocks; a partial last block may lack one."""
    try:
        found = msgspec.convert(cells.get("hash ids") or (), tuple[int, ...])
    except msgspec.ValidationError as error:
        raise DatasetUnusable(f"{place}: hash_ids must be a list of whole numbers ({error}).") from error
    if found and not prompt_tokens // block_tokens <= len(found) <= math.ceil(prompt_tokens / block_tokens):
        raise DatasetUnusable(
            f"{place}: {len(found)} hash_ids cannot be the blocks of {prompt_tokens} tokens, at {block_tokens} tokens "
            "each.\nIf the trace has blocks of another size, say so in a study file: workload: {kind: trace, "
            "block_tokens: …}."
        )
    return found


# --- the texts ------------------------------------------------------------------------------------


def made_requests(
    rows: Sequence[TraceRow], seed: int, counter: TokenCounter | None, block_tokens: int, kind: str
) -> tuple[Request, ...]:
    """Requests with the rows' lengths, in the rows' order, made of random words; the same seed gives the same words.
    Request ids begin with `kind`."""
    words, tokens_per_word = (_WORDS, 1.0) if counter is None else _words_for(counter)
    stories = _Stories(seed, words, round(block_tokens / tokens_per_word))
    return tuple(
        _request(f"{kind}-{row.line}", row, stories.of(number, row), counter, tokens_per_word)
        for number, row in enumerate(rows)
    )


class _Stories:
    """Endless texts made of `words`, each drawn separately. `block_words`: words in one block."""

    def __init__(self, seed: int, words: Iterable[str], block_words: int) -> None:
        self._seed = seed
        self._words = list(words)
        random.Random(seed).shuffle(self._words)
        self._block_words = block_words
        self._numbers: dict[int, int] = {}

    def of(self, number: int, row: TraceRow) -> Iterator[str]:
        """The words of request `number`: those of its blocks, then endless words."""
        for block_id in row.block_ids:
            block = self._numbers.setdefault(block_id, len(self._numbers))
            yield from itertools.islice(self._story(2 * block), self._block_words)
        yield from self._story(2 * number + 1)

    def _story(self, number: int) -> Iterator[str]:
        """Three words that encode `number`, last digit first so that neighbours differ at once; then random words."""
        base = len(self._words)
        yield from (self._words[number // base**digit % base] for digit in range(3))
        rng = random.Random(f"{self._seed} {number}")
        while True:
            yield from rng.choices(self._words, k=256)


def _request(
    id: str, row: TraceRow, story: Iterator[str], counter: TokenCounter | None, tokens_per_word: float
) -> Request:
    if counter is None:
        text, prompt_tokens = " ".join(itertools.islice(story, row.prompt_tokens)), None
    else:
        text, prompt_tokens = _fitted(story, row.prompt_tokens, counter, tokens_per_word)
    return user_request(id, text, max_tokens=row.output_tokens, prompt_tokens=prompt_tokens)


def _words_for(counter: TokenCounter) -> tuple[Sequence[str], float]:
    """Words that are one token each after a blank, if there are enough; else all words, and their mean tokens."""
    tokens = counter.count(" ".join(_WORDS), special=False)
    if tokens != len(_WORDS):
        alone = counter.count("the", special=False)
        single = [word for word in _WORDS if counter.count(f"the {word}", special=False) == alone + 1]
        if len(single) < _LEAST_WORDS:
            return _WORDS, max(1.0, tokens / len(_WORDS))
        return single, 1.0
    return _WORDS, 1.0


def _fitted(story: Iterator[str], tokens: int, counter: TokenCounter, tokens_per_word: float) -> tuple[str, int]:
    """The beginning of the story with `tokens` tokens, special ones included, and its exact count. The count differs if
    no text fits, for example if `tokens` is less than the tokenizer's own special tokens."""
    words: list[str] = []
    counts: dict[int, int] = {}

    def text(count: int) -> str:
        words.extend(itertools.islice(story, max(0, count - len(words))))
        return " ".join(words[:count])

    tried = max(1, round(tokens / tokens_per_word))
    while tried not in counts and len(counts) < 8:
        counts[tried] = counter.count(text(tried), special=True)
        missing = tokens - counts[tried]
        tried = max(1, tried + (round(missing / tokens_per_word) or -(missing < 0)))
    best = max(counts, key=lambda count: (counts[count] <= tokens, -abs(tokens - counts[count])))
    found, found_tokens = text(best), counts[best]
    while found_tokens < tokens:
        longer = ((found + filler, counter.count(found + filler, special=True)) for filler in _FILLERS)
        fitting = next((pair for pair in longer if found_tokens < pair[1] <= tokens), None)
        if fitting is None:
            break
        found, found_tokens = fitting
    return found, found_tokens

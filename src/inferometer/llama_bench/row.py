"""What is one row of llama-bench? A test, how it was measured and how long each repetition took."""

import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong

Way = Literal["llama-bench", "server"]
"""By llama-bench itself, or by requests to a server."""

TimedBy = Literal["llama-bench", "server", "client"]
"""Whose clock timed it: `server` is llama.cpp's `timings`, `client` is ours around whole requests."""

_RANGE = re.compile(r"(-?\d+)(?:-(\d+)(?:([+*])(\d+))?)?")
_MOST_VALUES = 1000


class BenchTest(msgspec.Struct, frozen=True):
    """`prompt` tokens processed and then `generated` ones made, after `depth` tokens that are there already."""

    __test__ = False  # pytest takes a class of this name for its own

    prompt: int
    generated: int
    depth: int = 0

    @property
    def label(self) -> str:
        """As llama-bench writes it: pp512, tg128, pp512+tg128, tg128 @ d4096. Without any length: all tests."""
        parts = [f"pp{self.prompt}"] if self.prompt else []
        parts += [f"tg{self.generated}"] if self.generated else []
        if not parts:
            return "all tests"
        return "+".join(parts) + (f" @ d{self.depth}" if self.depth else "")

    @property
    def tokens(self) -> int:
        """The tokens that its rate counts."""
        return self.prompt + self.generated


class BenchRow(msgspec.Struct, frozen=True):
    """One test under one setting.

    `settings`: by llama-bench's field names (n_gpu_layers, n_threads, flash_attn, …), only those that are known.
    `devices`: the names of the GPUs that it ran on; empty: none, or not known. `offloaded`: layers on the GPU and all
    layers, None where nobody said. `samples_ns`: the time of each repetition; where only their mean and deviation are
    told, `told_rate_per_s` and `told_deviation_per_s`. A row that failed has an `error`.
    """

    test: BenchTest
    way: Way
    clock: TimedBy
    engine: str
    model: str
    description: str
    size_bytes: int | None
    parameters: int | None
    backend: str
    devices: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    offloaded: tuple[int, int] | None = None
    samples_ns: tuple[int, ...] = ()
    error: str = ""
    told_rate_per_s: float | None = None
    told_deviation_per_s: float | None = None

    @property
    def rates_per_s(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [self.test.tokens * 1e9 / sample for sample in self.samples_ns]

    @property
    def rate_per_s(self) -> float | None:
        """Their mean, which is what llama-bench prints; None where it failed."""
        return statistics.fmean(self.rates_per_s) if self.samples_ns else self.told_rate_per_s

    @property
    def deviation_per_s(self) -> float | None:
        """Their sample standard deviation; None with fewer than two."""
        return statistics.stdev(self.rates_per_s) if len(self.samples_ns) > 1 else self.told_deviation_per_s


def every_test(
    prompts: Sequence[int], generated: Sequence[int], pairs: Sequence[tuple[int, int]], depths: Sequence[int]
) -> list[BenchTest]:
    """All tests in llama-bench's order. A length of 0 asks for no such test. Raises RequestWrong where none is left."""
    shapes = [(prompt, 0) for prompt in prompts if prompt]
    shapes += [(0, count) for count in generated if count]
    shapes += [pair for pair in pairs if any(pair)]
    if not shapes:
        raise RequestWrong("no test is left: -p and -n are both 0. Ask for one, as -p 512 or -n 128.")
    return [BenchTest(*shape, depth) for depth in depths for shape in shapes]


def whole_numbers(texts: Sequence[str], flag: str, least: int = 0) -> list[int]:
    """The numbers that a flag was given, as llama-bench reads them: `512`, `128,256`, `0-8192+4096`, `1-64*2`.

    Raises RequestWrong.
    """
    found = [number for text in texts for part in text.split(",") for number in _range(part.strip(), flag)]
    low = [number for number in found if number < least]
    if low:
        raise RequestWrong(f"{flag} must be at least {least}, not {low[0]}.")
    return found


def pairs_of(texts: Sequence[str], flag: str) -> list[tuple[int, int]]:
    """`512,128`: a prompt and what is generated after it. Raises RequestWrong."""
    pairs: list[tuple[int, int]] = []
    for text in texts:
        numbers = whole_numbers([text], flag)
        if len(numbers) != 2:
            raise RequestWrong(f"{flag} takes a prompt and a generated length, as 512,128, not {text!r}.")
        pairs.append((numbers[0], numbers[1]))
    return pairs


def _range(text: str, flag: str) -> Iterator[int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise RequestWrong(f"{flag} takes whole numbers, as 512 or 128,256 or 0-8192+4096, not {text!r}.")
    first, step = int(match[1]), int(match[4] or 1)
    last = int(match[2]) if match[2] else first
    multiplies = match[3] == "*"
    if last < first or (multiplies and (step < 2 or first < 1)) or step < 1:
        raise RequestWrong(f"{flag}: the range {text!r} never ends or has nothing in it.")
    count = 0
    while first <= last:
        count += 1
        if count > _MOST_VALUES:
            raise RequestWrong(f"{flag}: the range {text!r} holds more than {_MOST_VALUES} values.")
        yield first
        first = first * step if multiplies else first + step

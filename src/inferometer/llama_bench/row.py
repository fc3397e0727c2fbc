"""Rows of llama-bench (a test, how it was measured, the time of each repetition), and its flags for tests."""

import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong

Way = Literal["llama-bench", "server"]
"""Measured by llama-bench itself, or by requests to a server."""

TimedBy = Literal["llama-bench", "server", "client"]
"""The clock: `server` is llama.cpp's `timings`, `client` is our clock around whole requests."""

_RANGE = re.compile(r"(-?\d+)(?:-(\d+)(?:([+*])(\d+))?)?")
_MOST_VALUES = 1000


class BenchTest(msgspec.Struct, frozen=True):
    """Processing of `prompt` tokens and then generation of `generated` tokens, after `depth` tokens in the context."""

    __test__ = False  # or pytest would collect it

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
    `devices`: names of the GPUs that it ran on; empty: none, or unknown. `offloaded`: layers on the GPU and all layers,
    None if unknown. `samples_ns`: the time of each repetition; if only their mean and deviation are known, these are
    `reported_rate_per_s` and `reported_deviation_per_s`. A row that failed has an `error`.
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
    reported_rate_per_s: float | None = None
    reported_deviation_per_s: float | None = None

    @property
    def rates_per_s(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [self.test.tokens * 1e9 / sample for sample in self.samples_ns]

    @property
    def rate_per_s(self) -> float | None:
        """Mean rate of the repetitions, which llama-bench prints; None if the test failed."""
        return statistics.fmean(self.rates_per_s) if self.samples_ns else self.reported_rate_per_s

    @property
    def deviation_per_s(self) -> float | None:
        """Sample standard deviation of the repetitions' rates; None with fewer than two."""
        return statistics.stdev(self.rates_per_s) if len(self.samples_ns) > 1 else self.reported_deviation_per_s


def bench_tests(
    prompts: Sequence[int], generated: Sequence[int], pairs: Sequence[tuple[int, int]], depths: Sequence[int]
) -> list[BenchTest]:
    """All tests in llama-bench's order. A length of 0 means no such test. Raises RequestWrong if no test is left."""
    shapes = [(prompt, 0) for prompt in prompts if prompt]
    shapes += [(0, count) for count in generated if count]
    shapes += [pair for pair in pairs if any(pair)]
    if not shapes:
        raise RequestWrong("there is no test: -p and -n are both 0. Set one, for example -p 512 or -n 128.")
    return [BenchTest(*shape, depth) for depth in depths for shape in shapes]


def flag_numbers(texts: Sequence[str], flag: str, least: int = 0) -> list[int]:
    """The numbers of a flag in llama-bench's syntax: `512`, `128,256`, `0-8192+4096`, `1-64*2`.

    Raises RequestWrong for any other text.
    """
    found = [number for text in texts for part in text.split(",") for number in _range(part.strip(), flag)]
    low = [number for number in found if number < least]
    if low:
        raise RequestWrong(f"{flag} must be at least {least}, not {low[0]}.")
    return found


def length_pairs(texts: Sequence[str], flag: str) -> list[tuple[int, int]]:
    """Pairs such as `512,128`: prompt length and generated length. Raises RequestWrong for any other text."""
    pairs: list[tuple[int, int]] = []
    for text in texts:
        numbers = flag_numbers([text], flag)
        if len(numbers) != 2:
            raise RequestWrong(f"{flag} needs a prompt length and a generated length, such as 512,128, not {text!r}.")
        pairs.append((numbers[0], numbers[1]))
    return pairs


def _range(text: str, flag: str) -> Iterator[int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise RequestWrong(f"{flag} needs whole numbers, such as 512 or 128,256 or 0-8192+4096, not {text!r}.")
    first, step = int(match[1]), int(match[4] or 1)
    last = int(match[2]) if match[2] else first
    multiplies = match[3] == "*"
    if last < first or (multiplies and (step < 2 or first < 1)) or step < 1:
        raise RequestWrong(f"{flag}: the range {text!r} is empty or never ends.")
    count = 0
    while first <= last:
        count += 1
        if count > _MOST_VALUES:
            raise RequestWrong(f"{flag}: the range {text!r} has more than {_MOST_VALUES} values.")
        yield first
        first = first * step if multiplies else first + step

"""Inter-token latency per token: gaps between bursts of output, divided by the tokens of each burst.

With speculative decoding an engine accepts several tokens in one step and sends them at once: as chunks a few
microseconds apart (llama.cpp), or as one chunk of several tokens (vLLM, SGLang). Most gaps between chunks are then
nearly zero, and the few others are whole steps. A *burst* is the output of one step. The gap before a burst, divided by
the tokens of the burst, is the time that each of these tokens took.
"""

from itertools import pairwise
from statistics import median
from typing import cast

import msgspec

from inferometer.core.record import Events, RequestRecord
from inferometer.core.request import Request
from inferometer.metrics.consistency import TWO_COUNTS
from inferometer.metrics.request_timing import MOST_PIECE_CHARACTERS, TokenSource, request_timing

BURST_GAP_NS = 1_000_000
"""Output less than 1 ms after the previous output belongs to the same burst: a step of a model takes longer, and
writing the chunks of one step takes microseconds. The rule fails above 1,000 tokens per second and stream."""

STALL_MULTIPLE = 3.0
"""A gap between bursts longer than three times the request's median gap is a stall. A growing batch or context makes
steps differ by less; a stall is another prompt's prefill, a recomputation or a lost core."""


AT_ONCE_NS = 5_000_000
AT_ONCE_TOKENS = 3
"""An answer of three tokens or more that came within 5 ms did not stream: a buffer kept it. A model that writes 1,000
tokens a second takes 5 ms for five."""


class Burst(msgspec.Struct, frozen=True):
    """Output that arrived at once. `at_ns`: time of its last output. `tokens`: its tokens, an estimated share if only
    the answer's total is known."""

    at_ns: int
    tokens: float


class Delivery(msgspec.Struct, frozen=True):
    """The bursts of one answer in order, as columns (see Burst). `gaps_ns`: gaps between bursts. `source`: who counted
    the tokens; `shared by length` if chunks hold several tokens, or parts of one, and only the answer's total is known.
    `span_ns`: from the first output to the last. `characters`: of all output."""

    at_ns: tuple[int, ...]
    tokens: tuple[float, ...]
    source: TokenSource | str
    gaps_ns: list[int]
    span_ns: int = 0
    characters: int = 0

    @property
    def at_once(self) -> bool:
        """Whether an answer of several tokens came in one piece: its time per token is unknown."""
        tokens = max(sum(self.tokens), self.characters / MOST_PIECE_CHARACTERS)
        return len(self.at_ns) == 1 and self.span_ns < AT_ONCE_NS and tokens >= AT_ONCE_TOKENS

    @property
    def bursts(self) -> tuple[Burst, ...]:
        return tuple(map(Burst, self.at_ns, self.tokens))

    @property
    def token_gaps_ns(self) -> list[float]:
        """One per token after the first burst: the gap before its burst, divided by the burst's tokens."""
        found: list[float] = []
        for gap_ns, tokens in zip(self.gaps_ns, self.tokens[1:], strict=True):
            if tokens == 1.0:
                found.append(float(gap_ns))
            else:
                found += [gap_ns / tokens if tokens else 0.0] * max(1, round(tokens))
        return found

    @property
    def stalls_ns(self) -> list[int]:
        """The gaps between bursts that are stalls (`STALL_MULTIPLE`)."""
        gaps_ns = self.gaps_ns
        limit_ns = STALL_MULTIPLE * median(gaps_ns) if gaps_ns else 0.0
        return [gap_ns for gap_ns in gaps_ns if gap_ns > limit_ns]


def delivery(record: RequestRecord, asked: Request | None = None) -> Delivery | None:
    """The bursts of a request's output; None if the request failed. `asked`: its prompt and limit."""
    timing = request_timing(record, asked=asked)
    if timing is None:
        return None
    stamps_ns, chars, stated = cast("Events", record.events).outputs()
    counts, source = _tokens_of_outputs(chars, stated, timing.output_tokens, timing.output_source)
    gaps_ns = [after - before for before, after in pairwise(stamps_ns)]
    if not gaps_ns or min(gaps_ns) >= BURST_GAP_NS:  # every output is a burst, as without speculation
        return Delivery(tuple(stamps_ns), tuple(counts), source, gaps_ns, sum(gaps_ns), sum(chars))
    at_ns: list[int] = []
    tokens: list[float] = []
    last_ns = -BURST_GAP_NS
    for stamp_ns, count in zip(stamps_ns, counts, strict=True):
        if at_ns and stamp_ns - last_ns < BURST_GAP_NS:
            at_ns[-1] = stamp_ns
            tokens[-1] += count
        else:
            at_ns.append(stamp_ns)
            tokens.append(count)
        last_ns = stamp_ns
    between_ns = [after - before for before, after in pairwise(at_ns)]
    return Delivery(tuple(at_ns), tuple(tokens), source, between_ns, sum(gaps_ns), sum(chars))


def _tokens_of_outputs(
    chars: list[int], stated: list[int], total: int | None, source: TokenSource | None
) -> tuple[list[float], TokenSource | str]:
    """Tokens of each event with output, and who counted them. `chars`: characters, `stated`: tokens that the server
    states (0 if it does not), one per such event.

    A server that states counts in some chunks only, or counts of something else, does not say what each chunk brought.
    """
    nearly_all = 10 * sum(count > 0 for count in stated) >= 9 * len(chars)
    if stated and nearly_all and (total is None or abs(sum(stated) - total) <= TWO_COUNTS + total / 10):
        return [float(count) for count in stated], "token ids"
    is_whole = total is not None and 0.9 * len(chars) - 1 <= total <= len(chars) + 1
    if total is None or source is None or is_whole:  # the end token is counted and has no text
        return [1.0] * len(chars), source or "output events"
    all_chars = sum(chars)
    return [total * count / all_chars if all_chars else 1.0 for count in chars], "shared by length"

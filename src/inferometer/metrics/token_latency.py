"""When did each token come, where several come at once? Gaps between bursts, shared by the tokens that they brought.

With speculative decoding an engine accepts several tokens in one step and sends them in one moment: as chunks a few
microseconds apart (llama.cpp), or as one chunk of several tokens (vLLM, SGLang). Gaps between chunks are then nearly
all zero, and the few others are whole steps. A *burst* is what one step brought; its gap to the burst before, divided
by its tokens, is what each of these tokens took.
"""

from itertools import pairwise
from statistics import median
from typing import cast

import msgspec

from inferometer.core.record import Events, RequestRecord
from inferometer.core.request import Request
from inferometer.metrics.request_timing import TokenSource, request_timing

BURST_GAP_NS = 1_000_000
"""Output less than 1 ms after the one before came with it: a step of a model takes longer, and writing the chunks of
one step takes microseconds. An engine of more than 1,000 tokens a second and stream is beyond this rule."""

STALL_MULTIPLE = 3.0
"""A gap between bursts of more than three times the request's median one is a stall: steps differ by less, as a batch
grows or the context does, while a stall is another prompt's prefill, a recomputation or a lost core."""


class Burst(msgspec.Struct, frozen=True):
    """What came in one moment: when its last output came, and how many tokens it brought (a share, where only the
    answer's total is known)."""

    at_ns: int
    tokens: float


class Delivery(msgspec.Struct, frozen=True):
    """The bursts of one answer in order, in columns (see Burst), and who counted their tokens: `shared by length` where
    chunks bring several tokens and only the answer's total is known. `gaps_ns`: between bursts."""

    at_ns: tuple[int, ...]
    tokens: tuple[float, ...]
    source: TokenSource | str
    gaps_ns: list[int]

    @property
    def bursts(self) -> tuple[Burst, ...]:
        return tuple(map(Burst, self.at_ns, self.tokens))

    @property
    def token_gaps_ns(self) -> list[float]:
        """One per token after the first burst: the gap before its burst, shared by the burst's tokens."""
        found: list[float] = []
        for gap_ns, tokens in zip(self.gaps_ns, self.tokens[1:], strict=True):
            if tokens == 1.0:
                found.append(float(gap_ns))
            else:
                found += [gap_ns / tokens if tokens else 0.0] * max(1, round(tokens))
        return found

    @property
    def stalls_ns(self) -> list[int]:
        """The gaps between bursts that are stalls."""
        gaps_ns = self.gaps_ns
        limit_ns = STALL_MULTIPLE * median(gaps_ns) if gaps_ns else 0.0
        return [gap_ns for gap_ns in gaps_ns if gap_ns > limit_ns]


def delivery(record: RequestRecord, asked: Request | None = None) -> Delivery | None:
    """How the output of a request came; None where it failed. `asked`: its prompt and limit."""
    timing = request_timing(record, asked=asked)
    if timing is None:
        return None
    stamps_ns, chars, told = cast("Events", record.events).outputs()
    counts, source = _tokens_of_outputs(chars, told, timing.output_tokens, timing.output_source)
    gaps_ns = [after - before for before, after in pairwise(stamps_ns)]
    if not gaps_ns or min(gaps_ns) >= BURST_GAP_NS:  # each by itself, as without speculation
        return Delivery(tuple(stamps_ns), tuple(counts), source, gaps_ns)
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
    return Delivery(tuple(at_ns), tuple(tokens), source, [after - before for before, after in pairwise(at_ns)])


def _tokens_of_outputs(
    chars: list[int], told: list[int], total: int | None, source: TokenSource | None
) -> tuple[list[float], TokenSource | str]:
    """Tokens of each event that brought output, and who counted. `chars` and `told`: one per such event."""
    if told and sum(told) and (len(told) == 1 or sum(count > 0 for count in told) > 1):
        return [float(count) for count in told], "token ids"
    if total is None or source is None or total <= len(chars) + 1:  # the end token is counted and brings no text
        return [1.0] * len(chars), source or "output events"
    all_chars = sum(chars)
    return [total * count / all_chars if all_chars else 1.0 for count in chars], "shared by length"

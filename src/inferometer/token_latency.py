"""When did each token come, where several come at once? Gaps between bursts, shared by the tokens that they brought.

With speculative decoding an engine accepts several tokens in one step and sends them in one moment: as chunks a few
microseconds apart (llama.cpp), or as one chunk of several tokens (vLLM, SGLang). Gaps between chunks are then nearly
all zero, and the few others are whole steps. A *burst* is what one step brought; its gap to the burst before, divided
by its tokens, is what each of these tokens took.
"""

from itertools import pairwise
from statistics import median

import msgspec

from inferometer.record import RequestRecord, brings_output
from inferometer.request_timing import TokenSource, request_timing

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
    """The bursts of one answer in order, and who counted their tokens: `shared by length` where chunks bring several
    tokens and only the answer's total is known."""

    bursts: tuple[Burst, ...]
    source: TokenSource | str

    @property
    def gaps_ns(self) -> list[int]:
        """Between bursts."""
        return [after.at_ns - before.at_ns for before, after in pairwise(self.bursts)]

    @property
    def token_gaps_ns(self) -> list[float]:
        """One per token after the first burst: the gap before its burst, shared by the burst's tokens."""
        found: list[float] = []
        for before, after in pairwise(self.bursts):
            share_ns = (after.at_ns - before.at_ns) / after.tokens if after.tokens else 0.0
            found += [share_ns] * max(1, round(after.tokens))
        return found

    @property
    def stalls_ns(self) -> list[int]:
        """The gaps between bursts that are stalls."""
        gaps_ns = self.gaps_ns
        limit_ns = STALL_MULTIPLE * median(gaps_ns) if gaps_ns else 0.0
        return [gap_ns for gap_ns in gaps_ns if gap_ns > limit_ns]


def delivery(record: RequestRecord) -> Delivery | None:
    """How the output of a request came; None where it failed."""
    timing = request_timing(record)
    if timing is None:
        return None
    counts, source = _tokens_of_outputs(record, timing.output_tokens, timing.output_source)
    bursts: list[Burst] = []
    last_ns: int | None = None
    for at_ns, tokens in zip(record.outputs_ns, counts, strict=True):
        if last_ns is not None and at_ns - last_ns < BURST_GAP_NS:
            bursts[-1] = Burst(at_ns, bursts[-1].tokens + tokens)
        else:
            bursts.append(Burst(at_ns, tokens))
        last_ns = at_ns
    return Delivery(tuple(bursts), source)


def _tokens_of_outputs(
    record: RequestRecord, total: int | None, source: TokenSource | None
) -> tuple[list[float], TokenSource | str]:
    """Tokens of each event that brought output, and who counted."""
    outputs = [event for event in record.events if brings_output(event)]
    told = [float(event.tokens) for event in outputs]
    if sum(told) and (len(outputs) == 1 or sum(count > 0 for count in told) > 1):
        return told, "token ids"
    if total is None or source is None or total <= len(outputs) + 1:  # the end token is counted and brings no text
        return [1.0] * len(outputs), source or "output events"
    chars = sum(len(event.text) for event in outputs)
    return [total * len(event.text) / chars if chars else 1.0 for event in outputs], "shared by length"

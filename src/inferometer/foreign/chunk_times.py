"""Records from the chunk times in other tools' files, and the metrics that can be computed from such records."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from inferometer.base.errors import RequestWrong
from inferometer.base.units import NS_PER_S
from inferometer.core.record import Event, Outcome, RequestRecord, TokenUsage
from inferometer.foreign.tool_json import family
from inferometer.metrics.rows import metric_rows

ALWAYS = frozenset({"ttft", "tpot", "e2el", "completed", "failed", "total_input_tokens", "total_output_tokens"})
"""Families of metric keys that need only counts and the first and last chunk of each answer."""

CHUNKS = frozenset({"itl", "chunk_gap", "stalls", "stall_time_percent"})
"""Families that need the times of all chunks."""

BURSTS = frozenset({"itl_per_token", "tokens_per_burst"})
"""Families that also need the number of tokens in each chunk."""

SENDING = frozenset({"duration", "request_throughput", "output_throughput", "total_token_throughput"})
"""Families that need the time at which each request was sent."""

DUE = frozenset({"ttft_from_due", "latency_from_sent", "latency_from_due", "lateness"})
"""Families that need the due time of each request."""

_PERCENTILES = (50, 90, 95, 99, 99.9)


_LONGEST_NS = 90 * 24 * 3600 * NS_PER_S
"""No benchmark takes longer, and counts per second of a longer one would not fit into memory."""


def keys_of_families(families: Iterable[str]) -> frozenset[str]:
    """All keys of these families, with the percentiles that the tools report."""
    wanted = frozenset(families)
    return frozenset(metric.key for metric in metric_rows(_PERCENTILES) if family(metric.key) in wanted)


def answer_record(
    index: int,
    sent_ns: int,
    chunks_ns: Sequence[int],
    *,
    request_id: str = "",
    due_ns: int | None = None,
    end_ns: int | None = None,
    text: str = "",
    tokens: Sequence[int] = (),
    error: str = "",
    outcome: Outcome | None = None,
    status: int | None = None,
    measured: bool = True,
    prompt_tokens: int | None = None,
    our_tokens: int | None = None,
    usage: TokenUsage | None = None,
) -> RequestRecord:
    """A record of one request whose answer came in chunks at `chunks_ns`, which never decrease.

    No tool reports which chunk contained which part of the `text`, so that the text is cut evenly. `tokens`: tokens of
    each chunk, if known. `outcome` None: derived from the chunks and the error. `prompt_tokens` and `our_tokens` are
    counted by the tool's tokenizer, `usage` by the server. Raises RequestWrong for times that are too long.
    """
    done_ns = max(sent_ns, end_ns or 0, *chunks_ns[-1:])
    if done_ns > _LONGEST_NS:
        days = done_ns / _LONGEST_NS * 90
        raise RequestWrong(f"request {index} ends {days:.0f} days after the start. Check the times in the file.")
    return RequestRecord(
        index=index,
        request_id=request_id or str(index),
        measured=measured,
        outcome=outcome or _outcome(chunks_ns, error),
        due_ns=due_ns,
        sent_ns=sent_ns,
        done_ns=done_ns,
        first_byte_ns=chunks_ns[0] if chunks_ns else None,
        events=_events(chunks_ns, text, tokens),
        status=status,
        error=error,
        prompt_tokens=prompt_tokens,
        our_tokens=our_tokens,
        usage=usage,
    )


def chunks_after(first_ns: int, gaps_ns: Iterable[int]) -> list[int]:
    """Times of the chunks, from the time of the first and the gaps between them."""
    return list(accumulate(gaps_ns, initial=first_ns))


def known_bursts(records: Iterable[RequestRecord]) -> frozenset[str]:
    """BURSTS if the tokens of each chunk are known: stated in the file, or one per chunk by the answer's count."""
    return BURSTS if all(_tokens_known(record) for record in records if record.ok) else frozenset()


def _outcome(chunks_ns: Sequence[int], error: str) -> Outcome:
    if error:
        return "server_error"
    return "ok" if chunks_ns else "no_tokens"


def _events(chunks_ns: Sequence[int], text: str, tokens: Sequence[int]) -> list[Event]:
    """Events of the chunks. A chunk without text becomes `reasoning`, because an empty `text` does not count as
    output."""
    count = len(chunks_ns)
    parts = [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]
    counts = tokens if len(tokens) == count else [0] * count
    return [
        Event(at_ns, "text" if part else "reasoning", part, token_count)
        for at_ns, part, token_count in zip(chunks_ns, parts, counts, strict=True)
    ]


def _tokens_known(record: RequestRecord) -> bool:
    count = record.usage.completion_tokens if record.usage else None
    count = record.our_tokens if count is None else count
    if any(event.tokens for event in record.events):
        return True
    return count is not None and count <= len(record.events) + 1

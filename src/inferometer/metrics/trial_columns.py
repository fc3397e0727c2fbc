"""The outputs of all requests of a trial as columns: gaps, bursts and stalls of millions of tokens in a few passes.

`request_timing` and `token_latency` define the same numbers for one request; a property test holds both to the same
results.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics.consistency import TWO_COUNTS
from inferometer.metrics.measures import TrialView, one_each
from inferometer.metrics.request_columns import OutputColumns, OutputPart, TimingColumns, timing_columns
from inferometer.metrics.request_timing import MOST_PIECE_CHARACTERS
from inferometer.metrics.series import Floats, Series
from inferometer.metrics.token_latency import AT_ONCE_NS, AT_ONCE_TOKENS, BURST_GAP_NS, STALL_MULTIPLE


def gaps_of(columns: OutputColumns, wanted: NDArray[np.bool_]) -> Series:
    """The gaps between the outputs of each request; none of requests that are not `wanted`."""
    counts = np.where(wanted, np.maximum(columns.counts - 1, 0), 0)
    found = Series.in_order(_joined(_gaps_of_parts(columns, wanted), int(counts.sum())), counts)
    if found.values.dtype.kind == "u":
        found.known["totals"] = np.where(wanted, columns.last_ns - columns.first_ns, 0).astype(np.float64)
    return found


def _gaps_of_parts(columns: OutputColumns, wanted: NDArray[np.bool_]) -> Iterator[NDArray[Any]]:
    for first, part in columns.parts():
        gaps = np.diff(part.at_ns)
        inside = _inside(part)
        own = wanted[first : first + len(part.counts)]
        if not own.all():
            inside &= np.repeat(own, part.counts)[1:]
        yield _narrow(gaps[inside])


def _inside(part: OutputPart) -> NDArray[np.bool_]:
    """Whether each output but the first of all comes after another one of its request."""
    found = np.ones(max(0, len(part.at_ns) - 1), np.bool_)
    begins = part.starts[1:-1]
    found[begins[(begins > 0) & (begins <= len(found))] - 1] = False
    return found


def _joined(parts: "Iterable[NDArray[Any]]", most: int) -> NDArray[Any]:
    """Together at most `most` values: what is not used of the space for them takes no memory."""
    values, count = np.empty(most, np.uint32), 0
    for own in parts:
        if own.dtype.kind == "f" and values.dtype.kind != "f":
            values = values.astype(np.float64)
        end = count + len(own)
        values[count:end], count = own, end
    return values[:count]


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in as few bytes as they fit; others as they are."""
    if len(values) and values.min() < 0:
        return values.astype(np.float64)
    most = values.max(initial=0)
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return values
    return values.astype(np.uint8 if most < 1 << 8 else np.uint32 if most < 1 << 32 else np.float64)


class BurstGaps(msgspec.Struct, frozen=True):
    """The gaps between the bursts of each request, in order; and the tokens of the burst after each gap."""

    gaps: Series
    later_tokens: NDArray[Any]

    def token_gaps(self) -> Series:
        """One value per token after the first burst: the gap before its burst, divided by the burst's tokens."""
        tokens = self.later_tokens
        if (tokens == 1).all():
            return self.gaps
        with np.errstate(divide="ignore"):
            share = np.where(tokens != 0, self.gaps.values / tokens, 0.0)
        times = np.maximum(1, np.rint(tokens.astype(np.float64))).astype(np.int64)
        return Series(np.repeat(share, times), np.repeat(self.gaps.positions, times), self.gaps.requests)

    def tokens(self) -> Series:
        """Tokens of each burst after the first."""
        return Series.in_order(self.later_tokens, self.gaps.counts())

    def stalls(self) -> Series:
        """The gaps that are stalls."""
        found = list(map(_stalls_of_part, self.gaps.parts()))
        values = [part.values for part in found] or [np.zeros(0)]
        owners = [part.positions for part in found] or [np.zeros(0, np.int64)]
        return Series(np.concatenate(values), np.concatenate(owners), self.gaps.requests)


class Bursts(msgspec.Struct, frozen=True):
    """The bursts of all requests (`token_latency.Delivery`). Of each request: `delivered`, whether it has a delivery;
    the tokens of its first burst and of all; its number of bursts; the time from the first output to the last, and
    from the first burst to the last; pieces of the first burst; characters of all output."""

    delivered: NDArray[np.bool_]
    first_tokens: Floats
    all_tokens: Floats
    counts: Ints
    span_ns: Ints
    gap_spans: Floats
    first_pieces: Ints
    characters: Floats

    def at_once(self) -> NDArray[np.bool_]:
        """Whether each answer came in one piece (`Delivery.at_once`)."""
        tokens = np.maximum(self.all_tokens, self.characters / MOST_PIECE_CHARACTERS)
        return self.delivered & (self.counts == 1) & (self.span_ns < AT_ONCE_NS) & (tokens >= AT_ONCE_TOKENS)

    def of_delivered(self, totals: Floats) -> Series:
        """The totals of the requests with a delivery."""
        positions = np.flatnonzero(self.delivered)
        return Series(totals[positions], positions, len(self.delivered))


def bursts_of(columns: OutputColumns, delivered: NDArray[np.bool_], totals: Ints) -> tuple[Bursts, BurstGaps]:
    """`totals`: output tokens of each request, UNKNOWN if so. `delivered`: whether each request is ok and has
    output."""
    parts: list[Bursts] = []
    tokens: list[NDArray[Any]] = []
    counts: list[Ints] = []

    def gaps() -> Iterator[NDArray[Any]]:
        for first, part in columns.parts():
            own = slice(first, first + len(part.counts))
            found, of_gaps = _bursts_of_part(part, delivered[own], totals[own])
            parts.append(found)
            tokens.append(of_gaps.later_tokens)
            counts.append(of_gaps.gaps.counts())
            yield of_gaps.gaps.values

    values = _joined(gaps(), int(columns.counts.sum()))
    together = BurstGaps(Series.in_order(values, _concatenated(counts)), _concatenated(tokens))
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) if parts else np.zeros(0, np.int64)
        for name in Bursts.__struct_fields__
    }
    return Bursts(**fields), together


def _concatenated(parts: "list[NDArray[Any]]") -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _bursts_of_part(columns: OutputPart, delivered: NDArray[np.bool_], totals: Ints) -> tuple[Bursts, BurstGaps]:
    owners = columns.owners
    tokens = _tokens_of_outputs(columns, owners, totals)
    first, ends, of_burst = _joined_outputs(columns, tokens)
    at_ns, owner = columns.at_ns[ends], owners[ends]
    inside = (owner[1:] == owner[:-1]) & delivered[owner[1:]]
    requests = len(delivered)
    counts = np.bincount(owner, minlength=requests)
    first_tokens, span_ns, first_pieces = np.zeros(requests), np.zeros(requests, np.int64), np.zeros(requests, np.int64)
    some = columns.counts > 0
    firsts = (np.cumsum(counts) - counts)[some]
    first_tokens[some], first_pieces[some] = of_burst[firsts], ends[firsts] + 1 - first[firsts]
    span_ns[some] = columns.at_ns[columns.starts[1:][some] - 1] - columns.at_ns[columns.starts[:-1][some]]
    gaps = Series.in_order(_narrow(np.diff(at_ns)[inside]), np.bincount(owner[1:][inside], minlength=requests))
    found = Bursts(
        delivered=delivered,
        first_tokens=first_tokens,
        all_tokens=np.bincount(owners, tokens, requests).astype(np.float64),
        counts=counts,
        span_ns=span_ns,
        gap_spans=gaps.totals(),
        first_pieces=first_pieces,
        characters=np.bincount(owners, columns.chars, requests).astype(np.float64),
    )
    return found, BurstGaps(gaps, _narrow(of_burst[1:][inside]))


def _joined_outputs(columns: OutputPart, tokens: Floats) -> tuple[Ints, Ints, Floats]:
    """The first and the last output of each burst, and its tokens."""
    begins = np.ones(len(tokens), np.bool_)
    begins[1:] = ~_inside(columns) | (np.diff(columns.at_ns) >= BURST_GAP_NS)
    first = np.flatnonzero(begins)
    if not len(first):
        return first, first, np.zeros(0)
    return first, np.append(first[1:], len(tokens)) - 1, np.add.reduceat(tokens, first)


def _each_output_is_a_burst(trial: TrialView, delivered: Bools, totals: Ints) -> bool:
    """Whether all gaps are gaps between bursts, and every burst is one token: as without speculation."""
    counts, gaps = trial.outputs.counts, chunk_gaps(trial)
    stated = trial.records.tokens is not None and bool(trial.records.tokens.any())
    shared = bool(_shares_tokens(totals, counts).any())
    same = bool((delivered == (trial.records.ok & (counts > 0))).all())
    return not stated and not shared and same and gaps.values.min(initial=BURST_GAP_NS) >= BURST_GAP_NS


def _single_outputs(trial: TrialView, delivered: Bools) -> tuple[Bursts, BurstGaps]:
    """The bursts where each output is one."""
    outputs, gaps = trial.outputs, chunk_gaps(trial)
    some = (outputs.counts > 0).astype(np.int64)
    found = Bursts(
        delivered=delivered,
        first_tokens=some.astype(np.float64),
        all_tokens=outputs.counts.astype(np.float64),
        counts=outputs.counts,
        span_ns=outputs.last_ns - outputs.first_ns,
        gap_spans=gaps.totals(),
        first_pieces=some,
        characters=outputs.characters.astype(np.float64),
    )
    return found, BurstGaps(gaps, np.broadcast_to(np.uint8(1), len(gaps.values)))


def burst_times(trial: TrialView) -> Iterator[tuple[Ints, NDArray[Any]]]:
    """When each burst of each answer ended, and its tokens: of some answers at once."""
    timing = _own_timing(trial)
    for first, part in trial.outputs.parts():
        owners, own = part.owners, slice(first, first + len(part.counts))
        tokens = _tokens_of_outputs(part, owners, timing.output_tokens[own])
        _, ends, of_burst = _joined_outputs(part, tokens)
        shown = timing.timed[own][owners[ends]]
        yield part.at_ns[ends][shown], of_burst[shown]


def _tokens_of_outputs(columns: OutputPart, owners: Ints, totals: Ints) -> Floats:
    """Tokens of each output, by the rules of `token_latency`."""
    counts, requests = columns.counts, len(totals)
    tokens = np.ones(len(owners))
    shared = _shares_tokens(totals, counts)
    if shared.any():
        all_chars = np.bincount(owners, columns.chars, requests)
        some = (shared & (all_chars > 0))[owners]
        tokens[some] = totals[owners[some]] * columns.chars[some].astype(np.int64) / all_chars[owners[some]]
    if columns.stated is not None:
        stating, stated = (np.bincount(owners, values, requests) for values in (columns.stated > 0, columns.stated))
        near = (totals == UNKNOWN) | (np.abs(stated - totals) <= TWO_COUNTS + totals / 10)
        is_stated = ((10 * stating >= 9 * counts) & near)[owners]
        tokens[is_stated] = columns.stated[is_stated]
    return tokens


def _shares_tokens(totals: Ints, counts: Ints) -> Bools:
    """Whether the outputs of each request hold several tokens each, or parts of one."""
    return (totals > counts + 1) | ((totals > 0) & (totals < 0.9 * counts - 1))


def _stalls_of_part(part: Series) -> Series:
    """Medians are computed only of requests whose longest gap is far above the shortest one."""
    owners, values = part.positions, part.values
    begins = np.flatnonzero(np.diff(owners, prepend=-1))
    if not len(begins):
        return part
    least, most = np.minimum.reduceat(values, begins), np.maximum.reduceat(values, begins)
    uneven = np.repeat(most > STALL_MULTIPLE * least, np.diff(begins, append=len(values)))
    owners, values = owners[uneven], values[uneven]
    first, groups = np.unique(owners, return_inverse=True)
    stalled = values > (STALL_MULTIPLE * _medians(values, groups, len(first)))[groups]
    return Series(values[stalled], owners[stalled], part.requests)


def _sorted_within(values: NDArray[Any], groups: Ints) -> Floats:
    """The values, in rising order within each group."""
    bits = int(values.max(initial=0)).bit_length()
    if bits + int(groups.max(initial=0)).bit_length() > 62 or values.min(initial=0) < 0:
        return values[np.lexsort((values, groups))]
    joined = (groups << bits) | values.astype(np.int64)  # sorting one column is 10 times faster
    joined.sort()
    return (joined & ((1 << bits) - 1)).astype(np.float64)


def _medians(values: NDArray[Any], groups: Ints, number: int) -> Floats:
    """The median of each group, which all have values. Groups never fall."""
    ordered = _sorted_within(values, groups)
    counts = np.bincount(groups, minlength=number)
    upper = np.cumsum(counts) - counts + counts // 2
    lower = np.where(counts % 2 == 1, upper, upper - 1)
    return (ordered[lower] + ordered[upper]) / 2


# --- of a trial -----------------------------------------------------------------------------------


def counted_gaps(trial: TrialView) -> Series:
    """The gaps between the events that count by the dialect (`RequestTiming.itl_ns`)."""
    return trial.cached_values(counted_gaps, _counted_gaps)


def _counted_gaps(trial: TrialView) -> Series:
    if trial.dialect == "inferometer":  # every output counts
        same = (trial.timing.timed >= trial.records.ok).all()
        return chunk_gaps(trial) if same else gaps_of(trial.outputs, trial.timing.timed)
    gaps = [request.timing.itl_ns if request.timing else () for request in trial.requests]
    counts = np.array([len(one) for one in gaps], np.int64)
    return Series.in_order(np.fromiter(chain.from_iterable(gaps), np.float64, int(counts.sum())), counts)


def itl(trial: TrialView) -> Series:
    """See `request_measures.itl_ns`."""
    gaps = counted_gaps(trial)
    unknown = trial.refuted("token_times")
    if trial.dialect == "inferometer":
        unknown = unknown | bursts(trial).at_once()
    if not unknown.any():
        return gaps
    kept = ~np.repeat(unknown, gaps.counts())
    return Series.in_order(gaps.values[kept], np.where(unknown, 0, gaps.counts()))


def tpot(trial: TrialView) -> Series:
    """See `request_measures.tpot_ns`."""
    times = trial.timing.tpot_ns
    if trial.dialect == "inferometer":
        times = _after_the_first_burst(trial, times)
    return one_each(trial, times, ~np.isnan(times))


def _after_the_first_burst(trial: TrialView, times: Floats) -> Floats:
    """`times` without the first burst of each request; NaN where no time is known."""
    found = bursts(trial)
    tokens = np.minimum(np.maximum(trial.timing.output_tokens, 0), found.all_tokens) - found.first_tokens
    spans = found.gap_spans
    with np.errstate(divide="ignore", invalid="ignore"):
        later = np.where(tokens > 0, spans / tokens, np.nan)
    one_burst = np.where(found.span_ns >= AT_ONCE_NS, times, np.nan)
    known = found.delivered & ~np.isnan(times) & ~found.at_once()
    return np.where(known, np.where(found.counts < 2, one_burst, later), np.nan)


def chunk_gaps(trial: TrialView) -> Series:
    """See `request_measures.chunk_gap_ns`."""
    return trial.cached_values(chunk_gaps, lambda trial: gaps_of(trial.outputs, trial.records.ok))


def bursts(trial: TrialView) -> Bursts:
    """The bursts of all requests."""
    return trial.cached(bursts, lambda trial: _bursts(trial)[0])


def burst_gaps(trial: TrialView) -> BurstGaps:
    """The gaps between the bursts of all requests."""
    return _bursts(trial)[1]


def _bursts(trial: TrialView) -> tuple[Bursts, BurstGaps]:
    return trial.cached_values(_bursts, _computed_bursts)


def _computed_bursts(trial: TrialView) -> tuple[Bursts, BurstGaps]:
    timing = _own_timing(trial)
    delivered = timing.timed & (trial.outputs.counts > 0) & ~trial.refuted("token_times")
    if _each_output_is_a_burst(trial, delivered, timing.output_tokens):
        return _single_outputs(trial, delivered)
    found, of_gaps = bursts_of(trial.outputs, delivered, timing.output_tokens)
    gaps = chunk_gaps(trial)
    same = np.array_equal(gaps.counts(), of_gaps.gaps.counts()) and np.array_equal(gaps.values, of_gaps.gaps.values)
    return found, BurstGaps(gaps, of_gaps.later_tokens) if same else of_gaps  # kept and ranked once


def token_gaps(trial: TrialView) -> Series:
    """See `request_measures.token_gap_ns`."""
    return burst_gaps(trial).token_gaps()


def burst_tokens(trial: TrialView) -> Series:
    """See `request_measures.burst_tokens`."""
    return burst_gaps(trial).tokens()


def burst_gap_totals(trial: TrialView) -> Series:
    """See `request_measures.burst_gap_total_ns`."""
    found = bursts(trial)
    return found.of_delivered(found.gap_spans)


def stalls(trial: TrialView) -> Series:
    """The gaps between bursts that are stalls."""
    return trial.cached(stalls, lambda trial: burst_gaps(trial).stalls())


def longest_stalls_ns(trial: TrialView) -> list[int]:
    """The longest stall of each request, 0 without one."""
    found, known = np.zeros(trial.size, np.int64), stalls(trial)
    np.maximum.at(found, known.positions, known.values.astype(np.int64))
    return found.tolist()


def stall_totals(trial: TrialView) -> Series:
    """See `request_measures.stall_total_ns`."""
    return bursts(trial).of_delivered(stalls(trial).totals())


def _own_timing(trial: TrialView) -> TimingColumns:
    """By our own rules, whatever the trial's dialect."""
    if trial.dialect == "inferometer":
        return trial.timing
    return timing_columns(trial.records, trial.outputs, trial.asked, "inferometer", trial.api)


# --- one value a request --------------------------------------------------------------------------


def ttft(trial: TrialView) -> Series:
    """See `request_measures.ttft_ns`."""
    return one_each(trial, trial.timing.ttft_ns, trial.timing.timed & ~trial.refuted("first_token"))


def latency(trial: TrialView) -> Series:
    """See `request_measures.latency_ns`."""
    return one_each(trial, trial.timing.latency_ns, trial.timing.timed)


def lateness(trial: TrialView) -> Series:
    """See `request_measures.request_lateness_ns`."""
    return one_each(trial, *_lateness(trial))


def ttft_from_due(trial: TrialView) -> Series:
    """See `request_measures.ttft_from_due_ns`."""
    late_ns, known = _lateness(trial)
    return one_each(trial, late_ns + trial.timing.ttft_ns, known & trial.timing.timed)


def latency_from_sent(trial: TrialView) -> Series:
    """See `request_measures.latency_from_sent_ns`."""
    _, known = _lateness(trial)
    return one_each(trial, trial.timing.latency_ns, known & trial.timing.timed)


def latency_from_due(trial: TrialView) -> Series:
    """See `request_measures.latency_from_due_ns`."""
    late_ns, known = _lateness(trial)
    return one_each(trial, late_ns + trial.timing.latency_ns, known & trial.timing.timed)


def _lateness(trial: TrialView) -> tuple[Ints, Bools]:
    """Sent − due, and whether both are known."""
    due_ns, sent_ns = trial.records.numbers["due_ns"], trial.records.numbers["sent_ns"]
    known = (due_ns != UNKNOWN) & (sent_ns != UNKNOWN)
    return np.where(known, sent_ns - np.where(known, due_ns, 0), 0), known


def success(trial: TrialView) -> Series:
    """See `request_measures.success`."""
    return one_each(trial, np.ones(trial.size), trial.timing.timed)


def output_tokens(trial: TrialView) -> Series:
    """See `request_measures.output_tokens`."""
    return one_each(trial, known_or_0(trial.timing.output_tokens), trial.timing.timed)


def prompt_and_output_tokens(trial: TrialView) -> Series:
    """See `request_measures.prompt_and_output_tokens`."""
    both = known_or_0(trial.timing.output_tokens) + known_or_0(trial.timing.prompt_tokens)
    return one_each(trial, both, trial.timing.timed)


def known_or_0(counts: Ints) -> Ints:
    """0 for UNKNOWN."""
    return np.where(counts == UNKNOWN, 0, counts)


def output_characters(trial: TrialView) -> Series:
    """See `request_measures.output_characters`."""
    return one_each(trial, trial.outputs.characters, trial.timing.timed)


def cached_prompt_tokens(trial: TrialView) -> Ints:
    """See `request_measures.cached_tokens`; UNKNOWN for None, and where a known fact refutes the count."""
    by_timings, by_usage = trial.records.timed("cache_n"), trial.records.used("cached_tokens")
    known = np.where(np.isnan(by_timings), by_usage, np.nan_to_num(by_timings)).astype(np.int64)
    return np.where(trial.refuted("cached_tokens"), UNKNOWN, known)


# --- speculation, by the server's timings ---------------------------------------------------------


def drafted(trial: TrialView) -> Series:
    """See `acceptance.drafted`."""
    return _of_timings(trial, trial.records.timed("draft_n"))


def verified(trial: TrialView) -> Series:
    """See `acceptance.verified`."""
    drafts, kept = trial.records.timed("draft_n"), trial.records.timed("draft_n_accepted")
    return _of_timings(trial, np.where(np.isnan(kept), np.nan, drafts))


def accepted(trial: TrialView) -> Series:
    """See `acceptance.accepted`."""
    return _of_timings(trial, trial.records.timed("draft_n_accepted"))


def decoded(trial: TrialView) -> Series:
    """See `acceptance.decoded`."""
    return _of_timings(trial, _decoded(trial))


def steps(trial: TrialView) -> Series:
    """See `acceptance.steps`."""
    made = _decoded(trial)
    kept = np.nan_to_num(trial.records.timed("draft_n_accepted"))
    return _of_timings(trial, np.maximum(made - kept, np.minimum(made, 1)))


def _decoded(trial: TrialView) -> Floats:
    drafts, kept = trial.records.timed("draft_n"), trial.records.timed("draft_n_accepted")
    return np.where(np.isnan(drafts) == np.isnan(kept), trial.records.timed("predicted_n") - 1, np.nan)


def _of_timings(trial: TrialView, values: Floats) -> Series:
    """Without the requests whose draft counts a known fact refutes."""
    return one_each(trial, values, trial.records.ok & ~np.isnan(values) & ~trial.refuted("draft_counts"))

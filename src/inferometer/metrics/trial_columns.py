"""The outputs of all requests of a trial as columns: gaps, bursts and stalls of millions of tokens in a few passes.

`request_timing` and `token_latency` define the same numbers for one request; a property test holds both to the same
results.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.record_columns import UNKNOWN, Bools, Ints
from inferometer.metrics.measures import TrialView, one_each
from inferometer.metrics.request_columns import OutputColumns, TimingColumns, timing_columns
from inferometer.metrics.request_timing import MOST_PIECE_CHARACTERS
from inferometer.metrics.series import PART_VALUES, Floats, Series
from inferometer.metrics.token_latency import AT_ONCE_NS, AT_ONCE_TOKENS, BURST_GAP_NS, STALL_MULTIPLE


def gaps_of(columns: OutputColumns, wanted: NDArray[np.bool_]) -> Series:
    """The gaps between the outputs of each request; none of requests that are not `wanted`."""

    def parts() -> "Iterator[tuple[NDArray[Any], NDArray[Any]]]":
        for first, part in columns.parts(PART_VALUES):
            owners = part.owners
            inside = (owners[1:] == owners[:-1]) & wanted[first + owners[1:]]
            yield _narrow(np.diff(part.at_ns)[inside]), first + owners[1:][inside]

    return _series(parts(), len(wanted), len(columns.chars))


def _series(parts: "Iterable[tuple[NDArray[Any], NDArray[Any]]]", requests: int, most: int) -> Series:
    """Of values and positions, together at most `most`: what is not used of the space for them takes no memory."""
    values, positions, count = np.empty(most, np.uint32), np.empty(most, np.uint32), 0
    for own, places in parts:
        if own.dtype.kind == "f" and values.dtype.kind != "f":
            values = values.astype(np.float64)
        end = count + len(own)
        values[count:end], positions[count:end], count = own, places, end
    return Series(values[:count], positions[:count], requests)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in as few bytes as they fit; others as they are."""
    if len(values) and values.min() < 0:
        return values.astype(np.float64)
    most = values.max(initial=0)
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return values
    return values.astype(np.uint8 if most < 1 << 8 else np.uint32 if most < 1 << 32 else np.float64)


class Bursts(msgspec.Struct, frozen=True):
    """The bursts of all requests (`token_latency.Delivery`). `gaps`: between bursts; `later_tokens`: tokens of the
    burst after each gap. Of each request: `delivered`, whether it has a delivery; the tokens of its first burst and of
    all; its number of bursts; the time from the first output to the last; characters of all output."""

    gaps: Series
    later_tokens: NDArray[Any]
    delivered: NDArray[np.bool_]
    first_tokens: Floats
    all_tokens: Floats
    counts: Ints
    span_ns: Ints
    characters: Floats

    def at_once(self) -> NDArray[np.bool_]:
        """Whether each answer came in one piece (`Delivery.at_once`)."""
        tokens = np.maximum(self.all_tokens, self.characters / MOST_PIECE_CHARACTERS)
        return self.delivered & (self.counts == 1) & (self.span_ns < AT_ONCE_NS) & (tokens >= AT_ONCE_TOKENS)

    def gap_spans(self) -> Floats:
        """From the first burst of each request to its last; 0 without a gap."""
        return self.gaps.totals()

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
        return Series(self.later_tokens, self.gaps.positions, self.gaps.requests)

    def gap_totals(self) -> Series:
        """Total of the gaps of each request with a delivery."""
        return self._of_delivered(self.gaps.totals())

    def stall_totals(self) -> Series:
        """Total of the stalls of each request with a delivery."""
        return self._of_delivered(self.stalls().totals())

    def longest_stalls_ns(self) -> list[int]:
        """The longest stall of each request, 0 without one."""
        found, stalls = np.zeros(self.gaps.requests, np.int64), self.stalls()
        np.maximum.at(found, stalls.positions, stalls.values.astype(np.int64))
        return found.tolist()

    def stalls(self) -> Series:
        """The gaps that are stalls."""
        limits = STALL_MULTIPLE * _medians(self.gaps)
        chosen = ((part, part.values > limits[part.positions]) for part in self.gaps.parts())
        found = ((part.values[stalled], part.positions[stalled]) for part, stalled in chosen)
        return _series(found, self.gaps.requests, len(self.gaps.values))

    def _of_delivered(self, totals: Floats) -> Series:
        positions = np.flatnonzero(self.delivered)
        return Series(totals[positions], positions, self.gaps.requests)


def bursts_of(columns: OutputColumns, delivered: NDArray[np.bool_], totals: Ints) -> Bursts:
    """`totals`: output tokens of each request, UNKNOWN if so. `delivered`: whether each request is ok and has
    output."""
    found: list[Bursts] = []

    def gaps() -> "Iterator[tuple[NDArray[Any], NDArray[Any]]]":
        for first, part in columns.parts(PART_VALUES):
            own = slice(first, first + len(part.counts))
            of_part = _bursts_of_part(part, delivered[own], totals[own])
            found.append(msgspec.structs.replace(of_part, gaps=_NO_GAPS))
            yield of_part.gaps.values, first + of_part.gaps.positions

    together = _series(gaps(), len(delivered), len(columns.chars))
    if not found:
        return _bursts_of_part(columns, delivered, totals)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in found])
        for name in Bursts.__struct_fields__
        if name != "gaps"
    }
    return Bursts(gaps=together, **joined)


_NO_GAPS = Series(np.zeros(0), np.zeros(0, np.int64), 0)


def _bursts_of_part(columns: OutputColumns, delivered: NDArray[np.bool_], totals: Ints) -> Bursts:
    owners = columns.owners
    tokens = _tokens_of_outputs(columns, owners, totals)
    first, ends, of_burst = _joined_outputs(columns, owners, tokens)
    at_ns, owner = columns.at_ns[ends], owners[ends]
    inside = (owner[1:] == owner[:-1]) & delivered[owner[1:]]
    requests = len(delivered)
    counts = np.bincount(owners[first], minlength=requests)
    first_tokens, span_ns = np.zeros(requests), np.zeros(requests, np.int64)
    some = columns.counts > 0
    first_tokens[some] = of_burst[(np.cumsum(counts) - counts)[some]]
    span_ns[some] = columns.at_ns[columns.starts[1:][some] - 1] - columns.at_ns[columns.starts[:-1][some]]
    return Bursts(
        gaps=Series(_narrow(np.diff(at_ns)[inside]), owner[1:][inside], requests),
        later_tokens=_narrow(of_burst[1:][inside]),
        delivered=delivered,
        first_tokens=first_tokens,
        all_tokens=np.bincount(owners, tokens, requests).astype(np.float64),
        counts=counts,
        span_ns=span_ns,
        characters=np.bincount(owners, columns.chars, requests).astype(np.float64),
    )


def _joined_outputs(columns: OutputColumns, owners: Ints, tokens: Floats) -> tuple[Ints, Ints, Floats]:
    """The first and the last output of each burst, and its tokens."""
    begins = np.ones(len(owners), np.bool_)
    begins[1:] = (owners[1:] != owners[:-1]) | (np.diff(columns.at_ns) >= BURST_GAP_NS)
    first = np.flatnonzero(begins)
    if not len(first):
        return first, first, np.zeros(0)
    return first, np.append(first[1:], len(owners)) - 1, np.add.reduceat(tokens, first)


def burst_times(trial: TrialView) -> tuple[Ints, NDArray[Any]]:
    """When each burst of each answer ended, and its tokens."""
    timing = _own_timing(trial)
    found: list[tuple[Ints, NDArray[Any]]] = []
    for first, part in trial.outputs.parts(PART_VALUES):
        owners, own = part.owners, slice(first, first + len(part.counts))
        tokens = _tokens_of_outputs(part, owners, timing.output_tokens[own])
        _, ends, of_burst = _joined_outputs(part, owners, tokens)
        shown = timing.timed[own][owners[ends]]
        found.append((part.at_ns[ends][shown], _narrow(of_burst[shown])))
    at_ns, tokens = zip(*found, strict=True) if found else ((np.zeros(0, np.int64),), (np.zeros(0),))
    return np.concatenate(at_ns), np.concatenate(tokens)


def _tokens_of_outputs(columns: OutputColumns, owners: Ints, totals: Ints) -> Floats:
    """Tokens of each output, by the rules of `token_latency`."""
    counts, requests = columns.counts, len(totals)
    tokens = np.ones(len(owners))
    shared = totals > counts + 1
    if shared.any():
        all_chars = np.bincount(owners, columns.chars, requests)
        some = (shared & (all_chars > 0))[owners]
        tokens[some] = totals[owners[some]] * columns.chars[some].astype(np.int64) / all_chars[owners[some]]
    if columns.stated is not None:
        stating = np.bincount(owners, columns.stated > 0, requests)
        is_stated = ((stating > 1) | ((stating == 1) & (counts == 1)))[owners]
        tokens[is_stated] = columns.stated[is_stated]
    return tokens


def _sorted_within(series: Series) -> Floats:
    """The values, in rising order within each request."""
    most = int(series.values.max(initial=0))
    bits = most.bit_length()
    if bits + series.requests.bit_length() > 62 or series.values.min(initial=0) < 0:
        return series.values[np.lexsort((series.values, series.positions))]
    joined = (series.positions << bits) | series.values.astype(np.int64)  # sorting one column is 10 times faster
    joined.sort()
    return (joined & ((1 << bits) - 1)).astype(np.float64)


def _medians(series: Series) -> Floats:
    """The median of each request's values; NaN for a request without values. Positions never fall."""
    found = np.full(series.requests, np.nan)
    begin = 0
    while begin < len(series.values):
        end = min(begin + PART_VALUES, len(series.values))
        if end < len(series.values):  # whole requests
            cut = cast("int", np.searchsorted(series.positions[begin:end], series.positions[end]))
            end = begin + cut if cut else cast("int", np.searchsorted(series.positions, series.positions[end], "right"))
        first, last = int(series.positions[begin]), int(series.positions[end - 1]) + 1
        positions = series.positions[begin:end].astype(np.int64) - first
        found[first:last] = _medians_of_part(Series(series.values[begin:end], positions, last - first))
        begin = end
    return found


def _medians_of_part(series: Series) -> Floats:
    values = _sorted_within(series)
    counts = np.bincount(series.positions, minlength=series.requests)
    ends = np.cumsum(counts)
    middle = ends - counts + counts // 2
    found = np.full(series.requests, np.nan)
    some = counts > 0
    upper = middle[some]
    lower = np.where(counts[some] % 2 == 1, upper, upper - 1)
    found[some] = (values[lower] + values[upper]) / 2
    return found


# --- of a trial -----------------------------------------------------------------------------------


def counted_gaps(trial: TrialView) -> Series:
    """The gaps between the events that count by the dialect (`RequestTiming.itl_ns`)."""
    if trial.dialect == "inferometer":  # every output counts
        same = (trial.timing.timed >= trial.records.ok).all()
        return chunk_gaps(trial) if same else gaps_of(trial.outputs, trial.timing.timed)
    gaps = [request.timing.itl_ns if request.timing else () for request in trial.requests]
    positions = np.repeat(np.arange(len(gaps)), [len(one) for one in gaps])
    return Series(np.fromiter(chain.from_iterable(gaps), np.float64, len(positions)), positions, len(gaps))


def itl(trial: TrialView) -> Series:
    """See `request_measures.itl_ns`."""
    gaps = trial.cached(counted_gaps, counted_gaps)
    unknown = trial.refuted("token_times")
    if trial.dialect == "inferometer":
        unknown |= bursts(trial).at_once()
    if not unknown.any():
        return gaps
    kept = ~unknown[gaps.positions]
    return Series(gaps.values[kept], gaps.positions[kept], gaps.requests)


def tpot(trial: TrialView) -> Series:
    """See `request_measures.tpot_ns`."""
    times = trial.timing.tpot_ns
    if trial.dialect == "inferometer":
        times = _after_the_first_burst(trial, times)
    return one_each(trial, times, ~np.isnan(times))


def _after_the_first_burst(trial: TrialView, times: Floats) -> Floats:
    """`times` without the first burst of each request; NaN where no time is known."""
    found = bursts(trial)
    tokens = np.maximum(trial.timing.output_tokens, 0) - found.first_tokens
    spans = found.gap_spans()
    with np.errstate(divide="ignore", invalid="ignore"):
        later = np.where(tokens > 0, spans / tokens, np.nan)
    one_burst = np.where(found.span_ns >= AT_ONCE_NS, times, np.nan)
    known = found.delivered & ~np.isnan(times) & ~found.at_once()
    return np.where(known, np.where(found.counts < 2, one_burst, later), np.nan)


def chunk_gaps(trial: TrialView) -> Series:
    """See `request_measures.chunk_gap_ns`."""
    return trial.cached(chunk_gaps, lambda trial: gaps_of(trial.outputs, trial.records.ok))


def bursts(trial: TrialView) -> Bursts:
    """The bursts of all requests."""
    return trial.cached(bursts, _bursts)


def token_gaps(trial: TrialView) -> Series:
    """See `request_measures.token_gap_ns`."""
    return bursts(trial).token_gaps()


def burst_tokens(trial: TrialView) -> Series:
    """See `request_measures.burst_tokens`."""
    return bursts(trial).tokens()


def burst_gap_totals(trial: TrialView) -> Series:
    """See `request_measures.burst_gap_total_ns`."""
    return bursts(trial).gap_totals()


def stall_totals(trial: TrialView) -> Series:
    """See `request_measures.stall_total_ns`."""
    return bursts(trial).stall_totals()


def _bursts(trial: TrialView) -> Bursts:
    timing = _own_timing(trial)
    delivered = timing.timed & (trial.outputs.counts > 0) & ~trial.refuted("token_times")
    found = bursts_of(trial.outputs, delivered, timing.output_tokens)
    gaps = chunk_gaps(trial)
    same = len(gaps.values) == len(found.gaps.values) and bool((gaps.values == found.gaps.values).all())
    return msgspec.structs.replace(found, gaps=gaps) if same else found  # kept and ranked once


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
    return one_each(trial, trial.outputs.summed(trial.outputs.chars), trial.timing.timed)


def cached_prompt_tokens(trial: TrialView) -> Ints:
    """See `request_measures.cached_tokens`; UNKNOWN for None, and where a known fact refutes the count."""
    by_timings, by_usage = trial.records.timed("cache_n"), trial.records.used("cached_tokens")
    known = np.where(np.isnan(by_timings), by_usage, np.nan_to_num(by_timings)).astype(np.int64)
    return np.where(trial.refuted("cached_tokens"), UNKNOWN, known)


# --- speculation, by the server's timings ---------------------------------------------------------


def drafted(trial: TrialView) -> Series:
    """See `acceptance.drafted`."""
    return _of_timings(trial, trial.records.timed("draft_n"))


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

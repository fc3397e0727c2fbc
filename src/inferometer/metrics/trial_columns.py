"""The outputs of all requests of a trial as columns: gaps, bursts and stalls of millions of tokens in a few passes.

`request_timing` and `token_latency` define the same numbers for one request; a property test holds both to the same
results.
"""

import array
from collections.abc import Sequence
from itertools import chain
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.record import OUTPUT_CODES, TEXT_CODE, Events, RequestRecord
from inferometer.metrics.measures import TrialView
from inferometer.metrics.request_timing import MOST_PIECE_CHARACTERS, request_timing
from inferometer.metrics.statistics import Floats, Series
from inferometer.metrics.token_latency import AT_ONCE_NS, AT_ONCE_TOKENS, BURST_GAP_NS, STALL_MULTIPLE

Ints = NDArray[np.int64]

_IS_OUTPUT = np.zeros(256, np.bool_)
_IS_OUTPUT[list(OUTPUT_CODES)] = True


class OutputColumns(msgspec.Struct, frozen=True):
    """Every event with output of several requests, in order: `at_ns`, `chars` and `stated` tokens (0 if not stated).
    `starts`: where each request begins, and where the last one ends."""

    at_ns: Ints
    chars: NDArray[np.uint32]
    stated: Ints | None
    starts: Ints

    @property
    def counts(self) -> Ints:
        """Number of outputs of each request."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """The position of each output's request."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)


def output_columns(records: Sequence[RequestRecord]) -> OutputColumns:
    """The outputs of these records. Each record's own stamps become a part of the columns, so that they exist once."""
    every = [cast("Events", record.events) for record in records]
    kinds = np.frombuffer(b"".join(events.kinds for events in every), np.uint8)
    chars = _joined_chars(every)
    chosen = _IS_OUTPUT[kinds] & ((chars > 0) | (kinds != TEXT_CODE))
    before = np.concatenate(([0], np.cumsum(chosen)))
    ends = np.cumsum([len(events.kinds) for events in every], dtype=np.int64)
    starts = before[np.concatenate(([0], ends))].astype(np.int64)
    at_ns = np.frombuffer(b"".join(events.at_ns for events in every), np.int64)[chosen]
    stated = None
    if any(events.tokens for events in every):
        parts = [events.tokens.tobytes() or bytes(4 * len(events.kinds)) for events in every]
        stated = np.frombuffer(b"".join(parts), np.uint32)[chosen].astype(np.int64)
    stamps = at_ns.data
    bounds = starts.tolist()
    for events, start, end in zip(every, bounds, bounds[1:], strict=False):
        events.keep_outputs_ns(stamps[start:end])
    return OutputColumns(at_ns, chars[chosen], stated, starts)


def _joined_chars(every: Sequence[Events]) -> NDArray[np.uint32]:
    """Their widths differ."""
    codes = {events.chars.typecode for events in every}
    if len(codes) == 1:
        return np.frombuffer(b"".join(events.chars for events in every), codes.pop()).astype(np.uint32)
    return np.frombuffer(b"".join(array.array("I", events.chars) for events in every), np.uint32)


def gaps_of(columns: OutputColumns, wanted: NDArray[np.bool_]) -> Series:
    """The gaps between the outputs of each request; none of requests that are not `wanted`."""
    owners = columns.owners
    inside = (owners[1:] == owners[:-1]) & wanted[owners[1:]]
    return Series(np.diff(columns.at_ns)[inside].astype(np.float64), owners[1:][inside], len(wanted))


class Bursts(msgspec.Struct, frozen=True):
    """The bursts of all requests (`token_latency.Delivery`). `gaps`: between bursts; `later_tokens`: tokens of the
    burst after each gap. Of each request: `delivered`, whether it has a delivery; the tokens of its first burst and of
    all; its number of bursts; the time from the first output to the last; characters of all output."""

    gaps: Series
    later_tokens: Floats
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
        return np.bincount(self.gaps.positions, self.gaps.values, self.gaps.requests).astype(np.float64)

    def token_gaps(self) -> Series:
        """One value per token after the first burst: the gap before its burst, divided by the burst's tokens."""
        tokens = self.later_tokens
        if (tokens == 1.0).all():
            return self.gaps
        with np.errstate(divide="ignore"):
            share = np.where(tokens != 0, self.gaps.values / tokens, 0.0)
        times = np.maximum(1, np.rint(tokens)).astype(np.int64)
        return Series(np.repeat(share, times), np.repeat(self.gaps.positions, times), self.gaps.requests)

    def tokens(self) -> Series:
        """Tokens of each burst after the first."""
        return Series(self.later_tokens, self.gaps.positions, self.gaps.requests)

    def gap_totals(self) -> Series:
        """Total of the gaps of each request with a delivery."""
        return self._totals(self.gaps.values)

    def stall_totals(self) -> Series:
        """Total of the stalls of each request with a delivery."""
        return self._totals(np.where(self.is_stall(), self.gaps.values, 0.0))

    def is_stall(self) -> NDArray[np.bool_]:
        """Whether each gap is a stall."""
        limits = STALL_MULTIPLE * _medians(self.gaps)
        return self.gaps.values > limits[self.gaps.positions]

    def longest_stalls_ns(self) -> list[int]:
        """The longest stall of each request, 0 without one."""
        found = np.zeros(self.gaps.requests, np.int64)
        begins = np.flatnonzero(np.diff(self.gaps.positions, prepend=-1))
        if len(begins):
            stalls = np.where(self.is_stall(), self.gaps.values, 0.0)
            found[self.gaps.positions[begins]] = np.maximum.reduceat(stalls, begins)
        return found.tolist()

    def _totals(self, values: Floats) -> Series:
        totals = np.bincount(self.gaps.positions, values, self.gaps.requests).astype(np.float64)
        positions = np.flatnonzero(self.delivered)
        return Series(totals[positions], positions, self.gaps.requests)


def bursts_of(columns: OutputColumns, delivered: NDArray[np.bool_], totals: Sequence[int | None]) -> Bursts:
    """`totals`: output tokens of each request, None if unknown. `delivered`: whether each request is ok and has
    output."""
    owners = columns.owners
    tokens = _tokens_of_outputs(columns, owners, totals)
    begins = np.ones(len(owners), np.bool_)
    begins[1:] = (owners[1:] != owners[:-1]) | (np.diff(columns.at_ns) >= BURST_GAP_NS)
    first = np.flatnonzero(begins)
    ends = np.concatenate((first[1:], [len(owners)])) - 1 if len(first) else first
    of_burst = np.bincount(np.cumsum(begins) - 1, tokens, len(first)).astype(np.float64)
    at_ns, owner = columns.at_ns[ends], owners[ends]
    inside = (owner[1:] == owner[:-1]) & delivered[owner[1:]]
    gaps = Series(np.diff(at_ns)[inside].astype(np.float64), owner[1:][inside], len(delivered))
    requests = len(delivered)
    counts = np.bincount(owners[first], minlength=requests)
    first_tokens, span_ns = np.zeros(requests), np.zeros(requests, np.int64)
    some = columns.counts > 0
    first_tokens[some] = of_burst[(np.cumsum(counts) - counts)[some]]
    span_ns[some] = columns.at_ns[columns.starts[1:][some] - 1] - columns.at_ns[columns.starts[:-1][some]]
    return Bursts(
        gaps=gaps,
        later_tokens=of_burst[1:][inside],
        delivered=delivered,
        first_tokens=first_tokens,
        all_tokens=np.bincount(owners, tokens, requests).astype(np.float64),
        counts=counts,
        span_ns=span_ns,
        characters=np.bincount(owners, columns.chars, requests).astype(np.float64),
    )


def _tokens_of_outputs(columns: OutputColumns, owners: Ints, totals: Sequence[int | None]) -> Floats:
    """Tokens of each output, by the rules of `token_latency`."""
    counts, requests = columns.counts, len(totals)
    known = np.array([-1 if total is None else total for total in totals], np.int64)
    tokens = np.ones(len(owners))
    shared = known > counts + 1
    if shared.any():
        all_chars = np.bincount(owners, columns.chars, requests)
        some = (shared & (all_chars > 0))[owners]
        tokens[some] = known[owners[some]] * columns.chars[some].astype(np.int64) / all_chars[owners[some]]
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
    """The median of each request's values; NaN for a request without values."""
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
    timings = [request.timing for request in trial.requests]
    if trial.dialect == "inferometer":  # every output counts
        timed = np.array([timing is not None for timing in timings], np.bool_)
        same = bool((timed >= _are_ok(trial)).all())
        return chunk_gaps(trial) if same else gaps_of(outputs(trial), timed)
    gaps = [timing.itl_ns if timing else () for timing in timings]
    positions = np.repeat(np.arange(len(gaps)), [len(one) for one in gaps])
    return Series(np.fromiter(chain.from_iterable(gaps), np.float64, len(positions)), positions, len(gaps))


def itl(trial: TrialView) -> Series:
    """See `request_measures.itl_ns`."""
    gaps = trial.cached(counted_gaps, counted_gaps)
    unknown = _are_refuted(trial)
    if trial.dialect == "inferometer":
        unknown |= bursts(trial).at_once()
    if not unknown.any():
        return gaps
    kept = ~unknown[gaps.positions]
    return Series(gaps.values[kept], gaps.positions[kept], gaps.requests)


def tpot(trial: TrialView) -> Series:
    """See `request_measures.tpot_ns`."""
    found = [
        np.nan if (one := request.timing) is None or one.tpot_ns is None else one.tpot_ns for request in trial.requests
    ]
    times = np.array(found, np.float64)
    if trial.dialect == "inferometer":
        times = _after_the_first_burst(trial, times)
    positions = np.flatnonzero(~np.isnan(times))
    return Series(times[positions], positions, len(times))


def _after_the_first_burst(trial: TrialView, times: Floats) -> Floats:
    """`times` without the first burst of each request; NaN where no time is known."""
    found = bursts(trial)
    totals = [request.timing.output_tokens if request.timing else None for request in trial.requests]
    tokens = np.array([total or 0 for total in totals], np.float64) - found.first_tokens
    spans = found.gap_spans()
    with np.errstate(divide="ignore", invalid="ignore"):
        later = np.where(tokens > 0, spans / tokens, np.nan)
    one_burst = np.where(found.span_ns >= AT_ONCE_NS, times, np.nan)
    known = found.delivered & ~np.isnan(times) & ~found.at_once()
    return np.where(known, np.where(found.counts < 2, one_burst, later), np.nan)


def chunk_gaps(trial: TrialView) -> Series:
    """See `request_measures.chunk_gap_ns`."""
    return trial.cached(chunk_gaps, lambda trial: gaps_of(outputs(trial), _are_ok(trial)))


def outputs(trial: TrialView) -> OutputColumns:
    """The outputs of all requests."""
    return trial.cached(outputs, lambda trial: output_columns([request.record for request in trial.requests]))


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
    timings = [
        request.timing if trial.dialect == "inferometer" else request_timing(request.record, asked=request.asked)
        for request in trial.requests
    ]
    columns = outputs(trial)
    timed = np.array([timing is not None for timing in timings], np.bool_)
    delivered = _are_ok(trial) & (columns.counts > 0) & timed & ~_are_refuted(trial)
    found = bursts_of(columns, delivered, [timing.output_tokens if timing else None for timing in timings])
    gaps = chunk_gaps(trial)
    same = len(gaps.values) == len(found.gaps.values) and bool((gaps.values == found.gaps.values).all())
    return msgspec.structs.replace(found, gaps=gaps) if same else found  # kept and ranked once


def _are_refuted(trial: TrialView) -> NDArray[np.bool_]:
    return np.array([request.times_refuted for request in trial.requests], np.bool_)


def _are_ok(trial: TrialView) -> NDArray[np.bool_]:
    return np.array([request.record.ok for request in trial.requests], np.bool_)

"""Calibration of the client: the error of its time stamps, measured with known streams at rising rates.

The paced server provides the true times: each token contains its send time, on a clock that all processes of this host
share. Pure functions decide what to play and what it shows; `calibrate` and `_measure` do the measuring.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.base.errors import LoadFailed, RequestWrong
from inferometer.base.units import NS_PER_MS, NS_PER_S
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.request import user_request
from inferometer.core.spec import Sampling
from inferometer.load import play
from inferometer.load.audit import COALESCED_LIMIT, LoadReport
from inferometer.load.worker_pool import local_workers
from inferometer.testing.paced_server import PacedServer, PacedStats, server_sent_ns

FIRST_MS = 20
GAP_MS = 10
TOKENS_PER_S = 1000 // GAP_MS
"""Rate of one stream."""

RATE_LIMIT = 0.97
"""Share of the scheduled tokens that arrived while all streams ran. Below it, the load is not the requested one."""
ERROR_LIMIT_MS = 1.0
"""Limit for the P99 error of a stamp: a tenth of the gap between two tokens of a fast stream."""
BUSY_LIMIT = 0.1
"""Share of the time in which the server waited for a core. Above it, other programs kept the machine busy, or it has
too few cores for a server and a client."""

_STREAMS = (1, 10, 50)
_LEAST_S, _MOST_S = 0.2, 60.0
_SPREAD_MS = 1.0  # between two streams' starts, at most

Part = Literal["client", "server"]


class Limit(msgspec.Struct, frozen=True):
    """A bound that was exceeded: who exceeded it, and the evidence."""

    part: Part
    message: str


class RateStep(msgspec.Struct, frozen=True):
    """Measurements with `streams` parallel streams. None: not measurable.

    `achieved`: share of the scheduled tokens that arrived while all streams ran; `sent`: the same for the tokens that
    the server sent. `error`: stamp of an arrival minus the server's send time; `ttft_error`: the same for first tokens.
    `lateness`: send time minus due time. `lag`: read time minus arrival time. `coalesced`: share of the tokens that
    were read together with the token before. `cpu_share`: the load worker's share of a core.
    """

    streams: int
    tokens: int
    failed: int
    first_failure: str
    achieved: float
    sent: float
    error_median_ms: float
    error_p99_ms: float
    error_max_ms: float
    ttft_error_median_ms: float
    ttft_error_p99_ms: float
    ttft_error_max_ms: float
    lateness_p99_ms: float
    lag_p99_ms: float | None
    lag_max_ms: float | None
    coalesced: float
    cpu_share: float
    stamps: str
    server: PacedStats

    @property
    def asked_per_s(self) -> int:
        return self.streams * TOKENS_PER_S

    @property
    def achieved_per_s(self) -> float:
        return self.achieved * self.asked_per_s


class Bounds(msgspec.Struct, frozen=True):
    """The bounds within which a rate counts as held."""

    achieved: float = RATE_LIMIT
    error_p99_ms: float = ERROR_LIMIT_MS
    ttft_error_p99_ms: float = ERROR_LIMIT_MS
    coalesced: float = COALESCED_LIMIT


class Calibration(msgspec.Struct, frozen=True):
    """`ceiling_streams`: the most streams held within `bounds`; None if none was. `limited_by`: who limited the
    next rate; None if the largest requested rate was held. `stamps`: "" with kernel stamps, else why not."""

    stamps: str
    bounds: Bounds
    rates: tuple[RateStep, ...]
    ceiling_streams: int | None
    limited_by: Part | None
    message: str


def calibrate(max_streams: int, seconds: float) -> Iterator[RateStep]:
    """Measure rising rates, `seconds` each, until one is not achieved or `max_streams` is reached.

    Raises RequestWrong immediately for invalid arguments, LoadFailed if a server or a worker fails.
    """
    if max_streams < 1:
        raise RequestWrong(f"--max-streams must be at least 1, not {max_streams}.")
    if not _LEAST_S <= seconds <= _MOST_S:
        raise RequestWrong(f"--seconds must be between {_LEAST_S:g} and {_MOST_S:g}, not {seconds:g}.")
    return _measure_rising(max_streams, seconds)


def _measure_rising(max_streams: int, seconds: float) -> Iterator[RateStep]:
    for streams in stream_counts(max_streams):
        rate = _measure(streams, seconds)
        yield rate
        if not achieved(rate):
            return


def _measure(streams: int, seconds: float) -> RateStep:
    schedule = SteppedSchedule.of(streams, seconds)
    pace = {"paced": {"first_ms": FIRST_MS, "gap_ms": GAP_MS}}
    zero_ns = time.monotonic_ns()
    records = StreamRecords(schedule, zero_ns)
    report: LoadReport | None = None
    with PacedServer() as server, local_workers() as pool:
        endpoint = Endpoint(server.url, "/v1/chat/completions", "openai-chat", "paced")
        for event in play(schedule.plan(), endpoint, Sampling(extra_body=pace), zero_ns, pool):
            match event:
                case RequestRecord() if event.measured:
                    records.add(event)
                case LoadReport():
                    report = event
                case _:
                    pass
        stats = server.stop()
    assert report is not None  # the last that `play` yields
    return records.rate(report, stats)


# --- decide ---------------------------------------------------------------------------------------


def stream_counts(most: int) -> list[int]:
    """The numbers of streams to measure: 1, 10, 50, 100, 200, 400, … and `most` itself."""
    counts = [count for count in _STREAMS if count < most]
    doubled = 100
    while doubled < most:
        counts.append(doubled)
        doubled *= 2
    return [*counts, most]


class SteppedSchedule(msgspec.Struct, frozen=True):
    """`streams` streams of `tokens` tokens, due one after another and evenly from 0 to `spread_ns`.

    The spread distributes the streams' tokens evenly within a gap, without bursts that would make the server late.
    """

    streams: int
    tokens: int
    spread_ns: int

    @classmethod
    def of(cls, streams: int, seconds: float) -> "SteppedSchedule":
        """The schedule with starts spread over at most `seconds` / 4. With a spread of g gaps, n streams have n
        different places in a gap if g and n have no common divisor."""
        gaps = max(1, int(min(streams * _SPREAD_MS, seconds * 250) / GAP_MS))
        while math.gcd(gaps, streams) > 1:
            gaps -= 1
        return cls(streams, round(seconds * TOKENS_PER_S), gaps * GAP_MS * NS_PER_MS)

    def due_ns(self, stream: int) -> int:
        """Due time of this stream (counted from 0), from the plan's start."""
        return stream * self.spread_ns // self.streams

    def plan(self) -> Plan:
        """One warm-up, then all streams at once, so that all connections are opened beforehand."""
        warmup = PlanItem(0, user_request("warm-up", "warm-up", max_tokens=5), None, measured=False)
        items = [
            PlanItem(i + 1, user_request(str(i), f"stream {i}", max_tokens=self.tokens), self.due_ns(i))
            for i in range(self.streams)
        ]
        return Plan((warmup, *items), self.streams, seed=0)

    def window_ns(self) -> tuple[int, int]:
        """From the last stream's first token to the first stream's last, from the plan's start."""
        begin_ns = self.due_ns(self.streams - 1) + FIRST_MS * NS_PER_MS
        return begin_ns, FIRST_MS * NS_PER_MS + (self.tokens - 1) * GAP_MS * NS_PER_MS


class StreamRecords:
    """Collects the records of a rate; their times count from `zero_ns` of the monotonic clock."""

    def __init__(self, schedule: SteppedSchedule, zero_ns: int) -> None:
        self._schedule = schedule
        self._zero_ns = zero_ns
        self._arrived: list[NDArray[np.int64]] = []
        self._sent: list[NDArray[np.int64]] = []
        self._lateness_ns: list[int] = []
        self._coalesced = 0
        self._starts_ns: list[int] = []
        self._failed = 0
        self._first_failure = ""

    def add(self, record: RequestRecord) -> None:
        """Add a record. A stream without all its tokens counts as failed and nowhere else."""
        tokens = [event for event in record.events if event.kind == "text"]
        if not record.ok or len(tokens) != self._schedule.tokens or record.due_ns is None or record.sent_ns is None:
            self._failed += 1
            reason = f"{record.outcome}: {record.error}" if not record.ok else f"{len(tokens)} tokens"
            self._first_failure = self._first_failure or reason
            return
        self._arrived.append(np.array([token.at_ns for token in tokens], np.int64))
        self._sent.append(np.array([server_sent_ns(token.text) for token in tokens], np.int64) - self._zero_ns)
        self._lateness_ns.append(record.sent_ns - record.due_ns)
        self._starts_ns.append(record.due_ns - self._schedule.due_ns(record.index - 1))
        self._coalesced += record.coalesced

    def rate(self, report: LoadReport, server: PacedStats) -> RateStep:
        """The measurements of the rate. Raises LoadFailed if no stream was completed."""
        if not self._arrived:
            raise LoadFailed(f"all {self._schedule.streams} stream(s) failed; the first: {self._first_failure}")
        arrived, sent = np.stack(self._arrived), np.stack(self._sent)
        error = (arrived - sent) / NS_PER_MS
        ttft_error = error[:, 0]
        return RateStep(
            streams=self._schedule.streams,
            tokens=arrived.size,
            failed=self._failed,
            first_failure=self._first_failure,
            achieved=self._share_in_window(arrived),
            sent=self._share_in_window(sent),
            error_median_ms=float(np.median(error)),
            error_p99_ms=float(np.percentile(error, 99)),
            error_max_ms=float(error.max()),
            ttft_error_median_ms=float(np.median(ttft_error)),
            ttft_error_p99_ms=float(np.percentile(ttft_error, 99)),
            ttft_error_max_ms=float(ttft_error.max()),
            lateness_p99_ms=float(np.percentile(self._lateness_ns, 99)) / NS_PER_MS,
            lag_p99_ms=report.lag_p99_ms,
            lag_max_ms=report.lag_max_ms,
            coalesced=self._coalesced / arrived.size,
            cpu_share=report.cpu_share,
            stamps=report.stamps,
            server=server,
        )

    def _share_in_window(self, at_ns: NDArray[np.int64]) -> float:
        """Share of the tokens that the schedule has for the time in which all streams run."""
        begin_ns, end_ns = (self._starts_ns[0] + edge_ns for edge_ns in self._schedule.window_ns())
        ideal = self._schedule.streams * TOKENS_PER_S * (end_ns - begin_ns) / NS_PER_S
        return int(np.count_nonzero((at_ns >= begin_ns) & (at_ns < end_ns))) / ideal


def achieved(rate: RateStep) -> bool:
    """Whether the load was the requested one; if not, higher rates are not worth measuring."""
    return rate.achieved >= RATE_LIMIT and not rate.failed


def limits(rate: RateStep) -> list[Limit]:
    """The bounds that this rate exceeded. A server that sent too little, although nothing blocked it, is itself the
    limit and not evidence against the client."""
    found: list[Limit] = []
    if rate.failed:
        found.append(Limit("client", f"{rate.failed} stream(s) failed, the first: {rate.first_failure}"))
    elif rate.achieved < RATE_LIMIT:
        if rate.sent < RATE_LIMIT and not rate.server.blocked:
            late, cpu_share = rate.server.lateness_p99_ms or 0.0, rate.server.cpu_share
            evidence = f"{late:.1f} ms late at P99, with {cpu_share:.0%} of a core"
            found.append(Limit("server", f"it sent {rate.sent:.1%} of its schedule, {evidence}"))
        else:
            found.append(Limit("client", f"{rate.achieved:.1%} of the rate arrived"))
    for name, value, limit in (
        ("the error of a stamp", rate.error_p99_ms, ERROR_LIMIT_MS),
        ("the error of a first token's stamp", rate.ttft_error_p99_ms, ERROR_LIMIT_MS),
    ):
        if value > limit:
            found.append(Limit("client", f"{name} was {value:.2f} ms at P99, above {limit:g} ms"))
    if rate.coalesced > COALESCED_LIMIT:
        found.append(Limit("client", f"{rate.coalesced:.1%} of the tokens were read together with the token before"))
    return found


def conclusion(rates: Sequence[RateStep]) -> Calibration:
    """The result of the rates; at least one, in rising order."""
    held = [rate for rate in rates if not limits(rate)]
    best = held[-1] if held else None
    beyond = [rate for rate in rates if best is None or rate.streams > best.streams]
    beyond_limits = limits(beyond[0]) if beyond else []
    limit = beyond_limits[0] if beyond_limits else None
    return Calibration(
        stamps=rates[0].stamps,
        bounds=Bounds(),
        rates=tuple(rates),
        ceiling_streams=None if best is None else best.streams,
        limited_by=None if limit is None else limit.part,
        message=" ".join([_held_text(best), _limit_text(beyond[0], beyond_limits) if beyond_limits else _NO_LIMIT]),
    )


_NO_LIMIT = "This was the largest rate measured; the ceiling is higher (raise --max-streams)."


def _held_text(best: RateStep | None) -> str:
    if best is None:
        return "No rate was held within the bounds: close other programs on this machine and repeat."
    return (
        f"Up to {best.streams} streams ({best.asked_per_s:,} tok/s) a stamp is {best.error_median_ms:.3f} ms (median), "
        f"{best.error_p99_ms:.3f} ms (P99) late; for first tokens {best.ttft_error_p99_ms:.3f} ms (P99)."
    )


def _limit_text(rate: RateStep, found: Sequence[Limit]) -> str:
    """The first limit; if it is the server's, also the first one of the client."""
    first = found[0]
    text = f"At {rate.streams} streams {_OWNER[first.part]} was the limit: {first.message}"
    if first.part == "server":
        of_client = next((limit.message for limit in found if limit.part == "client"), None)
        text += "; the client held its bounds" if of_client is None else f"; of the client, {of_client}"
    waited = rate.server.waited_share or 0.0
    if waited > BUSY_LIMIT:
        text += f". The server waited for a core {waited:.0%} of the time: the machine was busy"
    return text + "."


_OWNER = {"client": "the client", "server": "the shipped server"}

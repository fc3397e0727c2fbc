"""How far from the truth are this machine's stamps, and up to which load? Known streams at rising rates.

The truth comes from the paced server: each token says when it was sent, on a clock that this host's processes share.
What to play and what it shows is decided by pure functions; `calibrate` and `_measured` do it.
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
"""Of one stream."""

RATE_LIMIT = 0.97
"""Tokens that arrived while all streams ran, against the schedule: below it the load is another than the one asked."""
ERROR_LIMIT_MS = 1.0
"""P99 of the error of a stamp: a tenth of the gap between two tokens of a fast stream."""
BUSY_LIMIT = 0.1
"""Share of the time for which the server was ready and had no core: above it, what was measured is the machine's other
work, or too few cores for a server and a client."""

_STREAMS = (1, 10, 50)
_LEAST_S, _MOST_S = 0.2, 60.0
_SPREAD_MS = 1.0  # between two streams' starts, at most

Part = Literal["client", "server"]


class Limit(msgspec.Struct, frozen=True):
    """A bound that did not hold: whose part it was, and the evidence."""

    part: Part
    message: str


class RateStep(msgspec.Struct, frozen=True):
    """What was measured of `streams` streams at once. None: there was nothing to measure it by.

    `achieved`: tokens that arrived while all streams ran, of those that the schedule had for that time; `sent`: the
    same for the tokens that the server sent. `error`: an arrival's stamp minus the server's send time; `ttft_error`:
    the same of first tokens. `lateness`: sending minus due. `lag`: reading minus arriving. `coalesced`: share of the
    tokens that were read together with the one before. `cpu_share`: of a core, the load worker's.
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
    """Within which a rate is held."""

    achieved: float = RATE_LIMIT
    error_p99_ms: float = ERROR_LIMIT_MS
    ttft_error_p99_ms: float = ERROR_LIMIT_MS
    coalesced: float = COALESCED_LIMIT


class Calibration(msgspec.Struct, frozen=True):
    """`ceiling_streams`: the most that were held within `bounds`; None if none were. `limited_by`: what kept the next
    rate from being held; None where the largest asked for was held. `stamps`: "" with kernel stamps, else why not."""

    stamps: str
    bounds: Bounds
    rates: tuple[RateStep, ...]
    ceiling_streams: int | None
    limited_by: Part | None
    message: str


def calibrate(max_streams: int, seconds: float) -> Iterator[RateStep]:
    """Measures one rate after another, `seconds` each, until one is not achieved or all up to `max_streams` are done.

    Raises RequestWrong at once for what cannot be played, LoadFailed where a server or a worker broke.
    """
    if max_streams < 1:
        raise RequestWrong(f"--max-streams must be at least 1, not {max_streams}.")
    if not _LEAST_S <= seconds <= _MOST_S:
        raise RequestWrong(f"--seconds must be between {_LEAST_S:g} and {_MOST_S:g}, not {seconds:g}.")
    return _rising(max_streams, seconds)


def _rising(max_streams: int, seconds: float) -> Iterator[RateStep]:
    for streams in stream_counts(max_streams):
        rate = _measured(streams, seconds)
        yield rate
        if not achieved(rate):
            return


def _measured(streams: int, seconds: float) -> RateStep:
    schedule = SteppedSchedule.of(streams, seconds)
    pace = {"paced": {"first_ms": FIRST_MS, "gap_ms": GAP_MS}}
    zero_ns = time.monotonic_ns()
    taken = Taken(schedule, zero_ns)
    report: LoadReport | None = None
    with PacedServer() as server, local_workers() as crew:
        endpoint = Endpoint(server.url, "/v1/chat/completions", "openai-chat", "paced")
        for happening in play(schedule.plan(), endpoint, Sampling(extra_body=pace), zero_ns, crew):
            match happening:
                case RequestRecord() if happening.measured:
                    taken.add(happening)
                case LoadReport():
                    report = happening
                case _:
                    pass
        stats = server.stop()
    assert report is not None  # the last that `play` yields
    return taken.rate(report, stats)


# --- decide ---------------------------------------------------------------------------------------


def stream_counts(most: int) -> list[int]:
    """1, 10, 50, 100, 200, 400, … and `most` itself."""
    counts = [count for count in _STREAMS if count < most]
    doubled = 100
    while doubled < most:
        counts.append(doubled)
        doubled *= 2
    return [*counts, most]


class SteppedSchedule(msgspec.Struct, frozen=True):
    """`streams` streams of `tokens` tokens, due one after another and evenly from 0 to `spread_ns`.

    The spread is such that the streams' tokens lie evenly in a gap: no bursts, in which a server would be late.
    """

    streams: int
    tokens: int
    spread_ns: int

    @classmethod
    def of(cls, streams: int, seconds: float) -> "SteppedSchedule":
        """Starts spread over `seconds` / 4 at most. With a spread of g gaps, n streams have n different places in a
        gap where g and n have no common divisor."""
        gaps = max(1, int(min(streams * _SPREAD_MS, seconds * 250) / GAP_MS))
        while math.gcd(gaps, streams) > 1:
            gaps -= 1
        return cls(streams, round(seconds * TOKENS_PER_S), gaps * GAP_MS * NS_PER_MS)

    def due_ns(self, stream: int) -> int:
        """When this stream, counted from 0, is due, from the plan's start."""
        return stream * self.spread_ns // self.streams

    def plan(self) -> Plan:
        """One warm-up, then the streams; as many at once as there are, so that all connections stand beforehand."""
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


class Taken:
    """Takes in the records of a rate; times of records are from `zero_ns` of the monotonic clock."""

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
        """A stream that did not bring all its tokens has failed and is in nothing else."""
        tokens = [event for event in record.events if event.kind == "text"]
        if not record.ok or len(tokens) != self._schedule.tokens or record.due_ns is None or record.sent_ns is None:
            self._failed += 1
            said = f"{record.outcome}: {record.error}" if not record.ok else f"{len(tokens)} tokens"
            self._first_failure = self._first_failure or said
            return
        self._arrived.append(np.array([token.at_ns for token in tokens], np.int64))
        self._sent.append(np.array([server_sent_ns(token.text) for token in tokens], np.int64) - self._zero_ns)
        self._lateness_ns.append(record.sent_ns - record.due_ns)
        self._starts_ns.append(record.due_ns - self._schedule.due_ns(record.index - 1))
        self._coalesced += record.coalesced

    def rate(self, report: LoadReport, server: PacedStats) -> RateStep:
        """Raises LoadFailed where no stream ended well."""
        if not self._arrived:
            raise LoadFailed(f"none of {self._schedule.streams} stream(s) ended well; the first: {self._first_failure}")
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
        """Of the tokens that the schedule has for the time in which all streams run."""
        begin_ns, end_ns = (self._starts_ns[0] + edge_ns for edge_ns in self._schedule.window_ns())
        ideal = self._schedule.streams * TOKENS_PER_S * (end_ns - begin_ns) / NS_PER_S
        return int(np.count_nonzero((at_ns >= begin_ns) & (at_ns < end_ns))) / ideal


def achieved(rate: RateStep) -> bool:
    """Whether the load was the one that was asked for; if not, a higher one teaches nothing."""
    return rate.achieved >= RATE_LIMIT and not rate.failed


def limits(rate: RateStep) -> list[Limit]:
    """The bounds that this rate did not hold. A server that sent too little though it was never kept from sending is
    the limit itself, and no evidence against the client."""
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
        found.append(Limit("client", f"{rate.coalesced:.1%} of the tokens were read together with the one before"))
    return found


def conclusion(rates: Sequence[RateStep]) -> Calibration:
    """What the rates, in rising order and at least one, show."""
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


_NO_LIMIT = "That was the most asked for: the ceiling is higher (--max-streams)."


def _held_text(best: RateStep | None) -> str:
    if best is None:
        return "No rate was held within the bounds: look for other programs on this machine."
    return (
        f"Up to {best.streams} streams ({best.asked_per_s:,} tok/s) a stamp is {best.error_median_ms:.3f} ms (median), "
        f"{best.error_p99_ms:.3f} ms (P99) after the truth, a first token's {best.ttft_error_p99_ms:.3f} ms (P99)."
    )


def _limit_text(rate: RateStep, found: Sequence[Limit]) -> str:
    """The first limit, and where that is the server's also the first of the client's."""
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

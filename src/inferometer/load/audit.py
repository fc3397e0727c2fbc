"""Audit of the client's own effect on the numbers: its lag, its lateness, its share of the machine. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.core.record import RequestRecord

_BIN_NS = 10_000
_BINS = 20_000
_BATCH = 100

CPU_SHARE_LIMIT = 0.85
"""Above this share of a core, reads and sends queue in the worker. Prototypes kept their rates up to 0.9."""
UNSTAMPED_CPU_SHARE_LIMIT = 0.5
"""The same without kernel stamps, where the queue adds to every latency: at a share s a read waits for s / 2(1 − s)
reads on average (M/D/1). That is half a read here, three reads at 0.85, and more if tokens come in bursts."""
LATENESS_LIMIT_MS = 1.0
"""Sent minus due, P99. Above it the load differs from the requested one by more than a typical network delay."""
AFFECTED_LIMIT = 0.05
"""Share of the requests' time that the client took: from the arrival of an answer's end to its reading, after which a
stream sends its next request; and from due to sent. Kernel stamps keep both out of latencies from sending, so that a
busy machine is no fault of the numbers below this share."""
COALESCED_LIMIT = 0.05
COALESCED_MOST = 0.5
"""Share of events that were read together with the event before: their own arrival time is unknown, so that gaps get no
verdict. With half of them, first tokens are late too."""
LATE_READING_MS = 10.0
"""Read time minus arrival time, P99. Tokens that a server sends at once (accepted draft tokens, say) are read together
by any client. Tokens of a stream of 100 tokens/s are read together only by a client later than this."""


class LoadReport(msgspec.Struct, frozen=True):
    """The client's own effect on a trial; None for what is unknown.

    `stamps`: "" with kernel stamps, else why there are none. `cpu_share`: share of one core that the busiest worker
    used while the plan was played. `lag`: read time minus arrival time, by the kernel's stamps. `lateness`: send time
    minus due time, for requests with a due time and no concurrency limit to hold them back.
    `delay_share`, `lateness_share`: the time from the arrival of each answer's end to its reading, and the lateness, as
    a share of the requests' time.
    """

    workers: int
    stamps: str
    cpu_share: float
    lag_p99_ms: float | None
    lag_max_ms: float | None
    lateness_p99_ms: float | None
    lateness_max_ms: float | None
    events: int
    coalesced: int
    stamp_errors: int
    clock_steps: int
    delay_share: float | None = None
    lateness_share: float | None = None

    @property
    def gaps_unknown(self) -> bool:
        """Whether the client read so many events together that gaps between them are wrong."""
        reads_late = self.lag_p99_ms is not None and self.lag_p99_ms > LATE_READING_MS
        return reads_late and self.coalesced > COALESCED_LIMIT * self.events

    def checks(self) -> list[tuple[str, str, Literal["ok", "warning"]]]:
        """Name, value and verdict of each check. A check with an unknown value is omitted."""
        cpu_limit = UNSTAMPED_CPU_SHARE_LIMIT if self.stamps else CPU_SHARE_LIMIT
        found = [("CPU", f"{self.cpu_share:.0%} of a core", self.cpu_share > cpu_limit)]
        if self.stamps:
            found.append(("stamps", f"our own ({self.stamps})", False))
        if self.lag_max_ms is not None:
            share = self.delay_share or 0.0
            found.append(
                ("worst lag", f"{_ms_text(self.lag_max_ms)} ({share:.1%} of the time)", share > AFFECTED_LIMIT)
            )
        if self.events:
            share = self.coalesced / self.events
            found.append(("coalesced", f"{share:.1%}", self.gaps_unknown and share > COALESCED_MOST))
        if self.lateness_p99_ms is not None:
            share = self.lateness_share or 0.0
            late = self.lateness_p99_ms > LATENESS_LIMIT_MS and share > AFFECTED_LIMIT
            found.append(("lateness P99", f"{_ms_text(self.lateness_p99_ms)} ({share:.1%} of the time)", late))
        found.append(("stamp errors", str(self.stamp_errors), self.stamp_errors > 0))
        found.append(("clock steps", str(self.clock_steps), self.clock_steps > 0))
        return [(name, value, "warning" if bad else "ok") for name, value, bad in found]

    def line(self) -> str:
        """All checks in one line of text."""
        return "client: " + ", ".join(f"{name} {value} {verdict}" for name, value, verdict in self.checks())

    @property
    def near_the_limit(self) -> bool:
        return any(verdict == "warning" for _, _, verdict in self.checks())


class Audit:
    """Collects the audit's numbers record by record, in a few kilobytes plus one number per request.

    `capped`: the plan limits how many requests are under way. Then a due request may wait until the server ends
    another one. Its lateness says nothing about the client and is omitted.
    """

    def __init__(self, capped: bool = False) -> None:
        self._capped = capped
        self._lags: NDArray[np.int64] = np.zeros(_BINS + 1, np.int64)
        self._new_lags: list[NDArray[np.int64]] = []
        self._lag_max_ns: int | None = None
        self._lateness_ns: list[int] = []
        self._delay_ns = 0
        self._latency_ns = 0
        self._events = 0
        self._coalesced = 0
        self._errors = 0

    def add(self, record: RequestRecord, lag_ns: NDArray[np.int64]) -> None:
        """Add a measured record, and read time minus arrival time of each of its reads with a kernel stamp."""
        if record.sent_ns is not None:
            self._latency_ns += record.done_ns - record.sent_ns
        if len(lag_ns):
            self._delay_ns += int(lag_ns[-1])
            self._new_lags.append(lag_ns)
            if len(self._new_lags) >= _BATCH:
                self._count_lags()
        if not self._capped and record.due_ns is not None and record.sent_ns is not None:
            self._lateness_ns.append(record.sent_ns - record.due_ns)
        self._events += len(record.events)
        self._coalesced += record.coalesced
        self._errors += record.stamp_errors

    def _count_lags(self) -> None:
        if self._new_lags:
            lag_ns = np.concatenate(self._new_lags)
            self._new_lags.clear()
            self._lags += np.bincount(np.clip(lag_ns // _BIN_NS, 0, _BINS), minlength=_BINS + 1)
            self._lag_max_ns = max(self._lag_max_ns or 0, int(lag_ns.max()))

    def report(self, cpu_shares: Iterable[float], stamps: str, clock_steps: int) -> LoadReport:
        """The report, once all workers have ended. `cpu_shares`: the share of a core that each worker used."""
        self._count_lags()
        shares = list(cpu_shares)
        lateness_ms = np.array(self._lateness_ns) / 1e6 if self._lateness_ns else None
        return LoadReport(
            workers=len(shares),
            stamps=stamps,
            cpu_share=max(shares, default=0.0),
            lag_p99_ms=_percentile_ms(self._lags, 0.99),
            lag_max_ms=None if self._lag_max_ns is None else self._lag_max_ns / 1e6,
            lateness_p99_ms=None if lateness_ms is None else float(np.percentile(lateness_ms, 99)),
            lateness_max_ms=None if lateness_ms is None else float(lateness_ms.max()),
            events=self._events,
            coalesced=self._coalesced,
            stamp_errors=self._errors,
            clock_steps=clock_steps,
            delay_share=None if self._lag_max_ns is None else self._delay_ns / max(1, self._latency_ns),
            lateness_share=None if lateness_ms is None else sum(self._lateness_ns) / max(1, self._latency_ns),
        )


def _percentile_ms(bins: NDArray[np.int64], share: float) -> float | None:
    """The upper edge of the bin that holds the percentile; None if there are no counts."""
    total = int(bins.sum())
    if not total:
        return None
    return float((np.searchsorted(np.cumsum(bins), share * total) + 1) * _BIN_NS / 1e6)


def _ms_text(value: float) -> str:
    return f"{value:.2f} ms"

"""What did the client itself do to the numbers? Its lag, its lateness, its share of the machine; pure."""

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
"""A worker above this share of a core queues what it should read and send; prototypes held their rates up to 0.9."""
UNSTAMPED_CPU_SHARE_LIMIT = 0.5
"""The same without kernel stamps, where the queue is in every latency: at a share s a read waits for s / 2(1 − s) reads
on average (M/D/1), which is half a read here, three at 0.85, and more where tokens come in bursts."""
LATENESS_LIMIT_MS = 1.0
"""Sent minus due, P99: above it the load is no longer the one that was asked for, at the scale of a network's delay."""
LAG_LIMIT_MS = 50.0
"""Reading minus arriving, worst: it does not touch the kernel's stamps, but next requests wait for it."""
COALESCED_LIMIT = 0.05
"""Share of events read together with the one before: their own arrival is not known."""
LATE_READING_MS = 10.0
"""Reading minus arriving, P99. A server that sends several tokens in one moment (a draft's, say) has them read together
by any client; those of a stream of 100 tokens/s are read together only by a client that is later than this."""


class LoadReport(msgspec.Struct, frozen=True):
    """The client's own part in a trial; None where it could not be known.

    `stamps`: "" with kernel stamps, else why not. `cpu_share`: of one core, of the busiest worker, while the plan was
    played. `lag`: reading minus arriving, by the kernel's stamps. `lateness`: sending minus due, where something was
    due and no limit could hold it back.
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

    def checks(self) -> list[tuple[str, str, Literal["ok", "warning"]]]:
        """What was looked at, its value, and whether it is well. What could not be known is left out."""
        cpu_limit = UNSTAMPED_CPU_SHARE_LIMIT if self.stamps else CPU_SHARE_LIMIT
        found = [("CPU", f"{self.cpu_share:.0%} of a core", self.cpu_share > cpu_limit)]
        if self.stamps:
            found.append(("stamps", f"our own ({self.stamps})", False))
        if self.lag_max_ms is not None:
            found.append(("worst lag", _ms_text(self.lag_max_ms), self.lag_max_ms > LAG_LIMIT_MS))
        if self.events:
            share = self.coalesced / self.events
            reads_late = self.lag_p99_ms is not None and self.lag_p99_ms > LATE_READING_MS
            found.append(("coalesced", f"{share:.1%}", share > COALESCED_LIMIT and reads_late))
        if self.lateness_p99_ms is not None:
            late = self.lateness_p99_ms > LATENESS_LIMIT_MS
            found.append(("lateness P99", _ms_text(self.lateness_p99_ms), late))
        found.append(("stamp errors", str(self.stamp_errors), self.stamp_errors > 0))
        found.append(("clock steps", str(self.clock_steps), self.clock_steps > 0))
        return [(name, value, "warning" if bad else "ok") for name, value, bad in found]

    def line(self) -> str:
        """All checks in one line."""
        return "client: " + ", ".join(f"{name} {value} {verdict}" for name, value, verdict in self.checks())

    @property
    def near_the_limit(self) -> bool:
        return any(verdict == "warning" for _, _, verdict in self.checks())


class Audit:
    """Collects as records come: a few kilobytes, and a number for each request.

    `capped`: the plan limits how many requests are under way. Then a due request may wait for the server to end
    another, and its lateness says nothing of the client: it is left out.
    """

    def __init__(self, capped: bool = False) -> None:
        self._capped = capped
        self._lags: NDArray[np.int64] = np.zeros(_BINS + 1, np.int64)
        self._new_lags: list[NDArray[np.int64]] = []
        self._lag_max_ns: int | None = None
        self._lateness_ns: list[int] = []
        self._events = 0
        self._coalesced = 0
        self._errors = 0

    def add(self, record: RequestRecord, lag_ns: NDArray[np.int64]) -> None:
        """One measured record, and reading minus arriving of each of its reads that the kernel stamped."""
        if len(lag_ns):
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
        """Once all workers have ended: the share of a core that each used."""
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
        )


def _percentile_ms(bins: NDArray[np.int64], share: float) -> float | None:
    """The upper edge of the bin that holds the percentile; None for no counts."""
    total = int(bins.sum())
    if not total:
        return None
    return float((np.searchsorted(np.cumsum(bins), share * total) + 1) * _BIN_NS / 1e6)


def _ms_text(value: float) -> str:
    return f"{value:.2f} ms"

"""What did the client itself do to the numbers? Its lag, its lateness, its share of the machine; pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.record import RequestRecord

_BIN_NS = 10_000
_BINS = 20_000
_BATCH = 100

CPU_SHARE_LIMIT = 0.85
"""A worker above this share of a core queues what it should read and send; prototypes held their rates up to 0.9."""
LATENESS_LIMIT_MS = 1.0
"""Sent minus due, P99: above it the load is no longer the one that was asked for, at the scale of a network's delay."""
LAG_LIMIT_MS = 50.0
"""Reading minus arriving, worst, where the kernel stamps: it does not touch the numbers, but next requests wait for it."""
USER_LAG_LIMIT_MS = 1.0
"""The same where there are no kernel stamps: then it is in every latency."""
COALESCED_LIMIT = 0.05
"""Share of output events read together with the one before: their own arrival is not known."""


class LoadReport(msgspec.Struct, frozen=True):
    """The client's own part in a trial; None where it could not be known. `stamps`: "" with kernel stamps, else why not.

    `cpu_share`: of one core, of the busiest worker, while the plan was played. `lag`: reading minus arriving.
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
        """What was looked at, its value, and whether it is well."""
        lag_limit = USER_LAG_LIMIT_MS if self.stamps else LAG_LIMIT_MS
        share = self.coalesced / self.events if self.events else 0.0
        found = [
            ("CPU", f"{self.cpu_share:.0%} of a core", self.cpu_share > CPU_SHARE_LIMIT),
            ("worst lag", _ms_text(self.lag_max_ms), (self.lag_max_ms or 0) > lag_limit),
            ("coalesced", f"{share:.1%}", share > COALESCED_LIMIT),
            ("lateness P99", _ms_text(self.lateness_p99_ms), (self.lateness_p99_ms or 0) > LATENESS_LIMIT_MS),
            ("stamp errors", str(self.stamp_errors), self.stamp_errors > 0),
            ("clock steps", str(self.clock_steps), self.clock_steps > 0),
        ]
        return [(name, value, "warning" if bad else "ok") for name, value, bad in found]

    def line(self) -> str:
        """All checks in one line."""
        return "client: " + ", ".join(f"{name} {value} {verdict}" for name, value, verdict in self.checks())

    @property
    def near_the_limit(self) -> bool:
        return any(verdict == "warning" for _, _, verdict in self.checks())


class Audit:
    """Collects as records come: a few kilobytes, however long the trial."""

    def __init__(self) -> None:
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
        if record.due_ns is not None and record.sent_ns is not None:
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


def _ms_text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} ms"

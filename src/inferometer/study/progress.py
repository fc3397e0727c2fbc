"""How far is a study? What the runner tells while it runs, and the counts of the plan that is being played."""

from bisect import insort
from collections.abc import Iterable

import msgspec

from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan
from inferometer.core.record import RequestRecord, Sample
from inferometer.metrics.memory import memory_quantity

_STALE_NS = 10_000_000_000
"""A reading older than the newest by so much is of a process that is no more."""

_SHOWN = frozenset({"gpu_memory_bytes", "pss_bytes", "rss_bytes", "power_w"})


class TrialBegan(msgspec.Struct, frozen=True):
    """`position` of `total` trials of the study; its engine is being started. `of_arm`: trials of this arm in all."""

    arm: str
    number: int
    position: int
    total: int
    of_arm: int = 0


class EngineReady(msgspec.Struct, frozen=True):
    """The engine gave its first token `after_ns` after its start was asked for."""

    arm: str
    after_ns: int
    endpoint: Endpoint


class PlanReady(msgspec.Struct, frozen=True):
    """What each trial will send, and what is to be said of it."""

    plan: Plan
    notes: tuple[str, ...]


class RequestsProgress(msgspec.Struct, frozen=True):
    """How far the plan is: `tokens` of the `ended` requests by the server's count, `reads` so far of all (about one a
    token), over `elapsed_ns`. `ttft_ns`: the median so far. `memory_bytes`, `power_w`: as last read. None: not known.
    """

    arm: str
    ended: int
    failed: int
    total: int
    in_flight: int
    tokens: int
    reads: int
    elapsed_ns: int
    ttft_ns: int | None = None
    memory_bytes: float | None = None
    power_w: float | None = None


class FindingRaised(msgspec.Struct, frozen=True):
    """Something that bears on the result, seen while the plan is played."""

    text: str


class TrialEnded(msgspec.Struct, frozen=True):
    """`error` is "" where all went well. `again`: the trial failed, and is played once more."""

    arm: str
    number: int
    error: str
    again: bool = False


class Settling(msgspec.Struct, frozen=True):
    """The machine is left to itself before the next trial; `why` says what is waited for."""

    why: str


class SampleTaken(msgspec.Struct, frozen=True):
    """The study was looked at after a round, by its rule: whether it has `enough`, and `why`."""

    enough: bool
    why: str


Progress = TrialBegan | EngineReady | PlanReady | RequestsProgress | FindingRaised | TrialEnded | Settling | SampleTaken


STOPPING = "interrupted: what is under way is cancelled and kept; Ctrl-C again stops now"


class Tally:
    """The plan's counts so far. All but `played` take microseconds, for they are called with every request."""

    def __init__(self, arm: str, total: int) -> None:
        self._played = RequestsProgress(arm, 0, 0, total, 0, 0, 0, 0)
        self._ttfts_ns: list[int] = []  # sorted
        self._newest: dict[tuple[str, int | None, str | None], Sample] = {}
        self._failures: set[str] = set()

    def ended(self, record: RequestRecord) -> str:
        """Counts a measured request, unless it was cancelled. What is to be said of it: the first failure of each kind,
        else ""."""
        if record.outcome == "cancelled":
            return ""
        failed = not record.ok
        before = self._played
        self._played = msgspec.structs.replace(
            before,
            ended=before.ended + 1,
            failed=before.failed + failed,
            tokens=before.tokens + ((record.usage.completion_tokens if record.usage else None) or 0),
        )
        first_ns = record.first_output_ns
        if first_ns is not None and record.sent_ns is not None:
            insort(self._ttfts_ns, first_ns - record.sent_ns)
        if not failed or record.outcome in self._failures:
            return ""
        self._failures.add(record.outcome)
        return f"a request failed ({record.outcome}): {record.error}"

    def ticked(self, in_flight: int, reads: int) -> None:
        self._played = msgspec.structs.replace(self._played, in_flight=in_flight, reads=reads)

    def read(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            if sample.quantity in _SHOWN:
                self._newest[sample.quantity, sample.pid, sample.device] = sample

    @property
    def is_whole(self) -> bool:
        return self._played.ended == self._played.total

    def played(self, elapsed_ns: int) -> RequestsProgress:
        ttfts_ns = self._ttfts_ns
        return msgspec.structs.replace(
            self._played,
            elapsed_ns=elapsed_ns,
            ttft_ns=ttfts_ns[len(ttfts_ns) // 2] if ttfts_ns else None,
            memory_bytes=self._sum(memory_quantity(self._newest.values())),
            power_w=self._sum("power_w"),
        )

    def _sum(self, quantity: str | None) -> float | None:
        """Over processes or devices, as last read."""
        found = [sample for (name, _, _), sample in self._newest.items() if name == quantity]
        if not found:
            return None
        newest_ns = max(sample.at_ns for sample in found)
        return sum(sample.value for sample in found if newest_ns - sample.at_ns < _STALE_NS)

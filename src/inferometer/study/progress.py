"""Progress of a running study: the events that the study loop yields, and the counts of the plan being played."""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from inferometer.analysis.live_difference import AnsweredRequest
from inferometer.base.units import NS_PER_S
from inferometer.core import quantities
from inferometer.core.endpoint import Endpoint
from inferometer.core.plan import Plan
from inferometer.core.record import Events, RequestRecord, Sample
from inferometer.core.request import Request
from inferometer.metrics.consistency import first_token_doubted, first_token_refuted, visible_after_blank_ns
from inferometer.metrics.memory import memory_quantity
from inferometer.metrics.request_timing import output_tokens
from inferometer.metrics.shared_waits import WaitsSoFar

_STALE_NS = 10_000_000_000
"""A reading that is this much older than the newest one belongs to a process that has ended."""

_MOST_DOUBTFUL = 1_000
"""Answers that began with a blank and may still share their wait with one that runs."""

_SHOWN = frozenset(
    {
        *(quantities.GPU_MEMORY_BYTES, quantities.PSS_BYTES, quantities.RSS_BYTES, quantities.RSS_AT_PSS_BYTES),
        quantities.POWER_W,
    }
)


class TrialBegan(msgspec.Struct, frozen=True):
    """A trial begins, and its engine is starting. It is trial `position` of `total` in the study; `of_arm`: how many
    trials its arm has."""

    arm: str
    number: int
    position: int
    total: int
    of_arm: int = 0


class EngineReady(msgspec.Struct, frozen=True):
    """The engine gave its first token `after_ns` after the trial began."""

    arm: str
    after_ns: int
    endpoint: Endpoint


class PlanReady(msgspec.Struct, frozen=True):
    """What each trial will send, and the workload's notes about it."""

    plan: Plan
    notes: tuple[str, ...]


class RequestsProgress(msgspec.Struct, frozen=True):
    """How far the plan is, `elapsed_ns` after its start. `tokens`: of the `ended` requests, as the table counts them.
    `reads`: of all requests so far, about one per token. `ttft_ns`: the median so far. `memory_bytes`, `power_w`: the
    last readings. None: unknown. `answered`: the requests that have succeeded since the event before."""

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
    answered: tuple[AnsweredRequest, ...] = ()


class FindingRaised(msgspec.Struct, frozen=True):
    """A finding about the result, made while the study runs."""

    text: str


class CheckingAnswers(msgspec.Struct, frozen=True):
    """After the last trial: `done` of `total` different answers are checked."""

    done: int
    total: int


class AskingProbabilities(msgspec.Struct, frozen=True):
    """In the fidelity pass: `done` of `total` prompts were sent to the arm."""

    arm: str
    done: int
    total: int


class TrialEnded(msgspec.Struct, frozen=True):
    """`error` is "" where the trial succeeded. `again`: the trial failed and runs once more."""

    arm: str
    number: int
    error: str
    again: bool = False


class Settling(msgspec.Struct, frozen=True):
    """A pause before the next trial; `why` names what the study waits for."""

    why: str


class OrderChosen(msgspec.Struct, frozen=True):
    """`order: auto` was decided, and `why`."""

    order: str
    why: str


class StoppingRuleChecked(msgspec.Struct, frozen=True):
    """The rule of `until` was applied after a round: whether the study has `enough` trials, and `why`."""

    enough: bool
    why: str


Progress = (
    TrialBegan
    | EngineReady
    | PlanReady
    | RequestsProgress
    | FindingRaised
    | TrialEnded
    | Settling
    | StoppingRuleChecked
    | OrderChosen
    | CheckingAnswers
    | AskingProbabilities
)


class ProgressCounter:
    """Counts of one plan so far, by the definitions of the table. All methods but `progress` take microseconds, because
    every request calls them. `asked`: the plan's requests, by index. `ended_ns`: the end of the last answer so far."""

    def __init__(self, arm: str, total: int, asked: Mapping[int, Request] = {}) -> None:
        self._asked = asked
        self.ended_ns = 0
        self._progress = RequestsProgress(arm, 0, 0, total, 0, 0, 0, 0)
        self._ended = self._failed = self._tokens = 0
        self._ttfts_ns: list[int] = []  # sorted
        self._doubtful: deque[tuple[int, RequestRecord]] = deque(maxlen=_MOST_DOUBTFUL)  # with their TTFT
        self._waits = WaitsSoFar()
        self._judged_ns = 0
        self._believed_ns: list[int] = []
        self._newest: dict[tuple[str, int | None, str | None], Sample] = {}
        self._failures: set[str] = set()
        self._warmup_reads = 0
        self._answered: list[AnsweredRequest] = []

    def add_record(self, record: RequestRecord) -> str:
        """Counts a measured request, unless it was cancelled. A sentence about the first failure of each kind, else
        ""."""
        if record.outcome == "cancelled":
            return ""
        self._ended += 1
        self.ended_ns = max(self.ended_ns, record.done_ns)
        outputs_ns = cast("Events", record.events).outputs_ns()
        self._waits.add(record, visible_after_blank_ns(record))
        if record.ok and record.sent_ns is not None and len(outputs_ns):
            tokens = output_tokens(record, self._asked.get(record.index)) or 0
            self._tokens += tokens
            took_ns = record.done_ns - record.sent_ns
            self._answered.append(AnsweredRequest(record.index, tokens or len(outputs_ns), took_ns))
            if first_token_doubted(record):
                self._doubtful.append((outputs_ns[0] - record.sent_ns, record))
            else:
                insort(self._ttfts_ns, outputs_ns[0] - record.sent_ns)
            return ""
        self._failed += 1
        if record.outcome in self._failures:
            return ""
        self._failures.add(record.outcome)
        return f"a request failed ({record.outcome}): {record.error}"

    def add_warmup(self, record: RequestRecord) -> None:
        """Leave its reads out of the rate."""
        self._warmup_reads += len(record.outputs_ns)

    def tick(self, in_flight: int, reads: int) -> None:
        reads = max(0, reads - self._warmup_reads)
        self._progress = msgspec.structs.replace(self._progress, in_flight=in_flight, reads=reads)

    def add_samples(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            if sample.quantity in _SHOWN:
                self._newest[sample.quantity, sample.pid, sample.device] = sample

    @property
    def is_complete(self) -> bool:
        return self._ended == self._progress.total

    def progress(self, elapsed_ns: int) -> RequestsProgress:
        """The counts now. Each answered request is in one of these events only."""
        ttfts_ns = self._believed_ttfts_ns(elapsed_ns)
        count = len(ttfts_ns)
        answered, self._answered = tuple(self._answered), []
        return msgspec.structs.replace(
            self._progress,
            ended=self._ended,
            failed=self._failed,
            tokens=self._tokens,
            elapsed_ns=elapsed_ns,
            ttft_ns=round((ttfts_ns[(count - 1) // 2] + ttfts_ns[count // 2]) / 2) if count else None,
            memory_bytes=self._memory_bytes(),
            power_w=self._sum(quantities.POWER_W),
            answered=answered,
        )

    def _memory_bytes(self) -> float | None:
        """Memory now. PSS is seconds old: what RSS has grown by since then is added."""
        quantity = memory_quantity(self._newest.values())
        known = self._sum(quantity)
        now, before = self._sum(quantities.RSS_BYTES), self._sum(quantities.RSS_AT_PSS_BYTES)
        if quantity != quantities.PSS_BYTES or known is None or now is None or before is None:
            return known
        return known + max(0.0, now - before)

    def _believed_ttfts_ns(self, elapsed_ns: int) -> list[int]:
        """The TTFT of each answer whose first text was a token, as far as the waits of the others show; sorted. Doubts
        are judged once a second and at the end."""
        if not self._doubtful:
            return self._ttfts_ns
        if not self.is_complete and elapsed_ns < self._judged_ns + NS_PER_S:
            return self._believed_ns
        self._judged_ns, self._believed_ns = elapsed_ns, self._judged_ttfts_ns()
        return self._believed_ns

    def _judged_ttfts_ns(self) -> list[int]:
        waits, doubtful = self._waits.waits(), tuple(self._doubtful)
        self._doubtful.clear()
        for ttft_ns, record in doubtful:
            if first_token_doubted(record, waits):
                self._doubtful.append((ttft_ns, record))
            else:
                insort(self._ttfts_ns, ttft_ns)
        if len(self._doubtful) > len(self._ttfts_ns):
            return []
        believed = [ttft_ns for ttft_ns, record in self._doubtful if not first_token_refuted(record, waits)]
        return sorted([*self._ttfts_ns, *believed])

    def _sum(self, quantity: str | None) -> float | None:
        """The newest readings of all processes or devices together; None where there are none."""
        found = [sample for (name, _, _), sample in self._newest.items() if name == quantity]
        if not found:
            return None
        newest_ns = max(sample.at_ns for sample in found)
        return sum(sample.value for sample in found if newest_ns - sample.at_ns < _STALE_NS)

"""Waits that several answers of a trial share, because the server read another prompt or its machine stood still.

They tell a model's own line break at the beginning of an answer from a blank that only keeps the connection open.
"""

import array
from collections.abc import Iterable, Sequence
from typing import cast

import msgspec
import numpy as np

from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record import Events, RequestRecord
from inferometer.core.record_columns import UNKNOWN

LEAST_GAP_NS = 5_000_000
LEAST_GAP = 2.0
"""A gap is a wait if it is longer than 5 ms and twice the mean gap of its answer."""
SAME_LENGTH = 0.8
"""Two waits are one if they have at least 80% of the longer one in common."""
SOONEST_BLANK = 0.25
"""A blank that came within a quarter of the wait after it may have come before the prompt was read, and reading the
prompt may be what the others waited for."""


class AfterBlank(msgspec.Struct, frozen=True):
    """The wait of an answer from its first output, a blank at `at_ns`, to visible text at `visible_ns`. `usual_ns`: its
    usual gap after that."""

    sent_ns: int | None
    at_ns: int
    visible_ns: int
    usual_ns: float
    outputs_ns: "Sequence[int] | Ints"


class Waits(msgspec.Struct, frozen=True):
    """Waits of all answers of a trial, in order of their ends. `first`: for the first output, which the sending of the
    request began; the others are gaps after visible text."""

    begins_ns: Ints
    ends_ns: Ints
    first: Bools

    @classmethod
    def of(cls, begins_ns: Ints, ends_ns: Ints, first: Bools) -> "Waits":
        """These waits, in any order."""
        order = np.argsort(ends_ns, kind="stable")
        return cls(begins_ns[order], ends_ns[order], first[order])

    def shared_ns(self, blank: AfterBlank) -> int:
        """How much of the wait after a blank other answers explain: the server read their prompts until their first
        output, or they waited at the same moment. The answer's own waits lie outside."""
        wait_ns = blank.visible_ns - blank.at_ns
        left, right = np.searchsorted(self.ends_ns, (blank.at_ns, blank.visible_ns + 8 * wait_ns), "right")
        begins, ends, first = (column[left:right] for column in (self.begins_ns, self.ends_ns, self.first))
        outputs = np.searchsorted(np.asarray(blank.outputs_ns), (blank.at_ns, *ends.tolist()), "right")
        meanwhile = (outputs[1:] - outputs[0]) * wait_ns  # at the usual pace: the other request waited in a queue
        read = first & (meanwhile <= 2 * (ends - blank.at_ns))
        common = np.minimum(ends, blank.visible_ns) - np.maximum(begins, blank.at_ns)
        stood = ~first & (common >= SAME_LENGTH * np.maximum(wait_ns, ends - begins))
        if blank.sent_ns is None or blank.at_ns - blank.sent_ns < SOONEST_BLANK * wait_ns:
            stood[:] = False
        chosen = (read | stood) & (common > 0)
        return _united(np.maximum(begins[chosen], blank.at_ns), np.minimum(ends[chosen], blank.visible_ns))


NO_WAITS = Waits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))


def waits_of(parts: Iterable[tuple[Ints, Ints, Ints, Ints]]) -> Waits:
    """The waits of all answers. Of some answers at once, each part has: when each output came; where those of request i
    begin, and the end of the last; when each was sent; and its first visible text if it begins with a blank. The last
    two are UNKNOWN otherwise."""
    begins, ends, first = map(np.concatenate, zip(*map(_waits_of_part, parts), strict=True))
    return Waits.of(begins, ends, first)


def _waits_of_part(part: tuple[Ints, Ints, Ints, Ints]) -> tuple[Ints, Ints, Bools]:
    outputs_ns, starts, sent_ns, visible_ns = part
    counts = np.diff(starts)
    answered = (counts > 0) & (sent_ns != UNKNOWN)
    first_ns, last_ns = outputs_ns[starts[:-1][counts > 0]], outputs_ns[starts[1:][counts > 0] - 1]
    limits = np.zeros(len(counts))
    limits[counts > 0] = LEAST_GAP * (last_ns - first_ns) / np.maximum(counts[counts > 0] - 1, 1)
    gaps, owners = np.diff(outputs_ns), np.repeat(np.arange(len(counts)), counts)
    same = owners[1:] == owners[:-1]
    long = np.flatnonzero(same & (gaps > np.maximum(LEAST_GAP_NS, limits)[owners[:-1]]))
    long = long[outputs_ns[long] >= visible_ns[owners[long]]]
    begins = np.concatenate([sent_ns[answered], outputs_ns[long]])
    ends = np.concatenate([outputs_ns[starts[:-1][answered]], outputs_ns[long + 1]])
    return begins, ends, np.arange(len(ends)) < answered.sum()


class WaitsSoFar:
    """The waits of the answers that have ended, added one by one."""

    def __init__(self) -> None:
        self._begins, self._ends, self._first = array.array("q"), array.array("q"), bytearray()

    def add(self, record: RequestRecord, visible_ns: int | None) -> None:
        """`visible_ns`: the first visible text of an answer that begins with a blank, else None."""
        outputs_ns = cast("Events", record.events).outputs_ns()
        if record.sent_ns is None or not len(outputs_ns):
            return
        self._begins.append(record.sent_ns)
        self._ends.append(outputs_ns[0])
        self._first.append(True)
        if len(outputs_ns) < 2:
            return
        times = np.frombuffer(outputs_ns, np.int64)
        gaps = times[1:] - times[:-1]
        least_ns = max(LEAST_GAP_NS, LEAST_GAP * (outputs_ns[-1] - outputs_ns[0]) / len(gaps))
        if gaps.max() <= least_ns:
            return
        seen = times[:-1] >= (UNKNOWN if visible_ns is None else visible_ns)
        for place in np.flatnonzero((gaps > least_ns) & seen).tolist():
            self._begins.append(outputs_ns[place])
            self._ends.append(outputs_ns[place + 1])
            self._first.append(False)

    def waits(self) -> Waits:
        first = np.frombuffer(self._first, np.bool_).copy()
        return Waits.of(np.array(self._begins, np.int64), np.array(self._ends, np.int64), first)


def _united(begins: Ints, ends: Ints) -> int:
    """The time that these spans cover together."""
    if not len(begins):
        return 0
    order = np.argsort(begins)
    begins, ends = begins[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([begins[:1], ends[:-1]])
    return int(np.maximum(ends - np.maximum(begins, before), 0).sum())

"""What was the engine doing at this moment of a trial: loading, idle, reading a prompt, writing?

By the client's own records, which every engine has: *load* until the engine gave its first token; *prefill* while any
request has been sent and has brought no output yet; else *decode* while any is under way; else *idle*. Where one
request is read while others are written, that is prefill: most engines mix the two in one step.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from inferometer.core import quantities
from inferometer.core.record import Trial

Phase = Literal["load", "idle", "prefill", "decode"]
PHASES: tuple[Phase, ...] = ("load", "idle", "prefill", "decode")

_Span = tuple[int, int]  # from, to before: ns


class Phases(msgspec.Struct, frozen=True):
    """A trial's spans, each list in order and without overlaps; what is in none of them is idle."""

    ready_ns: int
    prefill: tuple[_Span, ...]
    under_way: tuple[_Span, ...]

    def at(self, at_ns: int) -> Phase:
        """Of a time of the trial, ns."""
        if at_ns < self.ready_ns:
            return "load"
        if _within(self.prefill, at_ns):
            return "prefill"
        return "decode" if _within(self.under_way, at_ns) else "idle"


def phases_of(trial: Trial) -> Phases:
    """Warm-ups count too: the engine works on them. Without the fact of its being ready it is taken for ready: studies
    of before were sampled only from then on."""
    told = [fact.value for fact in trial.facts if fact.name == quantities.ENGINE_READY_AT_NS]
    prefill: list[_Span] = []
    under_way: list[_Span] = []
    for record in trial.records:
        if record.sent_ns is not None:
            outputs_ns = record.outputs_ns
            prefill.append((record.sent_ns, outputs_ns[0] if outputs_ns else record.done_ns))
            under_way.append((record.sent_ns, record.done_ns))
    return Phases(int(told[0]) if told else 0, _joined(prefill), _joined(under_way))


def peaks(values: Mapping[int, float], phases: Phases) -> dict[Phase, float]:
    """The highest of values by time in each phase; no entry for a phase without any."""
    highest: dict[Phase, float] = {}
    for at_ns, value in values.items():
        phase = phases.at(at_ns)
        highest[phase] = max(value, highest.get(phase, value))
    return highest


def _joined(spans: Sequence[_Span]) -> tuple[_Span, ...]:
    """The same moments in spans that do not touch, in order."""
    joined: list[_Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)


def _within(spans: Sequence[_Span], at_ns: int) -> bool:
    place = bisect_right(spans, at_ns, key=lambda span: span[0]) - 1
    return place >= 0 and at_ns < spans[place][1]

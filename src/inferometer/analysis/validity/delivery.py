"""Delivery: did each token arrive when the server made it, or was text held back on the way?"""

from collections.abc import Iterable, Sequence
from statistics import fmean

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.record import Finding
from inferometer.metrics import trial_columns
from inferometer.metrics.measures import TrialView
from inferometer.metrics.row_inputs import RowInput
from inferometer.metrics.token_latency import BURST_GAP_NS
from inferometer.metrics.trial_columns import bursts

_CAUSES = (
    "A proxy may buffer the stream (nginx: `proxy_buffering off`, or the header `X-Accel-Buffering: no`), or the "
    "server sends several tokens at a time (a stream interval, tools, a response filter): measure without it."
)
_TIMES: tuple[RowInput, ...] = ("token_times", "first_token", "chunk_gaps")


class Answer(msgspec.Struct, frozen=True):
    """How a long answer arrived. `at_once`: in one piece, after `took_ms`. `tokens`: of a burst, on average; `gap_ms`:
    from burst to burst, on average. `pieces` and `first_pieces`: pieces of a burst, on average, and of the first.
    `pace_ms`: time for a piece after the first burst."""

    at_once: bool
    took_ms: float
    tokens: float
    gap_ms: float
    pieces: float
    first_pieces: int
    pace_ms: float

    @property
    def quick(self) -> bool:
        """Whether the kernel, or a scheduler between two processes, may have joined its pieces."""
        return self.took_ms < thresholds.STREAM_LEAST_MS

    @property
    def in_large_pieces(self) -> bool:
        return self.tokens >= thresholds.STREAM_PIECE_TOKENS and self.gap_ms >= thresholds.STREAM_LEAST_GAP_MS

    @property
    def several_at_a_time(self) -> bool:
        """Whether pieces that a server makes one by one came together, from the first on."""
        least = thresholds.STREAM_HELD_PIECES
        return min(self.pieces, self.first_pieces) >= least and self.gap_ms >= thresholds.STREAM_LEAST_GAP_MS

    @property
    def late_begin(self) -> bool:
        """Whether the first pieces came together although they take longer than that, at the pace of the later ones."""
        least = thresholds.STREAM_HELD_PIECES
        return self.first_pieces > least and self.first_pieces * self.pace_ms >= thresholds.STREAM_LEAST_GAP_MS


@for_each_arm
def not_streamed(case: ArmTrials) -> Iterable[Finding]:
    """Answers that came all at once, or in large pieces, without a draft that explains it."""
    answers = [answer for trial in case.done for answer in long_answers(trial)]
    if not answers:
        return
    whole = [one for one in answers if one.at_once]
    if len(whole) > thresholds.STREAM_SHARE * len(answers):
        quick = sum(one.quick for one in whole) > len(whole) / 2
        yield case.finding(
            "note" if quick else "warning",
            "not-streamed",
            f"{len(whole)} of {len(answers)} answers arrived in one piece{_within(whole) if quick else ''}: time to "
            "first token is the whole answer's, and the time per token is unknown.",
            "Ask for longer answers." if quick else _CAUSES,
            withholds=_TIMES,
        )
        return
    drafted = any(trial_columns.drafted(trial).values.sum() for trial in case.done)
    if not drafted:
        yield from _held_back(case, [one for one in answers if not one.quick], len(answers))


def _held_back(case: ArmTrials, slow: Sequence[Answer], count: int) -> Iterable[Finding]:
    """Of `count` answers, those that took long enough to see when their pieces came."""
    large = [one.tokens for one in slow if one.in_large_pieces or one.several_at_a_time]
    late = [one.first_pieces for one in slow if one.late_begin]
    if len(large) > thresholds.STREAM_SHARE * count:
        said = f"{len(large)} of {count} answers arrived {fmean(large):.0f} tokens at a time"
    elif len(late) > thresholds.STREAM_LATE_SHARE * count:
        said = f"the first {fmean(late):.0f} pieces arrived together in {len(late)} of {count} answers"
    else:
        return
    message = f"{said}: tokens were held back, so that the first one and the gaps say when pieces arrived."
    yield case.finding("warning", "not-streamed", message, _CAUSES, withholds=_TIMES)


def _within(answers: Sequence[Answer]) -> str:
    return f", within {max(one.took_ms for one in answers if one.quick):.2g} ms, as short answers do"


def long_answers(trial: TrialView) -> list[Answer]:
    """The answers of a trial that are long enough."""
    found, columns = bursts(trial), trial.outputs
    tokens = np.maximum(found.all_tokens, found.characters / thresholds.STREAM_TOKEN_CHARACTERS)
    long = found.delivered & (tokens >= thresholds.STREAM_LEAST_TOKENS)
    counts, first = np.maximum(1, found.counts), _first_pieces(columns.at_ns, columns.starts)
    rows = (
        found.at_once(),
        trial.timing.latency_ns / 1e6,
        found.all_tokens / counts,
        found.gap_spans() / np.maximum(1, found.counts - 1) / 1e6,
        columns.counts / counts,
        first,
        found.gap_spans() / np.maximum(1, columns.counts - first) / 1e6,
    )
    return [Answer(*one) for one in zip(*(row[long].tolist() for row in rows), strict=True)]


def _first_pieces(at_ns: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pieces of the first burst of each request."""
    breaks = np.flatnonzero(np.diff(at_ns) >= BURST_GAP_NS) + 1
    place = np.searchsorted(breaks, starts[:-1], side="right")
    ends = np.append(breaks, len(at_ns))[place] if len(at_ns) else starts[1:]
    return np.minimum(ends, starts[1:]) - starts[:-1]

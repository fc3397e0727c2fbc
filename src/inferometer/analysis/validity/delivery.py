"""Delivery: did each token arrive when the server made it, or was text held back on the way?"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record import Finding
from inferometer.metrics import trial_columns
from inferometer.metrics.measures import TrialView
from inferometer.metrics.row_inputs import RowInput
from inferometer.metrics.series import Floats
from inferometer.metrics.trial_columns import bursts

_CAUSES = (
    "A proxy may buffer the stream (nginx: `proxy_buffering off`, or the header `X-Accel-Buffering: no`), or the "
    "server sends several tokens at a time (a stream interval, tools, a response filter): measure without it."
)
_TIMES: tuple[RowInput, ...] = ("token_times", "first_token", "chunk_gaps")


class Answers(msgspec.Struct, frozen=True):
    """How the long answers of a trial arrived, one entry each. `at_once`: in one piece, after `took_ms`. `tokens`: of a
    burst, on average; `gap_ms`: from burst to burst, on average. `pieces` and `first_pieces`: pieces of a burst, on
    average, and of the first. `pace_ms`: time for a piece after the first burst."""

    at_once: Bools
    took_ms: Floats
    tokens: Floats
    gap_ms: Floats
    pieces: Floats
    first_pieces: Ints
    pace_ms: Floats

    def __len__(self) -> int:
        return len(self.at_once)

    @property
    def quick(self) -> Bools:
        """Whether the kernel, or a scheduler between two processes, may have joined the pieces of an answer."""
        return self.took_ms < thresholds.STREAM_LEAST_MS

    @property
    def held_back(self) -> Bools:
        """Whether an answer came in large pieces; or pieces that a server makes one by one came together, from the
        first on."""
        large = self.tokens >= thresholds.STREAM_PIECE_TOKENS
        several = np.minimum(self.pieces, self.first_pieces) >= thresholds.STREAM_HELD_PIECES
        return (large | several) & (self.gap_ms >= thresholds.STREAM_LEAST_GAP_MS)

    @property
    def late_begin(self) -> Bools:
        """Whether the first pieces came together although they take longer than that, at the pace of the later ones."""
        many = self.first_pieces > thresholds.STREAM_HELD_PIECES
        return many & (self.first_pieces * self.pace_ms >= thresholds.STREAM_LEAST_GAP_MS)


@for_each_arm
def not_streamed(case: ArmTrials) -> Iterable[Finding]:
    """Answers that came all at once, or in large pieces, without a draft that explains it."""
    answers = _long_answers(case.done)
    if answers is None or not len(answers):
        return
    whole = answers.at_once
    if whole.sum() > thresholds.STREAM_SHARE * len(answers):
        quick = (whole & answers.quick).sum() > whole.sum() / 2
        within = f", within {answers.took_ms[whole & answers.quick].max():.2g} ms, as short answers do" if quick else ""
        yield case.finding(
            "note" if quick else "warning",
            "not-streamed",
            f"{whole.sum()} of {len(answers)} answers arrived in one piece{within}: time to "
            "first token is the whole answer's, and the time per token is unknown.",
            "Ask for longer answers." if quick else _CAUSES,
            withholds=_TIMES,
        )
        return
    drafted = any(trial_columns.drafted(trial).values.sum() for trial in case.done)
    if not drafted:
        yield from _held_back(case, answers)


def _held_back(case: ArmTrials, answers: Answers) -> Iterable[Finding]:
    """About the answers that took long enough to see when their pieces came."""
    large, late = (chosen & ~answers.quick for chosen in (answers.held_back, answers.late_begin))
    count = len(answers)
    if large.sum() > thresholds.STREAM_SHARE * count:
        said = f"{large.sum()} of {count} answers arrived {answers.tokens[large].mean():.0f} tokens at a time"
    elif late.sum() > thresholds.STREAM_LATE_SHARE * count:
        mean = answers.first_pieces[late].mean()
        said = f"the first {mean:.0f} pieces arrived together in {late.sum()} of {count} answers"
    else:
        return
    message = f"{said}: tokens were held back, so that the first one and the gaps say when pieces arrived."
    yield case.finding("warning", "not-streamed", message, _CAUSES, withholds=_TIMES)


def _long_answers(trials: Sequence[TrialView]) -> Answers | None:
    """The answers that are long enough; None without trials."""
    columns = list(zip(*map(_columns_of_long_answers, trials), strict=True))
    return Answers(*map(np.concatenate, columns)) if columns else None


def _columns_of_long_answers(trial: TrialView) -> "list[NDArray[Any]]":
    """The fields of Answers."""
    found, columns = bursts(trial), trial.outputs
    tokens = np.maximum(found.all_tokens, found.characters / thresholds.STREAM_TOKEN_CHARACTERS)
    long = found.delivered & (tokens >= thresholds.STREAM_LEAST_TOKENS)
    counts, first = np.maximum(1, found.counts), found.first_pieces
    rows: tuple[NDArray[Any], ...] = (
        found.at_once(),
        trial.timing.latency_ns / 1e6,
        found.all_tokens / counts,
        found.gap_spans / np.maximum(1, found.counts - 1) / 1e6,
        columns.counts / counts,
        first,
        found.gap_spans / np.maximum(1, columns.counts - first) / 1e6,
    )
    return [row[long] for row in rows]

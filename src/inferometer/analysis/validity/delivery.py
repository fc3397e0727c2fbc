"""Delivery: did each token arrive when the server made it, or was text held back on the way?"""

from collections.abc import Iterable
from statistics import fmean

import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.record import Finding
from inferometer.metrics import trial_columns
from inferometer.metrics.trial_columns import Bursts, bursts

_CAUSES = (
    "A proxy may buffer the stream (nginx: `proxy_buffering off`, or the header `X-Accel-Buffering: no`), or the "
    "server sends several tokens at a time (a stream interval, tools, a response filter): measure without it."
)


@for_each_arm
def not_streamed(case: ArmTrials) -> Iterable[Finding]:
    """Answers that came all at once, or in large pieces, without a draft that explains it."""
    long = [answer for trial in case.done for answer in _long_answers(bursts(trial))]
    if not long:
        return
    whole = sum(at_once for at_once, _, _ in long)
    if whole > thresholds.STREAM_SHARE * len(long):
        yield case.finding(
            "warning",
            "not-streamed",
            f"{whole} of {len(long)} answers arrived in one piece: time to first token is the whole answer's, and "
            "the time per token is unknown.",
            _CAUSES,
            withholds=("token_times", "first_token", "chunk_gaps"),
        )
        return
    held = [
        piece
        for _, piece, gap_ms in long
        if piece >= thresholds.STREAM_PIECE_TOKENS and gap_ms >= thresholds.STREAM_LEAST_GAP_MS
    ]
    drafted = any(trial_columns.drafted(trial).values.sum() for trial in case.done)
    if not drafted and len(held) > thresholds.STREAM_SHARE * len(long):
        yield case.finding(
            "warning",
            "not-streamed",
            f"{len(held)} of {len(long)} answers arrived {fmean(held):.0f} tokens at a time: tokens were held back, so "
            "that the first one and the gaps say when pieces arrived.",
            _CAUSES,
            withholds=("first_token", "chunk_gaps", "token_times"),
        )


def _long_answers(found: Bursts) -> list[tuple[bool, float, float]]:
    """Of each answer that is long enough: whether it came at once, the mean tokens of its bursts, and the mean time
    from burst to burst, ms."""
    tokens = np.maximum(found.all_tokens, found.characters / thresholds.STREAM_TOKEN_CHARACTERS)
    long = found.delivered & (tokens >= thresholds.STREAM_LEAST_TOKENS)
    tokens_of_bursts = found.all_tokens[long] / found.counts[long]
    gaps_ms = found.gap_spans()[long] / np.maximum(1, found.counts[long] - 1) / 1e6
    return list(zip(found.at_once()[long].tolist(), tokens_of_bursts.tolist(), gaps_ms.tolist(), strict=True))

"""Delivery: did each token arrive when the server made it, or was text held back on the way?"""

from collections.abc import Iterable, Sequence
from statistics import fmean

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core.record import Finding
from inferometer.metrics import acceptance
from inferometer.metrics.request_measures import request_delivery
from inferometer.metrics.token_latency import Delivery

_CAUSES = (
    "A proxy may buffer the stream (nginx: `proxy_buffering off`, or the header `X-Accel-Buffering: no`), or the "
    "server sends several tokens at a time (a stream interval, tools, a response filter): measure without it."
)


@for_each_arm
def not_streamed(case: ArmTrials) -> Iterable[Finding]:
    """Answers that came all at once, or in large pieces, without a draft that explains it."""
    answers = [found for trial in case.done for request in trial.requests if (found := request_delivery(request))]
    long = [found for found in answers if _tokens(found) >= thresholds.STREAM_LEAST_TOKENS]
    if not long:
        return
    whole = [found for found in long if found.at_once]
    if len(whole) > thresholds.STREAM_SHARE * len(long):
        yield case.finding(
            "warning",
            "not-streamed",
            f"{len(whole)} of {len(long)} answers arrived in one piece: time to first token is the whole answer's, and "
            "the time per token is unknown.",
            _CAUSES,
            withholds=("token_times", "first_token", "chunk_gaps"),
        )
        return
    held = [found for found in long if _mean_piece(found.tokens) >= thresholds.STREAM_PIECE_TOKENS]
    drafted = any(sum(acceptance.drafted(request)) for trial in case.done for request in trial.requests)
    if not drafted and len(held) > thresholds.STREAM_SHARE * len(long):
        mean = fmean(_mean_piece(found.tokens) for found in held)
        yield case.finding(
            "warning",
            "not-streamed",
            f"{len(held)} of {len(long)} answers arrived {mean:.0f} tokens at a time: tokens were held back, so that "
            "the first one and the gaps say when pieces arrived.",
            _CAUSES,
            withholds=("first_token", "chunk_gaps", "token_times"),
        )


def _tokens(found: Delivery) -> float:
    return max(sum(found.tokens), found.characters / thresholds.STREAM_TOKEN_CHARACTERS)


def _mean_piece(tokens: Sequence[float]) -> float:
    return fmean(tokens) if tokens else 0.0

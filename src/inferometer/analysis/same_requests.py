"""The same requests in every arm: a request that failed in one arm counts for no arm's latencies."""

from collections.abc import Sequence

import msgspec

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials
from inferometer.metrics.measures import TrialView


def with_same_requests(arms: Sequence[ArmTrials]) -> list[ArmTrials]:
    """The arms of one study. Requests that failed in one arm are left out of the same trial of the others.

    A trial with more failures than `OTHER_REQUESTS_SHARE` leaves nothing out: `other_requests` withholds its verdicts.
    """
    failed: dict[int, set[int]] = {}
    for case in arms:
        for trial in case.done:
            own = failed_requests(trial)
            if len(own) <= thresholds.OTHER_REQUESTS_SHARE * trial.size:
                failed.setdefault(trial.trial.number, set()).update(own)
    return [
        msgspec.structs.replace(
            case, trials=tuple(_without(trial, failed.get(trial.trial.number, set())) for trial in case.trials)
        )
        for case in arms
    ]


def failed_requests(trial: TrialView) -> set[int]:
    """The indices of the requests that failed."""
    return set(trial.index[~trial.timing.timed].tolist())


def _without(trial: TrialView, indices: set[int]) -> TrialView:
    return trial.without(indices) if indices else trial

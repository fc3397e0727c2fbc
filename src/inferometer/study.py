"""Which trial comes next? One pure function of what was asked and what is there."""

from collections.abc import Collection

from inferometer.spec import Spec, TrialSpec


def trial_order(spec: Spec) -> list[TrialSpec]:
    """All trials of a study: rounds of one trial per arm, every second round backwards (A B, B A, …), so that a drift
    of the machine over time weighs on no arm more than on another."""
    arms = list(spec.arms.items())
    return [
        TrialSpec(name, arm, number)
        for number in range(1, spec.trials + 1)
        for name, arm in (arms if number % 2 else reversed(arms))
    ]


def next_trial(spec: Spec, ended: Collection[tuple[str, int]]) -> TrialSpec | None:
    """The first trial in order whose (arm name, number) has not ended; None when all have."""
    return next((trial for trial in trial_order(spec) if (trial.arm_name, trial.number) not in ended), None)

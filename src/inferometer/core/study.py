"""Order of the trials of a study, as a pure function of the spec and of the trials that have ended."""

from collections.abc import Collection, Iterator

from inferometer.core.spec import Spec, TrialSpec


def trial_order(spec: Spec) -> list[TrialSpec]:
    """All trials that a study can have: rounds of one trial per arm. Each second round reverses the one before (A B
    B A), so that a steady drift of the machine affects all arms equally.

    With more than two arms, every second round begins another row of a Williams square (Williams 1949, Australian
    Journal of Scientific Research A 2, 149-168). Over as many rounds as arms, or twice as many for an odd number of
    arms, each arm has each position, and follows each other arm, equally often.
    """
    arms = list(spec.arms.items())
    rounds = spec.trials if spec.until is None else max(spec.trials, spec.max_trials)
    orders = arm_orders(len(arms))
    return [TrialSpec(*arms[place], number=number) for number in range(1, rounds + 1) for place in next(orders)]


def next_trial(spec: Spec, ended: Collection[tuple[str, int]], *, enough: bool = False) -> TrialSpec | None:
    """The first trial in order whose (arm name, number) has not ended; None if all have. `enough`: no trial beyond
    `spec.trials` is needed, except to complete a round that has begun."""
    begun = {number for _, number in ended}
    for trial in trial_order(spec):
        if (trial.arm_name, trial.number) in ended:
            continue
        if enough and trial.number > spec.trials and trial.number not in begun:
            return None
        return trial
    return None


def next_round(
    spec: Spec, ended: Collection[tuple[str, int]], *, enough: bool = False, interleaved: bool = False
) -> list[TrialSpec]:
    """The trials to play next: one trial, or with `parallel` all trials of its round that have not ended. Empty at the
    end. `interleaved`: the whole round, also trials of it that have ended, because only requests that were sent in turn
    can be paired."""
    trial = next_trial(spec, ended, enough=enough)
    if trial is None or not (spec.parallel or interleaved):
        return [trial] if trial else []
    round_of = [other for other in trial_order(spec) if other.number == trial.number]
    if interleaved:
        return round_of
    return [other for other in round_of if (other.arm_name, other.number) not in ended]


def ends_round(spec: Spec, ended: Collection[tuple[str, int]]) -> bool:
    """Whether the last round is complete: every arm has ended the same trials."""
    return len({number for _, number in ended}) * len(spec.arms) == len(ended)


def arm_orders(arms: int) -> Iterator[list[int]]:
    """The rows of a Williams square, each followed by its reverse, repeated endlessly."""
    zigzag = [(i + 1) // 2 if i % 2 else (arms - i // 2) % arms for i in range(arms)]
    rows = arms if arms % 2 else max(1, arms // 2)
    while True:
        for shift in range(rows):
            row = [(place + shift) % arms for place in zigzag]
            yield row
            yield row[::-1]

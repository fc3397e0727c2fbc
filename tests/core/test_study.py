"""The order of trials."""

from collections import Counter
from itertools import pairwise

import msgspec

from inferometer.core.spec import Arm, Spec
from inferometer.core.study import ends_round, next_trial, trial_order


def a_spec(arms: str, trials: int) -> Spec:
    return Spec(arms={name: Arm(engine="embedded", model="m") for name in arms}, trials=trials)


def order(spec: Spec) -> str:
    return " ".join(f"{trial.arm_name}{trial.number}" for trial in trial_order(spec))


def test_rounds_turn_round_so_that_drift_cancels():
    assert order(a_spec("AB", 4)) == "A1 B1 B2 A2 A3 B3 B4 A4"
    assert order(a_spec("ABC", 2)) == "A1 B1 C1 C2 B2 A2"


def test_the_next_trial_is_the_first_that_has_not_ended():
    spec = a_spec("AB", 2)
    found = next_trial(spec, {("A", 1), ("B", 2)})
    assert found is not None
    assert (found.arm_name, found.number) == ("B", 1)
    assert next_trial(spec, {("A", 1), ("B", 1), ("A", 2), ("B", 2)}) is None


def test_with_more_arms_each_stands_in_each_place_and_after_each_other_equally_often():
    """Three arms in six rounds, four in four: Williams's squares."""
    for arms, rounds in (("ABC", 6), ("ABCD", 4)):
        sequences = [
            [trial.arm_name for trial in trial_order(a_spec(arms, rounds)) if trial.number == number]
            for number in range(1, rounds + 1)
        ]
        for place in range(len(arms)):
            assert Counter(row[place] for row in sequences) == dict.fromkeys(arms, rounds // len(arms))
        follows = Counter(pair for row in sequences for pair in pairwise(row))
        assert len(follows) == len(arms) * (len(arms) - 1)
        assert len(set(follows.values())) == 1


def test_a_study_that_may_end_early_plays_what_was_asked_for_and_rounds_that_have_begun():
    spec = msgspec.structs.replace(a_spec("AB", 2), until="2%", max_trials=4)
    two = {(arm, number) for arm in "AB" for number in (1, 2)}
    assert next_trial(spec, {("A", 1)}, enough=True) is not None
    assert next_trial(spec, two, enough=True) is None
    begun = next_trial(spec, two | {("A", 3)}, enough=True)
    assert begun is not None and (begun.arm_name, begun.number) == ("B", 3)
    more = next_trial(spec, two, enough=False)
    assert more is not None and more.number == 3
    assert ends_round(spec, two) and not ends_round(spec, two | {("A", 3)})

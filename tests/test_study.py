"""The order of trials."""

from inferometer.spec import Arm, Spec
from inferometer.study import next_trial, trial_order


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

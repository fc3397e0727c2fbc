"""Interleaved rounds: engines that are busy while they wait, and rounds that an arm left in the middle."""

import pytest

from inferometer.analysis.validity import findings

S = 1_000_000_000


def turns(make, *starts_s: float):
    """Turns of 2 s that begin at these seconds."""
    return [make.sample("turn_ns", 2 * S, at_ns=round(at_s * S)) for at_s in starts_s]


def codes(*cases) -> dict[str, str]:
    return {one.code: one.sentence for one in findings(list(cases)) if one.code == "busy-while-waiting"}


@pytest.mark.parametrize(("working", "waiting", "is_found"), [(1.0, 1.0, True), (4.0, 0.02, False), (0.0, 0.3, True)])
def test_an_engine_that_uses_cpu_in_the_turns_of_others_is_named(make, working, waiting, is_found):
    """Turns at 0 to 2 s and 10 to 12 s, a reading every 0.5 s; what it uses in its own turns does not matter."""
    cpu = [
        make.sample("engine_cpu_cores", waiting if 2 * S < at_ns <= 10 * S else working, at_ns)
        for at_ns in range(0, 12 * S + 1, S // 2)
    ]
    case = make.case(make.trial(samples=(*turns(make, 0, 10), *cpu)), name="spins")
    quiet = make.case(make.trial(samples=turns(make, 2.1, 12.1)), name="quiet")
    found = codes(case, quiet)
    assert ("busy-while-waiting" in found) == is_found
    if is_found:
        assert f"{waiting:.2f} cores" in found["busy-while-waiting"]


def test_too_few_readings_between_turns_say_nothing(make):
    cpu = [make.sample("engine_cpu_cores", 1.0, at_ns) for at_ns in range(0, 12 * S + 1, S)]
    assert codes(make.case(make.trial(samples=(*turns(make, 0, 10), *cpu)), name="a")) == {}


def test_a_round_that_an_arm_left_in_the_middle_is_noted_for_the_arms_that_ended_it(make):
    whole = [make.trial(number=number, samples=turns(make, 0, 4)) for number in (1, 2)]
    broken = make.trial(number=1, state="failed", error="the engine died", samples=turns(make, 2.1))
    other = [broken, make.trial(number=2, samples=turns(make, 2.1, 6.1))]
    a, b = make.case(*whole, name="a"), make.case(*other, name="b")
    noted = [one for one in findings([a, b]) if one.code == "round-incomplete"]
    assert [(one.arm, one.trial) for one in noted] == [("a", 1)]
    assert noted[0].sentence.startswith("a")
    assert "b failed in the middle" in noted[0].sentence

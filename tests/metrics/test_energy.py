import pytest

from inferometer.core.record import RequestRecord, Sample, Trial
from inferometer.metrics.energy import energy_j, energy_notes, mean_power_w, per_token

S = 1_000_000_000


def trial(*samples: Sample, started_s: float | None = 10) -> Trial:
    """A plan from 10 s to 20 s; a warm-up before it."""
    warmup = RequestRecord(0, "w", False, "ok", None, 5 * S, 30 * S)
    measured = RequestRecord(1, "r", True, "ok", None, 11 * S, 20 * S)
    started_ns = None if started_s is None else round(started_s * S)
    return Trial("arm", 1, "done", started_ns, (warmup, measured), samples)


def read(quantity: str, *values: tuple[float, float], device: str = "GPU 0 A") -> list[Sample]:
    """At these seconds these values."""
    return [Sample(round(at_s * S), "test", quantity, value, None, device) for at_s, value in values]


def test_the_devices_own_counter_is_read_at_the_plans_start_and_end():
    counter = read("energy_j", (0, 1000), (8, 1800), (12, 2200), (21, 4000))
    power = read("power_w", (0, 9), (30, 9))
    # 2000 J at 10 s; 200 J a second from 12 s on: 3800 J at 20 s
    assert energy_j(trial(*counter, *power)) == pytest.approx(1800)
    assert mean_power_w(trial(*counter, *power)) == pytest.approx(180)
    assert energy_notes(trial(*counter)) == [
        "Energy: GPU 0 A only, idle power included; from the device's energy counter"
    ]


def test_without_a_counter_it_is_the_integral_of_power():
    power = read("power_w", (9, 100), (15, 100), (15, 300), (21, 300))
    assert energy_j(trial(*power)) == pytest.approx(5 * 100 + 5 * 300)
    assert "the integral of its power readings" in energy_notes(trial(*power))[0]
    rising = read("power_w", (10, 100), (20, 200))
    assert energy_j(trial(*rising)) == pytest.approx(1500)


def test_a_counter_that_began_again_is_not_believed():
    counter = read("energy_j", (9, 1800), (15, 5), (21, 4000))
    assert energy_j(trial(*counter)) is None
    assert energy_j(trial(*counter, *read("power_w", (9, 50), (21, 50)))) == pytest.approx(500)


def test_several_devices_add_up_and_are_known_together_or_not_at_all():
    first = read("power_w", (9, 100), (21, 100))
    second = read("power_w", (9, 50), (21, 50), device="GPU 1 A")
    assert energy_j(trial(*first, *second)) == pytest.approx(1500)
    assert energy_j(trial(*first, *second[:1])) is None


def test_only_the_devices_count_that_the_engine_holds_memory_of():
    first = read("power_w", (9, 100), (21, 100))
    second = read("power_w", (9, 50), (21, 50), device="GPU 1 A")
    assert energy_j(trial(*first, *second, *read("gpu_memory_bytes", (9, 1), device="GPU 1 A"))) == pytest.approx(500)


def test_readings_that_leave_part_of_the_plan_unread_are_not_enough():
    assert energy_j(trial(*read("power_w", (9, 100), (18.9, 100)))) is None
    assert energy_j(trial(*read("power_w", (11.1, 100), (20, 100)))) is None
    nearly = trial(*read("power_w", (10.5, 100), (19.5, 100)))
    assert energy_j(nearly) == pytest.approx(1000)  # the half seconds at both ends at the power nearest to them


def test_where_nothing_is_known_it_is_none():
    assert energy_j(trial()) is None
    assert mean_power_w(trial()) is None
    assert energy_notes(trial()) == []
    assert energy_j(trial(*read("power_w", (9, 100), (21, 100)), started_s=None)) is None
    assert energy_j(trial(*read("power_w", (9, 100)))) is None


def test_energy_of_a_token():
    assert per_token(600.0, 200) == 3.0
    assert per_token(None, 200) is None
    assert per_token(600.0, None) is None
    assert per_token(600.0, 0) is None


def test_with_interleaved_requests_only_the_arm_s_own_turns_count():
    turns = [Sample(10 * S, "load", "turn_ns", 2 * S, None, None), Sample(15 * S, "load", "turn_ns", 3 * S, None, None)]
    counter = read("energy_j", (9, 900), (12, 1200), (15, 3000), (18, 3600), (21, 3900))
    # 100 W in the first turn (10 to 12 s), 600 W while it waited, 200 W in the second turn (15 to 18 s)
    assert energy_j(trial(*counter, *turns)) == pytest.approx(200 + 600)
    assert mean_power_w(trial(*counter, *turns)) == pytest.approx(800 / 5)
    power = read("power_w", (9, 100), (12, 100), (12.001, 600), (15, 600), (15.001, 200), (21, 200))
    assert energy_j(trial(*power, *turns)) == pytest.approx(800, abs=1)
    assert "in its own turns" in energy_notes(trial(*counter, *turns))[0]

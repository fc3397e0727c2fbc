"""Curves of trials whose every reading is known."""

import pytest

from inferometer.core.record import Sample
from inferometer.report.page.over_time import MOST_TRIALS, CurveGroup, bucket_s, runs

MS = 1_000_000
GIB = 1024**3


def quantities(*cases) -> dict[str, CurveGroup]:
    (run,) = runs(cases)
    return {one.key: one for one in run.quantities}


@pytest.mark.parametrize(("span_s", "width"), [(10, 0.1), (48, 0.2), (100, 0.5), (3600, 20), (1e6, 1e6 / 240)])
def test_steps_are_round_and_at_most_240(span_s, width):
    assert bucket_s(span_s) == width


def test_tokens_a_second_and_requests_under_way_come_from_the_records(make):
    """Four tokens at 100, 300, 500, 700 ms: steps of 0.1 s, each with one token, are 10 a second."""
    found = quantities(make.case("arm", make.trial([make.record(at_ms=0, ttft_ms=100, gaps_ms=200)])))
    (curve,) = found["tokens"].curves
    assert dict(zip(curve.at_s, curve.values, strict=True)) == {
        0.05: 0.0, 0.15: 10.0, 0.25: 0.0, 0.35: 10.0, 0.45: 0.0, 0.55: 10.0, 0.65: 0.0,
    }  # fmt: skip
    (busy,) = found["concurrency"].curves
    assert busy.values[:7] == pytest.approx((1.0,) * 7)
    assert busy.values[7:] == pytest.approx((0.0,))


def test_two_requests_at_once_are_two(make):
    records = [make.record(0, at_ms=0, ttft_ms=1000), make.record(1, at_ms=50, ttft_ms=1000)]
    (busy,) = quantities(make.case("arm", make.trial(records)))["concurrency"].curves
    assert busy.values[:3] == pytest.approx((1.5, 2.0, 2.0))  # the second came in the middle of the first step


def test_readings_of_devices_are_put_together_and_loading_lies_before_zero(make):
    """The plan starts 2 s after the trial. Power of two devices adds up, the hotter one's temperature counts."""
    samples = [
        Sample(at_ms * MS, "nvml", quantity, value, None, device)
        for at_ms in (500, 3000)
        for device, power, heat in (("GPU 0", 100.0, 50.0), ("GPU 1", 200.0, 60.0))
        for quantity, value in (("power_w", power + at_ms / 10), ("gpu_temperature_c", heat), ("gpu_memory_bytes", GIB))
    ]
    found = quantities(make.case("arm", make.trial([make.record(at_ms=0)], samples=samples)))
    assert found["power_w"].curves[0].values == (400.0, 900.0)
    assert found["power_w"].curves[0].at_s == (-1.45, 1.05)
    assert found["gpu_temperature_c"].curves[0].values == (60.0, 60.0)
    assert found["memory"].curves[0].values == (2.0, 2.0)
    assert "sm_clock_mhz" not in found


def test_a_step_in_which_one_device_was_not_read_is_no_sum_of_the_others(make):
    samples = [
        Sample(3000 * MS, "nvml", "power_w", 100.0, None, "GPU 0"),
        Sample(3000 * MS, "nvml", "power_w", 100.0, None, "GPU 1"),
        Sample(4000 * MS, "nvml", "power_w", 100.0, None, "GPU 0"),
    ]
    found = quantities(make.case("arm", make.trial([make.record()], samples=samples)))
    assert found["power_w"].curves[0].values == (200.0,)


def test_trials_of_one_number_stand_together_and_only_the_first_are_shown(make):
    trials = [make.trial([make.record()], n) for n in range(1, MOST_TRIALS + 3)]
    found = runs([make.case("a", *trials), make.case("b", *trials[:1])])
    assert [run.number for run in found] == list(range(1, MOST_TRIALS + 1))
    assert [len(run.quantities[0].curves) for run in found[:2]] == [2, 1]


def test_a_trial_that_never_began_its_plan_has_no_curves(make):
    assert runs([make.case("a", make.trial([make.record()], plan_started_ns=None))]) == ()


def test_with_interleaved_requests_a_step_leaves_out_the_time_in_which_the_arm_waited(make):
    """One second of steps of 0.1 s; the arm's turns are 0 to 0.55 s and 0.99 to 1.1 s."""
    plan_ns = make.trial([]).plan_started_ns
    turns = [Sample(at * MS + plan_ns, "load", "turn_ns", long * MS) for at, long in ((0, 550), (990, 110))]
    power = [Sample(at * MS + plan_ns, "probe", "power_w", watts, None, "g") for at, watts in ((300, 100), (800, 300))]
    record = make.record(at_ms=0, ttft_ms=100, gaps_ms=200)  # tokens at 100, 300, 500, 700 ms
    found = quantities(make.case("arm", make.trial([record], samples=(*turns, *power))))
    (tokens,) = found["tokens"].curves
    rates = dict(zip(tokens.at_s, tokens.values, strict=True))
    assert (rates[0.15], rates[0.35]) == (10.0, 10.0)
    assert rates[0.55] == pytest.approx(20.0)  # a token in the half of a step that was the arm's
    assert 0.65 not in rates
    assert found["power_w"].curves[0].values == (100,)
    assert "own turns" in found["tokens"].note

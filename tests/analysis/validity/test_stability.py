"""A trial that began cold, drifted, was throttled, disturbed or failed is found; ordinary noise is not."""

import numpy as np
import pytest

from inferometer.analysis.same_requests import with_same_requests
from inferometer.analysis.validity.stability import (
    drift,
    failures,
    gpu_state,
    machine_busy,
    not_warm,
    other_clients,
    other_requests,
    resent_requests,
    silence,
    too_few_trials,
    trial_findings,
)
from inferometer.core.record import Finding, TokenUsage
from inferometer.metrics.rows import METRICS_BY_KEY

S = 1_000_000_000


def said(found) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in found]


def noise(seed: int, count: int = 50, share: float = 0.05) -> np.ndarray:
    """Times around 10 ms that vary by `share`."""
    return 10 * np.random.default_rng(seed).lognormal(0, share, count)


# --- warm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "found"), [(12.0, []), (12.1, [("warning", "not-warm")]), (5.0, [])])
def test_a_first_request_more_than_20_percent_slower_is_warned_of(make, first, found):
    trial = make.trial(make.of("tpot_ms", [first, *[10.0] * 19]))
    assert said(not_warm([make.case(trial)])) == found


def test_a_slow_first_request_is_said_with_its_excess(make):
    trials = make.as_trials(*[make.trial(make.of("tpot_ms", [15.0, *noise(seed, 19)])) for seed in range(3)])
    (found,) = not_warm([make.case(*trials)])
    assert "in time per output token (3 of 3 trials)" in found.message
    assert "warmups" in found.action


def test_a_first_request_within_the_spread_of_the_others_is_silent(make):
    spread = [10.0, 14.0] * 10  # the median deviation is 2, and 3.5 of these scores are 10.4 ms
    assert said(not_warm([make.case(make.trial(make.of("tpot_ms", [20.0, *spread])))])) == []
    assert said(not_warm([make.case(make.trial(make.of("tpot_ms", [23.0, *spread])))])) != []


def test_one_cold_trial_of_three_is_no_cold_study(make):
    cold, warm = make.trial(make.of("tpot_ms", [20.0, *[10.0] * 9])), make.trial(make.of("tpot_ms", [10.0] * 10))
    assert said(not_warm([make.case(cold, warm, warm)])) == []
    assert said(not_warm([make.case(cold, cold, warm)])) == [("warning", "not-warm")]


def prompts_of(make, ttfts_ms, lengths):
    return make.trial(
        [
            make.answer(i, ttft_ms=ttft, usage=TokenUsage(tokens, 21))
            for i, (ttft, tokens) in enumerate(zip(ttfts_ms, lengths, strict=True))
        ]
    )


def test_a_long_first_prompt_is_not_taken_for_a_cold_start(make):
    lengths = [1000, *range(100, 120)]
    assert said(not_warm([make.case(prompts_of(make, [n / 10 for n in lengths], lengths))])) == []


def test_a_first_prompt_that_is_slow_for_its_length_is_found(make):
    lengths = list(range(100, 121))
    ttfts = [n / 10 for n in lengths]
    (found,) = not_warm([make.case(prompts_of(make, [40.0, *ttfts[1:]], lengths))])
    assert "in TTFT for its length" in found.message


def test_prompts_of_one_length_are_compared_as_they_are(make):
    assert said(not_warm([make.case(prompts_of(make, [100.0, *[50.0] * 9], [64] * 10))])) == [("warning", "not-warm")]
    assert said(not_warm([make.case(prompts_of(make, [50.0] * 10, [64] * 10))])) == []
    assert said(not_warm([make.case(prompts_of(make, [500.0, *[50.0] * 9], [640, *[64] * 9]))])) == []


def test_too_few_requests_say_nothing_of_warmth(make):
    assert said(not_warm([make.case(make.trial(make.of("tpot_ms", [50.0, *[10.0] * 6])))])) == []
    assert said(not_warm([make.case(make.trial([])), make.case()])) == []
    assert said(not_warm([make.case(make.trial(make.answers(10, tokens=1)))])) == []  # no time per token at all


# --- drift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "found"), [(0.09, []), (0.11, [("warning", "drift")]), (-0.2, [("warning", "drift")])]
)
def test_a_trend_of_more_than_10_percent_from_end_to_end_is_warned_of(make, change, found):
    trial = make.trial(make.of("tpot_ms", [10 * (1 + change * i / 19) for i in range(20)]))
    assert said(drift([make.case(trial)])) == found


def test_a_drift_is_said_with_its_direction_and_trials(make):
    rising = make.trial(make.of("tpot_ms", [10 + 0.1 * i for i in range(21)]))
    (found,) = drift([make.case(*make.as_trials(rising, rising, rising))])
    assert "changes by +20% from the first to the last request (3 of 3 trials)" in found.message


def test_trials_that_go_up_and_down_do_not_drift_together(make):
    up, down = ([10 + way * 0.1 * i for i in range(21)] for way in (1, -1))
    trials = make.as_trials(*[make.trial(make.of("tpot_ms", values)) for values in (up, down)])
    assert "drift" not in {code for _, code in said(drift([make.case(*trials)]))}


def test_too_few_requests_say_nothing_of_drift(make):
    trial = make.trial(make.of("tpot_ms", [10 * 1.1**i for i in range(9)]))
    assert said(drift([make.case(trial), make.case(make.trial([])), make.case()])) == []


@pytest.mark.parametrize(("slowest", "found"), [(1.09, []), (1.12, [("warning", "trials-differ")])])
def test_trials_of_one_arm_that_differ_by_more_than_10_percent_are_warned_of(make, slowest, found):
    one = make.trial([make.answer(0, ttft_ms=0, tpot_ms=10)])
    other = make.trial([make.answer(0, ttft_ms=0, tpot_ms=10 * slowest)], 2)
    assert said(drift([make.case(one, other)])) == found


@pytest.mark.parametrize(("other_ms", "severities"), [((10, 14), ["note", "note"]), ((10, 10), ["warning"])])
def test_a_round_in_which_all_arms_were_slow_is_a_note(make, other_ms, severities):
    """The comparison of pairs does not contain what both arms of a round have in common."""

    def case(name, times):
        each = [make.trial([make.answer(0, ttft_ms=0, tpot_ms=ms)], number) for number, ms in enumerate(times, 1)]
        return make.case(*each, name=name)

    found = [one for one in drift([case("base", (10, 13)), case("other", other_ms)]) if one.code == "trials-differ"]
    assert [one.severity for one in found] == severities


def test_a_trial_without_a_single_success_is_no_slow_trial(make):
    assert said(drift([make.case(make.trial([make.failed()]), make.trial())])) == []


# --- ordinary noise -------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "trials"), [(0.02, 1), (0.05, 1), (0.05, 3), (0.10, 3)])
def test_noise_of_a_few_percent_is_neither_a_cold_start_nor_a_drift(make, share, trials):
    """At 5% noise a first request 20% slow is 3.6 deviations out, 1 in 6000 in each of two series, and a trend of 10%
    from end to end is four of its own deviations: 0.1 alarms are expected of 200 studies of one trial, and fewer where
    two trials of three must agree. One is allowed: two have a chance below 1%."""
    alarms = 0
    for seed in range(200):
        arms = [
            make.trial(
                [
                    make.answer(i, tpot_ms=tpot, ttft_ms=ttft * 5, usage=TokenUsage(50 + i % 9, 21))
                    for i, (tpot, ttft) in enumerate(
                        zip(noise(number, share=share), noise(10**6 + number, share=share), strict=True)
                    )
                ]
            )
            for number in range(seed * trials, (seed + 1) * trials)
        ]
        case = make.case(*make.as_trials(*arms))
        alarms += bool({code for _, code in (*said(not_warm([case])), *said(drift([case])))} & {"not-warm", "drift"})
    assert alarms <= 1


# --- the GPU --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ""),
        (0x1 | 0x2 | 0x4, ""),  # idle, an application's clock, the power cap that every card reaches
        (0x8, "hardware slowdown"),
        (0x20, "software thermal slowdown"),
        (0x44, "hardware thermal slowdown"),
        (0x80, "power brake"),
    ],
)
def test_a_gpu_slowed_down_by_heat_is_warned_of_and_one_at_its_power_cap_is_not(make, bits, words):
    trial = make.trial(samples=[make.sample("throttle_reasons", bits, device="0"), make.sample("throttle_reasons", 0)])
    found = list(gpu_state([make.case(trial)]))
    assert said(found) == [("warning", "throttled")] * bool(words)
    assert not words or words in found[0].message


def clocked(make, mhz: float, device: str = "0"):
    return make.trial(samples=[make.sample("sm_clock_mhz", mhz, device=device)])


@pytest.mark.parametrize(
    ("mhz", "found"), [(1530, []), (1531, [("warning", "clocks-differ")]), (1400, [("warning", "clocks-differ")])]
)
def test_clocks_of_the_arms_that_differ_by_more_than_2_percent_are_warned_of(make, mhz, found):
    cases = [make.case(clocked(make, 1500)), make.case(clocked(make, mhz), name="other"), make.case(name="none")]
    assert said(gpu_state(cases)) == found


def test_a_power_limit_that_changed_is_warned_of_and_two_gpus_with_their_own_are_not(make):
    def limited(*limits: tuple[str, float]):
        return make.trial(samples=[make.sample("power_limit_w", watts, device=device) for device, watts in limits])

    assert said(gpu_state([make.case(limited(("0", 300), ("1", 250)))])) == []
    changed = [make.case(limited(("0", 300))), make.case(limited(("0", 250)), name="other")]
    assert said(gpu_state(changed)) == [("warning", "power-limit")]


def test_a_gpu_that_the_engine_is_not_on_is_not_looked_at(make):
    others = [
        make.sample("gpu_memory_bytes", 2**30, device="0", pid=7),
        make.sample("throttle_reasons", 0x40, device="1"),
        make.sample("sm_clock_mhz", 1500, device="0"),
    ]
    one = make.trial(samples=[*others, make.sample("sm_clock_mhz", 200, device="1")])
    two = make.trial(samples=[*others, make.sample("sm_clock_mhz", 1900, device="1")])
    assert said(gpu_state([make.case(one), make.case(two, name="other")])) == []


def test_what_was_read_before_the_plan_began_is_not_of_the_trial(make):
    trial = make.trial(samples=[make.sample("throttle_reasons", 0x40, at_ns=-1)])
    assert said(gpu_state([make.case(trial), make.case()])) == []


# --- others on the machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "cores", "found"), [(0.8, 8, []), (0.81, 8, [("warning", "machine-busy")]), (5, None, [])]
)
def test_other_processes_on_more_than_a_tenth_of_the_cores_are_warned_of(make, used, cores, found):
    samples = [make.sample("other_cpu_cores", value) for value in (0.0, 2.0 * used)]  # the mean counts
    assert said(machine_busy([make.case(make.trial(samples=samples), cores=cores)])) == found


@pytest.mark.parametrize(
    ("running", "found"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 1], []),
        ([2, 1, 1, 1, 2, 1, 1, 1], []),
        ([2, 2, 1, 1, 2, 1, 1, 1], [("warning", "other-clients")]),
        ([9, 9, 9, 9, 9, 9, 9, 9], [("warning", "other-clients")]),
        ([], []),
    ],
    ids=["alone", "checks of its health", "a second client", "many clients", "no such gauge"],
)
def test_a_server_that_others_use_too_is_warned_of(make, running: list[int], found):
    read = [make.sample("requests_running", value, at_ns=at * S) for at, value in enumerate(running, 1)]
    outside = [make.sample("requests_running", 9, at_ns=at) for at in (-3, -2, -1)]
    assert said(other_clients([make.case(make.trial(samples=[*outside, *read]))])) == found


def test_a_busy_machine_is_said_with_its_cores_and_trial(make):
    trial = make.trial(number=2, samples=[make.sample("other_cpu_cores", 1.26)])
    (found,) = machine_busy([make.case(trial, cores=8)])
    assert (found.message, found.trial) == ("other processes used 1.3 of 8 cores.", 2)


@pytest.mark.parametrize(("percent", "found"), [(5, []), (6, [("warning", "gpu-busy")])])
def test_other_processes_on_more_than_5_percent_of_a_gpu_are_warned_of(make, percent, found):
    trial = make.trial(samples=[make.sample("other_gpu_percent", percent, device="0")])
    assert said(machine_busy([make.case(trial), make.case(make.trial(samples=[]))])) == found


# --- what trials told, and what failed ------------------------------------------------------------


def test_what_a_trial_found_itself_is_passed_on_with_its_place_but_for_notes(make):
    told = (Finding("note", "client", "client: all well"), Finding("invalid", "worker-lost", "worker 1 is gone"))
    (found,) = trial_findings([make.case(make.trial(number=3, findings=told), name="draft")])
    assert (found.code, found.arm, found.trial) == ("worker-lost", "draft", 3)


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (2, "warning"), (3, "invalid"), (20, "invalid")])
def test_any_failed_request_is_warned_of_and_more_than_a_tenth_are_invalid(make, count, severity):
    records = [make.failed(i) if i < count else make.answer(i) for i in range(20)]
    (found,) = failures([make.case(make.trial(records))])
    assert (found.severity, found.code) == (severity, "failures")
    assert f"{count} of 20 requests failed (http_error {count})" in found.message


@pytest.mark.parametrize("error", ["HTTP 500", "HTTP 500.", "HTTP 500\nTraceback: many\nlines"])
def test_the_first_failure_is_shown_in_one_line(make, error):
    (found,) = failures([make.case(make.trial([make.failed(0, error), make.failed(1, "other", "cut")]))])
    assert "(http_error 1, cut 1)" in found.message
    assert found.message.endswith("First error: HTTP 500.")


def test_a_trial_without_a_failure_is_silent(make):
    assert said(failures([make.case(make.trial()), make.case(make.trial([])), make.case()])) == []


def test_a_trial_that_did_not_end_well_is_named_with_its_reason_and_what_to_do(make):
    trial = make.trial([], 2, state="failed", error="the engine ended\nits log")
    (found,) = failures([make.case(make.trial(), trial)])
    assert (found.severity, found.code, found.trial) == ("warning", "trial-failed", 2)
    assert "(failed: the engine ended)" in found.message
    assert "logs/" in found.action


@pytest.mark.parametrize(("state", "error"), [("failed", "interrupted"), ("running", "")])
def test_a_trial_that_was_interrupted_is_named_so(make, state, error):
    (found,) = failures([make.case(make.trial(), make.trial([], 2, state=state, error=error))])
    assert found.message == "the trial was interrupted and is excluded."
    assert "run --resume" in found.action


@pytest.mark.parametrize(
    ("states", "found"), [(["done"], True), (["done", "failed"], True), (["done"] * 2, False), ([], False)]
)
def test_an_arm_with_one_trial_left_is_noted(make, states, found):
    trials = [make.trial(number=number, state=state) for number, state in enumerate(states, start=1)]
    assert said(too_few_trials([make.case(*trials)])) == [("note", "one-trial")] * found


def test_every_finding_is_a_sentence_with_something_to_do(make):
    """What a user cannot act on is a note."""
    samples = [
        make.sample("throttle_reasons", 0x40),
        make.sample("other_cpu_cores", 8),
        make.sample("other_gpu_percent", 80),
        make.sample("power_limit_w", 300, device="0"),
        make.sample("power_limit_w", 200, device="0"),
    ]
    cold = [make.answer(i, tpot_ms=10 * 1.1**i + 40 * (i == 0)) for i in range(20)]
    case = make.case(make.trial([*cold, make.failed(20)], samples=samples), make.trial([], 2, state="failed"), cores=8)
    checks = (not_warm, drift, gpu_state, machine_busy, failures)
    found = [finding for check in checks for finding in check([case])]
    assert {finding.code for finding in found} >= {"throttled", "power-limit", "machine-busy", "gpu-busy", "failures"}
    assert all(finding.action.endswith((".", "?", ").")) and finding.message.endswith((".", "?")) for finding in found)


@pytest.mark.parametrize(("again", "severities"), [(0, []), (1, ["note"]), (3, ["warning"])])
def test_requests_that_were_sent_again_are_counted(make, again, severities):
    records = [make.answer(i, resent=int(i < again)) for i in range(40)]
    found = list(resent_requests([make.case(make.trial(records))]))
    assert [one.severity for one in found] == severities
    assert not found or f"{again} of 40 requests" in found[0].message


@pytest.mark.parametrize(("lost_ms", "severity"), [(1, "note"), (20, "warning")])
def test_requests_that_were_sent_again_at_once_are_no_warning(make, lost_ms, severity):
    sent_ns = 1_000_000_000
    records = [make.answer(i, resent=1, connected_ns=i * sent_ns + lost_ms * 1_000_000) for i in range(40)]
    (found,) = resent_requests([make.case(make.trial(records))])
    assert (found.severity, f"took {lost_ms} ms of a TTFT of 50.0 ms" in found.message) == (severity, True)


def test_an_older_study_whose_times_begin_with_the_second_sending_gets_a_note(make):
    records = [make.answer(i, resent=1, connected_ns=i * 1_000_000_000 - 500) for i in range(40)]
    (found,) = resent_requests([make.case(make.trial(records))])
    assert (found.severity, "40 of 40 requests" in found.message) == ("note", True)


def halves(make, failed: int, count: int = 100):
    """Two arms of one trial; in the second one the last `failed` requests, which are slow, failed."""
    slow = [make.answer(i, ttft_ms=500.0 if i >= count - failed else 50.0) for i in range(count)]
    without = [make.failed(i) if i >= count - failed else one for i, one in enumerate(slow)]
    return with_same_requests([make.case(make.trial(slow)), make.case(make.trial(without), name="b")])


@pytest.mark.parametrize(("failed", "found"), [(0, []), (2, ["note"]), (3, ["warning"]), (60, ["warning"])])
def test_arms_that_answered_other_requests_get_no_verdict_above_a_small_share(make, failed, found):
    said_of = list(other_requests(halves(make, failed)))
    assert [one.severity for one in said_of] == found
    assert [one.withholds for one in said_of if one.severity == "warning"] == [("work", "latency")] * (failed > 2)


def test_a_request_that_failed_in_one_arm_is_in_no_arm_s_latencies(make):
    base, other = (arm.trials[0] for arm in halves(make, 2))
    means = [METRICS_BY_KEY["mean_ttft_ms"].value(trial) for trial in (base, other)]
    assert means == [pytest.approx(50.0)] * 2
    assert METRICS_BY_KEY["completed"].value(base) == 100


def test_failures_of_the_same_requests_are_not_other_requests(make):
    records = [make.failed(i) if i < 5 else make.answer(i) for i in range(20)]
    assert not list(other_requests([make.case(make.trial(records)), make.case(make.trial(records), name="b")]))


@pytest.mark.parametrize(
    ("ttft_ms", "found"),
    [
        ([50.0] * 9 + [8000.0], ["note"]),
        ([50.0] * 5 + [3000.0] + [50.0] * 4, ["note"]),
        ([50.0] * 9 + [2500.0], []),
        ([4000.0] * 9 + [8000.0], []),  # a slow prefill
        ([50.0, 50.0, 8000.0], []),
    ],
)
def test_a_long_silence_is_shown_with_its_duration(make, ttft_ms, found):
    said_of = list(silence([make.case(make.trial(make.of("ttft_ms", ttft_ms)))]))
    assert [one.severity for one in said_of] == found
    assert not found or f"{max(ttft_ms) / 1000:.1f} s" in said_of[0].message

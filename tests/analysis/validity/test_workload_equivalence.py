"""Arms that were not asked the same, did not answer the same, or answered nonsense are found; noise is not."""

import msgspec
import numpy as np
import pytest

from inferometer.analysis.validity import findings
from inferometer.analysis.validity.workload_equivalence import (
    agreement,
    cache_helped,
    common_length,
    degenerate_output,
    finish_reasons,
    not_repeated,
    other_output,
    other_prompts,
    same_prompts,
    token_totals,
)
from inferometer.core.record import Event, ServerTimings, TokenUsage
from inferometer.core.spec import Sampling

LOOP = "return x\n" * 30


def said(found) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in found]


def pair(make, base, other, **fields):
    """A case of each trial, the first the baseline."""
    return [make.case(base, name="base", **fields), make.case(other, name="other", **fields)]


# --- what was asked -------------------------------------------------------------------------------


def test_the_same_plan_is_silent_and_so_is_one_arm_alone(make):
    assert said(other_prompts(pair(make, make.trial(), make.trial(), plan="p"))) == []
    assert said(other_prompts([make.case(make.trial())])) == []


@pytest.mark.parametrize(
    ("prompts", "max_tokens", "severity", "what"),
    [
        (["a", "x"], 8, "invalid", "different prompts from base"),
        (["a"], 8, "invalid", "different prompts from base (1 and 2 requests)"),
        (["a", "b"], 9, "invalid", "different lengths from base"),
        (["b", "a"], 8, "warning", "a different order"),
        (["a", "b"], 8, "warning", "with a different order, timing or concurrency"),
    ],
)
def test_another_plan_is_said_to_differ_in_what_it_differs(make, prompts, max_tokens, severity, what):
    base = make.case(make.trial(), plan="p", prompts=["a", "b"], max_tokens=8)
    other = make.case(make.trial(), name="other", plan="q", prompts=prompts, max_tokens=max_tokens)
    (found,) = other_prompts([base, other])
    assert (found.severity, found.code, found.arm) == (severity, "other-work", "other")
    assert what in found.message


def test_other_sampling_is_shown(make):
    base = make.case(make.trial())
    other = make.case(make.trial(), name="other", sampling=Sampling(temperature=0.7))
    (found,) = other_prompts([base, other])
    assert (found.severity, found.code) == ("warning", "other-sampling")
    assert "temperature 0.7, not 0.0" in found.message


# --- how much was written -------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "found"), [(1020, False), (1021, True), (980, False), (979, True)])
def test_token_totals_beyond_2_percent_are_warned_of(make, tokens, found):
    text = "word " * 1000
    base = make.trial([make.answer(0, tokens=1000, text=text)])
    other = make.trial([make.answer(0, tokens=tokens, text=text)])
    assert said(token_totals(pair(make, base, other))) == [("warning", "token-totals")] * found


def test_token_totals_of_nothing_are_compared_with_nothing(make):
    nothing = make.trial([make.failed()])
    assert said(token_totals(pair(make, nothing, make.trial()))) == []
    assert said(token_totals([make.case(), make.case(make.trial(), name="other")])) == []


# --- how answers ended ----------------------------------------------------------------------------


def ended(make, *reasons: str):
    return make.trial([make.answer(i, finish_reason=reason) for i, reason in enumerate(reasons)])


def test_finish_reasons_that_differ_are_warned_of_with_their_shares(make):
    base, other = ended(make, *["stop"] * 40, *["length"] * 10), ended(make, *["stop"] * 20, *["length"] * 30)
    (found,) = finish_reasons(pair(make, base, other))
    assert (found.severity, found.code) == ("warning", "finish-reasons")
    assert "60% of its answers end with 'length', but 20% of base's" in found.message


def test_a_few_answers_that_end_otherwise_are_no_finding(make):
    base, other = ended(make, *["stop"] * 5), ended(make, *["stop"] * 2, *["length"] * 3)  # p = 0.17
    assert said(finish_reasons(pair(make, base, other))) == []
    base, other = ended(make, *["stop"] * 400), ended(make, *["stop"] * 381, *["length"] * 19)  # 4.75 points
    assert said(finish_reasons(pair(make, base, other))) == []


def test_finish_reasons_of_nothing_are_no_finding(make):
    assert said(finish_reasons(pair(make, make.trial([make.failed()]), make.trial()))) == []


def test_finish_reasons_drawn_alike_are_rarely_found_to_differ(make):
    """The level is 1%, and Fisher's test keeps below it: of 300 draws 3 or fewer are expected, and more than 8 have a
    chance of 0.4% even at the full level."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        arms = [ended(make, *np.where(rng.random(50) < 0.3, "length", "stop").tolist()) for _ in range(2)]
        alarms += bool(said(finish_reasons(pair(make, *arms))))
    assert alarms <= 8


# --- what was written -----------------------------------------------------------------------------


def written(make, *texts: str, number: int = 1, kind: str = "text"):
    return make.trial([make.answer(i, text=text, kind=kind) for i, text in enumerate(texts)], number)


BASE = [f"answer {i} is a sentence of its own" for i in range(20)]


def changed(count: int) -> list[str]:
    """The first `count` of BASE, changed from character 10 on."""
    return [f"{text[:10]}!" if i < count else text for i, text in enumerate(BASE)]


def test_texts_to_the_letter_alike_are_noted(make):
    (found,) = other_output(pair(make, written(make, *BASE), written(make, *BASE), plan="p"))
    assert (found.severity, found.code) == ("note", "same-output")
    assert "outputs identical to base: 20/20" in found.message


def test_other_texts_are_warned_of_with_the_place_of_the_first_difference(make):
    base = make.case(written(make, *BASE), written(make, *BASE, number=2))
    other = make.case(written(make, *changed(12)), name="other")
    (found,) = other_output([base, other])
    assert (found.severity, found.code) == ("warning", "other-output")
    assert "outputs identical to base: 8/20 (base between two trials: 20/20)" in found.message
    assert "character 10 of r0" in found.message


def test_texts_no_more_unlike_than_the_baseline_is_to_itself_are_a_note(make):
    base = make.case(written(make, *BASE), written(make, *changed(12), number=2))
    other = make.case(written(make, *changed(13)), name="other")
    assert said(other_output([base, other])) == [("note", "other-output")]


@pytest.mark.parametrize(("differ", "severity"), [(2, "note"), (3, "warning")])
def test_without_a_second_trial_of_the_baseline_one_answer_in_ten_may_differ(make, differ, severity):
    found = other_output(pair(make, written(make, *BASE), written(make, *changed(differ))))
    assert said(found) == [(severity, "other-output")]


def test_thoughts_and_tool_calls_are_compared_too(make):
    base, other = written(make, *BASE, kind="reasoning"), written(make, *changed(15), kind="reasoning")
    assert said(other_output(pair(make, base, other))) == [("warning", "other-output")]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.7), Sampling(extra_body={"temperature": 1})])
def test_texts_that_were_drawn_at_random_are_not_compared(make, sampling):
    cases = pair(make, written(make, *BASE), written(make, *changed(20)), sampling=sampling)
    assert said(other_output(cases)) == []


def test_texts_of_other_plans_and_of_nothing_are_not_compared(make):
    base = make.case(written(make, *BASE), plan="p")
    assert said(other_output([base, make.case(written(make, *changed(20)), name="o", plan="q")])) == []
    assert said(other_output([base, make.case(make.trial([make.failed()]), name="o", plan="p")])) == []
    assert said(other_output([make.case(name="b"), base])) == []
    assert agreement(make.trial([]), make.trial([])) is None


def test_the_shared_beginning_of_two_texts():
    assert [common_length(*texts) for texts in (("", ""), ("abc", "abd"), ("ab", "abc"), ("x", "y"))] == [0, 2, 2, 0]


# --- broken answers -------------------------------------------------------------------------------


def looping(make, loops: int, of: int = 20, **fields):
    return make.trial([make.answer(i, **({"text": LOOP} | fields if i < loops else {})) for i in range(of)])


@pytest.mark.parametrize(("loops", "found"), [(1, []), (2, [("warning", "degenerate")])])
def test_more_than_one_broken_answer_in_twenty_is_warned_of(make, loops, found):
    assert said(degenerate_output([make.case(looping(make, loops))])) == found


def test_an_arm_alone_in_its_loops_makes_the_comparison_invalid(make):
    found = findings(pair(make, looping(make, 0), looping(make, 12)))
    first, canned = [one for one in found if one.severity == "invalid"]
    assert (first.code, first.arm, canned.code) == ("degenerate", "other", "canned-answers")
    assert "60% of its answers are broken, but 0% of base's" in first.message
    (warning,) = [one for one in found if (one.severity, one.code) == ("warning", "degenerate")]
    assert "12 of 20 answers are broken (loops 12)" in warning.message


def test_arms_that_loop_alike_are_warned_of_and_valid(make):
    found = degenerate_output(pair(make, looping(make, 15), looping(make, 16)))
    assert said(found) == [("warning", "degenerate")] * 2


def test_one_loop_among_eight_answers_is_no_ground_to_call_a_comparison_invalid(make):
    """A flipped token may send one text of eight into a loop; six of eight are no chance (Fisher: 0.7%)."""
    assert ("invalid", "degenerate") not in said(
        degenerate_output(pair(make, looping(make, 0, 8), looping(make, 1, 8)))
    )
    assert ("invalid", "degenerate") in said(degenerate_output(pair(make, looping(make, 0, 8), looping(make, 6, 8))))


def test_a_thought_is_judged_where_it_is_all_there_is(make):
    looped, sound = looping(make, 20, kind="reasoning"), make.trial(make.answers(kind="reasoning"))
    assert said(degenerate_output([make.case(looped)])) == [("warning", "degenerate")]
    assert said(degenerate_output([make.case(sound)])) == []


def test_a_thought_in_a_loop_before_a_sound_answer_and_a_tool_call_are_no_broken_answers(make):
    events = (Event(1, "reasoning", LOOP), Event(2, "text", "Yes."))
    thought = make.trial([make.answer(i, events=events, sent_ns=0) for i in range(20)])
    called = make.trial(make.answers(kind="tool", text='{"x": 1}'))
    assert said(degenerate_output([make.case(thought), make.case(called, name="tool")])) == []


def test_an_answer_cut_short_of_the_length_asked_is_broken(make):
    short = make.trial(make.answers(finish_reason="length", tokens=21))
    (found,) = degenerate_output([make.case(short, max_tokens=64)])
    assert "shorter than the requested length 20" in found.message
    assert said(degenerate_output([make.case(short, max_tokens=21)])) == []
    assert said(degenerate_output([make.case(short)])) == []
    uncounted = make.trial(make.answers(finish_reason="length", usage=None))  # two events, and no count
    assert said(degenerate_output([make.case(uncounted, max_tokens=64)])) == []


def test_blank_answers_are_broken_and_failed_ones_are_a_matter_of_their_own(make):
    assert said(degenerate_output([make.case(make.trial(make.answers(text=" \n")))])) == [("warning", "degenerate")]
    assert said(degenerate_output([make.case(make.trial([make.failed()])), make.case()])) == []


# --- the prefix cache -----------------------------------------------------------------------------


def cached(make, tokens: int, prompt: int = 200, **fields):
    return make.trial(make.answers(10, usage=TokenUsage(prompt, 21, tokens), **fields))


@pytest.mark.parametrize(("tokens", "found"), [(0, []), (40, []), (50, []), (51, [("warning", "cache-helped")])])
def test_cached_tokens_beyond_the_template_and_5_percent_are_warned_of(make, tokens, found):
    assert said(cache_helped([make.case(cached(make, tokens))])) == found  # 40 of the template, and 10 of 200


def test_a_cache_that_helped_one_arm_alone_is_invalid(make):
    (found,) = cache_helped(pair(make, cached(make, 0), cached(make, 190)))
    assert (found.severity, found.code, found.arm) == ("invalid", "cache-helped", "other")
    assert "cache_prompt" in found.action
    assert "75% of its prompt tokens came from the prefix cache" in found.message
    assert said(cache_helped(pair(make, cached(make, 190), cached(make, 190)))) == [("warning", "cache-helped")] * 2


def test_what_the_prompts_share_may_come_from_the_cache(make):
    alike = ["a long common beginning of all the prompts, which is kept" + f" {i}" for i in range(10)]
    assert said(cache_helped([make.case(cached(make, 190), prompts=alike)])) == [("warning", "cache-helped")]
    first = make.answer(0, usage=TokenUsage(200, 21, 0))
    trial = make.trial([first, *(make.answer(i, usage=TokenUsage(200, 21, 190)) for i in range(1, 10))])
    assert said(cache_helped([make.case(trial, prompts=alike)])) == []


def test_a_request_below_its_allowance_makes_no_room_for_another(make):
    """Half of the prompts from the cache as a whole, and half not at all: 160 of 400 are beyond the template's."""
    records = [make.answer(i, usage=TokenUsage(200, 21, 200 * (i % 2))) for i in range(10)]
    (found,) = cache_helped([make.case(make.trial(records))])
    assert found.message.startswith("40% of its prompt tokens")


def test_llama_cpp_s_own_count_of_the_cache_is_taken(make):
    timings = ServerTimings(cache_n=190, prompt_n=10, predicted_n=21)
    assert said(cache_helped([make.case(make.trial(make.answers(10, usage=None, timings=timings)))])) != []


def test_a_server_that_tells_of_no_cache_is_not_accused(make):
    silent = make.trial(make.answers(10))
    assert said(cache_helped([make.case(silent), make.case(make.trial([]), name="b"), make.case(name="c")])) == []


# --- all of them ----------------------------------------------------------------------------------


def test_nothing_at_all_raises_nothing(make):
    assert findings([]) == []
    assert [one.code for one in findings([make.case()])] == []
    assert [one.code for one in findings([make.case(make.trial([])), make.case(make.trial([]), name="b")])] == [
        "nothing-differs",
        "one-trial",
        "one-trial",
    ]


def test_the_gravest_come_first(make):
    cases = pair(make, looping(make, 0), looping(make, 20))
    cases[1] = msgspec.structs.replace(cases[1], sampling=Sampling(ignore_eos=True))
    severities = [one.severity for one in findings(cases)]
    assert severities == sorted(severities, key=["invalid", "warning", "note"].index)
    assert severities[0] == "invalid"


def unlike(make, count: int, total: int = 20):
    return make.trial([make.answer(i, text=f"other {i}, a longer text" if i < count else "") for i in range(total)])


@pytest.mark.parametrize(
    ("count", "concurrency", "found"),
    [
        (0, 1, []),
        (2, 1, []),
        (3, 1, ["not-repeated"]),
        (10, 8, []),
        (11, 8, ["not-repeated"]),
        (20, None, ["not-repeated"]),
    ],
)
def test_a_baseline_that_does_not_repeat_its_greedy_answers_is_warned_of(make, count, concurrency, found):
    case = make.case(*make.as_trials(unlike(make, 0), unlike(make, count)), concurrency=concurrency)
    assert [one.code for one in not_repeated([case, case])] == found


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_loops_and_other_outputs_are_found_in_every_trial(make, broken):
    looping = make.trial(make.answers(text="the same words " * 40))
    sound = [make.trial() for _ in range(3)]
    case = make.case(*make.as_trials(*[looping if n == broken else one for n, one in enumerate(sound)]), name="b")
    base = make.case(*make.as_trials(*sound))
    assert ("invalid", "degenerate") in [(one.severity, one.code) for one in degenerate_output([base, case])]
    assert "warning" in [one.severity for one in other_output([base, case])]


@pytest.mark.parametrize(
    ("prompts", "found"),
    [(["a"] * 10, True), (["a"] * 6 + list("bcdef"), True), (["a"] * 5 + list("bcdefg"), False), (["a", "a"], False)],
)
def test_a_plan_of_one_prompt_is_warned_of(make, prompts, found):
    assert bool(list(same_prompts([make.case(make.trial(), prompts=prompts)]))) == found

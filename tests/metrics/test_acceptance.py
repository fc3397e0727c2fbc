"""What speculation accepted and what that predicts; the expected numbers are written by hand."""

import pytest

from inferometer.core.record import Event, Fact, RequestRecord, Sample, ServerTimings, TokenUsage, Trial
from inferometer.metrics import acceptance
from inferometer.metrics.summary import summarize, view

MS = 1_000_000


def record(
    tokens: int, per_token_ms: float, index: int = 0, draft: tuple[int, int | None] | None = None
) -> RequestRecord:
    """An answer of so many tokens at this pace after 100 ms; `draft`: drafted and accepted."""
    times = [round((100 + i * per_token_ms) * MS) for i in range(tokens)]
    drafted, accepted = draft or (None, None)
    return RequestRecord(
        index,
        f"r{index}",
        True,
        "ok",
        None,
        0,
        times[-1],
        events=tuple(Event(at_ns, "text", "x") for at_ns in times),
        usage=TokenUsage(7, tokens),
        timings=ServerTimings(predicted_n=tokens, draft_n=drafted, draft_n_accepted=accepted),
    )


def trial(*records: RequestRecord, **fields) -> Trial:
    return Trial("arm", 1, "done", 0, records, **fields)


def test_counters_count_as_differences_over_the_plan():
    """A counter that stood at 900 when the plan began tells of 100 tokens where it ends at 1000."""
    names = (acceptance.DRAFTED, acceptance.ACCEPTED, acceptance.STEPS)
    before = [Sample(5, "/metrics", name, value) for name, value in zip(names, (900, 500, 200), strict=True)]
    after = [Sample(99, "/metrics", name, value) for name, value in zip(names, (1000, 580, 240), strict=True)]
    found = trial(record(201, 10), samples=(*before, *after))
    values = summarize(Trial("arm", 1, "done", 10, found.records, found.samples)).values
    assert (values["drafted_tokens"], values["accepted_tokens"]) == (100, 80)
    assert values["acceptance_rate_percent"] == 80
    assert values["mean_accepted_length"] == pytest.approx(200 / 120)  # 80 of 200 tokens came with another's step
    assert values["accepted_per_step"] == pytest.approx(80 / 120)
    assert values["mean_draft_length"] == 2.5


def test_a_counter_that_was_set_back_or_read_once_tells_nothing():
    back = (Sample(1, "/metrics", acceptance.DRAFTED, 900), Sample(9, "/metrics", acceptance.DRAFTED, 3))
    between = (*back, Sample(12, "/metrics", acceptance.DRAFTED, 950))  # restarted, and by now above its first value
    for samples in (back, back[:1], between, ()):
        assert acceptance.drafted_by_counter(view(trial(record(3, 10), samples=samples))) is None


def test_a_rate_of_acceptance_is_of_the_requests_that_report_both_numbers():
    found = summarize(trial(record(11, 10, draft=(8, 6)), record(11, 10, index=1, draft=(8, None)))).values
    assert (found["drafted_tokens"], found["acceptance_rate_percent"]) == (16, 75)


def test_timings_of_requests_go_before_counters():
    found = trial(record(11, 10, draft=(12, 6)), samples=(Sample(1, "/metrics", acceptance.DRAFTED, 5),))
    assert summarize(found).values["drafted_tokens"] == 12


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 4), (0.8, 8), (0.95, 2), (1.0, 5)])
def test_alpha_is_the_one_that_gives_the_tokens_per_step(alpha, gamma):
    expected = gamma + 1 if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)
    assert acceptance.acceptance_of(expected, gamma) == pytest.approx(alpha, abs=1e-9)


def test_more_tokens_than_drafted_have_no_alpha():
    assert acceptance.acceptance_of(6.5, 5) is None


def drafting() -> Trial:
    """Per request 41 tokens: 10 steps, each of 5 drafted tokens of which 3 are kept. 10 ms a token: 40 ms a step."""
    facts = (Fact("spec_log_draft_ms", "100", "the log"), Fact("spec_log_drafted_tokens", "50", "the log"))
    return trial(record(41, 10, draft=(50, 30)), facts=facts)


def test_the_speed_up_is_leviathans():
    """A drafted token costs 2 ms by the log, so that a step of 40 ms verified in 40 - 5 · 2 = 30 ms. The target alone
    takes 20 ms a token. Predicted, if verifying cost 20 ms: 4 tokens · 20 / (5 · 2 + 20) = 2.667; with 30 ms: 2.0."""
    found = acceptance.speculation("draft", "base", [view(drafting())], [view(trial(record(41, 20)))])
    assert found.tokens_per_step == 4
    assert found.drafted_per_step == 5
    assert found.costs.draft_token_ms == 2
    assert found.costs.verify_step_ms == pytest.approx(30)
    assert found.predicted == pytest.approx(4 * 20 / 30)
    assert found.predicted_measured == pytest.approx(2.0)
    assert found.measured == pytest.approx(2.0)


def test_costs_come_from_requests_where_their_steps_and_drafts_differ():
    """Steps of 15 ms and drafted tokens of 1 ms: 10 steps and 50 drafted take 200 ms, 20 and 20 take 320, and so on."""
    shapes = [(10, 50, 30), (20, 20, 10), (5, 40, 20), (30, 10, 10), (8, 16, 16)]
    records = [
        record(steps + kept + 1, (15 * steps + proposed) / (steps + kept), i, (proposed, kept))
        for i, (steps, proposed, kept) in enumerate(shapes)
    ]
    costs = acceptance.step_costs([view(trial(*records))])
    assert costs.verify_step_ms == pytest.approx(15, rel=1e-3)
    assert costs.draft_token_ms == pytest.approx(1, rel=1e-3)
    assert costs.source == "least squares over requests"


def test_costs_that_cannot_be_told_apart_are_not_told():
    alike = [record(41, 10 + i / 10, i, (50, 30)) for i in range(6)]
    assert acceptance.step_costs([view(trial(*alike))]) is None
    found = acceptance.speculation("draft", "base", [view(trial(*alike))], [view(trial(record(41, 20)))])
    assert found.predicted is None
    assert found.measured > 1


def test_answers_that_came_in_one_moment_tell_no_speed_up():
    at_once, paced = [view(trial(record(41, 0, draft=(50, 30))))], [view(trial(record(41, 20)))]
    assert acceptance.speculation("draft", "base", at_once, paced) is None
    assert acceptance.speculation("draft", "base", [view(drafting())], [view(trial(record(41, 0)))]) is None


def test_an_arm_that_drafted_nothing_has_no_speculation():
    plain = [view(trial(record(41, 20)))]
    assert acceptance.speculation("draft", "base", plain, plain) is None


def test_answers_that_came_in_one_moment_have_no_decode_time_and_no_speed_up():
    """A client that is behind reads a whole answer at once: all its tokens have one stamp."""
    at_once = [view(trial(record(41, 0, draft=(30, 20))))]
    paced = [view(trial(record(41, 20, draft=(30, 20))))]
    assert acceptance.speculation("draft", "base", at_once, paced) is None
    assert acceptance.speculation("draft", "base", paced, at_once) is None

"""Drafts that are rare, never accepted or too long are named; n-gram speculation gets no formula of draft models."""

import pytest

from inferometer.analysis.validity.drafting import drafts
from inferometer.core.record import ServerTimings
from inferometer.core.spec import Arm, Draft
from inferometer.metrics.acceptance import speculation
from inferometer.metrics.rows import METRICS_BY_KEY

MODEL = Arm(engine="llama-server", model="m.gguf", draft=Draft("d.gguf", n_max=8))
NGRAM = Arm(engine="llama-server", model="m.gguf", args=("--spec-type", "ngram-simple"))


def trial(make, drafting: int, accepted: int = 20, facts: dict[str, str] | None = None, number: int = 1):
    """Twelve answers of 41 tokens; the first `drafting` of them drafted 30 tokens each."""
    some = ServerTimings(predicted_n=41, draft_n=30, draft_n_accepted=accepted)
    none = ServerTimings(predicted_n=41)
    records = [make.answer(i, tokens=41, timings=some if i < drafting else none) for i in range(12)]
    return make.trial(records, number, facts=facts)


@pytest.mark.parametrize(
    ("arm", "drafting", "accepted", "found"),
    [
        (MODEL, 12, 20, []),
        (MODEL, 7, 20, []),
        (MODEL, 1, 20, [("warning", "draft-rare")]),
        (MODEL, 12, 0, [("warning", "draft-never-accepted")]),
        (NGRAM, 1, 20, [("note", "draft-rare"), ("note", "drafts-without-model")]),
        (NGRAM, 12, 20, [("note", "drafts-without-model")]),
    ],
)
def test_drafts_that_are_rare_or_never_accepted_are_named(make, arm, drafting, accepted, found):
    said = list(drafts([make.case(trial(make, drafting, accepted), arm=arm)]))
    assert [(one.severity, one.code) for one in said] == found


@pytest.mark.parametrize(
    ("drafting", "accepted", "code"), [(12, 0, "draft-never-accepted"), (0, 20, "draft-rare"), (12, 20, None)]
)
def test_one_trial_that_drafted_otherwise_than_the_others_is_named(make, drafting, accepted, code):
    case = make.case(trial(make, 12), trial(make, drafting, accepted, number=2), arm=MODEL)
    assert [one.code for one in drafts([case])] == ([code] if code else [])


@pytest.mark.parametrize(("drafted", "found"), [("80", []), ("81", ["drafts-too-long"])])
def test_drafts_longer_than_asked_are_named_by_the_engines_log(make, drafted, found):
    facts = {"spec_log_drafts": "10", "spec_log_drafted_tokens": drafted}
    assert [one.code for one in drafts([make.case(trial(make, 12, facts=facts), arm=MODEL)])] == found


@pytest.mark.parametrize(("drafted", "found"), [(168, []), (169, ["drafts-too-long"])])
def test_drafts_longer_than_asked_are_named_by_the_counts_of_requests(make, drafted, found):
    """Twenty steps and the last one, of 8 tokens each at most."""
    some = ServerTimings(predicted_n=41, draft_n=drafted, draft_n_accepted=20)
    records = [make.answer(i, tokens=41, timings=some) for i in range(12)]
    assert [one.code for one in drafts([make.case(make.trial(records), arm=MODEL)])] == found


def test_steps_of_requests_that_drafted_nothing_count(make):
    """One request of 40 decoded tokens in 20 steps, and eleven in 40 steps each."""
    length = METRICS_BY_KEY["mean_accepted_length"]
    assert length.value(trial(make, 1)) == pytest.approx(480 / 460)
    assert length.value(trial(make, 0)) is None


def test_without_a_draft_model_the_tokens_per_step_limit_the_speed_up(make):
    plain, arm = [trial(make, 0)], [trial(make, 12)]
    found = speculation("b", "a", arm, plain, has_draft_model=False)
    assert found is not None
    assert (found.tokens_per_step, found.acceptance, found.predicted) == (2.0, None, 2.0)

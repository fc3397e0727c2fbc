"""A draft, a setting or a model that was asked for and is not there is found; one that is there is not."""

import pytest

from inferometer.analysis.validity.configuration import (
    another_model,
    draft_not_used,
    model_changed,
    settings_not_in_force,
)
from inferometer.analysis.validity.in_force import differences_in_force, nothing_differs
from inferometer.core.record import ServerTimings
from inferometer.core.spec import Arm, Draft

DRAFTING = Arm(engine="llama-server", model="m.gguf", draft=Draft("d.gguf"))


def said(found) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in found]


# --- the draft ------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft_n", [None, 0])
def test_a_draft_that_the_timings_know_nothing_of_makes_the_comparison_invalid(make, draft_n):
    trial = make.trial(make.answers(timings=ServerTimings(predicted_n=21, draft_n=draft_n)))
    (found,) = draft_not_used([make.case(trial, arm=DRAFTING, name="draft")])
    assert (found.severity, found.code, found.arm) == ("invalid", "draft-not-used", "draft")
    assert "no drafted token in 1 of 1 trials" in found.message
    assert "--spec-type" in found.action


@pytest.mark.parametrize(
    ("in_force", "found"), [("on", ("note", "draft-rare")), ("off", ("invalid", "draft-not-used"))]
)
def test_ngram_speculation_in_force_that_found_no_repetition_does_not_make_the_comparison_invalid(
    make, in_force, found
):
    arm = Arm(engine="embedded", model="m.gguf", args=("--spec-type", "ngram-simple"))
    trial = make.trial(
        make.answers(timings=ServerTimings(predicted_n=21, draft_n=0)),
        facts={"asked_draft": "on", "in_force_draft": in_force},
    )
    (said_of_it,) = draft_not_used([make.case(trial, arm=arm)])
    assert (said_of_it.severity, said_of_it.code) == found
    assert "repeat" in said_of_it.message + said_of_it.action
    assert "draft model" not in said_of_it.message


def test_a_draft_that_drafted_is_silent_and_so_is_an_arm_without_one(make):
    drafted = make.trial(make.answers(timings=ServerTimings(predicted_n=21, draft_n=30, draft_n_accepted=10)))
    plain = make.trial(make.answers(timings=ServerTimings(predicted_n=21)))
    assert said(draft_not_used([make.case(drafted, arm=DRAFTING), make.case(plain)])) == []


def test_one_trial_without_drafting_among_three_is_named(make):
    drafted = make.trial(make.answers(timings=ServerTimings(predicted_n=21, draft_n=30)))
    unused = make.trial(make.answers(timings=ServerTimings(predicted_n=21)), 2)
    (found,) = draft_not_used([make.case(drafted, unused, drafted, arm=DRAFTING)])
    assert "in 1 of 3 trials" in found.message


def test_a_draft_asked_for_by_the_arm_s_own_flags_counts_as_asked_for(make):
    trial = make.trial(make.answers(timings=ServerTimings(predicted_n=21)), facts={"asked_draft": "on"})
    assert said(draft_not_used([make.case(trial)])) == [("invalid", "draft-not-used")]


def test_counters_that_stood_still_say_that_nothing_was_drafted(make):
    stood = [make.sample("spec_draft_tokens_total", 40, at_ns) for at_ns in (0, 10)]
    moved = [make.sample("spec_draft_tokens_total", value, at_ns) for value, at_ns in ((40, 0), (90, 10))]
    assert said(draft_not_used([make.case(make.trial(samples=stood), arm=DRAFTING)])) == [("invalid", "draft-not-used")]
    assert said(draft_not_used([make.case(make.trial(samples=moved), arm=DRAFTING)])) == []


def test_an_engine_that_says_nothing_of_drafting_gets_a_warning(make):
    (found,) = draft_not_used([make.case(make.trial(), arm=DRAFTING)])
    assert (found.severity, found.code) == ("warning", "draft-unknown")


def test_the_fact_in_force_decides_where_nothing_is_counted(make):
    off, on = (make.trial(facts={"in_force_draft": value}) for value in ("off", "on"))
    assert said(draft_not_used([make.case(off, arm=DRAFTING)])) == [("invalid", "draft-not-used")]
    assert said(draft_not_used([make.case(on, arm=DRAFTING)])) == []


def test_a_trial_in_which_nothing_succeeded_says_nothing_of_the_draft(make):
    assert said(draft_not_used([make.case(make.trial([make.failed()]), make.trial([]), arm=DRAFTING)])) == []
    assert said(draft_not_used([make.case(arm=DRAFTING)])) == []


# --- flash attention and layers -------------------------------------------------------------------


def test_flash_attention_asked_for_and_not_in_force_is_invalid_and_names_its_source(make):
    facts = {"in_force_flash_attn": "off", "asked_flash_attn": "on"}
    (found,) = settings_not_in_force([make.case(make.trial(facts=facts))])
    assert (found.severity, found.code, found.trial) == ("invalid", "flash-attention", 1)
    assert "was set to on, but it is off (the engine's log)" in found.message


@pytest.mark.parametrize("asked", [{"asked_flash_attn": "off"}, {}])
def test_flash_attention_as_asked_for_or_not_asked_for_is_silent(make, asked):
    case = make.case(make.trial(facts={"in_force_flash_attn": "off"} | asked), make.trial())
    assert said(settings_not_in_force([case])) == []


@pytest.mark.parametrize(
    ("asked", "in_force", "found"),
    [
        ("99", "25/25", []),
        ("25", "25/25", []),
        ("99", "24/25", [("invalid", "gpu-layers")]),
        ("10", "10/25", []),
        ("10", "9/25", [("invalid", "gpu-layers")]),
        ("0", "0/25", []),
        ("all", "0/25", [("invalid", "gpu-layers")]),
        ("99", "unknown", []),
    ],
)
def test_layers_that_are_not_on_the_gpu_as_asked(make, asked, in_force, found):
    case = make.case(make.trial(facts={"in_force_gpu_layers": in_force, "asked_gpu_layers": asked}))
    assert said(settings_not_in_force([case])) == found


# --- the model ------------------------------------------------------------------------------------


def test_answers_of_two_models_are_invalid(make):
    records = [make.answer(0, model="qwen"), make.answer(1, model="llama"), make.answer(2, model="qwen")]
    (found,) = another_model([make.case(make.trial(records))])
    assert (found.severity, found.code) == ("invalid", "another-model")
    assert "qwen (2), llama (1)" in found.message


def test_an_external_server_that_names_another_model_than_asked_is_warned_of(make):
    arm = Arm(engine="external", url="http://h", model="qwen")
    (found,) = another_model([make.case(make.trial(), arm=arm)])
    assert (found.severity, found.code) == ("warning", "another-model")
    assert "requests qwen, but the answers name m" in found.message


@pytest.mark.parametrize("asked", ["m", ""])
def test_the_model_that_was_asked_for_is_silent(make, asked):
    arm = Arm(engine="external", url="http://h", model=asked)
    nameless = make.trial(make.answers(model=None))
    assert said(another_model([make.case(make.trial(), nameless, arm=arm), make.case(nameless, arm=arm)])) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model_bytes", ["invalid"]),
        ("model_samples_sha256", ["invalid"]),
        ("draft_head_sha256", ["invalid"]),
        ("model_changed_ns", ["warning"]),
        ("model_file", []),
    ],
)
def test_a_model_file_that_changed_between_trials_is_found(make, name, found):
    trials = make.as_trials(*[make.trial(facts={"model_bytes": "1", name: value}) for value in ("1", "2")])
    assert [one.severity for one in model_changed([make.case(*trials)])] == found
    assert not list(model_changed([make.case(*make.as_trials(trials[0], trials[0]))]))


def in_force(make, args: tuple[str, ...] = (), name: str = "base", **facts: str):
    arm = Arm(engine="llama-server", model="m.gguf", args=args)
    known = {"engine_build": "b1", "model_head_sha256": "a", "in_force_flash_attn": "on"} | facts
    return make.case(make.trial(facts=known), arm=arm, name=name)


@pytest.mark.parametrize(
    ("args", "facts", "found"),
    [
        (("-fa", "on"), {}, True),  # on through `auto` in the baseline
        (("--flash-attn=on",), {}, True),
        ((), {}, True),
        (("-fa", "off"), {"in_force_flash_attn": "off"}, False),
        (("-c", "4096"), {}, False),  # nobody reports the context
        (("--threads", "4"), {}, False),
        ((), {"engine_build": "b2"}, False),
    ],
)
def test_arms_of_which_nothing_differs_in_force_are_warned_of(make, args, facts, found):
    other = in_force(make, args, "b", **facts)
    assert [one.severity for one in nothing_differs([in_force(make), other])] == ["warning"] * found


def test_two_running_servers_that_are_alike_are_a_note(make):
    arms = [Arm(engine="external", url=f"http://127.0.0.1:{port}", model="m") for port in (1, 2)]
    cases = [make.case(make.trial(), arm=arm, name=str(number)) for number, arm in enumerate(arms)]
    assert [one.severity for one in nothing_differs(cases)] == ["note"]


def test_what_differs_in_force_is_named(make):
    built = "built with cc (Debian 12.2.0-14+deb12u1) 12.2.0 for x86_64-linux-gnu"
    first = in_force(make, engine_version=f"version: 0 (unknown); {built}")
    version = f"version: 427 (7a2e57f); {built}"
    other = in_force(make, name="b", in_force_flash_attn="off", engine_build="b2", engine_version=version)
    differences = ["version 427 (7a2e57f), not 0 (unknown)", "build b2, not b1", "flash attention off, not on"]
    assert differences_in_force(first, other) == differences

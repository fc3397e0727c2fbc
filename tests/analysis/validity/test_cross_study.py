"""What is said where two studies differ in more than what is compared."""

import msgspec
import pytest

from inferometer.analysis.validity.cross_study import other_study
from inferometer.core.record import Fact
from inferometer.core.spec import Arm, Draft

A, B = "a" * 64, "b" * 64
FACTS = {"engine_version": "b4295", "model_file": "m.gguf", "model_head_sha256": A, "model_bytes": "10"}
MACHINE = {
    "cpu": "EPYC",
    "gpu_0": "Radeon Pro W7900, 45 GiB",
    "memory": "64.00 GiB",
    "memory_bytes": "1",
    "python": "3.11",
}


def a_case(make, study: str, facts=None, machine=None, arm: Arm | None = None, name="draft", **fields):
    case = make.case(make.trial(facts=FACTS | (facts or {})), name=f"{study}/{name}", arm=arm)
    told = tuple(Fact(key, value, "test") for key, value in (MACHINE | (machine or {})).items())
    known = {"study": study, "machine": told, "workload": {"dataset": "d", "dataset_sha256": A}, "seed": 1}
    return msgspec.structs.replace(case, **(known | fields))


def said(make, **other) -> dict[str, str]:
    found = list(other_study([a_case(make, "one"), a_case(make, "two", **other)]))
    assert {finding.severity for finding in found} <= {"warning"}
    return {finding.code: finding.sentence for finding in found}


def test_nothing_is_said_of_two_studies_that_are_alike(make):
    assert said(make, machine={"memory_bytes": "2", "python": "3.13"}) == {}


def test_nothing_is_said_within_one_study_where_it_is_what_is_compared(make):
    other = a_case(make, "one", {"model_head_sha256": B}, name="q8", arm=Arm("vllm", model="x"))
    assert list(other_study([a_case(make, "one"), other])) == []


def test_another_machine_is_named_once_for_the_studies_by_what_differs(make):
    found = said(make, machine={"gpu_0": "RTX 3090, 24 GiB"})
    assert list(found) == ["other-machine"]
    assert found["other-machine"].startswith(
        "two was measured on a different machine than one: gpu 0 RTX 3090, 24 GiB, not Radeon Pro W7900, 45 GiB."
    )


def test_another_model_file_is_seen_by_its_hash_though_it_has_the_same_name(make):
    found = said(make, facts={"model_head_sha256": B})
    assert found["other-model"].startswith(
        "two/draft: its model differs from one/draft's: m.gguf (sha256 bbbbbbbbbbbb), not m.gguf (sha256 aaaaaaaaaaaa)."
    )
    assert "other-model" in said(make, facts={"model_bytes": "11"})


def test_the_same_file_under_another_name_is_the_same_model(make):
    assert said(make, facts={"model_file": "renamed.gguf"}) == {}


def test_without_a_hash_of_both_models_are_told_apart_by_name(make):
    one = a_case(make, "one")
    served = msgspec.structs.replace(
        a_case(make, "two"), trials=(make.trial([make.answer(model="org/other")], facts={"engine_version": "b4295"}),)
    )
    (found,) = other_study([one, served])
    assert "other, not m.gguf (compared by name: a hash is missing)" in found.message


def test_another_build_is_named_and_an_untold_one_is_unknown(make):
    assert "build b9093, not b4295" in said(make, facts={"engine_version": "b9093"})["other-build"]
    untold = msgspec.structs.replace(
        a_case(make, "two"), trials=(make.trial(facts={k: v for k, v in FACTS.items() if k != "engine_version"}),)
    )
    (found,) = other_study([a_case(make, "one"), untold])
    assert "build unknown, not b4295" in found.message


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"seed": 2}, "other-seed", "two has seed 2, one has seed 1"),
        ({"workload": {"dataset": "d", "dataset_sha256": B}}, "other-workload", "dataset sha256 bbbbbbbbbbbb, not"),
        ({"arm": Arm("embedded", model="m.gguf", args=("-fa", "on"))}, "other-settings", "args -fa on, not none"),
        ({"arm": Arm("embedded", model="m.gguf", env={"KEY": "secret"})}, "other-settings", "env KEY, not none"),
        ({"arm": Arm("vllm", model="m.gguf")}, "other-build", "engine vllm, not embedded"),
    ],
)
def test_what_else_differs_is_said(make, fields, code, words):
    found = said(make, **fields)
    assert list(found) == [code]
    assert words in found[code]
    assert "secret" not in found[code]


def test_settings_of_arms_with_two_names_are_what_is_compared(make):
    assert said(make, name="flash", arm=Arm("embedded", model="m.gguf", args=("-fa", "on"))) == {}


def test_another_draft_is_said_where_both_have_one(make):
    arm = Arm("embedded", model="m.gguf", draft=Draft("d.gguf"))
    cases = [a_case(make, study, {"draft_head_sha256": own}, arm=arm) for study, own in (("one", A), ("two", B))]
    (found,) = other_study(cases)
    assert found.code == "other-draft"
    assert "d.gguf (sha256 bbbbbbbbbbbb), not d.gguf (sha256 aaaaaaaaaaaa)" in found.message

"""The sentence of a quantisation ladder: which file it names, and what it says where nothing is shown."""

from pathlib import PurePath

import msgspec
import numpy as np
import pytest

from inferometer.analysis.answer_quality import Share
from inferometer.analysis.comparison import Comparison
from inferometer.analysis.quantisation_ladder import is_ladder, ladder
from inferometer.analysis.set_ups import ArmSetUp
from inferometer.core.record import Finding
from inferometer.testing.simulated_ladder import LADDERS, Planted, ladder_rates, simulated_ladder

TWO = {"Q8_0": Planted(1.0, 1.0), "Q5_K_M": Planted(0.62, 1.4)}


def simulated(planted: dict[str, Planted], problems: int = 2000, seed: int = 1) -> Comparison:
    return simulated_ladder(planted, problems, np.random.default_rng(seed))


def test_the_sentence_names_the_file_its_speed_and_its_memory():
    found = ladder(simulated(TWO | {"Q2_K": Planted(0.4, 1.6, 20.0)}))
    assert found is not None and found.chosen == "Q5_K_M"
    assert found.sentences[0] == (
        "Q5_K_M: the smallest not shown worse than Q8_0 (margin 2 points), 1.4× faster, 38% less memory."
    )
    assert found.sentences[1].startswith("Shown worse: Q2_K (−")


@pytest.mark.parametrize("name", LADDERS)
def test_the_right_file_is_named(name: str):
    found = ladder_rates(LADDERS[name], problems=164, repeats=40)
    assert found.right >= 0.9
    assert found.true >= 0.95


def test_few_problems_name_a_file_only_with_the_doubt():
    found = ladder(simulated(TWO, problems=30))
    assert found is not None
    assert found.sentences[1].startswith("Its answers may still be up to ")
    assert found.sentences[1].endswith(" problems would tell.")


def test_a_ladder_whose_files_are_all_worse_keeps_the_first():
    found = ladder(simulated(LADDERS["all files are worse"]))
    assert found is not None and found.chosen == "F16"
    assert found.sentences[0] == "Keep F16: all 2 smaller files are shown worse."


def test_without_checks_no_file_is_named():
    found = ladder(msgspec.structs.replace(simulated(TWO), quality=()))
    assert found is not None and found.chosen == ""
    assert "38% less memory than Q8_0. Quality not checked" in found.sentences[0]


def test_without_a_right_answer_no_file_is_named():
    comparison = simulated(TWO)
    (one,) = comparison.quality
    none_right = msgspec.structs.replace(one, baseline_percent=0, arm_percent=0, verdict="inconclusive")
    found = ladder(msgspec.structs.replace(comparison, quality=(none_right,)))
    assert found is not None and found.chosen == ""
    assert found.sentences[0].startswith("No file is named, because no answer is right")


def test_a_file_that_is_worse_at_one_task_is_not_named():
    comparison = simulated(TWO)
    (one,) = comparison.quality
    part = Share("task", "go", 40, 100, 20, is_worse=True)
    found = ladder(msgspec.structs.replace(comparison, quality=(msgspec.structs.replace(one, parts=(part,)),)))
    assert found is not None and found.chosen == "Q8_0"


def test_an_invalid_result_names_no_file():
    wrong = Finding("invalid", "x", "broken", arm="Q8_0")
    found = ladder(msgspec.structs.replace(simulated(TWO), findings=(wrong,)))
    assert found is not None and found.chosen == ""


def test_the_front_leaves_out_a_file_that_a_smaller_one_equals():
    found = ladder(simulated({"Q8_0": Planted(1.0, 1.0), "Q6_K": Planted(0.8, 0.8), "Q5_K_M": Planted(0.6, 1.2)}, 4000))
    assert found is not None
    assert {one.arm: one.smaller_and_as_good for one in found.rungs} == {
        "Q8_0": "Q5_K_M",
        "Q6_K": "Q5_K_M",
        "Q5_K_M": "",
    }


def test_without_a_ladder_nothing_is_said():
    assert ladder(msgspec.structs.replace(simulated(TWO), ladder=False)) is None


@pytest.mark.parametrize(
    ("models", "names", "expected"),
    [
        (("a-Q8_0", "a-Q4_K_M"), ("A", "A 2"), True),
        (("q8", "q4"), ("A", "A"), True),
        (("a-Q8_0", "b-Q4_K_M"), ("A", "B"), False),
        (("a-Q8_0", "a-Q8_0"), ("A", "A"), False),
        (("", ""), ("", ""), False),
    ],
)
def test_files_of_one_model_are_a_ladder(models: tuple[str, str], names: tuple[str, str], expected: bool):
    arms = [
        ArmSetUp(str(place), model=model, differs=(PurePath(model).name,), model_name=name)
        for place, (model, name) in enumerate(zip(models, names, strict=True))
    ]
    assert is_ladder(arms) is expected


def test_arms_that_differ_in_more_than_the_file_are_no_ladder():
    arms = [
        ArmSetUp("a", model="m-Q8_0", differs=("m-Q8_0",)),
        ArmSetUp("b", model="m-Q4_0", differs=("m-Q4_0", "-t 2")),
    ]
    assert not is_ladder(arms)

"""Which arms stand against one another, by name or as the user says."""

from pathlib import PurePath

import pytest

from inferometer.analysis.pairing import Pair, Place, display_names, pairs_by_name, pairs_from_arguments, study_names
from inferometer.base.errors import RequestWrong

W, R = "w7900", "rtx3090"
PLACES = [Place(W, "baseline"), Place(W, "draft"), Place(R, "draft"), Place(R, "baseline"), Place(R, "q8: no draft")]


def test_a_study_is_called_by_as_much_of_its_path_as_tells_it_from_the_others():
    assert study_names([PurePath("/a/w7900"), PurePath("/a/rtx3090.zip")]) == ["w7900", "rtx3090"]
    assert study_names([PurePath("/a/run"), PurePath("/b/run"), PurePath("/b/else")]) == ["a/run", "b/run", "else"]
    assert study_names([PurePath("/a/run"), PurePath("/a/run.zip")]) == ["run", "run.zip"]


def test_one_study_twice_is_refused():
    with pytest.raises(RequestWrong, match="/a/run is given twice"):
        study_names([PurePath("/a/run"), PurePath("/a/run")])


def test_an_arm_has_its_study_before_its_name_only_where_two_studies_have_it():
    assert list(display_names(PLACES).values()) == [
        "w7900/baseline",
        "w7900/draft",
        "rtx3090/draft",
        "rtx3090/baseline",
        "q8: no draft",
    ]


def test_arms_of_one_name_are_pairs_in_the_order_of_the_first_study():
    assert pairs_by_name(PLACES) == [
        Pair(Place(W, "baseline"), Place(R, "baseline")),
        Pair(Place(W, "draft"), Place(R, "draft")),
    ]
    assert pairs_by_name(PLACES[:2]) == []


def test_a_pair_is_asked_for_by_names_which_may_hold_a_colon_themselves():
    assert pairs_from_arguments([f"{W}/draft:{R}/draft", f"{W}/baseline:q8: no draft"], PLACES) == [
        Pair(Place(W, "draft"), Place(R, "draft")),
        Pair(Place(W, "baseline"), Place(R, "q8: no draft")),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("draft", "write two arms as BASELINE:ARM"),
        (f"{W}/draft:{R}/fast", "there is no arm 'rtx3090/fast'"),
        (f"draft:{R}/baseline", "'draft' is an arm of several studies. Write w7900/draft or rtx3090/draft"),
        (f"{W}/draft:{W}/draft", "both names mean the same arm"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_refused_with_what_can(text, said):
    with pytest.raises(RequestWrong, match=said):
        pairs_from_arguments([text], PLACES)

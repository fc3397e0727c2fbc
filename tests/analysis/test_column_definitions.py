from inferometer.analysis.column_definitions import definition_notes

OURS = ""


def test_a_row_is_marked_where_its_columns_do_not_mean_the_same():
    marks, notes = definition_notes(
        ["TTFT", "TPOT", "ITL"],
        [{"a": OURS, "b": OURS}, {"a": OURS, "b": "to [DONE]"}, {"a": OURS, "b": "to [DONE]"}],
    )
    assert marks == ["", "[1]", "[1]"]
    assert notes == ["[1] a: our definition; b: to [DONE]"]


def test_another_difference_has_another_mark_and_columns_of_one_definition_stand_together():
    marks, notes = definition_notes(["x", "y"], [{"a": "p", "b": OURS, "c": "p"}, {"a": "q", "b": OURS, "c": "p"}])
    assert marks == ["[1]", "[2]"]
    assert notes == ["[1] a, c: p; b: our definition", "[2] a: q; b: our definition; c: p"]


def test_a_row_that_a_column_lacks_has_the_mark_of_one_that_means_the_same_in_the_others():
    marks, notes = definition_notes(["x", "y"], [{"a": "p", "b": OURS, "c": OURS}, {"a": "p", "c": OURS}])
    assert marks == ["[1]", "[1]"]
    assert len(notes) == 1


def test_what_is_no_column_s_definition_but_the_same_in_all_is_said_once_for_all_rows():
    marks, notes = definition_notes(["x", "y", "z"], [{"a": "p", "b": "p"}, {"a": "p"}, {}])
    assert marks == ["", "", ""]
    assert notes == ["x, y: defined differently from ours: p"]

import math

from inferometer.probes.prometheus_text import Line, lines_of

PAGE = r"""
# HELP a Something. a{x="1"} 5
# TYPE a counter
a 1
a{} 2
a{x="1",} 3 1395066363000
a { x = "1" , y="two words" } 4
a{x="quoted \" brace } comma , and \\ and \n end"} 5e-1
a_bucket{le="+Inf"} 6
ab 7
a{x="1"} NaN
a{x="2"} +Inf
a{x="1"} five
a
"""


def test_every_form_of_a_line_is_read():
    lines = lines_of(PAGE, ["a"])
    assert lines[:5] == [
        Line("a", {}, 1.0),
        Line("a", {}, 2.0),
        Line("a", {"x": "1"}, 3.0),
        Line("a", {"x": "1", "y": "two words"}, 4.0),
        Line("a", {"x": 'quoted " brace } comma , and \\ and \n end'}, 0.5),
    ]
    assert math.isnan(lines[5].value)
    assert lines[6] == Line("a", {"x": "2"}, math.inf)
    assert len(lines) == 7


def test_a_name_that_begins_another_is_not_taken_for_it():
    assert lines_of(PAGE, ["a_bucket", "ab"]) == [Line("a_bucket", {"le": "+Inf"}, 6.0), Line("ab", {}, 7.0)]


def test_what_is_no_such_page_has_no_lines():
    assert lines_of("<html>a 1</html>", ["a"]) == []
    assert lines_of("", ["a"]) == []

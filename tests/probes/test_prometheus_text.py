import math

from inferometer.probes.prometheus_text import MetricLine, metric_lines

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
    lines = metric_lines(PAGE, ["a"])
    assert lines[:5] == [
        MetricLine("a", {}, 1.0),
        MetricLine("a", {}, 2.0),
        MetricLine("a", {"x": "1"}, 3.0),
        MetricLine("a", {"x": "1", "y": "two words"}, 4.0),
        MetricLine("a", {"x": 'quoted " brace } comma , and \\ and \n end'}, 0.5),
    ]
    assert math.isnan(lines[5].value)
    assert lines[6] == MetricLine("a", {"x": "2"}, math.inf)
    assert len(lines) == 7


def test_a_name_that_begins_another_is_not_taken_for_it():
    assert metric_lines(PAGE, ["a_bucket", "ab"]) == [
        MetricLine("a_bucket", {"le": "+Inf"}, 6.0),
        MetricLine("ab", {}, 7.0),
    ]


def test_what_is_no_such_page_has_no_lines():
    assert metric_lines("<html>a 1</html>", ["a"]) == []
    assert metric_lines("", ["a"]) == []

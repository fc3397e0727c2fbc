"""Axes, and pictures as files of their own."""

import xml.etree.ElementTree as ET

import pytest

from inferometer.base.units import ratio_text, tick_text
from inferometer.report import drawings
from inferometer.report.svg import Drawing, Scale, drawing, scale, standalone, text


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0, 10, False, ["0", "2", "4", "6", "8", "10"]),
        (0.9, 1.1, False, ["0.9", "0.95", "1", "1.05", "1.1"]),
        (0, 87_000, False, ["0", "20k", "40k", "60k", "80k"]),
        (-3, 90, False, ["0", "20", "40", "60", "80"]),
        (0.5, 2, True, ["0.5", "0.7", "1", "1.5", "2"]),
        (3, 4000, True, ["10", "100", "1000"]),
    ],
)
def test_ticks_are_round_and_few(low, high, is_log, ticks):
    found = Scale(low, high, 0, 100, is_log).ticks()
    assert [tick_text(value, found) for value in found] == ticks


def test_a_scale_goes_from_end_to_end_and_keeps_what_lies_outside_on_its_edge():
    along = scale(1, 100, 0, 200, is_log=True)
    assert [along(value) for value in (1, 10, 100, 0.5, 1e6)] == pytest.approx([0, 100, 200, 0, 200])


def test_a_scale_of_one_value_has_it_in_the_middle():
    assert scale(5, 5, 0, 100)(5) == pytest.approx(50)


def test_a_ratio_keeps_three_decimals_where_they_matter():
    assert [ratio_text(value) for value in (0.9444, 1, 25.13, None)] == ["0.944×", "1.000×", "25.1×", "n/a"]


def test_a_file_of_its_own_is_xml_without_variables_whatever_its_texts_say():
    words = "</svg><script>x</script> \x1b[31m & \u202e \x00"
    found = standalone(drawing(100, 50, [text(0, 10, words)], words, [("a",)]), words)
    root = ET.fromstring(found)
    assert "var(" not in found and "#0072b2" in found
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text", "g",
    }  # fmt: skip
    assert float(root.attrib["width"]) == 124


def test_bars_are_as_long_as_their_values_and_tell_the_verdict(make, tmp_path):
    found = make.page(tmp_path / "s", make.two_arms()).comparison
    row = found.primary_row
    assert row is not None
    drawn: Drawing = drawings.metric_bars(row, found)
    root = ET.fromstring(drawn.svg)
    lengths = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    values = [row.values[arm] for arm in found.arms]
    assert lengths[1] / lengths[0] == pytest.approx(values[1] / values[0], rel=1e-2)
    assert row.differences[0].verdict in drawn.svg and "3 trials per arm" in drawn.svg

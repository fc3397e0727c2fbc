"""A quantisation ladder in every form of report."""

import numpy as np

from inferometer.analysis.comparison import Comparison
from inferometer.report.json_report import document
from inferometer.report.ladder_part import ladder_part
from inferometer.report.markdown import render
from inferometer.report.short_result import short_result
from inferometer.testing.simulated_ladder import Planted, simulated_ladder

FILES = {"Q8_0": Planted(1.0, 1.0), "Q5_K_M": Planted(0.62, 1.4), "Q2_K": Planted(0.4, 1.6, 20.0)}
SENTENCE = "Q5_K_M: the smallest not shown worse than Q8_0 (margin 2 points), 1.4× faster, 38% less memory."


def comparison() -> Comparison:
    return simulated_ladder(FILES, 2000, np.random.default_rng(1))


def test_the_terminal_has_the_sentence_first_and_a_line_for_each_file():
    lines = short_result(comparison())
    text = " ".join(" ".join(lines).split())
    assert SENTENCE in text
    assert lines[2].strip().startswith("Q5_K_M")
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0] in FILES and "MiB" in line]
    assert [row[0] for row in rows] == list(FILES)
    assert rows[-1][-2:] == ["✗", "yes"]


def test_markdown_has_the_sentence_and_the_front():
    text = render(comparison())
    assert f"**{SENTENCE}**".replace("_", r"\_") in text or f"**{SENTENCE}**" in text
    assert "| file " in text


def test_the_json_names_the_file():
    found = document(comparison())["ladder"]
    assert (found["chosen"], found["reference"]) == ("Q5_K_M", "Q8_0")
    assert [one["quality"] and one["quality"]["verdict"] for one in found["rungs"]][::2] == [None, "worse"]


def test_the_page_has_the_front_as_a_picture():
    part = ladder_part(comparison())
    assert part is not None and part.lines[0] == SENTENCE
    (_, picture), *_ = part.drawings
    assert {row[0]: row[-1] for row in picture.rows[1:]}["Q2_K"] == "shown worse"

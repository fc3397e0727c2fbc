"""`report` and `plot` as a user runs them; `demo` and `run` end with a report too (tests/cli/test_cli.py)."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferometer.base.errors import RequestWrong
from inferometer.cli import app
from inferometer.report.seed_table import SEED_ROWS


def inferometer(*arguments: str | Path) -> str:
    """What the command printed. In this process: starting one for each takes seconds."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def study(make, tmp_path_factory) -> Path:
    return make.folder(tmp_path_factory.mktemp("studies") / "s", make.two_arms())


def test_report_writes_one_page_into_the_study_or_where_it_is_told_to(study: Path, tmp_path: Path):
    assert inferometer("report", study) == f"{study / 'report.html'}\n"
    text = (study / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "By hand" in text
    file = tmp_path / "other.html"
    inferometer("report", study, "-o", file, "--metric", "ttft")
    assert "median TTFT" in file.read_text(encoding="utf-8")


def test_the_rows_of_the_seed_are_chosen_in_the_report_as_on_the_terminal(study: Path, tmp_path: Path):
    file = tmp_path / "seed.html"
    inferometer("report", study, "-o", file, "--rows", "seed")
    table = file.read_text(encoding="utf-8").partition('id="table"')[2].partition("</table>")[0]
    assert table.count("<tr") == 1 + len(SEED_ROWS) and "Mean TTFT" in table


def test_plot_draws_what_the_file_is_called(study: Path, tmp_path: Path):
    for name, label in (
        ("throughput", "Output token throughput (tok/s)"),
        ("ttft", "Median TTFT (ms)"),
        ("readme", "Output token throughput (tok/s)"),
        ("memory", "Memory when idle"),
        ("tokens", "ms from sending"),
        ("acceptance", "by language"),
    ):
        file = tmp_path / f"{name}.svg"
        inferometer("plot", study, "-o", file)
        words = ["".join(text.itertext()) for text in ET.parse(file).iter("{http://www.w3.org/2000/svg}text")]
        assert "By hand" in words[0] and label in words, name


def test_plot_draws_a_png_of_twice_the_size(study: Path, tmp_path: Path):
    pytest.importorskip("resvg_py", reason="needs the extra: pip install 'inferometer[plot]'")
    file = tmp_path / "throughput.png"
    inferometer("plot", study, "-o", file)
    content = file.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(content[16:20]) == 2 * (720 + 24)  # a margin of 12 on either side


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "x.gif"), "x.gif is neither .svg nor .png"),
        (("-o", "no/such/folder/x.svg"), "cannot be written: No such file or directory"),
        (("-o", "x.svg", "--picture", "througput"), "Did you mean 'throughput'"),
        (("-o", "x.svg", "--picture", "lateness"), "unknown metric 'lateness'"),
        (("-o", "x.svg", "--picture", "cached_prompt_tokens"), "no arm has a value of cached_prompt_tokens"),
    ],
)
def test_plot_says_what_is_wrong(study: Path, arguments: tuple[str, ...], said: str):
    with pytest.raises(RequestWrong, match=said):
        inferometer("plot", study, *arguments)


def test_a_png_without_its_package_names_what_to_install(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)  # as Python marks what is not there
    with pytest.raises(RequestWrong, match=r"pip install 'inferometer\[plot\]'"):
        inferometer("plot", study, "-o", tmp_path / "x.png")

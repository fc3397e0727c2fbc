"""`report` and `plot` as a user runs them; `demo` and `run` end with a report too (tests/test_cli.py)."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest


def inferometer(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inferometer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def study(make, tmp_path_factory) -> Path:
    return make.folder(tmp_path_factory.mktemp("studies") / "s", make.two_arms())


def test_report_writes_one_page_into_the_study_or_where_it_is_told_to(study: Path, tmp_path: Path):
    assert inferometer("report", study).stdout == f"{study / 'report.html'}\n"
    text = (study / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "By hand" in text
    file = tmp_path / "both.html"
    inferometer("report", study, study, "-o", file, "--metric", "ttft")
    assert "median TTFT" in file.read_text(encoding="utf-8")


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
        (("-o", "x.svg", "--picture", "througput"), "Did you mean 'throughput'?"),
        (("-o", "x.svg", "--picture", "lateness"), "there is no metric 'lateness'"),
        (("-o", "x.svg", "--picture", "energy_j"), "no arm has a value of energy_j"),
    ],
)
def test_plot_says_what_is_wrong(study: Path, arguments: tuple[str, ...], said: str):
    assert said in inferometer("plot", study, *arguments, code=2).stderr


def test_a_png_without_its_package_names_what_to_install(study: Path, tmp_path: Path):
    """Python finds a package of that name that cannot be imported."""
    (tmp_path / "resvg_py.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-m", "inferometer", "plot", str(study), "-o", str(tmp_path / "x.png")]
    import os

    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ) | {"PYTHONPATH": paths}
    )
    assert done.returncode == 2 and "pip install 'inferometer[plot]'" in done.stderr

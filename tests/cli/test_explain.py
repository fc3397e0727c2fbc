"""`inferometer explain`: every metric has a definition, the one of the documentation."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferometer.base.errors import RequestWrong
from inferometer.cli import app
from inferometer.cli.explain import metrics_document
from inferometer.metrics.rows import METRICS
from inferometer.report.definitions import metric_texts

TEXTS = metric_texts(metrics_document())


@pytest.mark.parametrize(
    "metric", [metric for metric in METRICS if metric.group != "vllm"], ids=lambda metric: metric.key
)
def test_every_metric_of_the_table_is_defined(metric):
    found = TEXTS.of(metric.label)
    assert found is not None
    assert found.formula


def test_the_definition_the_caution_and_the_clock_are_printed_without_markup():
    said = CliRunner().invoke(app, ["explain", "TTFT"]).stdout
    assert said.startswith("Median TTFT (ms)   key median_ttft_ms, lower is better")
    assert "Definition: first output event − sent; successful requests" in said
    assert "Caution: Excludes the wait between due and sent." in said
    assert "monotonic clock" in " ".join(said.split())
    assert "`" not in said
    assert "](" not in said


def test_without_a_metric_all_metrics_are_listed_by_group():
    said = CliRunner().invoke(app, ["explain"]).stdout
    assert said.startswith("Memory (--metrics memory)\n  memory_gib ")
    assert all(f"  {metric.key} " in said for metric in METRICS if metric.group != "vllm")


def test_an_unknown_metric_is_refused_with_the_nearest():
    result = CliRunner().invoke(app, ["explain", "tfft"])
    assert isinstance(result.exception, RequestWrong)
    assert "Did you mean 'ttft'?" in str(result.exception)


def test_a_copy_of_the_sources_alone_says_that_the_definitions_are_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("inferometer.cli.explain.importlib.resources.files", lambda _: tmp_path / "none")
    monkeypatch.setattr(
        "inferometer.cli.explain.__file__", str(tmp_path / "src" / "inferometer" / "cli" / "explain.py")
    )
    assert metrics_document() == ""  # the report of a run goes without them
    result = CliRunner().invoke(app, ["explain", "TTFT"])
    assert "install Inferometer, or copy docs/" in str(result.exception)

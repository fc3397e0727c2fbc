"""`inferometer explain`: what a metric means, from the text of the documentation."""

import importlib.resources
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from inferometer.base.errors import RequestWrong

_DOCUMENT = "docs/reference/metrics.md"
_WIDTH = 100


def explain(
    metric: Annotated[
        str, typer.Argument(help="Key or label, such as median_ttft_ms or TTFT.", show_default="list all metrics")
    ] = "",
) -> None:
    """Explain a metric: definition, clock, caution.

    The text is the one of the metrics reference.
    """
    print("\n".join(_definition(metric) if metric else _all_metrics()))


def _all_metrics() -> list[str]:
    """Each metric's key and label, by group."""
    from inferometer.metrics.rows import GROUPS, METRICS

    lines: list[str] = []
    for group, title in GROUPS.items():
        rows = [metric for metric in METRICS if metric.group == group and group != "vllm"]
        lines += ["", f"{title} (--metrics {group})"] if rows else []
        lines += [f"  {metric.key:30}{metric.label}" for metric in rows]
    return lines[1:]


def _definition(metric: str) -> list[str]:
    from inferometer.metrics.rows import METRICS_BY_KEY
    from inferometer.report.definitions import metric_texts, plain
    from inferometer.results.metric_names import known_metric

    row = METRICS_BY_KEY[known_metric(metric)]
    document = metrics_document()
    if not document:
        raise RequestWrong(
            f"the definitions are in {_DOCUMENT}, which is not here: install Inferometer, or copy docs/."
        )
    texts = metric_texts(document)
    found = texts.of(row.label)
    better = f"{row.better} is better" if row.better else "neither direction is better"
    lines = [f"{row.label}   key {row.key}, {better}", ""]
    for title, text in (
        ("Definition", "" if found is None else found.formula),
        ("Caution", "" if found is None else found.caution),
        ("Terms and clock", texts.clock),
    ):
        if text:
            lines += textwrap.wrap(f"{title}: {plain(text)}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def metrics_document() -> str:
    """The metrics reference: a part of the installed package, or a file of the source tree; "" where there is neither,
    as in a copy of src/ alone."""
    packaged = importlib.resources.files("inferometer.report").joinpath("metrics.md")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    file = Path(__file__).parents[3] / _DOCUMENT
    return file.read_text(encoding="utf-8") if file.is_file() else ""

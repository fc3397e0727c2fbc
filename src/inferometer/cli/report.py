"""`inferometer report` and `inferometer plot`: a study as an HTML page or as one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.cli.options import DialectOption, Equivalence, PrimaryMetric, PromptsOption, Rows, shown_of
from inferometer.cli.page_file import REPORT, write_file, write_page

if TYPE_CHECKING:
    from inferometer.report.page import Page
    from inferometer.report.svg import Drawing

_PICTURES = ("tokens", "acceptance", "memory")

Studies = Annotated[list[Path], typer.Argument(help="Study folders. The first arm of the first study is the baseline.")]


def report(
    studies: Studies,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write.", show_default="report.html in the first study"),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    metric_dialect: DialectOption = "inferometer",
    metric: PrimaryMetric = None,
    rows: Rows = None,
    prompts: PromptsOption = "sampled",
    equivalence: Equivalence = 2.0,
) -> None:
    """Write one HTML page with verdict, tables and pictures.

    The page also has the findings, each request and the configuration. It loads nothing from the network.
    """
    from inferometer.cli.checked import checked_dialect, checked_equivalence, checked_prompts
    from inferometer.cli.output import exit_code
    from inferometer.results.study_page import page_of

    shown = shown_of(False, None, rows)
    page = page_of(
        studies,
        checked_dialect(metric_dialect),
        primary=metric,
        prompts=checked_prompts(prompts),
        equivalence_percent=checked_equivalence(equivalence),
    )
    file = write_page(page, out or studies[0] / REPORT, shown)
    print(file)
    if open_it:
        import webbrowser

        webbrowser.open(file.resolve().as_uri())
    raise typer.Exit(exit_code(page.comparison))


def plot(
    studies: Studies,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: .svg or .png.")],
    picture: Annotated[
        str | None,
        typer.Option(
            help=f"A metric (one bar per arm, with intervals), or {', '.join(_PICTURES)}.",
            show_default="the file's name, else the study's metric",
        ),
    ] = None,
    metric_dialect: DialectOption = "inferometer",
) -> None:
    """Draw one picture of a study, as SVG or PNG."""
    from inferometer.cli.checked import checked_dialect
    from inferometer.report.svg import standalone
    from inferometer.results.study_page import page_of

    if out.suffix not in (".svg", ".png"):
        raise RequestWrong(f"{out} is neither .svg nor .png. Name a file with one of these endings.")
    page = page_of(studies, checked_dialect(metric_dialect))
    drawn, title = _drawn(page, picture or _picture_of(out.stem))
    image = standalone(drawn, title)
    write_file(out, image.encode() if out.suffix == ".svg" else _png(image))
    print(out)


def _picture_of(stem: str) -> str | None:
    """The picture or metric that a file name stands for; None where it stands for neither."""
    from inferometer.results.metric_names import known_metric

    if stem in _PICTURES:
        return stem
    try:
        return known_metric(stem)
    except RequestWrong:
        return None


def _drawn(page: "Page", picture: str | None) -> "tuple[Drawing, str]":
    """The picture and its title. Raises RequestWrong where the study has no data for it."""
    from inferometer.report import drawings
    from inferometer.results.metric_names import known_metric

    arms, comparison = page.comparison.arms, page.comparison
    if picture == "tokens" and page.timelines.shown:
        shown = max(page.timelines.shown, key=lambda one: one.longest_stall_ms)
        return drawings.token_timeline(shown, arms, 720), f"{page.title}: {shown.request}"
    if picture == "acceptance" and (found := next((one for one in page.accepted if one.groups), None)):
        return drawings.acceptance_by_group(found, arms), f"{page.title}: {found.arm}"
    if picture == "memory" and (drawn := drawings.memory_bars(comparison)):
        return drawn, page.title
    if picture in _PICTURES:
        raise RequestWrong(f"the study has no data for the picture {picture!r}. Choose another with --picture.")
    key = comparison.primary if picture is None else known_metric(picture)
    row = next((row for row in comparison.rows if row.metric == key and any(row.n.values())), None)
    if row is None:
        raise RequestWrong(f"no arm has a value of {key}. Choose another metric with --picture.")
    return drawings.metric_bars(row, comparison), page.title


def _png(image: str) -> bytes:
    """Twice the size that the SVG states, for high-density screens. Raises RequestWrong without the extra."""
    try:
        import resvg_py
    except ImportError as error:
        raise RequestWrong(
            "a .png needs the package resvg-py: pip install 'inferometer[plot]'. A .svg needs no extra package."
        ) from error
    return bytes(resvg_py.svg_to_bytes(svg_string=image, zoom=2))

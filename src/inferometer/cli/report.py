"""The commands `report` and `plot`: studies as a page, or one picture of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferometer.base.errors import RequestWrong
from inferometer.cli.page_file import REPORT, write_file, write_page

if TYPE_CHECKING:
    from inferometer.report.page import Page
    from inferometer.report.svg import Drawing

_PICTURES = ("tokens", "acceptance", "memory")

Studies = Annotated[list[Path], typer.Argument(help="Study folders; the first arm of the first is the baseline.")]
Dialect = Annotated[
    str, typer.Option("--metric-dialect", help="Whose definitions: inferometer, vllm-0.6.5 or vllm-0.33.")
]


def report(
    studies: Studies,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The file to write.", show_default="report.html in the first study"),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    metric_dialect: Dialect = "inferometer",
    metric: Annotated[
        str | None, typer.Option(help="What the verdict is about.", show_default="the first study's")
    ] = None,
) -> None:
    """Write one self-contained HTML page: verdict, findings, table, pictures, requests, what ran."""
    from inferometer.cli.output import checked_dialect, exit_code
    from inferometer.results.study_page import page_of

    page = page_of(studies, checked_dialect(metric_dialect), primary=metric)
    file = write_page(page, out or studies[0] / REPORT)
    print(file)
    if open_it:
        import webbrowser

        webbrowser.open(file.resolve().as_uri())
    raise typer.Exit(exit_code(page.comparison))


def plot(
    studies: Studies,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write: .svg or .png.")],
    picture: Annotated[
        str | None,
        typer.Option(
            help=f"A metric (a bar for each arm, with intervals), or {', '.join(_PICTURES)}.",
            show_default="what the file is called, else the study's metric",
        ),
    ] = None,
    metric_dialect: Dialect = "inferometer",
) -> None:
    """Draw one picture, for a README or a slide."""
    from inferometer.cli.output import checked_dialect
    from inferometer.report.svg import standalone
    from inferometer.results.study_page import page_of

    if out.suffix not in (".svg", ".png"):
        raise RequestWrong(f"{out} is neither .svg nor .png. Name a file of one of these types.")
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
            "a .png needs the package resvg-py: pip install 'inferometer[plot]'. A .svg needs nothing."
        ) from error
    return bytes(resvg_py.svg_to_bytes(svg_string=image, zoom=2))

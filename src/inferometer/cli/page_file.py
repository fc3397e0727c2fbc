"""Files with a report page or a picture in them."""

from pathlib import Path
from typing import TYPE_CHECKING

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from inferometer.report.page import Page
    from inferometer.report.table import RowSelection

REPORT = "report.html"


def write_page(page: "Page", file: Path, shown: "RowSelection | None" = None) -> Path:
    """Writes the page as HTML; returns `file`. `shown`: the rows of its table; None: the usual ones. Raises
    RequestWrong where the file cannot be written."""
    from inferometer.base.version import version
    from inferometer.cli.explain import metrics_document
    from inferometer.report.html_page import render
    from inferometer.report.table import DEFAULT_ROWS

    write_file(file, render(page, version(), metrics_document(), shown or DEFAULT_ROWS).encode())
    return file


def write_file(file: Path, content: bytes) -> None:
    """Raises RequestWrong where the file cannot be written."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise RequestWrong(f"{file} cannot be written: {error.strerror}. Name another file with -o.") from error

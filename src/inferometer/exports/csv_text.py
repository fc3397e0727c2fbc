"""Tables as CSV by RFC 4180, in UTF-8; unknown is an empty cell. Pure.

A cell may contain text from a model or a server. It must not control the program that opens the file: a text that a
spreadsheet would read as a formula gets an apostrophe before it, and terminal control characters become U+FFFD.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from inferometer.exports.export_columns import ExportTable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def csv_text(table: ExportTable) -> Iterator[str]:
    """The header line, then the lines of each batch."""
    is_text = [column.kind == "text" for column in table.columns]
    yield _lines([[column.name for column in table.columns]])
    for batch in table.batches:
        cells = [[_cell(value, own) for value in values] for values, own in zip(batch, is_text, strict=True)]
        yield _lines(zip(*cells, strict=True))


def _cell(value: Any, is_text: bool) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not is_text or not isinstance(value, str):
        return value
    plain = _CONTROL.sub("�", value)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def _lines(rows: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()

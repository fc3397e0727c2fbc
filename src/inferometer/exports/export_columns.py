"""Export tables: columns with a kind and a description, and rows in batches. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

ColumnKind = Literal["text", "int", "float", "bool"]


class ExportColumn(msgspec.Struct, frozen=True):
    """`description`: as in docs/reference/export.md. A value may be None: unknown or undefined."""

    name: str
    kind: ColumnKind
    description: str


Batch = Sequence[Sequence[Any]]
"""Some rows: for each column a sequence of values, all of equal length."""


class ExportTable(msgspec.Struct, frozen=True):
    """`batches` is an iterator that makes rows on demand, so that a table may be larger than memory; it runs once."""

    columns: tuple[ExportColumn, ...]
    batches: Iterable[Batch]

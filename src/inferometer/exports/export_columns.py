"""What is a table that leaves the program: its columns, each with a kind and a meaning, and its rows in batches."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

ColumnKind = Literal["text", "int", "float", "bool"]


class ExportColumn(msgspec.Struct, frozen=True):
    """`says`: what docs/export.md says of it. A value may be None: unknown, or undefined."""

    name: str
    kind: ColumnKind
    says: str


Batch = Sequence[Sequence[Any]]
"""Some rows, as a sequence of values for each column, all equally long."""


class ExportTable(msgspec.Struct, frozen=True):
    """`batches` are made as they are asked for, so that a table may be larger than memory; they can be had once."""

    columns: tuple[ExportColumn, ...]
    batches: Iterable[Batch]

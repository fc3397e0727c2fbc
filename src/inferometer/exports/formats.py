"""Export formats: their names, aliases and file endings, and what a user requested. Pure."""

import difflib
from pathlib import Path
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.metrics.request_timing import MetricDialect

TableName = Literal["metrics", "requests", "events"]
TABLES: tuple[TableName, ...] = ("metrics", "requests", "events")

Content = Literal["tables", "comparison", "trials", "study"]
"""What the files of a format hold: tables of numbers, the comparison of the arms, the result of each trial, or the
whole study."""


class ExportFormat(msgspec.Struct, frozen=True):
    """`ending`: of its files. `is_text`: may be printed. `default_table`: of a format with tables."""

    name: str
    ending: str
    content: Content
    is_text: bool = True
    default_table: TableName = "metrics"


FORMATS = {
    found.name: found
    for found in (
        ExportFormat("csv", ".csv", "tables"),
        ExportFormat("md", ".md", "comparison"),
        ExportFormat("json", ".json", "comparison"),
        ExportFormat("vllm-block", ".txt", "trials"),
        ExportFormat("vllm-json", ".jsonl", "trials"),
        ExportFormat("parquet", ".parquet", "tables", is_text=False, default_table="requests"),
        ExportFormat("zip", ".zip", "study", is_text=False),
    )
}
"""`export_files` has the function that writes each of them, in the table of its content."""
_ALIASES = {
    "markdown": "md",
    "block": "vllm-block",
    "txt": "vllm-block",
    "text": "vllm-block",
    "vllm": "vllm-json",
    "jsonl": "vllm-json",
    "pq": "parquet",
}


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to write. `table` None: the format's default table, or all tables if the target is a folder. `dialect` None:
    ours, and vllm-0.33 for vLLM's formats. `arm` and `trial` select trials; `pairs` as in `comparison_of`. `hide_text`:
    of a zip."""

    format: str
    table: TableName | None = None
    dialect: MetricDialect | None = None
    percentiles: tuple[float, ...] = (99,)
    arm: str | None = None
    trial: int | None = None
    with_text: bool = False
    hide_text: bool = False
    save_detailed: bool = False
    pairs: tuple[str, ...] | None = ()


def format_named(name: str | None, target: Path | None) -> str:
    """The format with this name or alias, else the one with the file's ending. Raises RequestWrong, which lists all
    formats."""
    known = "Known: " + ", ".join(FORMATS) + "."
    if name is not None:
        wanted = name.lower().removeprefix(".")
        if wanted in FORMATS or wanted in _ALIASES:
            return _ALIASES.get(wanted, wanted)
        near = difflib.get_close_matches(wanted, [*FORMATS, *_ALIASES], n=1)
        raise RequestWrong(f"there is no format {name!r}.{f' Did you mean {near[0]!r}?' if near else ''} {known}")
    ending = "" if target is None else target.suffix.lower().removeprefix(".")
    found = next((own.name for own in FORMATS.values() if own.ending == f".{ending}"), _ALIASES.get(ending))
    if found is None:
        reason = "" if target is None else f", and {target} has no known ending"
        raise RequestWrong(f"no format is given{reason}. Name it with --to, or by the ending of -o FILE. {known}")
    return found

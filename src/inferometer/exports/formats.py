"""Export formats: their names, aliases and file endings, and what a user requested. Pure."""

import difflib
from pathlib import Path
from typing import Literal

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.metrics.request_timing import MetricDialect

TableName = Literal["metrics", "requests", "events"]
TABLES: tuple[TableName, ...] = ("metrics", "requests", "events")


class ExportFormat(msgspec.Struct, frozen=True):
    """`ending`: of its files. `summary`: for the help. `is_text`: may be printed."""

    name: str
    ending: str
    summary: str
    is_text: bool = True


FORMATS = {
    found.name: found
    for found in (
        ExportFormat("csv", ".csv", "metrics as a long table; --table requests or events"),
        ExportFormat("md", ".md", "the comparison as Markdown"),
        ExportFormat("json", ".json", "the comparison as JSON"),
        ExportFormat("vllm-block", ".txt", "vLLM's printed block, one per trial"),
        ExportFormat("vllm-json", ".jsonl", "vLLM's result file, one per trial"),
        ExportFormat("parquet", ".parquet", "requests as a data frame; --table events or metrics", is_text=False),
        ExportFormat("zip", ".zip", "one study in one file, to open on another machine", is_text=False),
    )
}
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

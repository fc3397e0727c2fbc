"""Which forms can a study leave the program in, and what is in each? A wish becomes pieces: files yet to be written."""

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from inferometer.analysis.pairing import Place, shown_names, study_names
from inferometer.base.errors import RequestWrong
from inferometer.core.plan import PlanItem
from inferometer.core.record import Trial
from inferometer.exports.csv_text import csv_text
from inferometer.exports.export_columns import ExportTable
from inferometer.exports.metric_table import metric_table
from inferometer.exports.parquet import require_pyarrow, write_parquet
from inferometer.exports.request_table import ExportedTrial, event_table, request_table
from inferometer.exports.serving import block_of, result_of
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary
from inferometer.report import json_report, markdown
from inferometer.results.read import Study, comparison_of, read_study
from inferometer.store import archive

TableName = Literal["metrics", "requests", "events"]
TABLES: tuple[TableName, ...] = ("metrics", "requests", "events")


class ExportFormat(msgspec.Struct, frozen=True):
    """`ending` of the files that it is written to; `is_text`: may be printed."""

    name: str
    ending: str
    says: str
    is_text: bool = True


FORMATS = {
    found.name: found
    for found in (
        ExportFormat("csv", ".csv", "metrics as a long table; --table requests or events"),
        ExportFormat("md", ".md", "the comparison as Markdown"),
        ExportFormat("json", ".json", "the comparison as JSON"),
        ExportFormat("vllm-block", ".txt", "vLLM's printed block, of each trial"),
        ExportFormat("vllm-json", ".jsonl", "vLLM's result file, of each trial"),
        ExportFormat("parquet", ".parquet", "requests as a data frame; --table events or metrics", is_text=False),
        ExportFormat("zip", ".zip", "one study in one file, to be opened elsewhere", is_text=False),
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
    """What is to be written. `table` None: the format's own, or all where a folder takes them. `dialect` None: ours,
    and vllm-0.33 for vLLM's forms. `arm` and `trial` choose among trials; `pairs` as `comparison_of` has them."""

    format: str
    table: TableName | None = None
    dialect: MetricDialect | None = None
    percentiles: tuple[float, ...] = (99,)
    arm: str | None = None
    trial: int | None = None
    with_text: bool = False
    save_detailed: bool = False
    pairs: tuple[str, ...] | None = ()


class OutputFile(msgspec.Struct, frozen=True):
    """A file that is written when it is asked for. `name`: what it is called in a folder; `text`: its parts in order,
    or None, and then `write` makes it."""

    name: str
    text: Callable[[], Iterable[str]] | None = None
    write: Callable[[Path], None] | None = None


def format_named(name: str | None, target: Path | None) -> str:
    """The format that is meant: by its name or another that is usual, else by the ending of the file. Raises
    RequestWrong with the known ones."""
    known = "Known: " + ", ".join(FORMATS) + "."
    if name is not None:
        asked = name.lower().removeprefix(".")
        if asked in FORMATS or asked in _ALIASES:
            return _ALIASES.get(asked, asked)
        near = difflib.get_close_matches(asked, [*FORMATS, *_ALIASES], n=1)
        raise RequestWrong(f"there is no format {name!r}.{f' Did you mean {near[0]!r}?' if near else ''} {known}")
    ending = "" if target is None else target.suffix.lower().removeprefix(".")
    found = next((own.name for own in FORMATS.values() if own.ending == f".{ending}"), _ALIASES.get(ending))
    if found is None:
        said = "Nothing says which" if target is None else f"The ending of {target.name} does not say which"
        raise RequestWrong(f"in which format? {said}; name it with --to. {known}")
    return found


def output_files(paths: Sequence[Path], wish: ExportRequest, *, into_folder: bool) -> list[OutputFile]:
    """What these studies are in the format of the wish: one piece, or one for each table or trial. `into_folder`: all
    tables are wanted where none is chosen. Raises RequestWrong where the wish does not fit the format or the studies.
    """
    _check(wish, into_folder)
    if wish.format == "zip":
        return [_zip_piece(paths)]
    if wish.format in ("md", "json"):
        render = markdown.render if wish.format == "md" else json_report.render
        comparison = comparison_of(paths, _dialect(wish), wish.percentiles, pairs=wish.pairs)
        return [OutputFile(f"comparison.{wish.format}", lambda: [render(comparison)])]
    studies = _named_studies(paths)
    if wish.format in ("vllm-block", "vllm-json"):
        return _serving_pieces(studies, wish)
    if wish.format == "parquet":
        require_pyarrow()
    default: TableName = "requests" if wish.format == "parquet" else "metrics"
    names = TABLES if into_folder and wish.table is None else (wish.table or default,)
    if names == TABLES and (wish.arm is not None or wish.trial is not None):
        names = ("requests", "events")
    return [_table_piece(studies, name, wish) for name in names]


def _check(wish: ExportRequest, into_folder: bool) -> None:
    if wish.table is not None and wish.format not in ("csv", "parquet"):
        raise RequestWrong(f"--table is for csv and parquet; {wish.format} has no tables to choose from.")
    is_metrics = wish.table == "metrics" or (wish.format == "csv" and wish.table is None and not into_folder)
    is_of_trials = wish.format.startswith("vllm") or (wish.format in ("csv", "parquet") and not is_metrics)
    if (wish.arm is not None or wish.trial is not None) and not is_of_trials:
        raise RequestWrong("--arm and --trial choose among trials: for vLLM's forms, and --table requests or events.")


def _dialect(wish: ExportRequest) -> MetricDialect:
    return wish.dialect or ("vllm-0.33" if wish.format.startswith("vllm") else "inferometer")


def _named_studies(paths: Sequence[Path]) -> list[tuple[str, Study]]:
    labels = study_names([path.resolve() for path in paths])
    return [(label, read_study(path)) for label, path in zip(labels, paths, strict=True)]


def _zip_piece(paths: Sequence[Path]) -> OutputFile:
    if len(paths) > 1:
        raise RequestWrong("a zip holds one study; export each to a zip of its own.")
    if archive.is_zip(paths[0]):
        raise RequestWrong(f"{paths[0]} is a zip already; copy it.")
    read_study(paths[0])  # what cannot be read here cannot be read elsewhere
    return OutputFile(f"{paths[0].resolve().name}.zip", write=functools.partial(archive.write, paths[0]))


# --- tables ---------------------------------------------------------------------------------------


def _table_piece(studies: Sequence[tuple[str, Study]], name: TableName, wish: ExportRequest) -> OutputFile:
    make = functools.partial(_table, studies, name, wish)
    if name != "metrics":
        _chosen(studies, wish)  # now, rather than when half is written
    if wish.format == "csv":
        return OutputFile(f"{name}.csv", lambda: csv_text(make()))
    return OutputFile(f"{name}.parquet", write=lambda path: write_parquet(make(), path))


def _table(studies: Sequence[tuple[str, Study]], name: TableName, wish: ExportRequest) -> ExportTable:
    dialect = _dialect(wish)
    if name == "metrics":
        read = [study for _, study in studies]
        comparison = comparison_of(read, dialect, wish.percentiles, pairs=wish.pairs)
        own = _summaries(studies, dialect, wish.percentiles)
        return metric_table(comparison, [summary for summary in own if summary.arm in comparison.arms])
    trials = [
        ExportedTrial(
            label, trial, study.spec.arms[trial.arm].api, {item.index: item.request for item in _items(study)}
        )
        for label, study, trial in _chosen(studies, wish)
    ]
    if name == "events":
        return event_table(trials, with_text=wish.with_text)
    return request_table(trials, dialect, with_text=wish.with_text)


def _items(study: Study) -> Sequence[PlanItem]:
    return () if study.plan is None else study.plan.items


def _summaries(
    studies: Sequence[tuple[str, Study]], dialect: MetricDialect, percentiles: tuple[float, ...]
) -> list[TrialSummary]:
    """Of the trials that ended well, called as a comparison of all these studies calls their arms."""
    names = shown_names([Place(label, arm) for label, study in studies for arm in study.spec.arms])
    return [
        msgspec.structs.replace(summary, arm=names[Place(label, summary.arm)])
        for label, study in studies
        for summary in study.summaries(dialect, percentiles)
        if summary.state == "done"
    ]


# --- trials ---------------------------------------------------------------------------------------


def _chosen(studies: Sequence[tuple[str, Study]], wish: ExportRequest) -> list[tuple[str, Study, Trial]]:
    """The trials that the wish names, of all studies. Raises RequestWrong where there is none."""
    found = [
        (label, study, trial)
        for label, study in studies
        for trial in study.trials
        if wish.arm in (None, trial.arm, f"{label}/{trial.arm}") and wish.trial in (None, trial.number)
    ]
    if not found:
        known = ", ".join(f"{trial.arm} {trial.number}" for _, study in studies for trial in study.trials)
        raise RequestWrong(f"there is no such trial; the trials are {known or 'none'}.")
    return found


def _serving_pieces(studies: Sequence[tuple[str, Study]], wish: ExportRequest) -> list[OutputFile]:
    """One for each trial that ended well."""
    found = [(label, study, trial) for label, study, trial in _chosen(studies, wish) if trial.state == "done"]
    if not found:
        raise RequestWrong("no trial ended well: there is nothing that vLLM's benchmark would have printed.")
    ending = "txt" if wish.format == "vllm-block" else "json"
    return [
        OutputFile(
            f"{_file_name(f'{label}-' if len(studies) > 1 else '', trial)}.{ending}",
            functools.partial(_serving_text, study, trial, wish, alone=len(found) == 1),
        )
        for label, study, trial in found
    ]


def _serving_text(study: Study, trial: Trial, wish: ExportRequest, *, alone: bool) -> Iterator[str]:
    """A block as it is, where it is alone; of several each below a heading of its own, as Markdown."""
    if wish.format == "vllm-json":
        result = result_of(study, trial, _dialect(wish), wish.percentiles, save_detailed=wish.save_detailed)
        yield json.dumps(result, allow_nan=False) + "\n"
        return
    block = block_of(study, trial, _dialect(wish), wish.percentiles)
    name = study.spec.name or study.folder.resolve().stem
    yield f"{block}\n" if alone else f"## {name}: {trial.arm}, trial {trial.number}\n\n```\n{block}\n```\n\n"


def _file_name(begin: str, trial: Trial) -> str:
    return re.sub(r"[^\w.,+=@ -]", "_", f"{begin}{trial.arm}-trial{trial.number}").lstrip(".")

"""Output files of an export: one file, or one for each table or trial, written on demand."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.pairing import Place, display_names, study_names
from inferometer.base.errors import RequestWrong
from inferometer.core.plan import PlanItem
from inferometer.core.record import Trial
from inferometer.exports.csv_text import csv_text
from inferometer.exports.export_columns import ExportTable
from inferometer.exports.formats import FORMATS, TABLES, Content, ExportRequest, TableName
from inferometer.exports.metric_table import metric_table
from inferometer.exports.parquet import require_pyarrow, write_parquet
from inferometer.exports.request_table import ExportedTrial, event_table, request_table
from inferometer.exports.serving import block_of, result_of
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary
from inferometer.report import json_report, markdown
from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store import archive


class OutputFile(msgspec.Struct, frozen=True):
    """A file that is written on demand. `name`: its name in a folder. `text`: its parts in order; None:
    `write` writes the file."""

    name: str
    text: Callable[[], Iterable[str]] | None = None
    write: Callable[[Path], None] | None = None


def output_files(paths: Sequence[Path], request: ExportRequest, *, into_folder: bool) -> list[OutputFile]:
    """The files of these studies in the requested format: one, or one for each table or trial. `into_folder`: all
    tables, if none is chosen. Raises RequestWrong if the request does not fit the format or the studies.
    """
    _check(request, into_folder)
    content = FORMATS[request.format].content
    if content == "study":
        return [_zip_file(paths, hide_text=request.hide_text)]
    if content == "comparison":
        comparison = comparison_of(paths, _dialect(request), request.percentiles, pairs=request.pairs)
        render = _COMPARISONS[request.format]
        return [OutputFile(f"comparison.{request.format}", lambda: [render(comparison)])]
    studies = _named_studies(paths)
    return _trial_files(studies, request) if content == "trials" else _table_files(studies, request, into_folder)


def _check(request: ExportRequest, into_folder: bool) -> None:
    format = FORMATS[request.format]
    if request.table is not None and format.content != "tables":
        raise RequestWrong(f"--table works with {_named('tables')} only; {request.format} has no tables.")
    if request.hide_text and format.content != "study":
        raise RequestWrong(f"--hide-text works with {_named('study')} only: the others have texts only --with-text.")
    default = "" if into_folder else format.default_table
    is_of_trials = format.content == "trials" or (
        format.content == "tables" and (request.table or default) != "metrics"
    )
    if (request.arm is not None or request.trial is not None) and not is_of_trials:
        raise RequestWrong("--arm and --trial select trials: use vLLM's formats, or --table requests or events.")


def _named(content: Content) -> str:
    return " and ".join(name for name, format in FORMATS.items() if format.content == content)


def _dialect(request: ExportRequest) -> MetricDialect:
    return request.dialect or ("vllm-0.33" if FORMATS[request.format].content == "trials" else "inferometer")


def _named_studies(paths: Sequence[Path]) -> list[tuple[str, Study]]:
    labels = study_names([path.resolve() for path in paths])
    return [(label, read_study(path)) for label, path in zip(labels, paths, strict=True)]


def _zip_file(paths: Sequence[Path], *, hide_text: bool) -> OutputFile:
    if len(paths) > 1:
        raise RequestWrong("a zip holds one study: export each study to a separate zip.")
    if archive.is_zip(paths[0]) and not hide_text:
        raise RequestWrong(f"{paths[0]} is already a zip: copy it.")
    read_study(paths[0])  # raises now if the study cannot be read
    name = paths[0].resolve().name.removesuffix(archive.ENDING)
    return OutputFile(f"{name}.zip", write=functools.partial(archive.write, paths[0], hide_text=hide_text))


# --- comparisons and tables -----------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[[Comparison], str]] = {"md": markdown.render, "json": json_report.render}


def _table_files(studies: Sequence[tuple[str, Study]], request: ExportRequest, into_folder: bool) -> list[OutputFile]:
    if request.format == "parquet":
        require_pyarrow()
    default = FORMATS[request.format].default_table
    names = TABLES if into_folder and request.table is None else (request.table or default,)
    if names == TABLES and (request.arm is not None or request.trial is not None):
        names = ("requests", "events")
    return [_table_file(studies, name, request) for name in names]


def _table_file(studies: Sequence[tuple[str, Study]], name: TableName, request: ExportRequest) -> OutputFile:
    make = functools.partial(_table, studies, name, request)
    if name != "metrics":
        _chosen_trials(studies, request)  # raises RequestWrong before anything is written
    if request.format == "csv":
        return OutputFile(f"{name}.csv", lambda: csv_text(make()))
    return OutputFile(f"{name}.parquet", write=lambda path: write_parquet(make(), path))


def _table(studies: Sequence[tuple[str, Study]], name: TableName, request: ExportRequest) -> ExportTable:
    dialect = _dialect(request)
    if name == "metrics":
        read = [study for _, study in studies]
        comparison = comparison_of(read, dialect, request.percentiles, pairs=request.pairs)
        own = _summaries(studies, dialect, request.percentiles)
        return metric_table(comparison, [summary for summary in own if summary.arm in comparison.arms])
    trials = [
        ExportedTrial(
            label, trial, study.spec.arms[trial.arm].api, {item.index: item.request for item in _items(study)}
        )
        for label, study, trial in _chosen_trials(studies, request)
    ]
    if name == "events":
        return event_table(trials, with_text=request.with_text)
    return request_table(trials, dialect, with_text=request.with_text)


def _items(study: Study) -> Sequence[PlanItem]:
    return () if study.plan is None else study.plan.items


def _summaries(
    studies: Sequence[tuple[str, Study]], dialect: MetricDialect, percentiles: tuple[float, ...]
) -> list[TrialSummary]:
    """Summaries of the completed trials; arms are named as in a comparison of all these studies."""
    names = display_names([Place(label, arm) for label, study in studies for arm in study.spec.arms])
    return [
        msgspec.structs.replace(summary, arm=names[Place(label, summary.arm)])
        for label, study in studies
        for summary in study.summaries(dialect, percentiles)
        if summary.state == "done"
    ]


# --- trials ---------------------------------------------------------------------------------------


def _chosen_trials(studies: Sequence[tuple[str, Study]], request: ExportRequest) -> list[tuple[str, Study, Trial]]:
    """The requested trials of all studies. Raises RequestWrong if there is none."""
    found = [
        (label, study, trial)
        for label, study in studies
        for trial in study.trials
        if request.arm in (None, trial.arm, f"{label}/{trial.arm}") and request.trial in (None, trial.number)
    ]
    if not found:
        known = ", ".join(f"{trial.arm} {trial.number}" for _, study in studies for trial in study.trials)
        raise RequestWrong(f"no trial matches --arm and --trial. Trials: {known or 'none'}.")
    return found


def _trial_files(studies: Sequence[tuple[str, Study]], request: ExportRequest) -> list[OutputFile]:
    """One file for each completed trial."""
    found = [(label, study, trial) for label, study, trial in _chosen_trials(studies, request) if trial.state == "done"]
    if not found:
        raise RequestWrong(
            "no trial was completed, so there is no result in vLLM's format. See the trials' errors: inferometer show."
        )
    write = _TRIALS[request.format]
    ending = ".json" if request.format == "vllm-json" else FORMATS[request.format].ending
    return [
        OutputFile(
            f"{_trial_file_name(f'{label}-' if len(studies) > 1 else '', trial)}{ending}",
            functools.partial(write, study, trial, request, alone=len(found) == 1),
        )
        for label, study, trial in found
    ]


def _vllm_json(study: Study, trial: Trial, request: ExportRequest, *, alone: bool) -> Iterator[str]:
    result = result_of(study, trial, _dialect(request), request.percentiles, save_detailed=request.save_detailed)
    yield json.dumps(result, allow_nan=False) + "\n"


def _vllm_block(study: Study, trial: Trial, request: ExportRequest, *, alone: bool) -> Iterator[str]:
    """A single block unchanged; several blocks as Markdown, each below its heading."""
    block = block_of(study, trial, _dialect(request), request.percentiles)
    name = study.spec.name or study.folder.resolve().stem
    yield f"{block}\n" if alone else f"## {name}: {trial.arm}, trial {trial.number}\n\n```\n{block}\n```\n\n"


_TRIALS = {"vllm-block": _vllm_block, "vllm-json": _vllm_json}


def _trial_file_name(begin: str, trial: Trial) -> str:
    return re.sub(r"[^\w.,+=@ -]", "_", f"{begin}{trial.arm}-trial{trial.number}").lstrip(".")

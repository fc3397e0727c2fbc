"""`inferometer show` and `inferometer list`: the contents of result files, studies and folders of studies."""

import shlex
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferometer.base.errors import InferometerError, RequestWrong

if TYPE_CHECKING:
    from inferometer.core.record import Trial
    from inferometer.foreign.foreign_run import ForeignRun
    from inferometer.results.read import Study

_FIGURES = ("completed", "output_throughput", "median_ttft_ms", "mean_tpot_ms", "memory_gib")
_HEADS = ("requests", "tok/s", "TTFT ms", "TPOT ms", "GiB")
"""Column heads of `_FIGURES`, in the same order."""
_FIGURES_ARE = "tok/s: output token throughput; TTFT: median; TPOT: mean; GiB: Memory Usage"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


def show(
    path: Annotated[Path, typer.Argument(help="Result file of a known tool, or a study (folder or zip).")],
    as_json: AsJson = False,
) -> None:
    """Show what a study or another tool's file contains.

    Of a study: arms, trials and findings. Of a file: its runs, by number and heading.
    """
    from inferometer.store import archive

    if path.is_dir() or archive.is_zip(path):
        if path.is_dir() and not (path / "study.db").is_file():
            hint = f" It contains studies: inferometer list {path}" if _studies_below(path) else ""
            raise RequestWrong(f"{path} is not a study: study.db is missing.{hint}")
        _show_study(path, as_json)
        return
    from inferometer.foreign.inputs import heading_of, runs_in

    runs = runs_in(path)
    if as_json:
        described = [
            _run_document(number, run) | {"heading": heading_of(run)} for number, run in enumerate(runs, start=1)
        ]
        _print_json({"file": str(path), "runs": described})
        return
    print(_runs_text(path, runs), end="")


def list_studies(
    folder: Annotated[Path, typer.Argument(help="Folder to search, up to three levels deep.")] = Path(
        "inferometer-results"
    ),
    as_json: AsJson = False,
) -> None:
    """List the studies in a folder with their results.

    Each with its start time, arms, number of trials and verdict.
    """
    if not folder.is_dir():
        raise RequestWrong(
            f"the folder {folder} does not exist. Name the folder of your studies: inferometer list FOLDER"
        )
    studies = _studies_below(folder)
    if not studies:
        raise RequestWrong(f"{folder} contains no study, up to three levels deep. Name another folder.")
    entries = [_entry(found, _headline) for found in studies]
    entries.sort(key=lambda entry: entry["began"] or "")
    if as_json:
        _print_json({"studies": entries})
        return
    print("\n".join(_entry_text(entry) for entry in entries))


# --- a file ---------------------------------------------------------------------------------------


def _runs_text(path: Path, runs: "Sequence[ForeignRun]") -> str:
    """All runs by number, under their outer headings, with the main figures or llama-bench's rows."""
    from inferometer.base.units import rate_text, value_text
    from inferometer.foreign.document import HEADING_SEPARATOR
    from inferometer.foreign.inputs import heading_of

    lines = [f"{path}: {len(runs)} run{'s' if len(runs) != 1 else ''}"]
    width = max(len(heading_of(run)) for run in runs)
    outer_before = None
    units = ("requests", "tok/s", "ms", "ms", "GiB")
    for number, run in enumerate(runs, start=1):
        outer = run.name.rpartition(HEADING_SEPARATOR)[0]
        if outer != outer_before:
            lines += ["", *([outer] if outer else [])]
            lines += [_row("", "", width, _HEADS)] if run.values else []
            outer_before = outer
        figures = [value_text(run.values.get(key), unit) for key, unit in zip(_FIGURES, units, strict=True)]
        lines.append(_row(f"#{number}", heading_of(run), width, figures if run.values else ()) + f"  {run.tool}")
        lines += [
            f"{'':5} {row.test.label:>16}  {rate_text(row.rate_per_s, row.deviation_per_s):>20} tok/s  "
            + ", ".join(part for part in (row.description, row.backend, *_settings(row.settings)) if part)
            for row in run.rows
        ]
        lines += [f"{'':5} note: {note}" for note in run.notes]
    lines += ["", _FIGURES_ARE] if any(run.values for run in runs) else [""]
    quoted = shlex.quote(str(path))
    lines.append(f"Compare: inferometer compare {f'{quoted}#1 {quoted}#2' if len(runs) > 1 else f'{quoted} OTHER'}")
    return "\n".join(lines) + "\n"


def _row(number: str, heading: str, width: int, figures: Sequence[str]) -> str:
    return f"{number:>5} {heading:{width}}" + "".join(f"{figure:>10}" for figure in figures)


def _settings(settings: dict[str, str]) -> list[str]:
    """The settings that llama-bench's own table shows most often."""
    names = {"n_gpu_layers": "ngl", "n_threads": "threads", "flash_attn": "fa"}
    return [f"{word} {settings[name]}" for name, word in names.items() if name in settings]


def _run_document(number: int, run: "ForeignRun") -> dict[str, Any]:
    rows = [
        {
            "test": row.test.label,
            "rate_per_s": row.rate_per_s,
            "deviation_per_s": row.deviation_per_s,
            "model": row.description,
            "backend": row.backend,
            "engine": row.engine,
            "settings": row.settings,
        }
        for row in run.rows
    ]
    return {
        "number": number,
        "name": run.name,
        "tool": run.tool,
        "values": run.values,
        "differs": run.differs,
        "settings": run.settings,
        "requests_held": len(run.records),
        "notes": run.notes,
        "rows": rows,
    }


# --- a study --------------------------------------------------------------------------------------


def _show_study(folder: Path, as_json: bool) -> None:
    from inferometer.base.units import value_text
    from inferometer.results.read import read_study
    from inferometer.results.study_comparison import comparison_of, findings_of

    study, entry = read_study(folder), _entry(folder, None)
    comparison = comparison_of([folder], "inferometer") if study.trials else None
    found = findings_of(study, "inferometer")
    rows = {row.metric: row for row in comparison.rows} if comparison is not None else {}
    if as_json:
        values = {key: rows[key].values for key in _FIGURES if key in rows}
        trials = [{"arm": t.arm, "number": t.number, "state": t.state, "error": t.error} for t in study.trials]
        sentences = [{"severity": one.severity, "code": one.code, "says": one.sentence} for one in found]
        _print_json(entry | {"workload": study.workload, "values": values, "all_trials": trials}
                    | {"findings": sentences, "stopped": study.stopped})  # fmt: skip
        return
    print(f"{entry['name']}: {folder}\nbegan {entry['began'] or 'n/a'}; machine: {_machine(study)}")
    workload = "; ".join(f"{name} {value}" for name, value in study.workload.items()) or "n/a"
    print(textwrap.fill(f"workload: {workload}", 99, break_long_words=False, subsequent_indent="  "))
    print()
    width = max(len(arm) for arm in study.spec.arms)
    print(_row("", "", width, _HEADS) + "  trials")
    for arm in study.spec.arms:
        figures = [value_text(rows[key].values.get(arm), rows[key].unit) if key in rows else "n/a" for key in _FIGURES]
        print(_row("", arm, width, figures) + f"  {_states(study, arm)}")
    print(f"\n{_FIGURES_ARE}; means over trials that are done")
    for trial in study.trials:
        if trial.error:
            said = "was interrupted" if _state(trial) == "interrupted" else f"failed: {trial.error}"
            print(textwrap.fill(f"{trial.arm}, trial {trial.number} {said}", 99))
    if study.stopped:
        print(f"Stopped: {study.stopped}")
    if comparison is not None:
        from inferometer.report.verdict_sentences import verdict_sentences

        for line in verdict_sentences(comparison):
            print(textwrap.fill(line, 99))
        for severity in ("invalid", "warning", "note"):
            for line in comparison.finding_texts(severity):
                print(textwrap.fill(f"{severity}: {line}", 99, subsequent_indent="  "))
    print(f"\nThe whole table: inferometer compare {folder}")


def _machine(study: "Study") -> str:
    facts = {fact.name: fact.value for fact in study.machine}
    return ", ".join(facts[name] for name in ("cpu_model", "cpu", "gpu", "os") if name in facts) or "n/a"


def _state(trial: "Trial") -> str:
    """A trial that is still `running` in the store belongs to a run that was ended from outside."""
    from inferometer.core.record import INTERRUPTED

    return "interrupted" if trial.state == "running" or trial.error == INTERRUPTED else trial.state


def _states(study: "Study", arm: str) -> str:
    """Trials by state, and the requested number: `3 done, 1 failed of 5`."""
    states = [_state(trial) for trial in study.trials if trial.arm == arm]
    known = ("done", "failed", "interrupted")
    counts = ", ".join(f"{states.count(state)} {state}" for state in known if state in states)
    return f"{counts or 'none started'} of {study.spec.trials}"


# --- a folder of studies --------------------------------------------------------------------------


def _studies_below(folder: Path) -> list[Path]:
    """Folders and zips of studies: this folder, and those up to three levels below."""
    from inferometer.store import archive

    levels = ("", "*/", "*/*/", "*/*/*/")
    folders = {found.parent for level in levels for found in folder.glob(f"{level}study.db")}
    zips = {found for level in levels[:3] for found in folder.glob(f"{level}*{archive.ENDING}")}
    return sorted(folders | {found for found in zips if archive.has_study(found)})


def _entry(folder: Path, headline_of: Callable[[Path], str] | None) -> dict[str, Any]:
    """A summary of the study. If the study cannot be read, `error` holds the reason."""
    from inferometer.store import Store, archive

    blank: dict[str, Any] = {
        "folder": str(folder),
        "name": folder.name,
        "began": None,
        "arms": [],
        "trials": {},
        "headline": "",
    }
    try:
        with archive.opened(folder) as place:
            store = Store.open(place)
            try:
                spec, (began, states) = store.spec(), store.progress()
            finally:
                store.close()
        headline = "" if headline_of is None else headline_of(folder) if states.get("done") else "nothing measured yet"
    except InferometerError as error:
        return blank | {"error": str(error)}
    return blank | {
        "name": spec.name or folder.name,
        "began": began,
        "arms": list(spec.arms),
        "trials": states,
        "headline": headline,
    }


def _headline(folder: Path) -> str:
    """The verdict on the study's metric, in the sentences of the short result."""
    from inferometer.report.verdict_sentences import verdict_sentences
    from inferometer.results.study_comparison import comparison_of

    comparison = comparison_of([folder], "inferometer")
    invalid = comparison.finding_texts("invalid")
    return f"not valid: {invalid[0]}" if comparison.invalid else " ".join(verdict_sentences(comparison))


def _entry_text(entry: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in entry["trials"].items()) or "no trial"
    said = entry.get("error") or entry["headline"]
    head = f"{(entry['began'] or 'n/a')[:16].replace('T', ' '):16}  {entry['name']}" + (
        f": {', '.join(entry['arms'])}" if entry["arms"] else ""
    )
    below = [
        entry["folder"] + ("" if "error" in entry else f"  ({states})"),
        *textwrap.wrap(said, 95, break_long_words=False, break_on_hyphens=False),
    ]
    return "\n".join([head, *(f"    {line}" for line in below)])


def _print_json(content: dict[str, Any]) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())

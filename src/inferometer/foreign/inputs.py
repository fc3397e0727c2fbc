"""Arguments of `compare` and `show`: study folders, and runs in files of other tools."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.base.text import sanitize
from inferometer.base.units import BYTES_PER_MIB, bytes_text
from inferometer.foreign.document import HEADING_SEPARATOR
from inferometer.foreign.foreign_run import ForeignRun
from inferometer.foreign.foreign_trials import is_copy, percentiles_of, trial_of
from inferometer.foreign.readers import all_readers, read, unread_results
from inferometer.llama_bench.row import BenchRow
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary
from inferometer.store import archive

_MOST_BYTES = 128 * BYTES_PER_MIB
"""Larger than any known result file: models and huge logs are rejected before they are read."""


_MOST_CHARACTERS = 200
"""Maximum length of one heading or setting."""
_MOST_COLUMNS = 40
"""More columns are unreadable, and the number of pairs grows with the square."""


class InputColumn(msgspec.Struct, frozen=True):
    """One run of a file and its column. `folders_before`: number of study folders named before it. `origin`: the file
    and the run's number in it, from 1."""

    name: str
    run: ForeignRun
    origin: tuple[str, int]
    folders_before: int


class Inputs(msgspec.Struct, frozen=True):
    """All study folders and runs that the arguments name, in order."""

    folders: tuple[Path, ...]
    columns: tuple[InputColumn, ...]

    @property
    def served(self) -> list[InputColumn]:
        """Columns with requests to a server."""
        return [column for column in self.columns if column.run.values or column.run.records]

    @property
    def engine_rows(self) -> list[tuple[str, Sequence[BenchRow]]]:
        """Columns with measurements of an engine without a server (llama-bench), with their names."""
        return [(column.name, column.run.rows) for column in self.columns if column.run.rows]

    @property
    def engine_notes(self) -> list[str]:
        """Notes on the columns that measure an engine without a server."""
        return [f"{column.name}: {note}" for column in self.columns if column.run.rows for note in column.run.notes]

    @property
    def percentiles(self) -> tuple[float, ...]:
        return percentiles_of(column.run for column in self.served)

    def trials(self, dialect: MetricDialect) -> dict[int, list[TrialSummary]]:
        """The runs as trials, by number of folders before them; runs of the same name are trials of one column."""
        found: dict[int, list[TrialSummary]] = {}
        columns: dict[str, list[ForeignRun]] = {}
        for column in self._without_copies():
            runs = columns.setdefault(column.name, [])
            runs.append(column.run)
            trial = trial_of(column.run, column.name, len(runs), column.origin, dialect, self.percentiles)
            found.setdefault(column.folders_before, []).append(trial)
        return found

    def _without_copies(self) -> list[InputColumn]:
        """The columns with requests, each run once: a copy of a run is not another trial."""
        kept: list[InputColumn] = []
        for column in self.served:
            same = [place for place, one in enumerate(kept) if one.name == column.name and is_copy(one.run, column.run)]
            if not same:
                kept.append(column)
                continue
            first = kept[same[0]]
            note = f"The run #{column.origin[1]} of {column.origin[0]} has the same numbers: it is left out as a copy"
            run = msgspec.structs.replace(first.run, notes=(*first.run.notes, note))
            kept[same[0]] = msgspec.structs.replace(first, run=run)
        return kept


class _Named(msgspec.Struct, frozen=True):
    """An argument: `[NAME=]PATH[#FRAGMENT]`."""

    name: str
    path: Path
    fragment: str


def inputs_of(arguments: Sequence[str]) -> Inputs:
    """The inputs that the arguments name. Raises RequestWrong with the possible choices."""
    folders: list[Path] = []
    found: list[InputColumn] = []
    wanted: list[tuple[str, Sequence[str]]] = []  # for each column the given name, and possible names
    for argument in arguments:
        named = _named(argument)
        if named.path.is_dir() or archive.is_zip(named.path):
            if named.name or named.fragment:
                raise RequestWrong(
                    f"{named.path} is a study, and NAME= and #… work only for runs in files. Write the path alone."
                )
            folders.append(named.path)
            continue
        runs = runs_in(named.path)
        numbers = [_number_of(named, runs)] if named.fragment else list(range(1, len(runs) + 1))
        for number in numbers:
            run = runs[number - 1]
            found.append(InputColumn("", run, (str(named.path), number), len(folders)))
            wanted.append((named.name, _candidates(run, named.path, number, len(runs))))
    columns = [msgspec.structs.replace(one, name=name) for one, name in zip(found, _names(wanted), strict=True)]
    if len({column.name for column in columns}) > _MOST_COLUMNS:
        raise RequestWrong(
            f"{len(columns)} runs are too many (at most {_MOST_COLUMNS}). Choose some by number or heading: "
            f"inferometer show {columns[0].origin[0]} lists them."
        )
    return Inputs(tuple(folders), tuple(columns))


def runs_in(path: Path) -> Sequence[ForeignRun]:
    """All runs in a file. Raises RequestWrong if it cannot be read or is not from a known tool."""
    text = _text_of(path)
    try:
        runs = read(text, path.stem)
    except RequestWrong as error:
        raise RequestWrong(f"{path}: {error}") from error
    if not runs:
        known = "\n".join(f"  - {reader}" for reader in all_readers())
        if own := _own_form(path, text):
            raise RequestWrong(f"{path} is {own}")
        found = sanitize(unread_results(text), 400)
        hint = f" {found}." if found else ""
        raise RequestWrong(f"{path} has no known result.{hint} Supported files:\n{known}\n  - study folders")
    return [_sanitized(run) for run in runs]


def _own_form(path: Path, text: str) -> str:
    """Which file of our own this is, and what to do with it; "" for a file of another program."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return f"a study file, not a result. Run it with: inferometer run {path}"
    exports = ('{\n  "arms":', "row,arm,baseline,trial,metric,", "study,arm,trial,trial_state,")
    if text.startswith(exports) or (path.suffix.lower() == ".html" and 'content="inferometer"' in text[:2000]):
        return "written by Inferometer, for reading only. Compare the study itself: its folder, or its zip file."
    return ""


def _sanitized(run: ForeignRun) -> ForeignRun:
    """The run with sanitized texts, because the file's author chose them."""
    return msgspec.structs.replace(
        run,
        name=HEADING_SEPARATOR.join(
            sanitize(heading, _MOST_CHARACTERS) for heading in run.name.split(HEADING_SEPARATOR)
        ),
        tool=sanitize(run.tool, _MOST_CHARACTERS),
        settings={sanitize(key): sanitize(value, _MOST_CHARACTERS) for key, value in run.settings.items()},
        differs={key: sanitize(text) for key, text in run.differs.items()},
        notes=tuple(sanitize(note, 2 * _MOST_CHARACTERS) for note in run.notes),
    )


def heading_of(run: ForeignRun) -> str:
    """The innermost heading above a run, or the run's name."""
    return run.name.rpartition(HEADING_SEPARATOR)[2]


def _named(argument: str) -> _Named:
    """The parts of an argument. An existing path may contain both signs."""
    if Path(argument).exists():
        return _Named("", Path(argument), "")
    name, sign, rest = argument.partition("=")
    if not sign or "#" in name:
        name, rest = "", argument
    for mark in [*re.finditer("#", rest), None]:
        path = Path(rest if mark is None else rest[: mark.start()])
        if path.exists():
            return _Named(name, path, "" if mark is None else rest[mark.end() :].strip().strip("\"'"))
    missing = Path(rest.partition("#")[0])
    siblings = [str(other) for other in missing.parent.iterdir()] if missing.parent.is_dir() else []
    near = difflib.get_close_matches(str(missing), siblings, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise RequestWrong(f"there is no file or study folder {missing}.{hint}")


def _text_of(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise RequestWrong(
                f"{path} has {bytes_text(size)}; at most {bytes_text(_MOST_BYTES)} can be read. "
                "Extract the part with the results."
            )
        content = path.read_bytes()
    except OSError as error:
        raise RequestWrong(f"{path} cannot be read: {error.strerror or error}") from error
    if not content.strip():
        raise RequestWrong(f"{path} is empty.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # PowerShell's redirection writes UTF-16
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:
        hint = f" To read a study, name its folder: {path.parent}." if path.name == "study.db" else ""
        raise RequestWrong(f"{path} is not a text file: it contains zero bytes.{hint}")
    return content.decode("utf-8-sig", errors="replace")


def _number_of(named: _Named, runs: Sequence[ForeignRun]) -> int:
    """The number of the run that a fragment means, from 1: by number; by exact heading; else by the only heading that
    starts with it or contains it, ignoring case. Raises RequestWrong with the possible choices."""
    wanted = named.fragment
    if wanted.isdecimal():
        if 1 <= int(wanted) <= len(runs):
            return int(wanted)
        raise RequestWrong(f"{named.path} has no run {wanted}. Its runs:\n{_listing(runs)}")
    low = wanted.casefold()
    ways: tuple[Callable[[ForeignRun], bool], ...] = (
        lambda run: wanted in (run.name, heading_of(run)) or run.name.endswith(HEADING_SEPARATOR + wanted),
        lambda run: low in (run.name.casefold(), heading_of(run).casefold()),
        lambda run: heading_of(run).casefold().startswith(low),
        lambda run: low in run.name.casefold(),
    )
    for way in ways:
        found = [number for number, run in enumerate(runs, start=1) if way(run)]
        if len(found) == 1:
            return found[0]
        if found:
            raise RequestWrong(
                f"{wanted!r} matches more than one run of {named.path}. Choose by number, such as "
                f"{named.path}#{found[0]}:\n{_listing(runs, found)}"
            )
    near = difflib.get_close_matches(low, [heading_of(run).casefold() for run in runs], n=1, cutoff=0.4)
    hint = next((f" Did you mean {heading_of(run)!r}?" for run in runs if [heading_of(run).casefold()] == near), "")
    raise RequestWrong(f"{named.path} has no heading {wanted!r}.{hint} Its runs:\n{_listing(runs)}")


def _listing(runs: Sequence[ForeignRun], only: Sequence[int] = ()) -> str:
    shown = [(number, run) for number, run in enumerate(runs, start=1) if not only or number in only]
    return "\n".join(f"  #{number}  {run.name} ({run.tool})" for number, run in shown)


def _candidates(run: ForeignRun, path: Path, number: int, count: int) -> list[str]:
    """Possible names of a run, the `number`th of `count` in its file: the shortest first, the last one unique."""
    headings = run.name.split(HEADING_SEPARATOR)
    numbered = [f"{headings[-1]} #{number}"] if count > 1 else []
    if run.name == path.stem:
        return [run.name, *numbered, str(path.with_suffix("")), f"{path}#{number}"]
    longer = [HEADING_SEPARATOR.join(headings[-deep:]) for deep in range(2, len(headings) + 1)]
    return [headings[-1], *numbered, *longer, f"{path.stem}: {run.name}", f"{path}#{number}"]


def _names(wanted: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """A name for each: the given one, else the shortest of its candidates that is unique."""
    chosen = [0] * len(wanted)

    def names() -> list[str]:
        return [given or candidates[place] for (given, candidates), place in zip(wanted, chosen, strict=True)]

    while True:
        now = names()
        counts = Counter(now)
        longer = [
            i
            for i, (given, candidates) in enumerate(wanted)
            if not given and counts[now[i]] > 1 and chosen[i] + 1 < len(candidates)
        ]
        if not longer:
            return now
        for i in longer:
            chosen[i] += 1

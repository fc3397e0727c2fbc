"""Several runs of llama-bench side by side: one line per test, one column per run, and differences."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from inferometer.base.units import model_size_text, parameters_text, percent_text, rate_text
from inferometer.llama_bench.row import BenchRow
from inferometer.llama_bench.sheet import SETTING_COLUMNS, Sheet, SheetColumn


class SpeedCell(msgspec.Struct, frozen=True):
    """Tokens per second, with the standard deviation of the repetitions; None if unknown."""

    rate_per_s: float | None
    deviation_per_s: float | None


class TestRow(msgspec.Struct, frozen=True):
    """One test in every run that has it. `differences_percent`: of each other run from the first; None if either has no
    rate. There is no interval, because repetitions within one process do not show how much processes differ."""

    __test__ = False  # or pytest would collect it

    test: str
    rates: dict[str, SpeedCell]
    differences_percent: dict[str, float | None]


class SideBySide(msgspec.Struct, frozen=True):
    """The runs by name and their tests. `ran`: by run, its model, backend, engine and settings. `unlike`: by setting
    that differs between the runs, its value in every run; "n/a" for a run that does not state it."""

    runs: tuple[str, ...]
    tests: tuple[TestRow, ...]
    ran: dict[str, str]
    unlike: dict[str, dict[str, str]] = {}


def side_by_side(runs: Sequence[tuple[str, Sequence[BenchRow]]]) -> SideBySide:
    """The first run is the baseline. Rows are matched by their test, and by the model and each setting that varies
    within a run. Runs with the same name get a number."""
    names = _numbered([name for name, _ in runs])
    varying = _varying([rows for _, rows in runs])
    by_test: dict[str, dict[str, SpeedCell]] = {}
    for name, (_, rows) in zip(names, runs, strict=True):
        for label, row in zip(_numbered([_label(row, varying) for row in rows]), rows, strict=True):
            by_test.setdefault(label, {})[name] = SpeedCell(row.rate_per_s, row.deviation_per_s)
    return SideBySide(
        runs=tuple(names),
        tests=tuple(TestRow(label, rates, _differences(rates, names)) for label, rates in by_test.items()),
        ran={name: _run_text(rows, varying) for name, (_, rows) in zip(names, runs, strict=True)},
        unlike=_unlike(names, [rows for _, rows in runs], varying),
    )


def side_by_side_sheet(content: SideBySide) -> Sheet:
    """The table; its notes describe the runs."""
    rows = tuple((test.test, *(_cell(test, name) for name in content.runs)) for test in content.tests)
    notes = [f"{name}: {ran}" for name, ran in content.ran.items()]
    if content.unlike:
        each = (f"{head} {', '.join(values.values())}" for head, values in content.unlike.items())
        notes.append(f"Settings that differ, in the order of the columns: {'; '.join(each)}.")
    notes.append(
        "tok/s ± standard deviation of a run's repetitions (difference from the first column). There is no interval "
        "and no verdict: one run per column does not show how much runs vary."
    )
    columns = (SheetColumn("test (tok/s)", 12, left=True), *(SheetColumn(name, 0) for name in content.runs))
    return Sheet(columns, rows, tuple(notes), 0)


def _cell(test: TestRow, name: str) -> str:
    """The rate, with the difference from the first run for every other run."""
    rate = test.rates.get(name, SpeedCell(None, None))
    text = rate_text(rate.rate_per_s, rate.deviation_per_s)
    percent = test.differences_percent.get(name)
    return text if percent is None else f"{text} ({'+' if percent > 0 else ''}{percent_text(percent)}%)"


def _numbered(names: Sequence[str]) -> list[str]:
    """Unique names: the second occurrence becomes "name (2)"."""
    seen = Counter[str]()
    numbered: list[str] = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return numbered


def _varying(runs: Sequence[Sequence[BenchRow]]) -> list[str]:
    """What identifies a test besides its lengths: the settings that vary within a run, and "model" if it varies."""
    named = [name for rows in runs for row in rows for name in row.settings]
    varies = [
        name for name in dict.fromkeys(named) if any(len({row.settings.get(name) for row in rows}) > 1 for rows in runs)
    ]
    return (["model"] if any(len({_model(row) for row in rows}) > 1 for rows in runs) else []) + varies


def _label(row: BenchRow, varying: Sequence[str]) -> str:
    parts = [_model(row) if name == "model" else f"{_head(name)} {row.settings.get(name, 'n/a')}" for name in varying]
    return ", ".join([row.test.label, *parts])


def _model(row: BenchRow) -> str:
    return row.description or row.model.rpartition("/")[2]


def _head(name: str) -> str:
    """A setting's heading in llama-bench's table."""
    return SETTING_COLUMNS[name].head if name in SETTING_COLUMNS else name


def _differences(rates: dict[str, SpeedCell], names: Sequence[str]) -> dict[str, float | None]:
    first, *others = ((name, rates[name].rate_per_s if name in rates else None) for name in names)
    base = first[1]
    return {name: 100 * (rate / base - 1) if rate is not None and base else None for name, rate in others}


def _unlike(
    names: Sequence[str], runs: Sequence[Sequence[BenchRow]], varying: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Settings that differ between the runs, without those that vary within one.

    A setting that only some runs state counts as different if all runs are tables: a table leaves out defaults.
    """
    are_tables = not any(row.model for rows in runs for row in rows)
    found: dict[str, dict[str, str]] = {}
    for setting in dict.fromkeys(name for rows in runs for row in rows for name in row.settings):
        values = [rows[0].settings.get(setting, "n/a") for rows in runs]
        stated = {value for value in values if value != "n/a"}
        if setting not in varying and len(stated) + (are_tables and "n/a" in values) > 1:
            found[_head(setting)] = dict(zip(names, values, strict=True))
    return found


def _run_text(rows: Sequence[BenchRow], varying: Sequence[str]) -> str:
    """What all rows of a run have in common."""
    row = rows[0]
    parts = [] if "model" in varying else [_model(row)]
    if row.size_bytes is not None and "model" not in varying:
        parts.append(f"{model_size_text(row.size_bytes)}, {parameters_text(row.parameters)} parameters")
    parts += [row.backend, *row.devices, row.engine]
    parts += [
        f"{_head(name)} {value}"
        for name, value in row.settings.items()
        if name in _SHOWN_SETTINGS and name not in varying
    ]
    return ", ".join(part for part in parts if part)


_SHOWN_SETTINGS = frozenset({"n_gpu_layers", "n_threads", "flash_attn", "type_k", "type_v"})
"""Settings that are shown even if all rows of a run have the same value."""

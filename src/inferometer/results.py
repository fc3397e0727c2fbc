"""What do study folders show? Reads them and hands their trials to the pure part."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from inferometer.compare import Comparison, compare
from inferometer.errors import StudyUnreadable
from inferometer.metrics import MetricDialect, TrialSummary, TrialView, summarize, view
from inferometer.record import Fact, Trial
from inferometer.spec import Spec
from inferometer.store import Store


class Study(msgspec.Struct, frozen=True):
    """A study folder as read: what was asked and what happened."""

    folder: Path
    spec: Spec
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    machine: tuple[Fact, ...] = ()
    workload: dict[str, str] = {}

    def view(self, trial: Trial, dialect: MetricDialect) -> TrialView:
        return view(trial, dialect, self.spec.arms[trial.arm].api)

    def summaries(self, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> list[TrialSummary]:
        return [summarize(trial, dialect, percentiles, self.spec.arms[trial.arm].api) for trial in self.trials]


def read_study(folder: Path) -> Study:
    """The study in `folder`. Raises StudyUnreadable or SpecInvalid."""
    store = Store.open(folder)
    try:
        spec = store.spec()
        trials = tuple(trial for trial in store.trials() if trial.arm in spec.arms)
        return Study(folder, spec, trials, store.notes(), store.machine(), store.workload())
    finally:
        store.close()


def comparison_of(folders: Iterable[Path], dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> Comparison:
    """All arms of these studies beside one another, in the order given and each study's own.

    An arm whose name stands in two studies is called `folder/arm`. Raises StudyUnreadable where nothing was measured.
    """
    studies = [read_study(folder) for folder in folders]
    names = [name for study in studies for name in study.spec.arms]
    found: list[TrialSummary] = []
    notes: list[str] = []
    warnings: list[str] = []
    for study in studies:
        renamed = {
            name: f"{study.folder.resolve().name}/{name}" if names.count(name) > 1 else name for name in study.spec.arms
        }
        trials = sorted(study.summaries(dialect, percentiles), key=lambda trial: list(study.spec.arms).index(trial.arm))
        found += [msgspec.structs.replace(trial, arm=renamed[trial.arm]) for trial in trials]
        notes += [note for note in study.notes if note not in notes]
        warnings += [
            f"{renamed[trial.arm]}, trial {trial.number}: {finding.message}"
            for trial in study.trials
            for finding in trial.findings
            if finding.severity != "note"
        ]
    if not found:
        raise StudyUnreadable(f"nothing was measured in {', '.join(str(study.folder) for study in studies)}.")
    notes += _sampling_note(studies)
    comparison = compare(found, warnings)
    return msgspec.structs.replace(comparison, notes=(*comparison.notes, *notes))


def _sampling_note(studies: Iterable[Study]) -> list[str]:
    """What reading memory, power and the rest cost, in the trial where it cost most."""
    told = [
        float(fact.value)
        for study in studies
        for trial in study.trials
        for fact in trial.facts
        if fact.name == "sampling_percent_of_a_core"
    ]
    return [f"Sampling of memory, CPU and devices took {max(told):.1f}% of one core"] if told else []

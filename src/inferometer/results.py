"""What do study folders show? Reads them and hands their trials to the pure part."""

import contextlib
import difflib
import gc
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from inferometer.acceptance import Speculation, speculation
from inferometer.compare import EFFECT_PERCENT, PRIMARY, Comparison, compare
from inferometer.errors import RequestWrong, StudyUnreadable
from inferometer.metrics import (
    METRICS,
    MetricDialect,
    TrialSummary,
    TrialView,
    drafted_tokens,
    summarize,
    summarize_view,
    view,
)
from inferometer.plan import Plan
from inferometer.record import Fact, Finding, Trial
from inferometer.spec import Spec
from inferometer.store import Store
from inferometer.validity import Case, findings


class Study(msgspec.Struct, frozen=True):
    """A study folder as read: what was asked and what happened. `stopped`: why it went no further, where it could.
    `damage`: what of its store could not be read and belongs to no trial."""

    folder: Path
    spec: Spec
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    machine: tuple[Fact, ...] = ()
    workload: dict[str, str] = {}
    plan: Plan | None = None
    stopped: str = ""
    damage: tuple[str, ...] = ()

    def view(self, trial: Trial, dialect: MetricDialect) -> TrialView:
        return view(trial, dialect, self.spec.arms[trial.arm].api)

    def summaries(self, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> list[TrialSummary]:
        return [summarize(trial, dialect, percentiles, self.spec.arms[trial.arm].api) for trial in self.trials]

    @property
    def plan_id(self) -> str:
        """Equal for studies that ask the same, in the same order, at the same times; "" before the first trial.

        How many tokens a prompt is by our own count is no part of what was asked: another server's tokenizer counts
        otherwise.
        """
        if self.plan is None:
            return ""
        asked = [
            (item.request.messages, item.request.max_tokens, item.due_ns, item.measured) for item in self.plan.items
        ]
        return hashlib.sha256(msgspec.json.encode((asked, self.plan.concurrency))).hexdigest()[:16]

    @property
    def cores(self) -> int | None:
        """The machine's CPU cores, as its facts have it: of all, since what others use is read of all."""
        facts = {fact.name: fact.value for fact in self.machine}
        value = facts.get("cpu_cores_logical", facts.get("cpu_cores_usable", ""))
        return int(value) if value.isdecimal() else None

    def cases(self, views: dict[str, list[TrialView]]) -> list[Case]:
        """Each arm with its trials, for `validity`."""
        requests = {} if self.plan is None else {item.index: item.request for item in self.plan.items}
        measured = {} if self.plan is None else {item.index: requests[item.index] for item in self.plan.measured}
        plan_id = self.plan_id
        return [
            Case(
                name=name,
                arm=arm,
                trials=tuple(views.get(name, [])),
                requests=measured,
                sampling=self.spec.sampling,
                plan=plan_id,
                cores=self.cores,
            )
            for name, arm in self.spec.arms.items()
        ]


def read_study(folder: Path) -> Study:
    """The study in `folder`. Raises StudyUnreadable or SpecInvalid."""
    store = Store.open(folder)
    try:
        spec = store.spec()
        trials = tuple(trial for trial in store.trials() if trial.arm in spec.arms)
        meta = store.notes(), store.machine(), store.workload(), store.plan(), store.stopped()
        return Study(folder, spec, trials, *meta, damage=tuple(store.damage))
    finally:
        store.close()


def comparison_of(
    folders: Iterable[Path],
    dialect: MetricDialect,
    percentiles: Sequence[float] = (99,),
    *,
    primary: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
) -> Comparison:
    """All arms of these studies beside one another, in the order given and each study's own.

    An arm whose name stands in two studies is called `folder/arm`. `primary` None: the first study's own metric. Raises
    StudyUnreadable where nothing was measured, RequestWrong for a metric that there is not.
    """
    with _without_collection():
        return _comparison_of([read_study(folder) for folder in folders], dialect, percentiles, primary, effect_percent)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Looking for rings among a large study's millions of objects, again and again as they come, takes longer than
    making them; there are none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _comparison_of(
    studies: list[Study],
    dialect: MetricDialect,
    percentiles: Sequence[float],
    primary: str | None,
    effect_percent: float,
) -> Comparison:
    names = [name for study in studies for name in study.spec.arms]
    summaries: list[TrialSummary] = []
    cases: list[Case] = []
    notes: list[str] = []
    for study in studies:
        views: dict[str, list[TrialView]] = {}
        for trial in study.trials:
            views.setdefault(trial.arm, []).append(study.view(trial, dialect))
        home, plan_id = str(study.folder.resolve()), study.plan_id
        for case in study.cases(views):
            name = f"{study.folder.resolve().name}/{case.name}" if names.count(case.name) > 1 else case.name
            cases.append(msgspec.structs.replace(case, name=name))
            summaries += [
                msgspec.structs.replace(
                    summarize_view(trial, percentiles, study=home, plan=plan_id or home, draws_again=True),
                    arm=name,
                )
                for trial in case.trials
            ]
        notes += [note for note in study.notes if note not in notes]
    if not summaries:
        raise StudyUnreadable(f"nothing was measured in {', '.join(str(study.folder) for study in studies)}.")
    cases = [case for case in cases if case.trials]
    comparison = compare(
        summaries,
        [*findings(cases), *_damage_findings(studies)],
        primary=known_metric(primary or studies[0].spec.metric),
        effect_percent=effect_percent,
        looked_at=any(study.spec.until is not None for study in studies),
        speculation=_speculation(cases),
    )
    notes += _sampling_note(studies)
    stopped = "; ".join(study.stopped for study in studies if study.stopped)
    return msgspec.structs.replace(comparison, notes=(*comparison.notes, *notes), stopped=stopped)


def findings_of(study: Study, dialect: MetricDialect) -> list[Finding]:
    """What is to be said of one study by itself."""
    views: dict[str, list[TrialView]] = {}
    for trial in study.trials:
        views.setdefault(trial.arm, []).append(study.view(trial, dialect))
    return findings(study.cases(views))


def known_metric(name: str) -> str:
    """The key of a metric, which may be named by its label too. Raises RequestWrong with the nearest name."""
    keys = {metric.key: metric.key for metric in METRICS if metric.group != "vllm"}
    labels = {metric.label.partition(" (")[0].lower(): metric.key for metric in METRICS if metric.key in keys}
    short = {"throughput": PRIMARY, "ttft": "median_ttft_ms", "tpot": "mean_tpot_ms", "memory": "memory_gib"}
    known = labels | short | keys
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RequestWrong(f"there is no metric {name!r}.{hint} Known: {', '.join(keys)}.")


def _speculation(cases: Sequence[Case]) -> list[Speculation]:
    """Of each arm that drafted, against the first that did not."""
    plain = next((case for case in cases if case.done and not any(map(drafted_tokens, case.done))), None)
    if plain is None:
        return []
    found = [speculation(case.name, plain.name, case.done, plain.done) for case in cases if case is not plain]
    return [one for one in found if one is not None]


def _damage_findings(studies: Iterable[Study]) -> list[Finding]:
    """Of what belongs to no trial; a trial's own is among its findings."""
    action = "The file was damaged after it was written: take it from a copy, or measure again."
    return [
        Finding("warning", "store-damaged", f"{study.folder}: {sentence}.", action)
        for study in studies
        for sentence in study.damage
    ]


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

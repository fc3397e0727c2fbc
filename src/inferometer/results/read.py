"""What do study folders show? Reads them and hands their trials to the pure part."""

import contextlib
import difflib
import gc
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.compare import EFFECT_PERCENT, PRIMARY, Comparison, compare
from inferometer.analysis.pairing import Pair, Place, pairs_asked, pairs_by_name, shown_names, study_names
from inferometer.analysis.validity import ArmTrials, findings
from inferometer.base.errors import RequestWrong, StudyUnreadable
from inferometer.core.plan import Plan
from inferometer.core.record import Fact, Finding, Trial
from inferometer.core.spec import Spec, to_yaml
from inferometer.foreign.foreign_trials import one_run_notes, unlike_work, with_chunk_gaps
from inferometer.metrics.acceptance import Speculation, speculation
from inferometer.metrics.measures import TrialView
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import GROUPS, METRICS, METRICS_BY_KEY
from inferometer.metrics.summary import TrialSummary, summarize, summarize_view, view
from inferometer.metrics.trial_measures import drafted_tokens
from inferometer.report.page import Page, RunInfo, page
from inferometer.store import Store, archive


class Study(msgspec.Struct, frozen=True):
    """A study as read, from its folder or from a zip of it: what was asked and what happened. `stopped`: why it went no
    further, where it could. `damage`: what of its store could not be read and belongs to no trial."""

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

    def summary(self, trial: Trial, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> TrialSummary:
        return summarize(trial, dialect, percentiles, self.spec.arms[trial.arm].api)

    def summaries(self, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> list[TrialSummary]:
        return [self.summary(trial, dialect, percentiles) for trial in self.trials]

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

    def cases(self, views: dict[str, list[TrialView]]) -> list[ArmTrials]:
        """Each arm with its trials, for `validity`."""
        requests = {} if self.plan is None else {item.index: item.request for item in self.plan.items}
        measured = {} if self.plan is None else {item.index: requests[item.index] for item in self.plan.measured}
        plan_id = self.plan_id
        return [
            ArmTrials(
                name=name,
                arm=arm,
                trials=tuple(views.get(name, [])),
                requests=measured,
                sampling=self.spec.sampling,
                plan=plan_id,
                cores=self.cores,
                machine=self.machine,
                workload=self.workload,
                seed=self.spec.seed,
            )
            for name, arm in self.spec.arms.items()
        ]


def read_study(folder: Path | str) -> Study:
    """The study in `folder`, which may be a zip of one. Raises StudyUnreadable or SpecInvalid."""
    folder = Path(folder)
    with archive.opened(folder) as place:
        store = Store.open(place)
        try:
            spec = store.spec()
            trials = tuple(trial for trial in store.trials() if trial.arm in spec.arms)
            meta = store.notes(), store.machine(), store.workload(), store.plan(), store.stopped()
            return Study(folder, spec, trials, *meta, damage=tuple(store.damage))
        finally:
            store.close()


def comparison_of(
    folders: Iterable[Path | str | Study],
    dialect: MetricDialect,
    percentiles: Sequence[float] = (99,),
    *,
    primary: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    foreign: Mapping[int, Sequence[TrialSummary]] = {},
    pairs: Sequence[str] | None = (),
) -> Comparison:
    """The arms of these studies: all of one study beside one another; of several, each against the arm of its name in
    the first study that has one, or all beside one another where no name stands in two of them.

    An arm whose name stands twice is called `study/arm`. `foreign`: trials of other tools, by how many of the studies
    stand before them. `pairs`: which arms are compared instead, each as BASELINE:ARM; None, or with `foreign` none
    asked for: all beside one another. `primary` None: the first study's own metric. Raises StudyUnreadable where
    nothing was measured, RequestWrong for a metric that there is not, and for a pair of unknown arms.
    """
    with _without_collection():
        beside = _beside(folders, dialect, foreign)
        return _compared(beside, percentiles, primary, effect_percent, foreign, pairs)


def page_of(
    folders: Iterable[Path | str | Study],
    dialect: MetricDialect,
    *,
    primary: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
) -> Page:
    """The comparison of these studies, all arms beside one another, with its pictures, its requests and what ran."""
    with _without_collection():
        beside = _beside(folders, dialect)
        comparison = _compared(beside, (99,), primary, effect_percent, pairs=None)
        title = " and ".join(dict.fromkeys(study.spec.name or study.folder.resolve().name for study in beside.studies))
        cases = [case for own in beside.cases for case in own if case.trials]
        ran = [_ran(study, own) for study, own in zip(beside.studies, beside.cases, strict=True)]
        return page(title, comparison, cases, ran)


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
            gc.freeze()  # what was made is looked through no more either; it goes when nobody has it
            gc.enable()


class _Beside(msgspec.Struct, frozen=True):
    """Studies, what each of their arms is called beside the others, and each study's arms under these names."""

    studies: list[Study]
    names: dict[Place, str]
    cases: list[list[ArmTrials]]


def _beside(
    folders: Iterable[Path | str | Study], dialect: MetricDialect, foreign: Mapping[int, Sequence[TrialSummary]] = {}
) -> _Beside:
    studies = [folder if isinstance(folder, Study) else read_study(folder) for folder in folders]
    _require_others(studies)
    labels = study_names([study.folder.resolve() for study in studies])
    places = [Place(label, arm) for label, study in zip(labels, studies, strict=True) for arm in study.spec.arms]
    places += dict.fromkeys(Place("", trial.arm) for trials in foreign.values() for trial in trials)
    names = shown_names(places)
    of_each: list[list[ArmTrials]] = []
    for label, study in zip(labels, studies, strict=True):
        views: dict[str, list[TrialView]] = {}
        for trial in study.trials:
            views.setdefault(trial.arm, []).append(study.view(trial, dialect))
        own = study.cases(views)
        of_each.append(
            [msgspec.structs.replace(case, name=names[Place(label, case.name)], study=label) for case in own]
        )
    return _Beside(studies, names, of_each)


def _compared(
    beside: _Beside,
    percentiles: Sequence[float],
    primary: str | None,
    effect_percent: float,
    foreign: Mapping[int, Sequence[TrialSummary]] = {},
    pairs: Sequence[str] | None = (),
) -> Comparison:
    studies = beside.studies
    summaries: list[TrialSummary] = []
    notes: list[str] = []
    for number, (study, own) in enumerate(zip(studies, beside.cases, strict=True)):
        summaries += foreign.get(number, ())
        home, plan_id = str(study.folder.resolve()), study.plan_id
        for case in own:
            summaries += [
                msgspec.structs.replace(
                    summarize_view(trial, percentiles, study=home, plan=plan_id or home, with_replicates=True),
                    arm=case.name,
                )
                for trial in case.trials
            ]
        notes += [note for note in study.notes if note not in notes]
    summaries = with_chunk_gaps([*summaries, *foreign.get(len(studies), ())])
    if not summaries:
        raise StudyUnreadable(f"nothing was measured in {', '.join(str(study.folder) for study in studies)}.")
    cases = [case for own in beside.cases for case in own if case.trials]
    names = beside.names
    measured = [place for place in names if any(summary.arm == names[place] for summary in summaries)]
    paired = _pairs(None if foreign and not pairs else pairs, measured)
    together = [(names[pair.baseline], names[pair.arm]) for pair in paired]
    drafting = _speculation_of_each(cases)
    if paired:
        alone = [names[place] for place in measured if not any(place in (pair.baseline, pair.arm) for pair in paired)]
        if alone and not pairs:
            notes.append(f"No other study has an arm named like {', '.join(alone)}: name its partner with --pair")
        summaries = [summary for summary in summaries if summary.arm not in alone]
        cases = [case for case in cases if case.name not in alone]
        drafting = [one for one in drafting if one.arm not in alone]
    elif not drafting:
        drafting = _speculation(cases)
    comparison = compare(
        summaries,
        [*_findings(cases, together), *unlike_work(summaries), *_damage_findings(studies)],
        primary=known_metric(primary or (studies[0].spec.metric if studies else PRIMARY)),
        effect_percent=effect_percent,
        looked_at=any(study.spec.until is not None for study in studies),
        speculation=drafting,
        pairs=together,
    )
    notes += [*_sampling_note(studies), *one_run_notes(summaries)]
    stopped = "; ".join(study.stopped for study in studies if study.stopped)
    return msgspec.structs.replace(comparison, notes=(*comparison.notes, *notes), stopped=stopped)


def _require_others(studies: Sequence[Study]) -> None:
    """Raises RequestWrong where one study is there twice: a folder and its copy, say. Their trials would be counted as
    if they had been measured again."""
    known: dict[object, Study] = {}
    for study in studies:
        began = tuple((trial.arm, trial.number, trial.started_at, trial.plan_started_ns) for trial in study.trials)
        if began and began in known:
            raise RequestWrong(
                f"{study.folder} and {known[began].folder} hold the same trials: one is a copy. Give other studies."
            )
        known[began] = study


def _pairs(asked: Sequence[str] | None, places: Sequence[Place]) -> list[Pair]:
    """Empty where all arms stand beside one another."""
    if asked is None:
        return []
    return pairs_asked(asked, places) if asked else pairs_by_name(places)


def _findings(cases: Sequence[ArmTrials], pairs: Sequence[tuple[str, str]]) -> list[Finding]:
    """Of all arms against the first, or of each pair by itself; what is said of several pairs once."""
    if not pairs:
        return findings(cases)
    known = {case.name: case for case in cases}
    found = [one for pair in pairs for one in findings([known[name] for name in pair if name in known])]
    order = ("invalid", "warning", "note")
    return sorted(dict.fromkeys(found), key=lambda one: order.index(one.severity))


def _ran(study: Study, cases: Sequence[ArmTrials]) -> RunInfo:
    """Facts of an arm are those of its first trial that has any."""
    facts = {
        "machine": study.machine,
        "workload": tuple(Fact(name, value, "the workload") for name, value in study.workload.items()),
    } | {
        case.name: next((trial.trial.facts for trial in case.trials if trial.trial.facts), ()) for case in cases
    }  # fmt: skip
    told = {of: tuple((fact.name, fact.value, fact.source) for fact in own) for of, own in facts.items() if own}
    return RunInfo(study.folder.resolve().name, to_yaml(study.spec), told)


def findings_of(study: Study, dialect: MetricDialect) -> list[Finding]:
    """What is to be said of one study by itself."""
    views: dict[str, list[TrialView]] = {}
    for trial in study.trials:
        views.setdefault(trial.arm, []).append(study.view(trial, dialect))
    return findings([case for case in study.cases(views) if case.trials])


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


def known_metrics(names: str) -> tuple[str, ...]:
    """The keys of metrics named by commas: each by its key or label, or all of a group by its name. Raises RequestWrong
    with the nearest name."""
    groups = {key: key for key in GROUPS} | {name.lower(): key for key, name in GROUPS.items()}
    groups |= {"throughput": "rate", "speculation": "draft"}
    found: list[str] = []
    for name in filter(None, map(str.strip, names.split(","))):
        group = groups.get(name.lower())
        if group is not None:
            found += [metric.key for metric in METRICS if metric.group == group]
            continue
        try:
            found.append(known_metric(name))
        except RequestWrong:
            near = difflib.get_close_matches(name.lower(), [*groups, *METRICS_BY_KEY], n=1, cutoff=0.6)
            if near and near[0] in groups:
                raise RequestWrong(f"there is no metric {name!r}. Did you mean the group {near[0]!r}?") from None
            raise
    if not found:
        raise RequestWrong(f"--metrics names no metric. Groups: {', '.join(GROUPS)}.")
    return tuple(dict.fromkeys(found))


def _speculation_of_each(cases: Sequence[ArmTrials]) -> list[Speculation]:
    """Each study's arms among themselves: another study's steps may be another machine's."""
    studies = dict.fromkeys(case.study for case in cases)
    return [one for study in studies for one in _speculation([case for case in cases if case.study == study])]


def _speculation(cases: Sequence[ArmTrials]) -> list[Speculation]:
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

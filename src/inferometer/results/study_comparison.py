"""Comparison of studies: their trials become summaries, and these a Comparison with findings."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path

import msgspec

from inferometer.analysis.arm_quality import quality_differences, unchecked_notes
from inferometer.analysis.compare import compare
from inferometer.analysis.comparison import EFFECT_PERCENT, EQUIVALENCE_PERCENT, PRIMARY, Comparison, Prompts
from inferometer.analysis.fidelity import fidelity_differences
from inferometer.analysis.pairing import Pair, Place, pairs_by_name, pairs_from_arguments
from inferometer.analysis.quantisation_ladder import is_ladder
from inferometer.analysis.set_ups import StudyExtent, arm_set_ups
from inferometer.analysis.validity import ArmTrials, findings
from inferometer.analysis.validity.drafting import drafts_by_model
from inferometer.analysis.validity.taking_turns import incomplete_rounds
from inferometer.base.errors import StudyUnreadable
from inferometer.base.units import seconds
from inferometer.core import quantities
from inferometer.core.record import Finding, Trial
from inferometer.core.record_columns import RecordColumns
from inferometer.core.spec import Quality
from inferometer.foreign.foreign_trials import contradicting_rates, different_work, single_run_notes, with_chunk_gaps
from inferometer.metrics.acceptance import Speculation, speculation
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary, summarize_view
from inferometer.metrics.trial_measures import drafted_tokens
from inferometer.results.collection_pause import paused_collection
from inferometer.results.metric_names import known_metric
from inferometer.results.read import Study
from inferometer.results.study_arms import StudyArms, study_arms

_SEVERITIES = ("invalid", "warning", "note")


class ComparisonRequest(msgspec.Struct, frozen=True):
    """What a comparison is about; see `comparison_of`."""

    percentiles: tuple[float, ...] = (99,)
    primary: str | None = None
    effect_percent: float = EFFECT_PERCENT
    foreign: Mapping[int, Sequence[TrialSummary]] = {}
    pairs: Sequence[str] | None = ()
    prompts: Prompts = "sampled"
    equivalence_percent: float = EQUIVALENCE_PERCENT
    starts_sd_percent: float | None = None


def comparison_of(
    folders: Iterable[Path | str | Study],
    dialect: MetricDialect,
    percentiles: Sequence[float] = (99,),
    *,
    primary: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    foreign: Mapping[int, Sequence[TrialSummary]] = {},
    pairs: Sequence[str] | None = (),
    prompts: Prompts = "sampled",
    equivalence_percent: float = EQUIVALENCE_PERCENT,
    starts_sd_percent: float | None = None,
) -> Comparison:
    """The arms of one study with each other. Of several studies: each arm with the arm of the same name in the first
    study that has one, or all arms with each other where no two studies share a name.

    An arm whose name occurs twice is called `study/arm`. `foreign`: trials of other tools, by the number of studies
    that precede them. `pairs`: the arms to compare instead, each as BASELINE:ARM; None, or `foreign` without pairs:
    all arms with each other. `primary` None: the metric of the first study. `prompts`, `equivalence_percent` and
    `starts_sd_percent` as in Comparison. Raises StudyUnreadable where nothing was
    measured, and RequestWrong for an unknown metric or arm.
    """
    with paused_collection():
        request = ComparisonRequest(
            tuple(percentiles), primary, effect_percent, foreign, pairs, prompts, equivalence_percent, starts_sd_percent
        )
        return compared(study_arms(folders, dialect, foreign), request)


def findings_of(study: Study, dialect: MetricDialect) -> list[Finding]:
    """The findings of the validity checks about one study."""
    return findings([arm for arm in study.arm_trials(dialect) if arm.trials])


def compared(arms: StudyArms, request: ComparisonRequest) -> Comparison:
    """The comparison of these arms."""
    studies = arms.studies
    summaries = _summaries(arms, request)
    if not summaries:
        raise StudyUnreadable(f"nothing was measured in {', '.join(str(study.folder) for study in studies)}.")
    paired = _paired(arms, request, summaries)
    summaries = [summary for summary in summaries if summary.arm not in paired.left_out]
    measured = [arm for arm in arms.measured if arm.name not in paired.left_out]
    drafting = [one for one in _speculation_by_study(arms.measured) if one.arm not in paired.left_out]
    if not paired.names and not drafting:
        drafting = arms_speculation(measured)
    comparison = compare(
        summaries,
        [
            *_findings(measured, paired.names),
            *different_work(summaries),
            *contradicting_rates(summaries),
            *_damage_findings(studies),
        ],
        primary=known_metric(request.primary or (studies[0].spec.metric if studies else PRIMARY)),
        effect_percent=request.effect_percent,
        looked_at=any(study.spec.until is not None for study in studies),
        speculation=drafting,
        pairs=paired.names,
        prompts=request.prompts,
        equivalence_percent=request.equivalence_percent,
        starts_sd_percent=request.starts_sd_percent,
    )
    margin = studies[0].spec.quality.margin if studies else Quality().margin
    pairs = paired.names or list(combinations(comparison.arms, 2))
    quality = quality_differences(measured, pairs, margin)
    fidelity = fidelity_differences({arm.name: arm.continuations for arm in measured}, pairs)
    workload_notes = dict.fromkeys(note for study in studies for note in study.notes)
    notes = (
        *comparison.notes,
        *workload_notes,
        *unchecked_notes(measured),
        *paired.notes,
        *_order_notes(studies),
        *_starts_note(summaries, comparison),
        *_sampling_note(studies),
        *single_run_notes(summaries),
    )
    set_ups = arm_set_ups([arm for arm in measured if arm.name in comparison.arms])
    stopped = "; ".join(study.stopped for study in studies if study.stopped)
    return msgspec.structs.replace(
        comparison,
        notes=notes,
        stopped=stopped,
        quality=quality,
        fidelity=fidelity,
        set_ups=set_ups,
        ladder=not paired.names and ((len(studies) == 1 and bool(studies[0].spec.ladder)) or is_ladder(set_ups)),
        extent=_extent(studies[0]) if len(studies) == 1 else None,
    )


def _extent(study: Study) -> StudyExtent:
    """Size and time of a study; the time is unknown for studies that did not record when their trials started."""
    prompts = 0 if study.plan is None else len(study.plan.measured)
    done = [trial for trial in study.trials if trial.state == "done"]
    rounds = max((trial.number for trial in done), default=0)
    is_open_loop = study.plan is not None and any(item.due_ns for item in study.plan.measured)
    return StudyExtent(prompts, rounds, _elapsed_s(done), is_open_loop)


def _elapsed_s(trials: Sequence[Trial]) -> float | None:
    """From the start of the first trial to the last answer of the last one to start, by the clock of the host."""
    begins = {trial.started_at: trial for trial in trials if trial.started_at}
    if not begins:
        return None
    first, last = min(begins), max(begins)
    ends_ns = int(RecordColumns.of(begins[last].records).numbers["done_ns"].max(initial=0))
    try:
        between = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    except ValueError:  # a study that was changed by hand
        return None
    return between.total_seconds() + seconds(ends_ns)


def _order_notes(studies: Sequence[Study]) -> list[str]:
    """For interleaved requests: what the numbers and the intervals mean."""
    orders = {
        fact.value for study in studies for one in study.trials for fact in one.facts if fact.name == quantities.ORDER
    }
    if "requests" not in orders:
        return []
    kept = all(study.spec.restart == "never" for study in studies)
    starts = "these starts of the engines only" if kept else "other starts of the engines too"
    return [
        "Order: the requests of the arms were interleaved (`order: requests`). Benchmark duration, rates and energy "
        f"are of an arm's own turns; the intervals cover {starts}"
    ]


def _starts_note(summaries: Sequence[TrialSummary], comparison: Comparison) -> list[str]:
    """What was stated about starts, where it counts."""
    if comparison.starts_sd_percent is None or not any(one.start for one in summaries):
        return []
    return [
        f"Starts: stated to vary by {comparison.starts_sd_percent:g}% (SD) in {comparison.primary}; its intervals of "
        "arms that ran in one start include that. The other metrics have no general verdict"
    ]


def _summaries(arms: StudyArms, request: ComparisonRequest) -> list[TrialSummary]:
    """Of all trials, in the order of the studies and of the other tools' trials between them."""
    found: list[TrialSummary] = []
    for number, (study, own) in enumerate(zip(arms.studies, arms.by_study, strict=True)):
        found += request.foreign.get(number, ())
        home, plan_id = str(study.folder.resolve()), study.plan_id
        incomplete = incomplete_rounds(study.trials)
        for arm in own:
            for trial in arm.trials:
                summary = summarize_view(
                    trial, request.percentiles, study=home, plan=plan_id or home, with_replicates=True
                )
                trial.release()
                start = f"{home} {arm.name}" if study.spec.restart == "never" or arm.arm.runs_already else ""
                if summary.number in incomplete:  # its trials have no partners
                    summary = msgspec.structs.replace(summary, study=f"{home}, incomplete, {arm.name}")
                found.append(msgspec.structs.replace(summary, arm=arm.name, start=start))
    return with_chunk_gaps([*found, *request.foreign.get(len(arms.studies), ())])


class _Paired(msgspec.Struct, frozen=True):
    """`names`: baseline and arm of each pair, empty where all arms are compared with each other. `left_out`: arms that
    are in no pair."""

    names: list[tuple[str, str]] = []
    left_out: list[str] = []
    notes: list[str] = []


def _paired(arms: StudyArms, request: ComparisonRequest, summaries: Sequence[TrialSummary]) -> _Paired:
    known = {summary.arm for summary in summaries}
    measured = [place for place, name in arms.names.items() if name in known]
    pairs = _pairs(None if request.foreign and not request.pairs else request.pairs, measured)
    if not pairs:
        return _Paired()
    together = {place for pair in pairs for place in (pair.baseline, pair.arm)}
    left_out = [arms.names[place] for place in measured if place not in together]
    note = f"No other study has an arm named like {', '.join(left_out)}: name its partner with --pair"
    names = [(arms.names[pair.baseline], arms.names[pair.arm]) for pair in pairs]
    return _Paired(names, left_out, [note] if left_out and not request.pairs else [])


def _pairs(requested: Sequence[str] | None, places: Sequence[Place]) -> list[Pair]:
    """Empty where all arms are compared with each other."""
    if requested is None:
        return []
    return pairs_from_arguments(requested, places) if requested else pairs_by_name(places)


def _findings(arms: Sequence[ArmTrials], pairs: Sequence[tuple[str, str]]) -> list[Finding]:
    """About all arms against the first, or about each pair; a finding about several pairs comes once."""
    if not pairs:
        return findings(arms)
    known = {arm.name: arm for arm in arms}
    found = [one for pair in pairs for one in findings([known[name] for name in pair if name in known])]
    return sorted(dict.fromkeys(found), key=lambda one: _SEVERITIES.index(one.severity))


def arms_speculation(arms: Sequence[ArmTrials]) -> list[Speculation]:
    """Of each arm that drafted tokens, against the first arm that drafted none."""
    plain = next((arm for arm in arms if arm.done and not any(map(drafted_tokens, arm.done))), None)
    if plain is None:
        return []
    found = [
        speculation(arm.name, plain.name, arm.done, plain.done, has_draft_model=drafts_by_model(arm.arm))
        for arm in arms
        if arm is not plain
    ]
    return [one for one in found if one is not None]


def _speculation_by_study(arms: Sequence[ArmTrials]) -> list[Speculation]:
    """Within each study, because the steps of another study may be another machine's."""
    studies = dict.fromkeys(arm.study for arm in arms)
    return [one for study in studies for one in arms_speculation([arm for arm in arms if arm.study == study])]


def _damage_findings(studies: Iterable[Study]) -> list[Finding]:
    """About damage that belongs to no trial; damage of a trial is among its own findings."""
    action = "The file was damaged after it was written: take it from a copy, or measure again."
    return [
        Finding("warning", "store-damaged", f"{study.folder}: {sentence}.", action)
        for study in studies
        for sentence in study.damage
    ]


def _sampling_note(studies: Iterable[Study]) -> list[str]:
    """The cost of reading memory, power and the like, in the complete trial where it was highest."""
    percents = [
        float(fact.value)
        for study in studies
        for trial in study.trials
        if trial.state == "done"
        for fact in trial.facts
        if fact.name == quantities.SAMPLING_PERCENT_OF_A_CORE
    ]
    return [f"Sampling of memory, CPU and devices took {max(percents):.1f}% of one core"] if percents else []

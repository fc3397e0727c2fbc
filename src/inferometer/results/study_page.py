"""Report page of one or several studies: their comparison, pictures, requests and what ran."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.comparison import EFFECT_PERCENT, EQUIVALENCE_PERCENT, Prompts
from inferometer.analysis.validity import ArmTrials
from inferometer.core.record import Fact
from inferometer.core.spec_file import to_yaml
from inferometer.metrics.request_timing import MetricDialect
from inferometer.report.ladder_part import ladder_part
from inferometer.report.page import Page, RunInfo, page
from inferometer.results.collection_pause import paused_collection
from inferometer.results.read import Study
from inferometer.results.study_arms import study_arms
from inferometer.results.study_comparison import ComparisonRequest, compared


def page_of(
    folders: Iterable[Path | str | Study],
    dialect: MetricDialect,
    *,
    primary: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    prompts: Prompts = "sampled",
    equivalence_percent: float = EQUIVALENCE_PERCENT,
) -> Page:
    """The comparison of all arms of these studies with each other, with pictures, requests and what ran. Raises what
    `comparison_of` raises."""
    with paused_collection():
        arms = study_arms(folders, dialect)
        request = ComparisonRequest(
            primary=primary,
            effect_percent=effect_percent,
            pairs=None,
            prompts=prompts,
            equivalence_percent=equivalence_percent,
        )
        comparison = compared(arms, request)
        names = (study.spec.name or study.folder.resolve().name for study in arms.studies)
        ran = [_run_info(study, own) for study, own in zip(arms.studies, arms.by_study, strict=True)]
        made = page(" and ".join(dict.fromkeys(names)), comparison, arms.measured, ran)
        part = ladder_part(comparison)
        return made if part is None else msgspec.structs.replace(made, extra=(part,))


def _run_info(study: Study, arms: Sequence[ArmTrials]) -> RunInfo:
    """An arm's facts are those of its first trial that has any."""
    facts = {
        "machine": study.machine,
        "workload": tuple(Fact(name, value, "the workload") for name, value in study.workload.items()),
    }
    facts |= {
        arm.name: next((trial.trial.facts for trial in arm.trials if trial.trial.facts), ()) for arm in arms
    }  # fmt: skip
    known = {of: tuple((fact.name, fact.value, fact.source) for fact in own) for of, own in facts.items() if own}
    return RunInfo(study.folder.resolve().name, to_yaml(study.spec), known)

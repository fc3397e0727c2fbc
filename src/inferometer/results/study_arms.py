"""Arms of one or several studies under names that tell them apart, with their trials."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.pairing import Place, display_names, study_names
from inferometer.analysis.same_requests import with_same_requests
from inferometer.analysis.validity import ArmTrials
from inferometer.base.errors import RequestWrong
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary
from inferometer.results.read import Study, read_study


class StudyArms(msgspec.Struct, frozen=True):
    """Several studies. `names`: what each of their arms is called. `by_study`: each study's arms, under these names."""

    studies: list[Study]
    names: dict[Place, str]
    by_study: list[list[ArmTrials]]

    @property
    def measured(self) -> list[ArmTrials]:
        """All arms that have trials."""
        return [arm for arms in self.by_study for arm in arms if arm.trials]


def study_arms(
    folders: Iterable[Path | str | Study], dialect: MetricDialect, foreign: Mapping[int, Sequence[TrialSummary]] = {}
) -> StudyArms:
    """The arms of these studies. `foreign`: trials of other tools, whose arms need names too; see `comparison_of`.

    Raises RequestWrong where two of the studies hold the same trials, and StudyUnreadable.
    """
    studies = [folder if isinstance(folder, Study) else read_study(folder) for folder in folders]
    _require_different(studies)
    labels = study_names([study.folder.resolve() for study in studies])
    places = [Place(label, arm) for label, study in zip(labels, studies, strict=True) for arm in study.spec.arms]
    places += dict.fromkeys(Place("", trial.arm) for trials in foreign.values() for trial in trials)
    names = display_names(places)
    by_study = [
        [
            msgspec.structs.replace(arm, name=names[Place(label, arm.name)], study=label)
            for arm in with_same_requests(study.arm_trials(dialect))
        ]
        for label, study in zip(labels, studies, strict=True)
    ]
    return StudyArms(studies, names, by_study)


def _require_different(studies: Sequence[Study]) -> None:
    """Raises RequestWrong where a study is given twice, as a folder and its copy. Each trial would count twice."""
    known: dict[object, Study] = {}
    for study in studies:
        began = tuple((trial.arm, trial.number, trial.started_at, trial.plan_started_ns) for trial in study.trials)
        if began and began in known:
            raise RequestWrong(
                f"{study.folder} and {known[began].folder} hold the same trials: one is a copy of the other. Give "
                "each study once."
            )
        known[began] = study

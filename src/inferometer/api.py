"""Public functions: run and compare studies from Python, as the commands of the same names do, without printing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from inferometer.analysis.comparison import EFFECT_PERCENT, EQUIVALENCE_PERCENT, Comparison, Prompts
from inferometer.core.spec import Spec
from inferometer.metrics.request_timing import MetricDialect
from inferometer.results.read import Study
from inferometer.results.study_comparison import comparison_of
from inferometer.study.loop import run_study
from inferometer.study.progress import Progress
from inferometer.study.study_file import load_spec


def run(
    spec: Spec | Path | str,
    out: Path | str,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    headers: dict[str, str] | None = None,
) -> Study:
    """Runs every trial of `spec`, or of the study file that it names, and stores everything in the folder `out`.

    The result also holds the trials that failed, each with its `error`. `progress` is called during the study;
    `headers` go to the servers and are not stored. Call it from the main thread of a program: engines end with that
    thread. Raises RequestWrong before anything starts where the spec cannot be run.
    """
    study_run = run_study(spec if isinstance(spec, Spec) else load_spec(spec), Path(out), headers, resume=resume)
    for event in study_run:
        if progress is not None:
            progress(event)
    assert study_run.study is not None  # a run that has ended has a folder
    return study_run.study


def compare(
    *studies: Study | Path | str,
    metric_dialect: MetricDialect = "inferometer",
    metric: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    percentiles: Sequence[float] = (99,),
    pairs: Sequence[str] | None = (),
    prompts: Prompts = "sampled",
    equivalence_percent: float = EQUIVALENCE_PERCENT,
) -> Comparison:
    """The arms of one study with each other; of several studies (read ones, folders or zips) each arm with the arm of
    the same name in the first study that has one.

    `pairs` as `--pair` takes them; None: all arms with each other. `metric`: what the verdict is about. `prompts`:
    "fixed" for verdicts on these very prompts, "sampled" for prompts like these. `equivalence_percent`: differences
    within this bound are the verdict "same".
    """
    return comparison_of(
        studies,
        metric_dialect,
        percentiles,
        primary=metric,
        effect_percent=effect_percent,
        pairs=pairs,
        prompts=prompts,
        equivalence_percent=equivalence_percent,
    )

"""How does a Python program run and compare studies? What the commands of the same names do, without printing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from inferometer.analysis.comparison import EFFECT_PERCENT, Comparison
from inferometer.core.spec import Spec
from inferometer.metrics.request_timing import MetricDialect
from inferometer.results.read import Study, comparison_of, read_study
from inferometer.study.loop import Progress, run_study
from inferometer.study.study_file import load_spec


def run(
    spec: Spec | Path | str,
    out: Path | str,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    headers: dict[str, str] | None = None,
) -> Study:
    """Runs every trial of `spec`, or of the study file that it names, and keeps all in the folder `out`.

    Trials that failed are in the study with their `error`. `progress` is called as the study goes on; `headers` go to
    the servers and are stored nowhere. To be called from the main thread of a program, as engines end with it. Raises
    RequestWrong before anything is started where the spec cannot be run.
    """
    asked = spec if isinstance(spec, Spec) else load_spec(spec)
    for told in run_study(asked, Path(out), headers, resume=resume):
        if progress is not None:
            progress(told)
    return read_study(out)


def compare(
    *studies: Study | Path | str,
    metric_dialect: MetricDialect = "inferometer",
    metric: str | None = None,
    effect_percent: float = EFFECT_PERCENT,
    percentiles: Sequence[float] = (99,),
    pairs: Sequence[str] | None = (),
) -> Comparison:
    """The arms of these studies (read ones, folders or zips): all of one beside one another, of several each against
    the arm of its name in the first that has one.

    `pairs` as `--pair` has them; None: all arms beside one another. `metric`: what the verdict is about.
    """
    return comparison_of(
        studies, metric_dialect, percentiles, primary=metric, effect_percent=effect_percent, pairs=pairs
    )

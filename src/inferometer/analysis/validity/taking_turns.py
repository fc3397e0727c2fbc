"""Checks of interleaved rounds: engines that are quiet while they wait, and rounds that every arm completed."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core import quantities
from inferometer.core.record import Finding, Trial
from inferometer.metrics.measures import TrialView
from inferometer.metrics.turns import turns_of, waits_of, whole_intervals_within

_QUIET = (
    "Set `OMP_WAIT_POLICY: passive` in `env:` for llama.cpp, `VLLM_SLEEP_WHEN_IDLE: 1` for vLLM, `--sleep-on-idle` in "
    "`args:` for SGLang; or use `order: trials`."
)


@for_each_arm
def busy_while_waiting(case: ArmTrials) -> Iterable[Finding]:
    """An engine that used the machine while other arms were measured."""
    cores = [value for trial in case.done if (value := _waiting_mean(trial, quantities.ENGINE_CPU_CORES)) is not None]
    if cores and fmean(cores) > thresholds.WAITING_CPU_CORES:
        yield case.finding(
            "warning",
            "busy-while-waiting",
            f"its engine used {fmean(cores):.2f} cores while it waited for its turn, which slows the other arms down.",
            _QUIET,
        )


def _waiting_mean(trial: TrialView, quantity: str) -> float | None:
    """The mean of readings that lie wholly between the trial's turns; None for too few."""
    readings = [sample for sample in trial.trial.samples if sample.quantity == quantity]
    found = [sample.value for sample in whole_intervals_within(waits_of(trial.trial), readings)]
    return fmean(found) if len(found) >= thresholds.WAITING_LEAST_READINGS else None


def incomplete_round(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """An arm that failed in the middle of a round: the others had fewer turns between theirs from then on."""
    for case in cases:
        trials = [(other, view.trial) for other in cases if other.study == case.study for view in other.trials]
        incomplete = incomplete_rounds([trial for _, trial in trials])
        for view in case.done:
            number = view.trial.number
            if number in incomplete:
                failed = [other.name for other, trial in trials if trial.number == number and trial.state != "done"]
                yield case.finding(
                    "note",
                    "round-incomplete",
                    f"{', '.join(failed)} failed in the middle of this round; the trial is kept, but not paired.",
                    "Continue with `run --resume`: it plays the whole round again.",
                    number,
                )


def incomplete_rounds(trials: Iterable[Trial]) -> set[int]:
    """The numbers of a study's interleaved rounds in which an arm failed after it had begun its turns."""
    return {trial.number for trial in trials if trial.state != "done" and turns_of(trial)}


def cpu_of_waiting(case: ArmTrials, cases: Sequence[ArmTrials], number: int) -> float:
    """Cores that the engines of the other arms of an interleaved round used, on average over the round: they count as
    other processes for `case`, and do not count as a disturbance. 0 without turns."""
    mates = [view.trial for other in cases if other.study == case.study and other.name != case.name
             for view in other.trials if view.trial.number == number]  # fmt: skip
    return sum(_engine_cpu(trial) for trial in mates)


def _engine_cpu(trial: Trial) -> float:
    turns = turns_of(trial)
    if not turns:
        return 0.0
    used = [
        one.value
        for one in trial.samples
        if one.quantity == quantities.ENGINE_CPU_CORES and turns[0][0] <= one.at_ns <= turns[-1][1]
    ]
    return fmean(used) if used else 0.0

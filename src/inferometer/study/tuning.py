"""A search from start to end: its steps as studies in one folder, the confirmation, and the result.

    folder/search.yaml      the study with its section `search:`
           steps/01, …      a study for each step: the baseline and the settings of the step, in the same rounds
           confirmation     a study of the baseline, the winner and the runner-up, on held-out prompts
           progress.json    seconds of each finished step

A continued search reads the finished steps instead of playing them. The same results give the same next step.
"""

import itertools
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.decision import not_valid
from inferometer.analysis.search.proposals import Settings
from inferometer.analysis.search.racing import paired_logs
from inferometer.analysis.search.result import (
    BASELINE,
    Decision,
    TuneResult,
    broken_limit,
    decision,
    none_left,
    setting_name,
    tried,
)
from inferometer.analysis.search.strategy import ROUNDS, Step, Strategy
from inferometer.base.errors import RequestWrong
from inferometer.core.redaction import redacted_spec
from inferometer.core.search_settings import Search, constraint
from inferometer.core.spec import Arm, Spec
from inferometer.core.spec_file import to_yaml
from inferometer.engines.catalog import describe
from inferometer.engines.process import shown_command
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.results.metric_names import constraint_metric, known_metric
from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.standin.model_names import resolve
from inferometer.store.study_store import require_no_study
from inferometer.study.held_out import PromptHalf
from inferometer.study.loop import StudyRun, run_study
from inferometer.study.tuned_arms import arm_of, refusal, require_parameters

SEARCH_FILE = "search.yaml"
PROGRESS_FILE = "progress.json"
_CONFIRMED_ARMS = 3


class _Progress(msgspec.Struct, frozen=True):
    seconds: tuple[float, ...] = ()


class Tuning:
    """A search under way. `runs` yields each study that has to run: run it, then ask for the next one. `result`: after
    the last one. Raises RequestWrong where the search cannot be done."""

    def __init__(self, spec: Spec, search: Search, folder: Path, headers: dict[str, str], *, resume: bool) -> None:
        if len(spec.arms) != 1:
            raise RequestWrong(f"a search starts from one arm, its baseline, and the study has {len(spec.arms)}.")
        self._metric = known_metric(search.metric)
        if METRICS_BY_KEY[self._metric].better is None and not (search.minimise or search.maximise):
            raise RequestWrong(f"search.objective: {self._metric} has no better direction; write minimise or maximise.")
        self._constraints = [_with_known_metric(text) for text in search.constraints]
        self._spec = msgspec.structs.replace(spec, metric=self._metric)
        self._search, self._folder, self._headers = search, folder, headers
        self._baseline = next(iter(spec.arms.values()))
        require_parameters(search, self._baseline, headers)
        _require_rounds(search)
        self._strategy = Strategy(search, spec.seed)
        self._notes: list[str] = []
        self._trials = 0
        self._told = 0
        self._ranked: list[Settings] = []
        self._confirmation: Comparison | None = None
        self._prepare_folder(resume=resume)
        self._done = self._read_progress().seconds

    @property
    def confirmation(self) -> Path:
        return self._folder / "confirmation"

    @property
    def last_study(self) -> Path:
        """The confirmation, or the last step without one."""
        if self._confirmation is not None:
            return self.confirmation
        return self._folder / "steps" / f"{len(self._done):02}"

    def runs(self) -> Iterator[StudyRun]:
        """The steps, and the confirmation of their winner."""
        yield from self.runs_of_steps()
        self._ranked = [one for one in self._strategy.race.live if self._strategy.race.mean(one) > 0][:2]
        if self._ranked and self._affords_confirmation():
            yield from self._confirm()

    def runs_of_steps(self) -> Iterator[StudyRun]:
        number = 0
        while (step := self._strategy.next_step()) is not None and self._affords(step):
            number += 1
            dropped = self._refused(step)
            playing = [one for one in step.settings if one not in dropped]
            values: dict[Settings, list[float]] = {}
            if playing:
                study = yield from self._step_study(number, playing, step.rounds)
                values, broken = self._results(study, playing)
                dropped |= broken
            self._strategy.tell(step, values, dropped)
            self._told += 1

    def result(self) -> TuneResult:
        search, race = self._search, self._strategy.race
        names = [setting_name(search, one) for one in self._ranked]
        if self._confirmation is not None:
            found = decision(self._confirmation, names, self._constraints, minimise=self._sign < 0)
        elif self._ranked:
            first = f"Nothing was confirmed: keep the baseline. {names[0]} looked best."
            found = Decision(BASELINE, (first, *self._notes))
        else:
            found = Decision(BASELINE, (f"No setting pays: keep the baseline. {none_left(race)}",))
        metric = METRICS_BY_KEY[self._metric]
        return TuneResult(
            decision=found,
            tried=tried(search, race),
            gain_is=f"{metric.label}, compared with the baseline in the same rounds (positive is better)",
            parameters=search.varied,
            scales=tuple(search.parameters[path].scale for path in search.varied),
            trials=self._trials,
            command=self._command(found.chosen),
            request=self._arm(found.chosen).request,
            notes=tuple(self._notes),
        )

    def chosen_spec(self, chosen: str) -> Spec:
        """The study with the baseline and the chosen arm, for `inferometer run`."""
        arms = {BASELINE: self._baseline}
        if chosen != BASELINE:
            arms["tuned"] = self._arm(chosen)
        return redacted_spec(msgspec.structs.replace(self._spec, arms=arms))

    # --- folder -----------------------------------------------------------------------------------

    def _prepare_folder(self, *, resume: bool) -> None:
        raw: dict[str, Any] = msgspec.to_builtins(self._search)
        text = f"{to_yaml(redacted_spec(self._spec))}search:\n" + "".join(
            f"  {line}\n" for line in msgspec.yaml.encode(raw).decode().splitlines()
        )
        file = self._folder / SEARCH_FILE
        require_no_study(self._folder)
        if file.exists() and not resume:
            raise RequestWrong(f"{self._folder} holds a search: continue it with --resume, or name another --out.")
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise RequestWrong(
                f"{self._folder} holds a search with other settings (see its {SEARCH_FILE}): use the same study file "
                "to continue it, or name another --out."
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _read_progress(self) -> _Progress:
        file = self._folder / PROGRESS_FILE
        return msgspec.json.decode(file.read_bytes(), type=_Progress) if file.exists() else _Progress()

    # --- one step ---------------------------------------------------------------------------------

    def _refused(self, step: Step) -> dict[Settings, str]:
        found: dict[Settings, str] = {}
        for one in step.settings:
            try:
                why = refusal(arm_of(self._search, self._baseline, one), self._headers)
            except RequestWrong as error:
                why = str(error)
            if why:
                found[one] = f"refused: {why.splitlines()[0]}"
        return found

    def _step_study(self, number: int, playing: Sequence[Settings], rounds: int) -> Generator[StudyRun, None, Study]:
        """Yields the step's study if it has to run; returns the study."""
        spec = msgspec.structs.replace(
            self._spec,
            name=f"search, step {number}",
            arms=self._arms(playing),
            trials=rounds,
            until=None,
            restart="never",
            on_failure="next",
            quality=msgspec.structs.replace(self._spec.quality, check=False),
        )
        folder = self._folder / "steps" / f"{number:02}"
        self._trials += len(spec.arms) * rounds
        if number <= len(self._done):
            return read_study(folder)
        began_s = time.monotonic()
        run = run_study(
            spec, folder, self._headers, resume=True, source=PromptHalf(self._spec.workload, held_out=False)
        )
        yield run
        assert run.study is not None
        self._done = (*self._done, time.monotonic() - began_s)
        (self._folder / PROGRESS_FILE).write_bytes(msgspec.json.encode(_Progress(self._done)))
        return run.study

    def _arms(self, settings: Sequence[Settings]) -> dict[str, Arm]:
        own = {setting_name(self._search, one): arm_of(self._search, self._baseline, one) for one in settings}
        return {BASELINE: self._baseline, **own}

    def _results(
        self, study: Study, playing: Sequence[Settings]
    ) -> tuple[dict[Settings, list[float]], dict[Settings, str]]:
        """The values of the settings, and why some cannot be used."""
        names = {setting_name(self._search, one): one for one in playing}
        metrics = [self._metric, *(one.metric for one in self._constraints)]
        values = _values(study, metrics)
        objective = values[self._metric]
        self._require_objective(study, objective)
        logs = paired_logs(objective, BASELINE, self._sign)
        compared = comparison_of([study], "inferometer", _percentiles(metrics), primary=self._metric)
        found: dict[Settings, list[float]] = {}
        dropped: dict[Settings, str] = {}
        for name, one in names.items():
            means = {metric: _mean(values[metric][name]) for metric in metrics}
            invalid = not_valid(compared, BASELINE, name)
            if why := _failure(study, name) or invalid or broken_limit(means, self._constraints):
                dropped[one] = why
            if logs[name] and not invalid:
                found[one] = logs[name]
        self._require_variation(objective)
        return found, dropped

    @property
    def _sign(self) -> int:
        is_lower = METRICS_BY_KEY[self._metric].better == "lower"
        return -1 if self._search.minimise or (is_lower and not self._search.maximise) else 1

    def _require_objective(self, study: Study, objective: Mapping[str, Sequence[float | None]]) -> None:
        if not any(objective[BASELINE]):
            why = _failure(study, BASELINE) or f"no trial of it has the metric {self._metric}, or it is 0"
            raise RequestWrong(f"the search cannot go on, because the baseline has no result: {why}")

    def _require_variation(self, objective: Mapping[str, Sequence[float | None]]) -> None:
        known = [value for found in objective.values() for value in found if value is not None]
        if len(known) > 2 and len(set(known)) == 1:
            raise RequestWrong(
                f"the objective {self._metric} was {known[0]:g} in all {len(known)} trials: it does not depend on "
                "these parameters. Choose another objective."
            )

    # --- budget and confirmation ------------------------------------------------------------------

    def _affords(self, step: Step) -> bool:
        """Whether the step and the confirmation after it fit into the budget. The first step is always played."""
        budget, played = self._search.budget, len(self._done)
        if budget.rounds is not None:
            return (self._told + 1) * ROUNDS + self._search.confirm_rounds <= budget.rounds
        if budget.minutes is None or not played or self._told < played:
            return True
        return self._spent_s() + self._per_trial_s() * (len(step.settings) + 1) * step.rounds + self._confirm_s() <= (
            60 * budget.minutes
        )

    def _spent_s(self) -> float:
        return sum(self._done)

    def _per_trial_s(self) -> float:
        return self._spent_s() / max(1, self._trials)

    def _confirm_s(self) -> float:
        return self._per_trial_s() * _CONFIRMED_ARMS * self._search.confirm_rounds

    def _affords_confirmation(self) -> bool:
        minutes = self._search.budget.minutes
        if minutes is None or self._spent_s() + self._confirm_s() <= 60 * minutes or self.confirmation.exists():
            return True
        needed = (self._spent_s() + self._confirm_s()) / 60
        self._notes.append(
            f"The budget of {minutes:g} minutes is too small: {len(self._done)} step(s) of the search and the "
            f"confirmation need about {needed:.1f} minutes. Give at least budget: {{minutes: {int(needed) + 1}}}."
        )
        return False

    def _confirm(self) -> Iterator[StudyRun]:
        spec = msgspec.structs.replace(
            self._spec,
            name="confirmation",
            arms=self._arms(self._ranked),
            trials=self._search.confirm_rounds,
            until=None,
        )
        source = PromptHalf(self._spec.workload, held_out=True)
        run = run_study(spec, self.confirmation, self._headers, resume=True, source=source)
        yield run
        assert run.study is not None
        self._trials += len(spec.arms) * spec.trials
        percentiles = _percentiles([one.metric for one in self._constraints])
        self._confirmation = comparison_of([run.study], "inferometer", percentiles, primary=self._metric)

    def _arm(self, chosen: str) -> Arm:
        settings = next((one for one in self._ranked if setting_name(self._search, one) == chosen), None)
        return self._baseline if settings is None else arm_of(self._search, self._baseline, settings)

    def _command(self, chosen: str) -> str:
        """The command line that starts the chosen arm; "" if nothing was confirmed."""
        set_ups = () if self._confirmation is None else self._confirmation.set_ups
        shown = next((one.command for one in set_ups if one.arm == chosen), "")
        arm = self._arm(chosen)
        engine = describe(arm.engine)
        if not shown or engine.typed_command is None:
            return shown
        return shown_command(engine.typed_command(resolve(arm, engine.draft_file_flags)), arm.env)


def _require_rounds(search: Search) -> None:
    rounds, needed = search.budget.rounds, ROUNDS + search.confirm_rounds
    if rounds is not None and rounds < needed:
        raise RequestWrong(
            f"search.budget: {rounds} rounds are too few to confirm anything: one step of the search needs {ROUNDS} "
            f"and the confirmation {search.confirm_rounds}. Give at least budget: {{rounds: {needed}}}."
        )


def _with_known_metric(text: str) -> Any:
    found = constraint(text)
    return msgspec.structs.replace(found, metric=constraint_metric(found.metric))


def _values(study: Study, metrics: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """By metric and arm: the value of each trial in order of the rounds; None for a trial that failed or is missing."""
    summaries = study.summaries("inferometer", _percentiles(metrics))
    by_trial = {(one.arm, one.number): one for one in summaries if one.state == "done"}
    rounds = range(1, study.spec.trials + 1)
    return {
        metric: {
            arm: [by_trial[arm, n].values.get(metric) if (arm, n) in by_trial else None for n in rounds]
            for arm in study.spec.arms
        }
        for metric in metrics
    }


def _percentiles(metrics: Sequence[str]) -> tuple[float, ...]:
    """Those that the metrics name, such as 95 for p95_ttft_ms; and 99, which every comparison has."""
    heads = [metric.partition("_")[0] for metric in metrics]
    named = [float(head[1:]) for head in heads if head[:1] == "p" and head[1:].isdecimal()]
    return tuple(dict.fromkeys(itertools.chain((99.0,), named)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _failure(study: Study, arm: str) -> str:
    """Why no trial of the arm succeeded; "" if one did."""
    own = [trial for trial in study.trials if trial.arm == arm]
    if any(trial.state == "done" for trial in own):
        return ""
    return next((f"failed: {trial.error.splitlines()[0]}" for trial in own if trial.error), "failed: it was not played")

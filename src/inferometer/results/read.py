"""Reading of studies: a folder, or a zip of one, becomes a Study with its trials."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from inferometer.analysis.validity import ArmTrials
from inferometer.core import quantities
from inferometer.core.continuation import Continuation
from inferometer.core.plan import Plan
from inferometer.core.record import Fact, Trial
from inferometer.core.request import LIMIT_FIELDS, Request, with_limit_of
from inferometer.core.spec import Spec
from inferometer.metrics.measures import TrialView
from inferometer.metrics.request_columns import Requests
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.summary import TrialSummary, summarize_view, view
from inferometer.results.collection_pause import return_freed_memory
from inferometer.store import StudyReader, archive
from inferometer.store.schema import DATABASE

_LARGE_BYTES, _MAPPED_BYTES = 256 << 20, 16 << 20


class Study(msgspec.Struct, frozen=True):
    """A study: what was requested and what happened. `folder` may be a zip. `stopped`: why it ended before its last
    possible trial. `damage`: one sentence for each part of its store that cannot be read and belongs to no trial.
    `continuations`: answers of the fidelity pass, by arm and request."""

    folder: Path
    spec: Spec
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    machine: tuple[Fact, ...] = ()
    workload: dict[str, str] = {}
    plan: Plan | None = None
    stopped: str = ""
    damage: tuple[str, ...] = ()
    continuations: dict[str, dict[str, Continuation]] = {}
    views: dict[tuple[int, MetricDialect], TrialView] = {}
    """Those computed so far, by the id of their trial: several parts of a report use the same view."""
    kept: dict[str, Any] = {}
    """Values of the plan that several parts of a report use."""

    def view(self, trial: Trial, dialect: MetricDialect) -> TrialView:
        found = self.views.get((id(trial), dialect))
        if found is None:
            found = view(trial, dialect, self.spec.arms[trial.arm].api, self._requests_of(trial.arm))
            self.views[id(trial), dialect] = found
        return found

    def summary(self, trial: Trial, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> TrialSummary:
        key = ("summary", *percentiles)
        return self.view(trial, dialect).cached(key, lambda found: summarize_view(found, percentiles))

    def summaries(self, dialect: MetricDialect, percentiles: Sequence[float] = (99,)) -> list[TrialSummary]:
        return [self.summary(trial, dialect, percentiles) for trial in self.trials]

    @property
    def requests(self) -> dict[int, Request]:
        """What each measured request asked, by index; empty before the first trial."""
        if "requests" not in self.kept:
            items = () if self.plan is None else self.plan.measured
            self.kept["requests"] = Requests((item.index, item.request) for item in items)
        return self.kept["requests"]

    def _requests_of(self, arm: str) -> dict[int, Request]:
        """`requests` with the length limit that the fields of the study's or the arm's requests set."""
        fields = {**self.spec.sampling.extra_body, **self.spec.arms[arm].request}
        limits = {name: fields[name] for name in LIMIT_FIELDS if name in fields}
        if not limits:
            return self.requests
        key = f"requests {limits}"
        if key not in self.kept:
            self.kept[key] = Requests((index, with_limit_of(one, limits)) for index, one in self.requests.items())
        return self.kept[key]

    @property
    def plan_id(self) -> str:
        """Equal for studies that send the same requests in the same order at the same times; "" before the first trial.

        Our count of a prompt's tokens is left out, because it depends on the server's tokenizer.
        """
        if "plan_id" not in self.kept:
            self.kept["plan_id"] = self._plan_id()
        return self.kept["plan_id"]

    def _plan_id(self) -> str:
        if self.plan is None:
            return ""
        asked = [
            (item.request.messages, item.request.max_tokens, item.due_ns, item.measured) for item in self.plan.items
        ]
        return hashlib.sha256(msgspec.json.encode((asked, self.plan.concurrency))).hexdigest()[:16]

    @property
    def cores(self) -> int | None:
        """All CPU cores of the machine, by its facts, because the CPU use of other processes is of all cores too. None:
        unknown."""
        facts = {fact.name: fact.value for fact in self.machine}
        value = facts.get(quantities.CPU_CORES_LOGICAL, facts.get(quantities.CPU_CORES_USABLE, ""))
        return int(value) if value.isdecimal() else None

    def arm_trials(self, dialect: MetricDialect) -> list[ArmTrials]:
        """Each arm with its trials, for the validity checks."""
        views: dict[str, list[TrialView]] = {}
        for trial in self.trials:
            views.setdefault(trial.arm, []).append(self.view(trial, dialect))
        plan_id = self.plan_id
        return [
            ArmTrials(
                name=name,
                arm=arm,
                trials=tuple(views.get(name, [])),
                requests=self.requests,
                sampling=self.spec.sampling,
                plan=plan_id,
                cores=self.cores,
                machine=self.machine,
                workload=self.workload,
                seed=self.spec.seed,
                concurrency=None if self.plan is None else self.plan.concurrency,
                continuations=self.continuations.get(name, {}),
            )
            for name, arm in self.spec.arms.items()
        ]


def read_study(folder: Path | str) -> Study:
    """The study in `folder`, which may be a zip of a folder. Raises StudyUnreadable or SpecInvalid."""
    folder = Path(folder)
    with archive.opened(folder) as place:
        store = StudyReader.open(place, stays=place == folder)
        if (place / DATABASE).stat().st_size > _LARGE_BYTES:
            return_freed_memory(_MAPPED_BYTES)
        try:
            spec = store.spec()
            trials = tuple(trial for trial in store.trials() if trial.arm in spec.arms)
            continuations = store.continuations()
            return Study(
                folder=folder,
                spec=spec,
                trials=trials,
                notes=store.notes(),
                machine=store.machine(),
                workload=store.workload(),
                plan=store.plan(),
                stopped=store.stopped(),
                damage=tuple(store.damage),
                continuations=continuations,
            )
        finally:
            store.close()

"""A map over concurrency: one study for each number of streams, and the break-even point of each arm."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from inferometer.analysis.break_even import BreakEven, GainAt, break_even, gain_at, sentence
from inferometer.analysis.decision import not_valid
from inferometer.base.errors import RequestWrong
from inferometer.core.schedule import Closed
from inferometer.core.spec import Spec
from inferometer.results.read import Study, read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store.study_store import require_no_study
from inferometer.study.loop import StudyRun, run_study
from inferometer.workloads.catalog import make_workload

GROUP_METRIC = "mean_tpot_ms"
"""What a map by group compares: requests of several groups run at once, so that a group has no throughput."""


class MapLine(msgspec.Struct, frozen=True):
    """One arm's gains over the first arm; `group`: the kind of prompts, "" for all prompts. `left_out`: the
    concurrencies whose result is not valid, with the reason."""

    arm: str
    group: str
    points: tuple[GainAt, ...]
    found: BreakEven | None
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.arm}, {self.group}" if self.group else self.arm

    @property
    def sentence(self) -> str:
        found = "too few results for a break-even point" if self.found is None else sentence(self.found, self.points)
        return " ".join((f"{self.name}: {found}.", *self.left_out))


class ConcurrencyMap:
    """`runs` yields each study that has to run: run it, then ask for the next one. `lines`: after the last one.
    Raises RequestWrong where the map cannot be made."""

    def __init__(
        self, spec: Spec, concurrencies: Sequence[int], folder: Path, headers: dict[str, str], *, by: str, resume: bool
    ) -> None:
        if len(spec.arms) < 2:
            raise RequestWrong("a map compares arms with the first one, and the study has one arm. Add another.")
        if len(set(concurrencies)) < 2 or min(concurrencies) < 1:
            raise RequestWrong("--concurrency needs two or more different numbers from 1 on, such as 1,2,4,8.")
        count = spec.workload.request_count()
        if count is not None and count < max(concurrencies):
            raise RequestWrong(f"{count} prompts cannot keep {max(concurrencies)} streams busy: give more num_prompts.")
        if by:
            _require_tag(spec, by)
        self._spec, self._headers, self._by, self._resume = spec, headers, by, resume
        self._folders = {number: folder / f"c-{number:03}" for number in sorted(set(concurrencies))}
        require_no_study(folder)
        if not resume and any(one.exists() for one in self._folders.values()):
            raise RequestWrong(f"{folder} holds a map: continue it with --resume, or name another --out.")

    def runs(self) -> Iterator[StudyRun]:
        for number, folder in self._folders.items():
            spec = msgspec.structs.replace(self._spec, schedule=Closed(number), name=f"{number} stream(s)")
            yield run_study(spec, folder, self._headers, resume=self._resume)

    @property
    def last_study(self) -> Path:
        return list(self._folders.values())[-1]

    def lines(self) -> list[MapLine]:
        studies = {number: read_study(folder) for number, folder in self._folders.items()}
        groups = [""]
        if self._by:
            tags = {request.tags.get(self._by, "") for study in studies.values() for request in study.requests.values()}
            groups += sorted(tags - {""})
        return [line for group in groups for line in self._lines_of(studies, group)]

    def _lines_of(self, studies: dict[int, Study], group: str) -> Iterator[MapLine]:
        baseline, *arms = self._spec.arms
        metric = GROUP_METRIC if group else self._spec.metric
        found: dict[str, list[GainAt]] = {arm: [] for arm in arms}
        left_out: dict[str, list[str]] = {arm: [] for arm in arms}
        for number, study in studies.items():
            compared = comparison_of([_only(study, self._by, group)], "inferometer", primary=metric)
            row = compared.primary_row
            for arm in arms:
                if why := not_valid(compared, baseline, arm):
                    left_out[arm].append(f"At {number} stream(s) its result is {why}")
                elif row is not None and row.n.get(arm) and row.n.get(baseline):
                    difference = row.against(baseline, arm)
                    point = gain_at(number, difference, lower_is_better=row.better == "lower")
                    found[arm] += [] if point is None else [point]
        for arm, points in found.items():
            crossing = break_even(points) if len(points) > 1 else None
            yield MapLine(arm, group, tuple(points), crossing, tuple(left_out[arm]))


def _require_tag(spec: Spec, by: str) -> None:
    """Raises RequestWrong if no prompt of the workload has the tag."""
    tags = {tag for request in make_workload(spec.workload).sample(spec.seed, None).requests for tag in request.tags}
    if by not in tags:
        known = f" Tags there: {', '.join(sorted(tags))}." if tags else ""
        raise RequestWrong(f"--by {by}: no prompt of this workload has a {by}.{known}")


def _only(study: Study, by: str, group: str) -> Study:
    """The study with the requests of one group."""
    if not group:
        return study
    chosen = {index for index, request in study.requests.items() if request.tags.get(by) == group}
    trials = tuple(
        msgspec.structs.replace(trial, records=tuple(one for one in trial.records if one.index in chosen))
        for trial in study.trials
    )
    return msgspec.structs.replace(study, trials=trials)

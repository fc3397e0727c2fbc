"""Checks of a stored study's answers: which are missing, running them in parallel, and storing each outcome."""

import os
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.core.request import problem_id
from inferometer.core.spec import Quality
from inferometer.core.workload_settings import WorkloadSettings
from inferometer.quality.checking import CheckLimits, CheckOutcome, check_answer
from inferometer.quality.problem import Exact, Number, Problem
from inferometer.quality.sandbox import Sandbox, Unsandboxed, find_sandbox
from inferometer.quality.sets.problem_set import ProblemSet
from inferometer.store import Store
from inferometer.workloads.catalog import make_workload

_LOOK_EVERY_S = 0.2


class CheckedCount(msgspec.Struct, frozen=True):
    """Progress: `done` of `total` different answers are checked."""

    done: int
    total: int


def problems_of(settings: WorkloadSettings, expected_sha256: str = "") -> dict[str, Problem]:
    """The problems of a workload by id; empty if the workload is not a problem set, or has no checks.

    `expected_sha256`: of the data set that was sampled, "" if unknown. Raises RequestWrong if the file has changed.
    """
    workload = make_workload(settings)
    if not isinstance(workload, ProblemSet):
        return {}
    problems = {name: one for name, one in workload.problems().items() if one.check is not None}
    if expected_sha256 and expected_sha256 not in workload.source_sha256:
        raise RequestWrong(
            "the file of the problems is not the one that the study used: its SHA-256 is "
            f"{', '.join(workload.source_sha256)[:80]}, not {expected_sha256[:16]}…. Name that file with --path."
        )
    return problems


def sandbox_for(problems: Mapping[str, Problem], *, unsafe: bool = False) -> Sandbox | None:
    """Where the checks of these problems run; None if none of them runs a program. Raises RequestWrong where there is
    no sandbox, unless `unsafe`."""
    if all(isinstance(one.check, Exact | Number) for one in problems.values()):
        return None
    return Unsandboxed() if unsafe else find_sandbox()


class _Place(msgspec.Struct, frozen=True):
    trial_id: int
    index: int


def check_stored(
    store: Store, problems: Mapping[str, Problem], sandbox: Sandbox | None, quality: Quality, jobs: int | None = None
) -> Generator[CheckedCount]:
    """Checks every answer that has no outcome yet, and stores the outcome as soon as it is known. Equal answers to a
    problem are checked once. `jobs`: checks at once; None: one for each usable core."""
    missing = _missing(store, problems)
    interrupt = threading.Event()
    limits = CheckLimits(quality.check_s, quality.memory_mib, interrupt)
    workers = jobs or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as executor:
        running: dict[Future[CheckOutcome | None], list[_Place]] = {
            executor.submit(check_answer, problems[name], answer, sandbox or Unsandboxed(), limits): places
            for (name, answer), places in missing.items()
        }
        total = len(running)
        try:
            while running:
                yield CheckedCount(total - len(running), total)
                ended, _ = wait(running, _LOOK_EVERY_S, FIRST_COMPLETED)
                for future in ended:
                    _store(store, running.pop(future), future.result())
                store.commit_when_due()
        finally:
            interrupt.set()  # after Ctrl-C, programs that still run end at once
            executor.shutdown(wait=True, cancel_futures=True)
            store.commit()
    if total:
        yield CheckedCount(total, total)


def _missing(store: Store, problems: Mapping[str, Problem]) -> dict[tuple[str, str], list[_Place]]:
    """The answers to check, by problem and text, and where each was given. A request that failed has the answer ""."""
    found: dict[tuple[str, str], list[_Place]] = {}
    for trial_id in store.trial_ids().values():
        known = {check.index for check in store.checks(trial_id)}
        for record in store.records(trial_id):
            name = problem_id(record.request_id)
            if record.measured and record.index not in known and name in problems:
                key = (name, record.text if record.ok else "")
                found.setdefault(key, []).append(_Place(trial_id, record.index))
    return found


def _store(store: Store, places: list[_Place], verdict: CheckOutcome | None) -> None:
    if verdict is not None:
        for place in places:
            store.add_check(place.trial_id, verdict.of_request(place.index))

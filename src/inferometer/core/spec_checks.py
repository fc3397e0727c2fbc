"""Checks of a whole `Spec`: settings that contradict each other, and numbers out of range."""

import typing
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inferometer.base.errors import SpecInvalid
from inferometer.core.interleaving import block_problems
from inferometer.core.schedule import Replay, concurrency_limit
from inferometer.core.spec import Arm, OnFailure, Spec
from inferometer.core.workload_settings import KeptWorkload, WorkloadSettings


class StudyRules(NamedTuple):
    """What the installed engines and workloads demand of a study file. `workload_kinds`: the known kinds.
    `workload_settings`: the struct of a kind; raises RequestWrong if the workload cannot be loaded. `arm_problems`:
    what is wrong with an arm for its engine, each as `field: …`."""

    engine_names: Sequence[str]
    workload_kinds: Sequence[str]
    workload_settings: Callable[[str], type[WorkloadSettings]]
    arm_problems: Callable[[Arm], list[str]]


def checked(spec: Spec, source: str, rules: StudyRules | None = None) -> Spec:
    """The spec itself, if its settings are consistent and, with `rules`, fit its engines. Raises SpecInvalid."""
    problems = [f"workload.{line}" for line in spec.workload.problems()]
    problems += [f"schedule.{line}" for line in spec.schedule.problems()]
    problems += [f"timeouts.{line}" for line in spec.timeouts.problems()]
    problems += [f"sampling.{line}" for line in spec.sampling.problems()]
    problems += _semantic_problems(spec)
    if rules is not None:
        problems += [f"arms.{name}.{line}" for name, arm in spec.arms.items() for line in rules.arm_problems(arm)]
    if problems:
        raise SpecInvalid(source, problems)
    return spec


def worker_problems(spec: Spec, workers: int) -> list[str]:
    """Why `workers` load processes cannot share this plan: each needs a request and a share of the concurrency."""
    found: list[str] = []
    requests, at_once = spec.workload.request_count(), concurrency_limit(spec.schedule)
    if requests is not None and workers > requests:
        found.append(
            f"workers: {workers} cannot share {requests} request(s); give at most {requests}, or send more requests"
        )
    if at_once is not None and workers > at_once:
        found.append(
            f"workers: {workers} cannot share a concurrency of {at_once}; give at most {at_once}, or raise it "
            "(--max-concurrency, schedule.concurrency)"
        )
    return found


def _semantic_problems(spec: Spec) -> list[str]:
    problems = [] if spec.arms else ["arms: give at least one"]
    problems += ["arms: an arm has an empty name"] if any(not name.strip() for name in spec.arms) else []
    problems += _number_problems(spec)
    if spec.on_failure not in typing.get_args(OnFailure):  # given as a flag; `parse` has checked a file's value
        problems.append(f"on_failure: must be one of {', '.join(typing.get_args(OnFailure))}, not {spec.on_failure!r}")
    problems += _until_problems(spec)
    problems += block_problems(spec)
    if spec.workers is not None:
        problems += worker_problems(spec, spec.workers)
    knows_times = spec.workload.HAS_TIMES or isinstance(spec.workload, KeptWorkload)
    if isinstance(spec.schedule, Replay) and not knows_times:
        problems.append(
            f"schedule.kind: replay needs the times of a trace, and the workload is {spec.workload.kind}; "
            "use workload.kind trace"
        )
    return problems + [f"arms.{name}.{line}" for name, arm in spec.arms.items() for line in _command_problems(arm)]


def _number_problems(spec: Spec) -> list[str]:
    numbers = (
        ("trials", spec.trials, 1),
        ("workers", spec.workers, 1),
        ("warmups", spec.warmups, 0),
        ("seed", spec.seed, 0),
        ("settle", spec.settle_settings.seconds, 0),
        ("settle.at_most_s", spec.settle_settings.at_most_s, 0),
        *(line for name, arm in spec.arms.items() for line in _arm_numbers(f"arms.{name}", arm)),
    )
    return [
        f"{name}: must be at least {least}, not {number:g}"
        for name, number, least in numbers
        if number is not None and not number >= least  # NaN too
    ]


def _arm_numbers(place: str, arm: Arm) -> list[tuple[str, float | None, int]]:
    """Each number of an arm with its place in the file and its least value."""
    found: list[tuple[str, float | None, int]] = [
        (f"{place}.threads", arm.threads, 1),
        (f"{place}.context", arm.context, 1),
        (f"{place}.slots", arm.slots, 1),
        (f"{place}.ready_timeout_s", arm.ready_timeout_s, 0),
    ]
    if arm.draft is not None:
        found += [(f"{place}.draft.n_max", arm.draft.n_max, 0), (f"{place}.draft.n_min", arm.draft.n_min, 0)]
    return found


def _command_problems(arm: Arm) -> list[str]:
    """Contradictions in how the arm's server is started or found."""
    problems: list[str] = []
    if isinstance(arm.command, str) and arm.command and not arm.shell:
        problems.append(
            "command: is one line of text; give a list of words, or shell: true to have /bin/sh read the line"
        )
    if arm.shell and not isinstance(arm.command, str):
        problems.append(
            "shell: a command in a list of words needs no shell; remove it, or give the command as one line of text"
        )
    if arm.command and (arm.args or arm.binary):
        problems.append("command: replaces binary and args; write them into the command")
    if arm.pid is not None and arm.container:
        problems.append("pid: and container: give only one; it names the process whose memory is measured")
    if arm.pid is not None and arm.pid < 1:
        problems.append(f"pid: must be a process id, not {arm.pid}")
    return problems


def _until_problems(spec: Spec) -> list[str]:
    try:
        if spec.until_percent is None:
            return []
    except ValueError:
        return [f"until: must be a percentage like ±2%, not {spec.until!r}"]
    problems: list[str] = []
    if len(spec.arms) < 2:
        problems.append("until: needs two or more arms, because it concerns their difference")
    if spec.max_trials < max(spec.trials, 3):
        problems.append(
            f"max_trials: must be at least {max(spec.trials, 3)} with `until` (trials, and 3), not {spec.max_trials}"
        )
    return problems

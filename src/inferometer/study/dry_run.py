"""What a study would do: everything that can be checked without starting an engine, and an estimate of its time."""

import os
from typing import NamedTuple

from inferometer.core.redaction import redactor_for
from inferometer.core.schedule import concurrency_limit
from inferometer.core.spec import Arm, Spec
from inferometer.core.study import trial_order
from inferometer.engines.catalog import describe
from inferometer.results.metric_names import known_metric
from inferometer.study.loop import checked_engines, resolved_arms
from inferometer.workloads.catalog import make_workload

TOKENS_PER_S = (10.0, 100.0)
"""Assumed output speed of one stream, slow and fast: a 32B model on a desktop card, a small model on a CPU."""
START_S = (2.0, 60.0)
"""Assumed time until an engine is ready."""
CONCURRENCY_GAIN = 8
"""Assumed: a server does not gain from more streams than this."""


class DryRun(NamedTuple):
    """`arms`: what each arm starts or asks, without secrets. `seconds`: the estimate, if the arms are fast and if they
    are slow."""

    arms: dict[str, str]
    requests: int
    most_tokens: int | None
    trials: int
    notes: tuple[str, ...]
    seconds: tuple[float, float]


def dry_run(spec: Spec, headers: dict[str, str]) -> DryRun:
    """Checks arms, engines and workload. Raises RequestWrong like the run itself."""
    known_metric(spec.metric)
    arms = resolved_arms(spec, ray=None)
    redactor = redactor_for(spec.arms.values(), headers, os.environ, spec.sampling)
    checked_engines(arms, headers, redactor)
    sampled = make_workload(spec.workload).sample(spec.seed, None)
    limits = [request.max_tokens for request in sampled.requests]
    most = None if None in limits else sum(limit for limit in limits if limit is not None)
    trials = len(trial_order(spec))
    starts = trials if spec.restart == "always" else len(arms)
    tokens = (512 * len(limits) if most is None else most) + 32 * spec.warmups
    streams = min(concurrency_limit(spec.schedule) or CONCURRENCY_GAIN, CONCURRENCY_GAIN)
    fast, slow = (
        trials * tokens / (speed * streams) + starts * start
        for speed, start in zip(reversed(TOKENS_PER_S), START_S, strict=True)
    )
    shown = {name: redactor.redact(_shown(arm)) for name, arm in spec.arms.items()}
    return DryRun(shown, len(sampled.requests), most, trials, sampled.notes, (fast, slow))


def _shown(arm: Arm) -> str:
    """The arm in one line."""
    if not describe(arm.engine).is_started:
        return arm.url
    if arm.command:
        return arm.command if isinstance(arm.command, str) else " ".join(arm.command)
    words = [arm.binary or arm.engine, arm.model, *arm.args]
    words += [f"threads {arm.threads}"] if arm.threads else []
    words += [f"draft {arm.draft.model}"] if arm.draft else []
    return " ".join(filter(None, words))

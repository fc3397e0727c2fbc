"""Speculative decoding: accepted draft tokens, the cost of a step, and the speed-up that these predict.

Counts come from llama.cpp's `timings` of each request where it sends them, else from the engine's counters (vLLM,
SGLang) as differences over the plan, never from the engine's totals since its start.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from inferometer.base.lazy import lazy_module
from inferometer.base.units import NS_PER_MS, ms
from inferometer.core import quantities
from inferometer.core.record import ServerTimings
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics import trial_columns
from inferometer.metrics.intervals import root
from inferometer.metrics.measures import RequestView, TrialView, in_columns
from inferometer.metrics.series import Floats, Series

optimize = lazy_module("scipy.optimize")

DRAFTED = quantities.SPEC_DRAFT_TOKENS_TOTAL
ACCEPTED = quantities.SPEC_ACCEPTED_TOKENS_TOTAL
STEPS = quantities.SPEC_STEPS_TOTAL

# --- one request ----------------------------------------------------------------------------------


@in_columns(trial_columns.drafted)
def drafted(request: RequestView) -> Sequence[float]:
    """Tokens that the draft model proposed, by the server's timings."""
    timings = _timings(request)
    return [] if timings is None or timings.draft_n is None else [timings.draft_n]


@in_columns(trial_columns.verified)
def verified(request: RequestView) -> Sequence[float]:
    """Tokens drafted in a request that also reports how many of them were accepted."""
    return drafted(request) if accepted(request) else []


@in_columns(trial_columns.accepted)
def accepted(request: RequestView) -> Sequence[float]:
    """Draft tokens that the target model accepted, by the server's timings."""
    timings = _timings(request)
    return [] if timings is None or timings.draft_n_accepted is None else [timings.draft_n_accepted]


@in_columns(trial_columns.decoded)
def decoded(request: RequestView) -> Sequence[float]:
    """Output tokens after the first. The first token comes from the prefill. A request in which nothing was drafted has
    no draft counts, and its steps count too: n-gram speculation drafts in some requests only."""
    timings = _timings(request)
    if (
        timings is None
        or timings.predicted_n is None
        or (timings.draft_n is None) != (timings.draft_n_accepted is None)
    ):
        return []
    return [timings.predicted_n - 1]


@in_columns(trial_columns.steps)
def steps(request: RequestView) -> Sequence[float]:
    """Decode steps of the target model, (predicted - 1) - accepted: each step yields the draft tokens that it accepts
    and one token of the target. At least one for any decoded token: an answer may end within the last draft."""
    return [max(tokens - sum(accepted(request)), min(tokens, 1)) for tokens in decoded(request)]


# --- the trial, by counters -----------------------------------------------------------------------


def counter_increase(trial: TrialView, quantity: str) -> float | None:
    """Increase of an engine's counter from the plan's start to its end; None if it was not read twice, or ever fell."""
    began_ns = trial.trial.plan_started_ns
    readings = [sample for sample in trial.trial.samples if sample.quantity == quantity]
    if began_ns is None or not readings:
        return None
    before = [sample for sample in readings if sample.at_ns <= began_ns]
    used = [*before[-1:], *readings[len(before) :]]
    if any(later.value < earlier.value for earlier, later in pairwise(used)):
        return None  # the engine, or what counts for it, was started again
    return used[-1].value - used[0].value if used[-1].at_ns > used[0].at_ns else None


def drafted_by_counter(trial: TrialView) -> float | None:
    """Draft tokens proposed during the plan, by the engine's counter."""
    return counter_increase(trial, DRAFTED)


def accepted_by_counter(trial: TrialView) -> float | None:
    """Draft tokens accepted during the plan, by the engine's counter."""
    return counter_increase(trial, ACCEPTED)


def acceptance_percent_by_counter(trial: TrialView) -> float | None:
    """Accepted of drafted tokens, percent, by the engine's counters; None if more were accepted than drafted."""
    proposed, kept = drafted_by_counter(trial), accepted_by_counter(trial)
    return 100 * kept / proposed if proposed and kept is not None and kept <= proposed else None


def accepted_length_by_counter(trial: TrialView) -> float | None:
    """Tokens per decode step, those that drafted nothing included, as from llama.cpp's timings: the same quantity for
    each engine. (vLLM's own acceptance length is of the steps that drafted.)"""
    kept, made = accepted_by_counter(trial), _decoded_in_all(trial)
    return made / (made - kept) if kept and made is not None and made > kept else None


def accepted_per_step_by_counter(trial: TrialView) -> float | None:
    """Accepted draft tokens per decode step, those that drafted nothing included."""
    length = accepted_length_by_counter(trial)
    return None if length is None else length - 1


def _decoded_in_all(trial: TrialView) -> int | None:
    """Output tokens after the first one of each request; None if a request's are unknown."""
    counts = trial.timing.output_tokens
    if not trial.timing.timed.all() or (counts == UNKNOWN).any():
        return None
    return int((counts[counts != 0] - 1).sum())


def draft_length(trial: TrialView) -> float | None:
    """Tokens drafted per step that drafted: by the engine's counters, else by the drafts in its log since its start."""
    proposed, verified = drafted_by_counter(trial), counter_increase(trial, STEPS)
    if verified and proposed is not None:
        return proposed / verified
    facts = {fact.name: fact.value for fact in trial.trial.facts}
    try:
        drafts, tokens = float(facts[quantities.SPEC_LOG_DRAFTS]), float(facts[quantities.SPEC_LOG_DRAFTED_TOKENS])
    except (KeyError, ValueError):
        return None
    return tokens / drafts if drafts > 0 else None


# --- the speed-up ---------------------------------------------------------------------------------


class StepCosts(msgspec.Struct, frozen=True):
    """Time of a drafted token and of a verifying step, ms. `source`: how they were determined."""

    draft_token_ms: float
    verify_step_ms: float
    source: str


class Speculation(msgspec.Struct, frozen=True):
    """An arm with a draft compared with the arm without one.

    `tokens_per_step` includes the target's token. `acceptance`: α, the probability that a drafted token is accepted
    given that those before it were. `predicted`: the speed-up by Leviathan's equation, in which verifying costs one
    step of the target; without a draft model its upper limit, because drafts from the text cost nothing there.
    `predicted_measured`: the speed-up with the measured cost of the verifying step. `measured`: the ratio of decode
    times per token. None: unknown.
    """

    arm: str
    baseline: str
    tokens_per_step: float
    drafted_per_step: float
    acceptance: float | None
    target_token_ms: float
    costs: StepCosts | None
    predicted: float | None
    predicted_measured: float | None
    measured: float


def speculation(
    arm: str,
    baseline: str,
    trials: Sequence[TrialView],
    baseline_trials: Sequence[TrialView],
    *,
    has_draft_model: bool = True,
) -> Speculation | None:
    """The predicted and the measured speed-up of a draft; None if nothing was drafted. Without a draft model (n-gram
    speculation) there is no α: drafts have any length, and many steps have none. With c = 0 the prediction is the
    number of tokens per step.

    Leviathan, Kalman, Matias 2023, "Fast Inference from Transformers via Speculative Decoding", ICML, Theorem 3.8: with
    acceptance α, γ drafted tokens per step and a draft token that costs c of a target step, decoding is faster by the
    factor (1 - α^(γ+1)) / ((1 - α)(γc + 1)). The numerator over 1 - α is the expected tokens per step (equation 1);
    here the tokens per step are measured, and α is solved for.
    """
    step_count = _sum(trials, trial_columns.steps)
    proposed = _sum(trials, trial_columns.verified)
    target_ms = _decode_ms_per_token(baseline_trials)
    arm_ms = _decode_ms_per_token(trials)
    if not proposed or step_count <= 0 or not target_ms or not arm_ms:  # 0 ms: every answer arrived at once
        return None
    per_step, drafted_per_step = _sum(trials, trial_columns.decoded) / step_count, proposed / step_count
    costs = step_costs(trials) if has_draft_model else None
    predicted, predicted_measured = (None if has_draft_model else per_step), None
    if costs is not None:
        drafting_ms = drafted_per_step * costs.draft_token_ms
        predicted = per_step * target_ms / (drafting_ms + target_ms)
        predicted_measured = per_step * target_ms / (drafting_ms + costs.verify_step_ms)
    return Speculation(
        arm,
        baseline,
        per_step,
        drafted_per_step,
        acceptance_of(per_step, drafted_per_step) if has_draft_model else None,
        target_ms,
        costs,
        predicted,
        predicted_measured,
        target_ms / arm_ms,
    )


def acceptance_of(tokens_per_step: float, drafted_per_step: float) -> float | None:
    """α that solves (1 - α^(γ+1)) / (1 - α) = tokens per step; None if there is no solution in 0 to 1."""
    gamma = drafted_per_step
    if not 1 <= tokens_per_step <= gamma + 1:
        return None

    def excess(alpha: float) -> float:
        expected = gamma + 1 if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)
        return expected - tokens_per_step

    return root(excess, 0.0, 1.0)


def step_costs(trials: Sequence[TrialView]) -> StepCosts | None:
    """From the engine's log of its drafting time if there is one. Else by non-negative least squares of the requests'
    decode times on their steps and drafted tokens; None if these two are nearly collinear."""
    decode_ms, step_count, proposed = np.concatenate([_regression_rows(trial) for trial in trials], axis=1)
    if not len(decode_ms):
        return None
    logged = [_logged_draft_ms(trial) for trial in trials]
    known = [found for found in logged if found is not None]
    if known:
        draft_ms = float(np.mean(known))
        verify_ms = (decode_ms.sum() - draft_ms * proposed.sum()) / step_count.sum()
        return StepCosts(draft_ms, float(verify_ms), "the engine's log of its drafting") if verify_ms > 0 else None
    design = np.stack([step_count, proposed], axis=1)
    if len(decode_ms) < 4 or np.linalg.cond(design / design.mean(axis=0)) > MAX_CONDITION_NUMBER:
        return None
    (verify_ms, draft_ms), _ = optimize.nnls(design, decode_ms)
    return StepCosts(float(draft_ms), float(verify_ms), "least squares over requests") if verify_ms > 0 else None


MAX_CONDITION_NUMBER = 30.0
"""Above this condition number, steps and drafted tokens are nearly collinear: their costs cannot be separated (Belsley,
Kuh, Welsch 1980, Regression Diagnostics, chapter 3)."""


def _logged_draft_ms(trial: TrialView) -> float | None:
    """Drafting time per drafted token, over the engine's whole life: both numbers include warm-ups."""
    facts = {fact.name: fact.value for fact in trial.trial.facts}
    try:
        spent, tokens = float(facts[quantities.SPEC_LOG_DRAFT_MS]), float(facts[quantities.SPEC_LOG_DRAFTED_TOKENS])
    except (KeyError, ValueError):
        return None
    return spent / tokens if tokens > 0 else None


def _regression_rows(trial: TrialView) -> Floats:
    """Decode time in ms, steps and drafted tokens of the requests of which all are known: three rows."""
    found = np.full((3, trial.size), np.nan)
    found[0, trial.timing.timed] = (trial.timing.latency_ns - trial.timing.ttft_ns)[trial.timing.timed] / NS_PER_MS
    for row, series in enumerate((trial_columns.steps(trial), trial_columns.drafted(trial)), 1):
        found[row, series.positions] = series.values
    return found[:, ~np.isnan(found).any(axis=0)]


def _decode_ms_per_token(trials: Sequence[TrialView]) -> float | None:
    """Time per token from the first token to the last, over all requests; None without such tokens."""
    spent_ns = tokens = 0
    for timing in (trial.timing for trial in trials):
        several = timing.timed & (timing.output_tokens > 1)
        tokens += int((timing.output_tokens[several] - 1).sum())
        spent_ns += int((timing.latency_ns - timing.ttft_ns)[several].sum())
    return ms(spent_ns) / tokens if tokens else None


def _sum(trials: Sequence[TrialView], values_of: Callable[[TrialView], Series]) -> float:
    return float(sum(values_of(trial).values.sum() for trial in trials))


def _timings(request: RequestView) -> ServerTimings | None:
    """None where a known fact refutes the draft counts."""
    is_refuted = any(one.about == "draft_counts" for one in request.contradictions)
    return request.record.timings if request.record.ok and not is_refuted else None

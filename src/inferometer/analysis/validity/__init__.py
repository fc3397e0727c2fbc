"""Validity checks of trials and of comparisons between arms: findings with evidence and action.

Each check is a function of the arms and their trials; `findings` runs all checks. `thresholds` holds every bound and
its reason.
"""

from collections.abc import Sequence

from inferometer.analysis.validity.answers import canned_answers, error_texts, other_lengths, reasoning_of_one_arm
from inferometer.analysis.validity.arm_trials import ArmTrials, Check
from inferometer.analysis.validity.caching import cache_differs, cache_kept
from inferometer.analysis.validity.configuration import (
    another_model,
    draft_not_used,
    model_changed,
    settings_not_in_force,
)
from inferometer.analysis.validity.counts import counts_of_arms, other_than_our_count, refuted_numbers
from inferometer.analysis.validity.cross_study import other_study
from inferometer.analysis.validity.delivery import not_streamed
from inferometer.analysis.validity.drafting import drafts
from inferometer.analysis.validity.in_force import nothing_differs
from inferometer.analysis.validity.load_shape import concurrency_held, saturated
from inferometer.analysis.validity.stability import (
    drift,
    failures,
    gpu_state,
    machine_busy,
    not_warm,
    other_clients,
    other_requests,
    resent_requests,
    server_elsewhere,
    silence,
    too_few_trials,
    trial_findings,
)
from inferometer.analysis.validity.taking_turns import busy_while_waiting, incomplete_round
from inferometer.analysis.validity.workload_equivalence import (
    cache_helped,
    degenerate_output,
    finish_reasons,
    not_repeated,
    other_output,
    other_prompts,
    same_prompts,
    token_totals,
)
from inferometer.core.record import Finding

__all__ = ["CHECKS", "ArmTrials", "Check", "findings"]

CHECKS: tuple[Check, ...] = (
    draft_not_used,
    drafts,
    settings_not_in_force,
    another_model,
    model_changed,
    nothing_differs,
    other_study,
    other_prompts,
    same_prompts,
    token_totals,
    finish_reasons,
    other_output,
    not_repeated,
    degenerate_output,
    cache_helped,
    cache_differs,
    cache_kept,
    refuted_numbers,
    other_than_our_count,
    counts_of_arms,
    canned_answers,
    error_texts,
    other_lengths,
    reasoning_of_one_arm,
    not_streamed,
    saturated,
    concurrency_held,
    not_warm,
    drift,
    gpu_state,
    machine_busy,
    busy_while_waiting,
    incomplete_round,
    trial_findings,
    failures,
    other_requests,
    other_clients,
    resent_requests,
    server_elsewhere,
    silence,
    too_few_trials,
)
"""Every check, in this order: the arm did what was configured, the arms did the same work, the machine was stable."""


def findings(arms: Sequence[ArmTrials]) -> list[Finding]:
    """All findings on these arms, the most severe first. The first arm is the baseline."""
    if not arms:
        return []
    order = ("invalid", "warning", "note")
    found = [finding for check in CHECKS for finding in check(arms)]
    return sorted(found, key=lambda finding: order.index(finding.severity))

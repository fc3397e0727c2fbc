"""May these trials, and these arms beside one another, be believed? Findings as values, each with evidence and action.

Each check is a function of cases; `findings` runs them all. `thresholds` has every bound with its reason.
"""

from collections.abc import Sequence

from inferometer.analysis.validity.arm_trials import ArmTrials, Check
from inferometer.analysis.validity.configuration import another_model, draft_not_used, settings_not_in_force
from inferometer.analysis.validity.cross_study import of_two_studies
from inferometer.analysis.validity.stability import (
    drift,
    failures,
    gpu_state,
    machine_busy,
    not_warm,
    told_by_trials,
    too_few_trials,
)
from inferometer.analysis.validity.workload_equivalence import (
    cache_helped,
    degenerate_output,
    finish_reasons,
    other_output,
    other_prompts,
    token_totals,
)
from inferometer.core.record import Finding

__all__ = ["CHECKS", "ArmTrials", "Check", "findings"]

CHECKS: tuple[Check, ...] = (
    draft_not_used,
    settings_not_in_force,
    another_model,
    of_two_studies,
    other_prompts,
    token_totals,
    finish_reasons,
    other_output,
    degenerate_output,
    cache_helped,
    not_warm,
    drift,
    gpu_state,
    machine_busy,
    told_by_trials,
    failures,
    too_few_trials,
)
"""Every check, in the order of the questions: was it done, was it the same, was the machine itself."""


def findings(cases: Sequence[ArmTrials]) -> list[Finding]:
    """What is to be said of these arms, the first being the baseline: the gravest first."""
    if not cases:
        return []
    order = ("invalid", "warning", "note")
    found = [finding for check in CHECKS for finding in check(cases)]
    return sorted(found, key=lambda finding: order.index(finding.severity))

"""Speculative decoding: drafts that are rare, never accepted, or longer than asked."""

from collections.abc import Iterable

import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.core.spec import Arm
from inferometer.metrics import trial_columns

_WITHOUT_MODEL = ("ngram", "n-gram", "lookup", "prompt_lookup", "suffix")


def drafts_by_model(arm: Arm) -> bool:
    """Whether a draft model proposes the tokens; False for n-gram speculation, by the arm's words."""
    words = " ".join((*arm.args, *arm.command)).lower()
    return arm.draft is not None or not any(word in words for word in _WITHOUT_MODEL)


@for_each_arm
def drafts(case: ArmTrials) -> Iterable[Finding]:
    """What was drafted and accepted, over all requests and steps."""
    requests = drafting = 0
    drafted = kept = steps = 0.0
    for trial in case.done:
        decoded, drafts = trial_columns.decoded(trial), trial_columns.drafted(trial)
        of_step = np.isin(drafts.positions, decoded.positions) & (drafts.values > 0)
        accepted = trial_columns.accepted(trial)
        requests, drafting = requests + len(decoded.values), drafting + int(of_step.sum())
        drafted += float(drafts.values[of_step].sum())
        kept += float(accepted.values[np.isin(accepted.positions, drafts.positions[of_step])].sum())
        steps += float(trial_columns.steps(trial).values.sum())
    if not drafting:
        return
    if kept == 0:
        yield case.finding(
            "warning",
            "draft-never-accepted",
            f"0 of {drafted:.0f} drafted tokens were accepted: drafting only costs time.",
            "The draft does not fit the model or the prompts: check its vocabulary and family.",
        )
    elif drafting <= thresholds.DRAFT_RARE_SHARE * requests:
        yield case.finding(
            "warning" if drafts_by_model(case.arm) else "note",
            "draft-rare",
            f"only {drafting} of {requests} requests drafted anything; its rows cover all requests.",
            "Check that each request may draft (`n_min`, `p_min`, a full KV cache)."
            if drafts_by_model(case.arm)
            else "",
        )
    yield from _lengths(case, requests, drafting, drafted, steps, kept)


def _lengths(
    case: ArmTrials, requests: int, drafting: int, drafted: float, steps: float, kept: float
) -> Iterable[Finding]:
    """The mean length of a draft, where the engine's log counts drafts; else its least possible length, from steps.

    The last step of a request may be missing from the steps, because the limit cuts it off: one is added for each.
    """
    facts = [{fact.name: fact.value for fact in trial.trial.facts} for trial in case.done]
    counts = [
        (float(one[quantities.SPEC_LOG_DRAFTS]), float(one[quantities.SPEC_LOG_DRAFTED_TOKENS]))
        for one in facts
        if quantities.SPEC_LOG_DRAFTS in one and quantities.SPEC_LOG_DRAFTED_TOKENS in one
    ]
    number, tokens = (sum(column) for column in zip(*counts, strict=True)) if counts else (0.0, 0.0)
    mean = tokens / number if number else None
    most = None if case.arm.draft is None else case.arm.draft.n_max
    least = drafted / (steps + requests) if mean is None else mean
    if most is not None and least > most:
        at_least = "at least " if mean is None else ""
        yield case.finding(
            "warning",
            "drafts-too-long",
            f"its drafts have {at_least}{least:.3g} tokens on average, but `n_max` is {most}.",
            "The build may not read this setting: check its --help, and the engine's log.",
        )
    if not drafts_by_model(case.arm) and steps > 0:
        length = "" if mean is None else f", {number:.0f} drafts of {mean:.3g} tokens on average"
        yield case.finding(
            "note",
            "drafts-without-model",
            f"drafts come from the text itself: {drafted:.0f} tokens in {drafting} requests{length}, "
            f"{kept / steps:.2f} accepted per step over all steps. The formula for draft models does not apply.",
            "",
        )

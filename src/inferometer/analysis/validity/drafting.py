"""Speculative decoding: drafts that are rare, never accepted, or longer than asked."""

from collections.abc import Iterable, Sequence, Sized

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.core.spec import Arm
from inferometer.metrics import trial_columns
from inferometer.metrics.measures import TrialView

_WITHOUT_MODEL = ("ngram", "n-gram", "lookup", "prompt_lookup", "suffix")


def drafts_by_model(arm: Arm) -> bool:
    """Whether a draft model proposes the tokens; False for n-gram speculation, by the arm's words."""
    words = " ".join((*arm.args, *arm.command)).lower()
    return arm.draft is not None or not any(word in words for word in _WITHOUT_MODEL)


class _Drafting(msgspec.Struct, frozen=True):
    """What requests drafted: their number, those that drafted, tokens drafted and accepted, steps."""

    requests: int
    drafting: int
    drafted: float
    kept: float
    steps: float

    @property
    def is_rare(self) -> bool:
        return self.drafting <= thresholds.DRAFT_RARE_SHARE * self.requests


def _drafting(trial: TrialView) -> _Drafting:
    decoded, drafts = trial_columns.decoded(trial), trial_columns.drafted(trial)
    of_step = np.isin(drafts.positions, decoded.positions) & (drafts.values > 0)
    accepted = trial_columns.accepted(trial)
    return _Drafting(
        requests=len(decoded.values),
        drafting=int(of_step.sum()),
        drafted=float(drafts.values[of_step].sum()),
        kept=float(accepted.values[np.isin(accepted.positions, drafts.positions[of_step])].sum()),
        steps=float(trial_columns.steps(trial).values.sum()),
    )


@for_each_arm
def drafts(case: ArmTrials) -> Iterable[Finding]:
    """What was drafted and accepted, over all requests and steps, and in each trial."""
    by_trial = {trial.trial.number: _drafting(trial) for trial in case.done}
    tuples = [msgspec.structs.astuple(one) for one in by_trial.values()]
    whole = _Drafting(*map(sum, zip(*tuples, strict=True))) if tuples else None
    if whole is None or not whole.drafting:
        return
    none = [number for number, one in by_trial.items() if not one.drafting]
    unkept = [number for number, one in by_trial.items() if not one.kept and (not whole.kept or not one.is_rare)]
    if unkept:
        drafted = sum(by_trial[number].drafted for number in unkept)
        yield case.finding(
            "warning",
            "draft-never-accepted",
            f"0 of {drafted:.0f} drafted tokens were accepted{_in_trials(unkept, by_trial)}: drafting only costs time.",
            "The draft does not fit the model or the prompts: check its vocabulary and family.",
        )
    elif none or whole.is_rare:
        nothing = f" and none{_in_trials(none, by_trial)}" if none else ""
        yield case.finding(
            "warning" if drafts_by_model(case.arm) else "note",
            "draft-rare",
            f"only {whole.drafting} of {whole.requests} requests drafted anything{nothing}; its rows cover all "
            "requests.",
            "Check that each request may draft (`n_min`, `p_min`, a full KV cache)."
            if drafts_by_model(case.arm)
            else "",
        )
    yield from _lengths(case, whole)


def _in_trials(some: Sequence[int], every: Sized) -> str:
    """The trials by number; "" for all of them."""
    return f" in trial {', '.join(map(str, some))}" if len(some) < len(every) else ""


def _lengths(case: ArmTrials, whole: _Drafting) -> Iterable[Finding]:
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
    least = whole.drafted / (whole.steps + whole.requests) if mean is None else mean
    if most is not None and least > most:
        at_least = "at least " if mean is None else ""
        yield case.finding(
            "warning",
            "drafts-too-long",
            f"its drafts have {at_least}{least:.3g} tokens on average, but `n_max` is {most}.",
            "The build may not read this setting: check its --help, and the engine's log.",
        )
    if not drafts_by_model(case.arm) and whole.steps > 0:
        length = "" if mean is None else f", {number:.0f} drafts of {mean:.3g} tokens on average"
        yield case.finding(
            "note",
            "drafts-without-model",
            f"drafts come from the text itself: {whole.drafted:.0f} tokens in {whole.drafting} requests{length}, "
            f"{whole.kept / whole.steps:.2f} accepted per step over all steps. The formula for draft models does not "
            "apply.",
            "",
        )

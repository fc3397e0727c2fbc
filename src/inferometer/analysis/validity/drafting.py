"""Speculative decoding: drafts that are rare, never accepted, or longer than asked."""

from collections.abc import Iterable

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.core.spec import Arm
from inferometer.metrics import acceptance

_WITHOUT_MODEL = ("ngram", "n-gram", "lookup", "prompt_lookup", "suffix")


def drafts_by_model(arm: Arm) -> bool:
    """Whether a draft model proposes the tokens; False for n-gram speculation, by the arm's words."""
    words = " ".join((*arm.args, *arm.command)).lower()
    return arm.draft is not None or not any(word in words for word in _WITHOUT_MODEL)


@for_each_arm
def drafts(case: ArmTrials) -> Iterable[Finding]:
    """What was drafted and accepted, over all requests and steps."""
    requests = [request for trial in case.done for request in trial.requests if acceptance.decoded(request)]
    drafting = [request for request in requests if sum(acceptance.drafted(request)) > 0]
    if not drafting:
        return
    drafted, kept = (sum(sum(count(r)) for r in drafting) for count in (acceptance.drafted, acceptance.accepted))
    if kept == 0:
        yield case.finding(
            "warning",
            "draft-never-accepted",
            f"0 of {drafted:.0f} drafted tokens were accepted: drafting only costs time.",
            "The draft does not fit the model or the prompts: check its vocabulary and family.",
        )
    elif len(drafting) <= thresholds.DRAFT_RARE_SHARE * len(requests):
        yield case.finding(
            "warning" if drafts_by_model(case.arm) else "note",
            "draft-rare",
            f"only {len(drafting)} of {len(requests)} requests drafted anything; its rows cover all requests.",
            "Check that each request may draft (`n_min`, `p_min`, a full KV cache)."
            if drafts_by_model(case.arm)
            else "",
        )
    yield from _lengths(case, len(drafting), drafted, sum(sum(acceptance.steps(request)) for request in requests), kept)


def _lengths(case: ArmTrials, drafting: int, drafted: float, steps: float, kept: float) -> Iterable[Finding]:
    """The mean length of a draft, where the engine's log counts drafts."""
    facts = [{fact.name: fact.value for fact in trial.trial.facts} for trial in case.done]
    counts = [
        (float(one[quantities.SPEC_LOG_DRAFTS]), float(one[quantities.SPEC_LOG_DRAFTED_TOKENS]))
        for one in facts
        if quantities.SPEC_LOG_DRAFTS in one and quantities.SPEC_LOG_DRAFTED_TOKENS in one
    ]
    number, tokens = (sum(column) for column in zip(*counts, strict=True)) if counts else (0.0, 0.0)
    mean = tokens / number if number else None
    most = None if case.arm.draft is None else case.arm.draft.n_max
    if mean is not None and most is not None and mean > most:
        yield case.finding(
            "warning",
            "drafts-too-long",
            f"its drafts have {mean:.3g} tokens on average, but `n_max` is {most}.",
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

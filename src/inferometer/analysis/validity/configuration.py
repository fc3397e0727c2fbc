"""Did the arm do what it says? Its draft, its flash attention, its layers on the GPU, its model."""

from collections import Counter
from collections.abc import Iterable

from inferometer.analysis.validity.arm_trials import ArmTrials, each
from inferometer.core.record import Finding
from inferometer.metrics import acceptance
from inferometer.metrics.measures import TrialView
from inferometer.metrics.trial_measures import drafted_tokens


@each
def draft_not_used(case: ArmTrials) -> Iterable[Finding]:
    asked = case.arm.draft is not None or any(_fact(trial, "asked_draft") == "on" for trial in case.trials)
    trials = [trial for trial in case.done if trial.timings]
    if not asked or not trials:
        return
    used = [_draft_used(trial) for trial in trials]
    if False in used:
        where = f"in {used.count(False)} of {len(trials)} trials"
        yield case.finding(
            "invalid",
            "draft-not-used",
            f"a draft was asked for, and the engine reports no drafted token {where}.",
            "Today's llama-server ignores -md without --spec-type: see the engine's log and its --help.",
        )
    elif None in used:
        where = f"in {used.count(None)} of {len(trials)} trials"
        yield case.finding(
            "warning",
            "draft-unknown",
            f"a draft was asked for, and the engine tells nothing of drafting {where}: was it used?",
            "Let the engine publish its counters (/metrics), or its timings.",
        )


def _draft_used(trial: TrialView) -> bool | None:
    """By the engine's counts, else by what it says to be in force; None where it says nothing. Builds of 2024 count no
    drafted tokens in their answers, and say in their log that there is a draft."""
    drafted, counted = drafted_tokens(trial), acceptance.drafted_by_counter(trial)
    if drafted is not None or counted is not None:
        return bool(drafted or counted)
    in_force = _fact(trial, "in_force_draft")
    if in_force is not None:
        return in_force == "on"
    if any(request.record.timings is not None for request in trial.requests):
        return False  # these count drafted tokens where there are any
    return None


def _fact(trial: TrialView, name: str) -> str | None:
    return next((fact.value for fact in trial.trial.facts if fact.name == name), None)


@each
def settings_not_in_force(case: ArmTrials) -> Iterable[Finding]:
    """What was asked for and what is in force, as the engine knows its flags and its log."""
    for trial in case.done:
        facts = {fact.name: fact for fact in trial.trial.facts}
        asked, attention = _fact(trial, "asked_flash_attn"), facts.get("in_force_flash_attn")
        if asked is not None and attention is not None and attention.value != asked:
            yield case.finding(
                "invalid",
                "flash-attention",
                f"flash attention {asked} was asked for, and it is {attention.value} ({attention.source}).",
                "This build, model or device may not have it: see the engine's log.",
                trial.trial.number,
            )
        wanted, layers = _fact(trial, "asked_gpu_layers"), facts.get("in_force_gpu_layers")
        if wanted is not None and layers is not None and _is_fewer(layers.value, wanted):
            yield case.finding(
                "invalid",
                "gpu-layers",
                f"{wanted} layers were asked for on the GPU, and {layers.value} are there ({layers.source}).",
                "Is this build made for this GPU, and is there memory left? See the engine's log.",
                trial.trial.number,
            )


def _is_fewer(in_force: str, asked: str) -> bool:
    """Whether `24/25` layers are fewer than asked for: a number, or `all`."""
    on_gpu, _, total = in_force.partition("/")
    if not (on_gpu.isdecimal() and total.isdecimal()):
        return False
    least = int(asked) if asked.isdecimal() else int(total)
    return int(on_gpu) < min(least, int(total))


@each
def another_model(case: ArmTrials) -> Iterable[Finding]:
    named = Counter(
        request.record.model for trial in case.done for request in trial.requests if request.record.model is not None
    )
    if len(named) > 1:
        yield case.finding(
            "invalid",
            "another-model",
            f"answers came from several models: {', '.join(f'{name} ({n})' for name, n in named.most_common(3))}.",
            "Give each arm a server of its own, or the model's name in `model:`.",
        )
    elif named and case.arm.engine == "external" and case.arm.model and case.arm.model not in named:
        yield case.finding(
            "warning",
            "another-model",
            f"{case.arm.model} was asked for, and the answers name {next(iter(named))}.",
            "Many servers answer any name with the one model they have: make sure that it is the one you mean.",
        )

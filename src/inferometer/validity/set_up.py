"""Did the arm do what it says? Its draft, its flash attention, its layers on the GPU, its model."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from inferometer import acceptance, metrics
from inferometer.measures import TrialView
from inferometer.record import Finding
from inferometer.validity.case import Case, each

DRAFT_FLAGS = ("-md", "--model-draft", "--spec-draft-model", "-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf")
"""llama-server's flags that name a draft model, older builds' among them."""


@each
def draft_not_used(case: Case) -> Iterable[Finding]:
    asked = case.arm.draft is not None or asked_draft(case.arm.args) or any(t.trial.draft_asked for t in case.trials)
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
    drafted, counted = metrics.drafted_tokens(trial), acceptance.drafted_counted(trial)
    if drafted is not None or counted is not None:
        return bool(drafted or counted)
    in_force = next((fact.value for fact in trial.trial.facts if fact.name == "in_force_draft"), None)
    if in_force is not None:
        return in_force == "on"
    if any(request.record.timings is not None for request in trial.requests):
        return False  # these count drafted tokens where there are any
    return None


def asked_draft(args: Sequence[str]) -> bool:
    """Whether the arm's own flags name a draft model or a kind of speculation."""
    for word, following in zip_longest(args, args[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        if flag in DRAFT_FLAGS or (flag == "--spec-type" and (value or following) != "none"):
            return True
    return False


@each
def settings_not_in_force(case: Case) -> Iterable[Finding]:
    asked = asked_flash_attn(case.arm.args)
    for trial in case.done:
        facts = {fact.name: fact for fact in trial.trial.facts}
        attention = facts.get("in_force_flash_attn")
        if asked is not None and attention is not None and attention.value != asked:
            yield case.finding(
                "invalid",
                "flash-attention",
                f"flash attention {asked} was asked for, and it is {attention.value} ({attention.source}).",
                "This build, model or device may not have it: see the engine's log.",
                trial.trial.number,
            )
        layers = facts.get("in_force_gpu_layers")
        least = asked_gpu_layers(case.arm.args)
        if least is not None and layers is not None:
            on_gpu, _, total = layers.value.partition("/")
            if on_gpu.isdecimal() and total.isdecimal() and int(on_gpu) < min(least, int(total)):
                yield case.finding(
                    "invalid",
                    "gpu-layers",
                    f"{least} layers were asked for on the GPU, and {layers.value} are there ({layers.source}).",
                    "Is this build made for this GPU, and is there memory left? See the engine's log.",
                    trial.trial.number,
                )


def asked_flash_attn(args: Sequence[str]) -> str | None:
    """`on` or `off` by the arm's own flags, in all of llama.cpp's words for these; None where they leave it to the
    engine. A bare -fa, as builds of 2024 had it, means on."""
    asked = None
    for i, word in enumerate(args):
        flag, _, value = word.partition("=")
        if flag in ("-fa", "--flash-attn"):
            value = value or (args[i + 1] if i + 1 < len(args) else "")
            asked = None if value in ("auto", "-1") else "off" if value in ("off", "disabled", "false", "0") else "on"
    return asked


def asked_gpu_layers(args: Sequence[str]) -> int | None:
    """As the arm's own flags say; None where they say nothing or leave it to the engine."""
    asked = None
    for word, following in zip_longest(args, args[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        if flag in ("-ngl", "--gpu-layers", "--n-gpu-layers"):
            value = value or following
            asked = 10**6 if value in ("all", "-2") else int(value) if value.isdecimal() else None
    return asked


@each
def another_model(case: Case) -> Iterable[Finding]:
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

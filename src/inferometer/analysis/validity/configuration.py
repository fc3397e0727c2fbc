"""Checks that the engine did what the arm configures: draft, flash attention, GPU layers, model."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from inferometer.analysis.validity.arm_trials import ArmTrials, fact_of, for_each_arm
from inferometer.analysis.validity.drafting import drafts_by_model
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.metrics import acceptance
from inferometer.metrics.measures import TrialView
from inferometer.metrics.trial_measures import drafted_tokens


@for_each_arm
def draft_not_used(case: ArmTrials) -> Iterable[Finding]:
    """The arm configures a draft, and the engine did not use it or does not report whether it did."""
    requested = case.arm.draft is not None or any(
        fact_of(trial, quantities.REQUESTED_DRAFT) == "on" for trial in case.trials
    )
    trials = [trial for trial in case.done if trial.timing.timed.any()]
    if not requested or not trials:
        return
    used = [_draft_used(trial) for trial in trials]
    if False in used:
        yield _not_used(case, [trial for trial, is_used in zip(trials, used, strict=True) if is_used is False], trials)
    elif None in used:
        trial_count = f"{used.count(None)} of {len(trials)} trials"
        yield case.finding(
            "warning",
            "draft-unknown",
            f"it is unknown whether the draft was used: the engine reports nothing about drafting in {trial_count}.",
            "Enable the engine's counters (/metrics) or timings.",
        )


def _not_used(case: ArmTrials, unused: Sequence[TrialView], trials: Sequence[TrialView]) -> Finding:
    """Nothing was drafted. With n-gram speculation that the engine reports as on, no text repeated."""
    trial_count = f"{len(unused)} of {len(trials)} trials"
    by_model = drafts_by_model(case.arm)
    if not by_model and all(fact_of(trial, quantities.EFFECTIVE_DRAFT) == "on" for trial in unused):
        said = f"no request drafted anything in {trial_count}: n-gram speculation drafts where text repeats."
        return case.finding("note", "draft-rare", said, "")
    return case.finding(
        "invalid",
        "draft-not-used",
        f"the draft{' model' if by_model else ''} was not used: the engine reports no drafted token in {trial_count}.",
        "Recent llama-server builds ignore -md without --spec-type: check the engine's log and its --help."
        if by_model
        else "Check the engine's log, and whether the prompts repeat text: n-gram speculation drafts only there.",
    )


def _draft_used(trial: TrialView) -> bool | None:
    """By the engine's counts, else by the effective setting that it reports; None if it reports nothing. Builds of 2024
    do not count drafted tokens in their answers, but their log says that there is a draft."""
    drafted, counted = drafted_tokens(trial), acceptance.drafted_by_counter(trial)
    if drafted is not None or counted is not None:
        return bool(drafted or counted)
    effective = fact_of(trial, quantities.EFFECTIVE_DRAFT)
    if effective is not None:
        return effective == "on"
    if trial.records.has_timings.any():
        return False  # timings include drafted tokens if there are any
    return None


@for_each_arm
def settings_not_in_force(case: ArmTrials) -> Iterable[Finding]:
    """Requested and effective settings differ, by the engine's flags and its log."""
    for trial in case.done:
        facts = {fact.name: fact for fact in trial.trial.facts}
        requested, attention = (
            fact_of(trial, quantities.REQUESTED_FLASH_ATTN),
            facts.get(quantities.EFFECTIVE_FLASH_ATTN),
        )
        if requested is not None and attention is not None and attention.value != requested:
            yield case.finding(
                "invalid",
                "flash-attention",
                f"flash attention was set to {requested}, but it is {attention.value} ({attention.source}).",
                "The build, model or device may not support it: check the engine's log.",
                trial.trial.number,
            )
        requested, layers = fact_of(trial, quantities.REQUESTED_GPU_LAYERS), facts.get(quantities.EFFECTIVE_GPU_LAYERS)
        if requested is not None and layers is not None and _is_fewer(layers.value, requested):
            yield case.finding(
                "invalid",
                "gpu-layers",
                f"only {layers.value} layers are on the GPU, but {requested} were requested ({layers.source}).",
                "Check that the build supports this GPU and that its memory suffices: see the engine's log.",
                trial.trial.number,
            )


@for_each_arm
def model_changed(case: ArmTrials) -> Iterable[Finding]:
    """The model's or the draft's file was another one in a later trial."""
    for what, names in _FILES.items():
        by_trial = [_values(trial, names) for trial in case.done]
        known = [values for values in by_trial if values]
        if len({tuple(sorted(values.items())) for values in known}) > 1:
            changed = [name for name in names if len({values.get(name) for values in known}) > 1]
            only_time = all(name.endswith("changed_ns") for name in changed)
            yield case.finding(
                "warning" if only_time else "invalid",
                "model-changed",
                f"the file of its {what} changed between trials ({', '.join(changed)})"
                + (": it was written again, with the same size and samples." if only_time else "."),
                "Leave model files alone while a study runs, and measure again.",
            )


_FILES = {
    "model": (
        quantities.MODEL_BYTES, quantities.MODEL_CHANGED_NS, quantities.MODEL_HEAD_SHA256,
        quantities.MODEL_SAMPLES_SHA256,
    ),
    "draft": (
        quantities.DRAFT_BYTES, quantities.DRAFT_CHANGED_NS, quantities.DRAFT_HEAD_SHA256,
        quantities.DRAFT_SAMPLES_SHA256,
    ),
}  # fmt: skip


def _values(trial: TrialView, names: Iterable[str]) -> dict[str, str]:
    return {name: value for name in names if (value := fact_of(trial, name)) is not None}


def _is_fewer(effective: str, requested: str) -> bool:
    """Whether effective layers such as `24/25` are fewer than requested: a number, or `all`."""
    on_gpu, _, total = effective.partition("/")
    if not (on_gpu.isdecimal() and total.isdecimal()):
        return False
    minimum = int(requested) if requested.isdecimal() else int(total)
    return int(on_gpu) < min(minimum, int(total))


@for_each_arm
def another_model(case: ArmTrials) -> Iterable[Finding]:
    """Answers that name several models, or another model than the arm configures."""
    named: Counter[str] = Counter()
    for trial in case.done:
        found = trial.records.models.counted(np.ones(trial.size, np.bool_))
        named.update({name: count for name, count in found.items() if name is not None})
    if len(named) > 1:
        yield case.finding(
            "invalid",
            "another-model",
            f"answers came from several models: {', '.join(f'{name} ({n})' for name, n in named.most_common(3))}.",
            "Use a separate server for each arm, or set `model:` to the model's name.",
        )
    elif named and case.arm.runs_already and case.arm.model and case.arm.model not in named:
        yield case.finding(
            "warning",
            "another-model",
            f"the arm requests {case.arm.model}, but the answers name {next(iter(named))}.",
            "Many servers answer every name with their only model: check that it is the model you mean.",
        )

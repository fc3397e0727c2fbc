"""Acceptance of draft tokens by prompt, and by task and language of the prompts."""

from collections.abc import Sequence

import msgspec
import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.metrics import acceptance, trial_columns
from inferometer.metrics.measures import TrialView
from inferometer.report.page.request_keys import Key, request_keys


class PromptAcceptance(msgspec.Struct, frozen=True):
    """Draft tokens of one prompt, summed over the arm's completed trials."""

    id: str
    drafted: int
    accepted: int
    tags: dict[str, str] = {}

    @property
    def percent(self) -> float:
        return 100 * self.accepted / self.drafted


class PromptGroup(msgspec.Struct, frozen=True):
    """Prompts with the same value `name` of the tag `by`; `by` is "" for all prompts. `percent` counts all their tokens
    together, so that a long answer weighs more."""

    by: str
    name: str
    prompts: tuple[PromptAcceptance, ...]

    @property
    def percent(self) -> float:
        return 100 * sum(one.accepted for one in self.prompts) / sum(one.drafted for one in self.prompts)


class ArmAcceptance(msgspec.Struct, frozen=True):
    """Acceptance of one arm with a draft. `total_percent`: from the engine's counters, if it reports nothing per
    request; then there are no groups."""

    arm: str
    groups: tuple[PromptGroup, ...]
    total_percent: float | None = None

    @property
    def prompts(self) -> tuple[PromptAcceptance, ...]:
        """All prompts, lowest acceptance first."""
        return tuple(sorted(self.groups[0].prompts, key=lambda one: (one.percent, one.id))) if self.groups else ()


def accepted(cases: Sequence[ArmTrials]) -> tuple[ArmAcceptance, ...]:
    """The acceptance of each arm that drafted tokens."""
    found: list[ArmAcceptance] = []
    for case in cases:
        prompts = _prompts(case)
        if prompts:
            found.append(ArmAcceptance(case.name, tuple(_groups(prompts))))
        else:
            totals = [total for trial in case.done if (total := _counted_tokens(trial)) is not None]
            if totals and (drafted := sum(proposed for proposed, _ in totals)):
                found.append(ArmAcceptance(case.name, (), 100 * sum(kept for _, kept in totals) / drafted))
    return tuple(found)


def _prompts(case: ArmTrials) -> list[PromptAcceptance]:
    known = request_keys(case)
    found: dict[Key, PromptAcceptance] = {}
    for trial in case.done:
        drafts, accepted = trial_columns.verified(trial), np.zeros(trial.size)
        of_drafts = trial_columns.accepted(trial)
        accepted[of_drafts.positions] = of_drafts.values
        for place, drafted in zip(drafts.positions.tolist(), drafts.values.tolist(), strict=True):
            index, kept = int(trial.index[place]), accepted[place]
            key = known.get(index)
            if key is None or not drafted:
                continue
            asked = case.requests.get(index)
            name = trial.records.request_ids[int(place)]
            before = found.get(key, PromptAcceptance(name, 0, 0, asked.tags if asked else {}))
            found[key] = msgspec.structs.replace(
                before, drafted=before.drafted + int(drafted), accepted=before.accepted + int(kept)
            )
    return list(found.values())


def _groups(prompts: Sequence[PromptAcceptance]) -> list[PromptGroup]:
    """All prompts, then the groups of each tag, highest acceptance first."""
    groups = [PromptGroup("", "all prompts", tuple(prompts))]
    tags = dict.fromkeys(tag for prompt in prompts for tag in prompt.tags)
    for tag in sorted(tags, key=lambda tag: ("task", "language").index(tag) if tag in ("task", "language") else 2):
        values = dict.fromkeys(prompt.tags[tag] for prompt in prompts if tag in prompt.tags)
        own = [PromptGroup(tag, value, tuple(p for p in prompts if p.tags.get(tag) == value)) for value in values]
        groups += sorted(own, key=lambda group: -group.percent)
    return groups


def _counted_tokens(trial: TrialView) -> tuple[float, float] | None:
    drafted, kept = acceptance.drafted_by_counter(trial), acceptance.accepted_by_counter(trial)
    return None if not drafted or kept is None else (drafted, kept)

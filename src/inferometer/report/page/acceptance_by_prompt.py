"""What share of its drafted tokens did each prompt accept, and each task and language of prompts?"""

from collections.abc import Sequence

import msgspec

from inferometer.analysis.validity import ArmTrials
from inferometer.metrics import acceptance
from inferometer.metrics.measures import TrialView
from inferometer.report.page.same_requests import Key, keys


class Prompt(msgspec.Struct, frozen=True):
    """One prompt over the arm's done trials."""

    id: str
    drafted: int
    accepted: int
    tags: dict[str, str] = {}

    @property
    def percent(self) -> float:
        return 100 * self.accepted / self.drafted


class Group(msgspec.Struct, frozen=True):
    """Prompts of a kind: `by` is "" for all of them, else the tag, and `name` its value. `percent` is of their tokens
    together, so that a long answer weighs more."""

    by: str
    name: str
    prompts: tuple[Prompt, ...]

    @property
    def percent(self) -> float:
        return 100 * sum(one.accepted for one in self.prompts) / sum(one.drafted for one in self.prompts)


class Accepted(msgspec.Struct, frozen=True):
    """One arm that drafts. `total_percent`: by the engine's own counters, where it tells nothing of each request; then
    there are no groups."""

    arm: str
    groups: tuple[Group, ...]
    total_percent: float | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All, the least accepted first."""
        return tuple(sorted(self.groups[0].prompts, key=lambda one: (one.percent, one.id))) if self.groups else ()


def accepted(cases: Sequence[ArmTrials]) -> tuple[Accepted, ...]:
    """Of each arm that drafted anything."""
    found: list[Accepted] = []
    for case in cases:
        prompts = _prompts(case)
        if prompts:
            found.append(Accepted(case.name, tuple(_groups(prompts))))
        else:
            totals = [total for trial in case.done if (total := _counted(trial)) is not None]
            if totals and (drafted := sum(proposed for proposed, _ in totals)):
                found.append(Accepted(case.name, (), 100 * sum(kept for _, kept in totals) / drafted))
    return tuple(found)


def _prompts(case: ArmTrials) -> list[Prompt]:
    known = keys(case)
    found: dict[Key, Prompt] = {}
    for trial in case.done:
        for request in trial.requests:
            key = known.get(request.record.index)
            drafted, kept = sum(acceptance.drafted(request)), sum(acceptance.accepted(request))
            if key is None or not drafted:
                continue
            asked = case.requests.get(request.record.index)
            before = found.get(key, Prompt(request.record.request_id, 0, 0, asked.tags if asked else {}))
            found[key] = msgspec.structs.replace(
                before, drafted=before.drafted + int(drafted), accepted=before.accepted + int(kept)
            )
    return list(found.values())


def _groups(prompts: Sequence[Prompt]) -> list[Group]:
    """All, then by each tag that tells some prompts from others, the most accepted first."""
    groups = [Group("", "all prompts", tuple(prompts))]
    tags = dict.fromkeys(tag for prompt in prompts for tag in prompt.tags)
    for tag in sorted(tags, key=lambda tag: ("task", "language").index(tag) if tag in ("task", "language") else 2):
        values = dict.fromkeys(prompt.tags[tag] for prompt in prompts if tag in prompt.tags)
        own = [Group(tag, value, tuple(p for p in prompts if p.tags.get(tag) == value)) for value in values]
        groups += sorted(own, key=lambda group: -group.percent)
    return groups


def _counted(trial: TrialView) -> tuple[float, float] | None:
    drafted, kept = acceptance.drafted_by_counter(trial), acceptance.accepted_by_counter(trial)
    return None if not drafted or kept is None else (drafted, kept)

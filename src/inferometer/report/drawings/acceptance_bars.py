"""Pictures of accepted draft tokens: by group of prompts, and by prompt."""

from collections.abc import Sequence

from inferometer.base.units import percent_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH, scatter
from inferometer.report.page.acceptance_by_prompt import ArmAcceptance, PromptGroup
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    line,
    mark,
    rect,
    scale,
    shortened,
    text,
)


def acceptance_by_group(found: ArmAcceptance, arms: Sequence[str]) -> Drawing:
    """All prompts, then each task and language: a dot per prompt, and a stroke for all tokens of the group together."""
    arm = arms.index(found.arm)
    left, row, top = 148.0, 24.0, 6.0
    heights = [top]
    for before, group in zip([None, *found.groups], found.groups, strict=False):
        heights.append(heights[-1] + row + (18 if before is not None and before.by != group.by else 0))
    bottom = heights[-1] + 4
    along = scale(0, 100, left, WIDTH - 84)
    parts = bottom_axis(along, top, bottom, "% of the drafted tokens accepted", WIDTH)
    for y, group, before in zip(heights[1:], found.groups, [None, *found.groups], strict=False):
        if before is not None and before.by != group.by:
            parts.append(text(EDGE, y - row - 1, f"by {group.by}", classes="dim"))
        parts += _group(group, along, y - 8, arm)
    summary = ", ".join(f"{group.name} {percent_text(group.percent)}%" for group in found.groups)
    alt = f"Share of drafted tokens that {found.arm} accepted, by kind of prompt: {summary}."
    head = ("Prompts", "kind", "n", "drafted", "accepted", "accepted (%)")
    rows = [
        (
            group.by or "all", group.name, str(len(group.prompts)), str(sum(one.drafted for one in group.prompts)),
            str(sum(one.accepted for one in group.prompts)), percent_text(group.percent),
        )
        for group in found.groups
    ]  # fmt: skip
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _group(group: PromptGroup, along: Scale, y: float, arm: int) -> list[str]:
    parts = [text(EDGE, y + 4, shortened(group.name, 18), classes="ink" if group.by else "strong")]
    points = sorted(group.prompts, key=lambda one: one.percent)[:200]
    for place, one in enumerate(points):
        y_px, words = y + scatter(place, len(points)) * 0.4, f"{one.id}: {percent_text(one.percent)}%"
        parts.append(mark(along(one.percent), y_px, arm, 2.6, "faint", words))
    words = f"{group.name}, all tokens: {percent_text(group.percent)}%"
    parts.append(line(along(group.percent), y - 9, along(group.percent), y + 9, "interval", words))
    parts.append(text(WIDTH - 2, y + 4, f"{group.percent:.0f}% n {len(group.prompts)}", classes="dim", anchor="end"))
    return parts


MOST_PROMPTS = 24


def acceptance_by_prompt(found: ArmAcceptance, arms: Sequence[str]) -> Drawing:
    """Each prompt's share as a bar, lowest first; of many prompts only the lowest and the highest."""
    arm = arms.index(found.arm)
    prompts = list(found.prompts)
    shown = prompts if len(prompts) <= MOST_PROMPTS else [*prompts[: MOST_PROMPTS // 2], *prompts[-MOST_PROMPTS // 2 :]]
    left, row, top = 172.0, 19.0, 4.0
    bottom = top + row * len(shown) + 4
    along = scale(0, 100, left, WIDTH - 44)
    parts = bottom_axis(along, top, bottom, "% of the drafted tokens accepted", WIDTH)
    for place, one in enumerate(shown):
        y = top + row * place
        parts.append(text(EDGE, y + 14, shortened(one.id, 22)))
        parts.append(
            rect(
                along(0),
                y + 4,
                along(one.percent) - along(0),
                11,
                f"fill-{arm % PALETTE} faint",
                (f"{one.id}: {one.accepted} of {one.drafted} tokens, {percent_text(one.percent)}%"),
            )
        )
        parts.append(text(along(one.percent) + 5, y + 14, f"{one.percent:.0f}%", classes="dim"))
    left_out = len(prompts) - len(shown)
    among = f", the {len(shown) // 2} lowest and the {len(shown) // 2} highest of {len(prompts)}" if left_out else ""
    alt = f"Share of drafted tokens that {found.arm} accepted, prompt by prompt{among}."
    if prompts:
        alt += f" From {percent_text(prompts[0].percent)}% ({prompts[0].id}) to {percent_text(prompts[-1].percent)}%."
    head = ("Prompt", "language", "task", "drafted", "accepted", "accepted (%)")
    rows = [
        (one.id, one.tags.get("language", ""), one.tags.get("task", ""), str(one.drafted), str(one.accepted),
         percent_text(one.percent))
        for one in prompts[:200]
    ]  # fmt: skip
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])

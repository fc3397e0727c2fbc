"""How are acceptance, one metric, and memory by phase drawn? As bars and dots, an arm or a prompt each."""

from collections.abc import Sequence

from inferometer.analysis.comparison import Comparison, ComparisonRow
from inferometer.base.units import percent_text, ratio_text, value_text
from inferometer.report.drawings.marks import EDGE, WIDTH, interval, interval_text, scatter
from inferometer.report.page.acceptance_by_prompt import Accepted, Group
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    legend,
    line,
    mark,
    rect,
    scale,
    shortened,
    text,
)

# --- acceptance -----------------------------------------------------------------------------------


def by_group(found: Accepted, arms: Sequence[str]) -> Drawing:
    """All prompts, then each task and each language: every prompt's acceptance, and the group's over its tokens."""
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
    said = ", ".join(f"{group.name} {percent_text(group.percent)}%" for group in found.groups)
    alt = f"Share of drafted tokens that {found.arm} accepted, by kind of prompt: {said}."
    head = ("Prompts", "kind", "n", "drafted", "accepted", "accepted (%)")
    rows = [
        (
            group.by or "all", group.name, str(len(group.prompts)), str(sum(one.drafted for one in group.prompts)),
            str(sum(one.accepted for one in group.prompts)), percent_text(group.percent),
        )
        for group in found.groups
    ]  # fmt: skip
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _group(group: Group, along: Scale, y: float, arm: int) -> list[str]:
    parts = [text(EDGE, y + 4, shortened(group.name, 18), classes="ink" if group.by else "strong")]
    points = sorted(one.percent for one in group.prompts)[:200]
    for place, value in enumerate(points):
        parts.append(mark(along(value), y + scatter(place, len(points)) * 0.4, arm, 2.6, "faint"))
    parts.append(line(along(group.percent), y - 9, along(group.percent), y + 9, "interval"))
    parts.append(text(WIDTH - 2, y + 4, f"{group.percent:.0f}% n {len(group.prompts)}", classes="dim", anchor="end"))
    return parts


MOST_PROMPTS = 24


def by_prompt(found: Accepted, arms: Sequence[str]) -> Drawing:
    """Each prompt's share as a bar, the least accepted first; of many the lowest and the highest."""
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
        parts.append(rect(along(0), y + 4, along(one.percent) - along(0), 11, f"fill-{arm % PALETTE} faint"))
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


# --- one metric -----------------------------------------------------------------------------------


def bars(row: ComparisonRow, comparison: Comparison) -> Drawing:
    """Each arm's value of one metric as a bar with its interval, and below it what that is of the first arm's."""
    width, lane, top = 720.0, 64.0, 2.0
    bottom = top + lane * len(comparison.arms)
    known = [value for one in row.estimates.values() for value in (one.value, one.high) if value is not None]
    along = scale(0, max([*known, 1e-9]) * 1.02, EDGE, width - EDGE)
    parts = bottom_axis(along, top, bottom, row.label, width)
    baseline = comparison.arms[0]
    for place, arm in enumerate(comparison.arms):
        parts += _bar(row, arm, baseline, along, top + lane * place, place, width)
    rows = [(arm, *map(str, _bar_words(row, arm, baseline))) for arm in comparison.arms]
    said = "; ".join(" ".join(part for part in words if part) for words in rows)
    alt = f"{row.label} of each arm. {said}. {_caption(row, comparison)}"
    parts.append(text(EDGE, bottom + 52, _caption(row, comparison), classes="dim"))
    return drawing(width, bottom + 60, parts, alt, [("Arm", row.label, "against the first"), *rows])


def _bar(row: ComparisonRow, arm: str, baseline: str, along: Scale, y: float, place: int, width: float) -> list[str]:
    estimate = row.estimates[arm]
    value, against = _bar_words(row, arm, baseline)
    parts = [text(EDGE, y + 16, shortened(arm, 44), classes="strong", more=value)]
    parts.append(text(width - EDGE, y + 16, against, classes="dim", anchor="end"))
    if estimate.value is not None:
        parts.append(rect(along(0), y + 26, along(estimate.value) - along(0), 26, f"fill-{place % PALETTE} faint"))
        if estimate.low is not None and estimate.high is not None:
            parts += interval(along, estimate.low, estimate.high, y + 39)
    return parts


def _bar_words(row: ComparisonRow, arm: str, baseline: str) -> tuple[str, str]:
    estimate = row.estimates[arm]
    value = "no value" if estimate.value is None else f"{value_text(estimate.value, row.unit)} {row.unit}"
    if arm == baseline:
        return value, ""
    found = row.against(baseline, arm)
    if found.ratio is None:
        return value, "" if estimate.value is None else found.reason
    return value, " ".join(part for part in (ratio_text(found.ratio), interval_text(found), found.verdict) if part)


def _caption(row: ComparisonRow, comparison: Comparison) -> str:
    counts = sorted(set(comparison.trials.values()))
    trials = f"{counts[0]} trials an arm" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials an arm"
    found = row.differences[0] if row.differences else None
    basis = f"; 95% intervals cover other {found.basis}" if found and found.basis else ""
    held = " Not valid: see the report." if comparison.invalid else ""
    return f"{trials}{basis}.{held}"


# --- memory ---------------------------------------------------------------------------------------


def memory(comparison: Comparison) -> Drawing | None:
    """The peak in each phase, every arm's bar below the other; None where memory is not known."""
    rows = [row for row in comparison.rows if row.unit == "GiB" and any(row.n.values())]
    values = [value for row in rows for value in row.values.values() if value is not None]
    if not values:
        return None
    arms = comparison.arms
    names, top = legend([(arm, i) for i, arm in enumerate(arms)], WIDTH)
    bar, head = 16.0, 22.0
    bottom = top + len(rows) * (head + bar * len(arms) + 6)
    along = scale(0, max(values) * 1.02, EDGE, WIDTH - 76)
    parts = [*names, *bottom_axis(along, top, bottom, "GiB, highest in the phase, mean over trials", WIDTH)]
    y = top
    for row in rows:
        parts.append(text(EDGE, y + 15, row.label.partition(" (")[0], classes="strong"))
        y += head
        for i, arm in enumerate(arms):
            value = row.values[arm]
            if value is None:
                parts.append(text(EDGE + 4, y + 12, "not known", classes="dim"))
            else:
                parts.append(rect(along(0), y + 1, along(value) - along(0), 12, f"fill-{i % PALETTE} faint"))
                parts.append(mark(along(value), y + 7, i))
                parts.append(text(along(value) + 8, y + 12, f"{value_text(value, 'GiB')} GiB", classes="dim"))
            y += bar
        y += 6
    table = [(row.label.partition(" (")[0], *(value_text(row.values[arm], "GiB") for arm in arms)) for row in rows]
    said = "; ".join(
        f"{line[0]}: " + ", ".join(f"{arm} {value}" for arm, value in zip(arms, line[1:], strict=True))
        for line in table
    )
    alt = f"Memory in each phase, GiB. {said}."
    return drawing(WIDTH, bottom + 38, parts, alt, [("Phase (GiB)", *arms), *table])

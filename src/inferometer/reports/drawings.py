"""How is each picture of the page drawn? One function a picture: numbers in, SVG with its words and its table out."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import fmean, median

from inferometer.compare import Comparison, Difference, Row
from inferometer.page.accepted import Accepted, Group
from inferometer.page.distribution import Distribution, Ratios, Shape
from inferometer.page.over_time import Curve, Quantity
from inferometer.page.token_times import Lane, Timeline
from inferometer.reports.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    legend,
    line,
    mark,
    path,
    px,
    rect,
    scale,
    shortened,
    text,
)
from inferometer.units import percent_text, ratio_text, three_digits_text, tick_text, value_text

WIDTH = 460
"""Of a picture that stands beside another on a screen, and alone on a phone."""
EDGE = 12


# --- distributions --------------------------------------------------------------------------------


def shapes(found: Distribution, arms: Sequence[str]) -> Drawing:
    """Each arm's values on one axis: the shape of many, few as themselves, with median and middle half."""
    top = 4.0
    tops = list(accumulate((74.0 if shape.n else 28.0 for shape in found.shapes), initial=top))
    bottom = tops[-1]
    along = scale(found.edges[0], found.edges[-1], EDGE, WIDTH - EDGE, is_log=found.is_log)
    tallest = max((share for shape in found.shapes for share in shape.shares), default=0.0)
    axis = f"{found.unit}{', logarithmic' if found.is_log else ''}"
    parts = bottom_axis(along, top, bottom, axis, WIDTH)
    for y, shape in zip(tops, found.shapes, strict=False):
        parts += _shape(shape, found, along, y, tallest, arms.index(shape.arm))
    said = "; ".join(f"{shape.arm}: {_in_words(shape, found.unit)}" for shape in found.shapes)
    alt = f"{found.title} of each arm, {found.each}. {said}."
    head = ("Arm", "n", *(f"P{percent} ({found.unit})" for percent in (5, 25, 50, 75, 95, 99)))
    rows = [
        (shape.arm, str(shape.n), *(value_text(shape.quantiles.get(p), found.unit) for p in (5, 25, 50, 75, 95, 99)))
        for shape in found.shapes
    ]
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _in_words(shape: Shape, unit: str) -> str:
    if not shape.n:
        return "no values"
    low, middle, high = (three_digits_text(shape.quantiles[percent]) for percent in (5, 50, 95))
    if shape.n == 1:
        return f"{middle} {unit}, the only value"
    return f"median {middle} {unit}, nine in ten between {low} and {high}, n {shape.n}"


def _shape(shape: Shape, found: Distribution, along: Scale, top: float, tallest: float, arm: int) -> list[str]:
    parts = [text(EDGE, top + 14, shortened(shape.arm, 24), classes="strong")]
    parts.append(text(WIDTH - EDGE, top + 14, _short(shape, found.unit), classes="dim", anchor="end"))
    middle, half = top + 44, 20.0
    if shape.shares:
        heights = [half * (share / tallest) ** 0.5 if tallest else 0.0 for share in shape.shares]
        upper = [(along(edge), middle - height) for edge, height in _outline(found.edges, heights)]
        lower = [(along(edge), middle + height) for edge, height in _outline(found.edges, heights)]
        parts.append(path([*upper, *reversed(lower)], f"fill-{arm % PALETTE} shape", closed=True))
    for place, value in enumerate(shape.points):
        parts.append(mark(along(value), middle + _scatter(place, len(shape.points)), arm, 2.8, "faint"))
    if shape.estimate is not None and shape.estimate.low is not None and shape.estimate.high is not None:
        parts += _interval(along, shape.estimate.low, shape.estimate.high, middle + 20)
        if shape.estimate.value is not None:
            parts.append(_diamond(along(shape.estimate.value), middle + 20))
    elif shape.n > 1:
        low, quarter, mid, upper_quarter, high = (shape.quantiles[percent] for percent in (5, 25, 50, 75, 95))
        parts.append(line(along(low), middle, along(high), middle, f"line-{arm % PALETTE} dash-0"))
        parts.append(line(along(quarter), middle, along(upper_quarter), middle, f"line-{arm % PALETTE} thick"))
        parts.append(f'<circle class="middle" cx="{px(along(mid))}" cy="{px(middle)}" r="4"/>')
    return parts


def _short(shape: Shape, unit: str) -> str:
    if not shape.n:
        return "no values"
    if shape.estimate is not None and shape.estimate.value is not None:
        mean = f"mean {three_digits_text(shape.estimate.value)} {unit}"
        return f"{mean}, {shape.n} {'trial' if shape.n == 1 else 'trials'}"
    middle = three_digits_text(shape.quantiles[50])
    return f"median {middle} {unit}, P99 {three_digits_text(shape.quantiles[99])}, n {shape.n}"


def _outline(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    """The upper edge of a histogram, through its corners."""
    found = [(edges[0], 0.0)]
    for i, height in enumerate(heights):
        found += [(edges[i], height), (edges[i + 1], height)]
    return [*found, (edges[-1], 0.0)]


def _scatter(place: int, count: int) -> float:
    """So far beside its line stands the value of that rank: neighbours lie apart, always in the same way."""
    return 0.0 if count <= 3 else (((place * 7) % 11) - 5) * 2.6


# --- paired differences ---------------------------------------------------------------------------


def ratios(found: Distribution, arms: Sequence[str]) -> Drawing | None:
    """Each further arm by the first, pair by pair, and the comparison's own interval; None where there is no pair."""
    known = [one for one in found.ratios if one.n or (one.difference and one.difference.ratio is not None)]
    if not known:
        return None
    low, high = _ratio_range(known)
    along = scale(low, high, EDGE, WIDTH - EDGE, is_log=high / low > 3)
    lane, top = 74.0, 4.0
    bottom = top + lane * len(known)
    parts = bottom_axis(along, top, bottom, f"times {shortened(known[0].baseline, 24)}", WIDTH, suffix="×")
    left, right = ("faster", "slower") if found.better == "lower" else ("slower", "faster")
    parts.append(text(EDGE, bottom + 32, f"← {left}", classes="dim"))
    parts.append(text(WIDTH - EDGE, bottom + 32, f"{right} →", classes="dim", anchor="end"))
    parts.append(line(along(1), top, along(1), bottom, "one"))
    for place, one in enumerate(known):
        parts += _ratio_lane(one, along, top + lane * place, arms.index(one.arm))
    said = "; ".join(_ratio_words(one, found) for one in known)
    alt = f"{found.title}, pair by pair: each arm by {known[0].baseline}; {found.pair}. {said}."
    head = ("Arm", "by", "pairs", "of them below 1×", "lowest", "median", "highest", "in the table", "95% interval",
            "verdict")  # fmt: skip
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *map(_ratio_row, known)])


def _ratio_row(one: Ratios) -> tuple[str, ...]:
    found = one.difference
    ends = (one.points[0], median(one.points), one.points[-1]) if one.points else (None, None, None)
    told = (f"{one.label} {ratio_text(found.ratio)}", _interval_text(found), found.verdict) if found else ("", "", "")
    return (one.arm, one.baseline, str(one.n), str(one.below_1), *map(ratio_text, ends), *told)


def _ratio_range(known: Sequence[Ratios]) -> tuple[float, float]:
    """All points, 1, and the intervals as far as these reach at most three times as far (on a logarithm)."""
    points = [point for one in known for point in one.points if point > 0]
    ends = [end for one in known if one.difference for end in _ends(one.difference) or () if end > 0]
    values = [one.difference.ratio for one in known if one.difference and one.difference.ratio]
    low, high = min([*points, *values, 1.0]), max([*points, *values, 1.0])
    reach = max(high / low, 1.02) ** 1.5
    low, high = max(low / reach, min([low, *ends])), min(high * reach, max([high, *ends]))
    room = max((high / low) ** 0.06, 1.005)
    return low / room, high * room


def _ends(found: Difference) -> tuple[float, float] | None:
    if found.low_percent is None or found.high_percent is None:
        return None
    return 1 + found.low_percent / 100, 1 + found.high_percent / 100


def _ratio_lane(one: Ratios, along: Scale, top: float, arm: int) -> list[str]:
    difference = one.difference
    told = ""
    if difference is not None and difference.ratio is not None:
        verdict = "none shown" if difference.verdict == "no difference shown" else difference.verdict
        told = f"{ratio_text(difference.ratio)} {_interval_text(difference)} {verdict}".replace("  ", " ").strip()
    parts = [text(EDGE, top + 14, shortened(one.arm, 24), classes="strong")]
    parts.append(text(WIDTH - EDGE, top + 14, told or f"{one.n} pairs", classes="dim", anchor="end"))
    middle = top + 38
    for place, value in enumerate(one.points):
        parts.append(mark(along(value), middle + _scatter(place, len(one.points)) * 0.8, arm, 2.8, "faint"))
    if difference is not None and difference.ratio is not None:
        ends = _ends(difference)
        if ends:
            parts += _interval(along, *ends, top + 62)
        parts.append(_diamond(along(difference.ratio), top + 62))
    return parts


def _ratio_words(one: Ratios, found: Distribution) -> str:
    said = f"{one.arm}: {one.below_1} of {one.n} pairs are below 1" if one.n else f"{one.arm}: no pairs"
    if one.difference is None or one.difference.ratio is None:
        return said
    verdict = f", {one.difference.verdict}" if one.difference.verdict else ""
    return f"{said}; {one.label} {ratio_text(one.difference.ratio)} {_interval_text(one.difference)}{verdict}"


def _interval_text(found: Difference | None) -> str:
    ends = _ends(found) if found else None
    return f"[{ratio_text(ends[0])}, {ratio_text(ends[1])}]".replace("×", "") if ends else ""


def _interval(along: Scale, low: float, high: float, y: float) -> list[str]:
    """With end strokes, and an arrow where it goes on beyond the axis."""
    parts = [line(along(low), y, along(high), y, "interval")]
    for end, is_out, way in ((low, low < along.low, 1), (high, high > along.high, -1)):
        x = along(end)
        if is_out:
            parts.append(path([(x + 6 * way, y - 5), (x, y), (x + 6 * way, y + 5)], "interval"))
        else:
            parts.append(line(x, y - 5, x, y + 5, "interval"))
    return parts


def _diamond(x: float, y: float) -> str:
    return path([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)], "middle", closed=True)


# --- the arrivals of one request ------------------------------------------------------------------


def timeline(found: Timeline, arms: Sequence[str], width: float) -> Drawing:
    """Each arm's bursts as strokes, as tall as they brought tokens, over one axis of time; below, tokens so far."""
    ends = [lane.bursts[-1][0] for lane in found.lanes if lane.bursts]
    along = scale(0, max(ends, default=1.0), EDGE, width - EDGE)
    most = max((tokens for lane in found.lanes for _, tokens in lane.bursts), default=1.0)
    height, top = 76.0, 4.0
    bottom = top + height * len(found.lanes)
    graph = bottom + 128
    parts = bottom_axis(along, top, graph, "ms from sending", width)
    for place, lane in enumerate(found.lanes):
        parts += _lane(lane, along, top + height * place, most, arms.index(lane.arm), width)
    total = max((lane.tokens for lane in found.lanes), default=0.0) or 1.0
    up = scale(0, total, graph, bottom + 24)
    parts.append(text(EDGE, bottom + 14, f"tokens so far (up to {value_text(round(total), 'tok')})", classes="dim"))
    for lane in found.lanes:
        if lane.bursts:
            arm = arms.index(lane.arm)
            parts.append(path(_so_far(lane, along, up), f"line-{arm % PALETTE} dash-{arm % 4}"))
    said = "; ".join(f"{lane.arm}: {_lane_words(lane)}" for lane in found.lanes)
    alt = f"When the tokens of request {found.request} arrived, from its sending. {said}."
    head = ("Arm", "trial", "outcome", "tokens", "bursts", "first token (ms)", "last token (ms)", "median gap (ms)",
            "longest gap (ms)", "stalls", "in stalls (ms)")  # fmt: skip
    return drawing(width, graph + 38, parts, alt, [head, *map(_lane_row, found.lanes)])


def _lane(lane: Lane, along: Scale, top: float, most: float, arm: int, width: float) -> list[str]:
    name, told = shortened(lane.arm, 24), _lane_words(lane)
    if len(name) + len(told) > width / 6.6:
        told = told.partition("; ")[0]
    parts = [text(EDGE, top + 14, name, classes="strong")]
    parts.append(text(width - EDGE, top + 14, told, classes="dim", anchor="end"))
    base = top + 66
    if not lane.bursts:
        return [*parts, line(along.from_px, base, along.to_px, base, "grid")]
    parts.append(line(along(0), base - 3, along(lane.bursts[0][0]), base - 3, "wait"))
    for begin, end in lane.stalls:
        words = f"stall of {three_digits_text(end - begin)} ms"
        parts.append(rect(along(begin), base - 34, along(end) - along(begin), 34, "stall", words))
    if lane.stalls:
        begin, end = max(lane.stalls, key=lambda span: span[1] - span[0])
        x = min(max((along(begin) + along(end)) / 2, 60), width - 60)
        parts.append(
            text(x, base - 37, f"stall {three_digits_text(end - begin)} ms", classes="stalled", anchor="middle")
        )
    strokes = "".join(
        f"M{px(along(at_ms))} {px(base)}v-{px(6 + 26 * (tokens / most))}" for at_ms, tokens in lane.bursts
    )
    parts.append(f'<path class="line-{arm % PALETTE} burst" d="{strokes}"/>')
    return [*parts, line(along.from_px, base, along.to_px, base, "grid")]


def _so_far(lane: Lane, along: Scale, up: Scale) -> list[tuple[float, float]]:
    """Steps: nothing changes between bursts."""
    found = [(along(0), up(0))]
    count = 0.0
    for at_ms, tokens in lane.bursts:
        found.append((along(at_ms), up(count)))
        count += tokens
        found.append((along(at_ms), up(count)))
    return found


def _lane_words(lane: Lane) -> str:
    if not lane.bursts:
        return f"no answer ({lane.outcome})"
    count = len(lane.bursts)
    said = (
        f"{value_text(round(lane.tokens), 'tok')} tokens in {count} {'burst' if count == 1 else 'bursts'}; "
        f"first after {three_digits_text(lane.bursts[0][0])} ms, last {three_digits_text(lane.bursts[-1][0])} ms"
    )
    if lane.joined > 1:
        said += f"; {lane.joined} neighbouring bursts drawn as one"
    stalls = len(lane.stalls)
    return f"{said}; {stalls} {'stall' if stalls == 1 else 'stalls'}"


def _lane_row(lane: Lane) -> tuple[str, ...]:
    times = [at_ms for at_ms, _ in lane.bursts]
    gaps = [after - before for before, after in pairwise(times)]
    return (
        lane.arm, str(lane.trial), lane.outcome, value_text(round(lane.tokens), "tok"), str(len(times)),
        *(value_text(value, "ms") for value in (
            times[0] if times else None, times[-1] if times else None,
            median(gaps) if gaps else None, max(gaps, default=None),
        )),
        str(len(lane.stalls)), value_text(sum(end - begin for begin, end in lane.stalls), "ms"),
    )  # fmt: skip


# --- over time ------------------------------------------------------------------------------------


def over_time(found: Quantity, arms: Sequence[str]) -> Drawing:
    """Each arm's curve in a band of its own, all to one scale; the plan's start is a line at 0 where something is known
    of before."""
    known = [curve for curve in found.curves if curve.at_s]
    band, room, top, left = 64.0, 24.0, 4.0, 46.0
    bottom = top + (band + room) * len(known)
    along = scale(
        min(0, *(curve.at_s[0] for curve in known)), max(curve.at_s[-1] for curve in known), left, WIDTH - EDGE
    )
    low, high = _reach([value for curve in known for value in curve.values])
    parts = bottom_axis(along, top, bottom, "s from the start of the plan", WIDTH)
    if along.low < 0:
        parts.append(line(along(0), top, along(0), bottom, "one"))
    for place, curve in enumerate(known):
        y = top + (band + room) * place + room
        parts += _band(curve, found, along, scale(low, high, y + band - 4, y), arms.index(curve.arm))
    rows = [
        (curve.arm, *(value_text(value, found.unit) for value in (min(curve.values), fmean(curve.values),
         max(curve.values))), value_text(curve.at_s[0], "s"), value_text(curve.at_s[-1], "s"))
        for curve in known
    ]  # fmt: skip
    said = "; ".join(f"{row[0]}: from {row[1]} to {row[3]} {found.unit}, mean {row[2]}" for row in rows)
    alt = f"{found.title} over the trial ({found.note}). {said}."
    head = ("Arm", *(f"{word} ({found.unit})" for word in ("lowest", "mean", "highest")), "from (s)", "to (s)")
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """From 0 unless all values lie far from it."""
    low, high = min(values), max(values)
    if 0 < low < 0.6 * high:
        low = 0.0
    room = (high - low) * 0.06
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _band(curve: Curve, found: Quantity, along: Scale, up: Scale, arm: int) -> list[str]:
    mean = three_digits_text(fmean(curve.values))
    parts = [
        text(left := along.from_px, up.to_px - 8, shortened(curve.arm, 24), classes="strong"),
        text(WIDTH - EDGE, up.to_px - 8, f"mean {mean} {found.unit}", classes="dim", anchor="end"),
    ]
    ticks = up.ticks(3)
    for value in ticks:
        parts.append(line(left, up(value), WIDTH - EDGE, up(value), "grid"))
        parts.append(text(left - 6, up(value) + 4, tick_text(value, ticks), classes="dim", anchor="end"))
    points = [(along(at), up(value)) for at, value in zip(curve.at_s, curve.values, strict=True)]
    if len(points) == 1:
        parts.append(mark(*points[0], arm))
    return [*parts, path(points, f"line-{arm % PALETTE} solid")]


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
        parts.append(mark(along(value), y + _scatter(place, len(points)) * 0.4, arm, 2.6, "faint"))
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


def bars(row: Row, comparison: Comparison) -> Drawing:
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


def _bar(row: Row, arm: str, baseline: str, along: Scale, y: float, place: int, width: float) -> list[str]:
    estimate = row.estimates[arm]
    value, against = _bar_words(row, arm, baseline)
    parts = [text(EDGE, y + 16, shortened(arm, 44), classes="strong", more=value)]
    parts.append(text(width - EDGE, y + 16, against, classes="dim", anchor="end"))
    if estimate.value is not None:
        parts.append(rect(along(0), y + 26, along(estimate.value) - along(0), 26, f"fill-{place % PALETTE} faint"))
        if estimate.low is not None and estimate.high is not None:
            parts += _interval(along, estimate.low, estimate.high, y + 39)
    return parts


def _bar_words(row: Row, arm: str, baseline: str) -> tuple[str, str]:
    estimate = row.estimates[arm]
    value = "no value" if estimate.value is None else f"{value_text(estimate.value, row.unit)} {row.unit}"
    if arm == baseline:
        return value, ""
    found = row.against(baseline, arm)
    if found.ratio is None:
        return value, "" if estimate.value is None else found.reason
    return value, " ".join(part for part in (ratio_text(found.ratio), _interval_text(found), found.verdict) if part)


def _caption(row: Row, comparison: Comparison) -> str:
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

"""How are the tokens of one request, and one trial over time, drawn?"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from inferometer.base.units import three_digits_text, tick_text, value_text
from inferometer.report.drawings.marks import EDGE, WIDTH
from inferometer.report.page.over_time import Curve, CurveGroup
from inferometer.report.page.token_times import Lane, Timeline
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    line,
    mark,
    path,
    px,
    rect,
    scale,
    shortened,
    text,
)

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


def over_time(found: CurveGroup, arms: Sequence[str]) -> Drawing:
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


def _band(curve: Curve, found: CurveGroup, along: Scale, up: Scale, arm: int) -> list[str]:
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

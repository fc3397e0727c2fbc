"""Pictures of one request: its tokens as they arrived, in every arm."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from inferometer.base.units import three_digits_text, value_text
from inferometer.report.drawings.interval_marks import EDGE
from inferometer.report.page.token_times import ArmTokens, Timeline
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    line,
    plot,
    px,
    rect,
    scale,
    series,
    shortened,
    text,
)


def token_timeline(found: Timeline, arms: Sequence[str], width: float) -> Drawing:
    """Each arm's bursts as strokes over one time axis, as tall as their number of tokens; below, tokens so far."""
    ends = [lane.bursts[-1][0] for lane in found.lanes if lane.bursts]
    along = scale(0, max(ends, default=1.0), EDGE, width - EDGE)
    most = max((tokens for lane in found.lanes for _, tokens in lane.bursts), default=1.0)
    height, top = 76.0, 4.0
    bottom = top + height * len(found.lanes)
    graph = bottom + 128
    parts = bottom_axis(along, top, graph, "ms from sending", width)
    drawn: list[str] = []
    for place, lane in enumerate(found.lanes):
        y = top + height * place
        drawn += _strokes(lane, along, y + 66, most, arms.index(lane.arm))
        parts += _lane_labels(lane, along, y, width)
    total = max((lane.tokens for lane in found.lanes), default=0.0) or 1.0
    up = scale(0, total, graph, bottom + 24)
    parts.append(text(EDGE, bottom + 14, f"tokens so far (up to {value_text(round(total), 'tok')})", classes="dim"))
    for lane in found.lanes:
        if lane.bursts:
            arm = arms.index(lane.arm)
            drawn.append(_so_far(lane, along, up, f"line-{arm % PALETTE} dash-{arm % 4}"))
    parts.append(plot(along, top, graph, drawn))
    summary = "; ".join(f"{lane.arm}: {_lane_text(lane)}" for lane in found.lanes)
    alt = f"Arrival of the tokens of request {found.request}, from sending. {summary}."
    head = ("Arm", "trial", "outcome", "tokens", "bursts", "first token (ms)", "last token (ms)", "median gap (ms)",
            "longest gap (ms)", "stalls", "in stalls (ms)")  # fmt: skip
    return drawing(width, graph + 38, parts, alt, [head, *map(_lane_row, found.lanes)])


def _lane_labels(lane: ArmTokens, along: Scale, top: float, width: float) -> list[str]:
    name, label = shortened(lane.arm, 24), _lane_text(lane)
    if len(name) + len(label) > width / 6.6:
        label = label.partition("; ")[0]
    parts = [text(EDGE, top + 14, name, classes="strong")]
    parts.append(text(width - EDGE, top + 14, label, classes="dim", anchor="end"))
    base = top + 66
    if lane.stalls:
        begin, end = max(lane.stalls, key=lambda span: span[1] - span[0])
        x = min(max((along(begin) + along(end)) / 2, 60), width - 60)
        words = f"stall {three_digits_text(end - begin)} ms"
        parts.append(text(x, base - 37, words, classes="stalled", anchor="middle"))
    return [*parts, line(along.from_px, base, along.to_px, base, "grid")]


def _strokes(lane: ArmTokens, along: Scale, base: float, most: float, arm: int) -> list[str]:
    """The wait for the first token, the stalls, and a stroke for each burst."""
    if not lane.bursts:
        return []
    first = lane.bursts[0][0]
    wait = f"{lane.arm}: first token after {three_digits_text(first)} ms"
    parts = [line(along(0), base - 3, along(first), base - 3, "wait", wait)]
    for begin, end in lane.stalls:
        words = f"{lane.arm}: stall of {three_digits_text(end - begin)} ms, from {three_digits_text(begin)} ms"
        parts.append(rect(along(begin), base - 34, along(end) - along(begin), 34, "stall", words))
    steps = "".join(f"M{px(along(at_ms))} {px(base)}v-{px(6 + 26 * (tokens / most))}" for at_ms, tokens in lane.bursts)
    values = (f"{at_ms:.1f},{tokens:g}" for at_ms, tokens in lane.bursts)
    return [*parts, series(steps, f"line-{arm % PALETTE} burst", f"{lane.arm}: {{0}} ms, tokens {{1}}", values)]


def _so_far(lane: ArmTokens, along: Scale, up: Scale, classes: str) -> str:
    """Tokens so far, as a step curve."""
    steps, values, count = [f"M{px(along(0))} {px(up(0))}"], ["0,0"], 0.0
    for at_ms, tokens in lane.bursts:
        count += tokens
        steps.append(f"H{px(along(at_ms))}V{px(up(count))}")
        values.append(f"{at_ms:.1f},{count:g}")
    return series("".join(steps), classes, f"{lane.arm}: {{1}} tokens by {{0}} ms", values)


def _lane_text(lane: ArmTokens) -> str:
    if not lane.bursts:
        return f"no answer ({lane.outcome})"
    count = len(lane.bursts)
    summary = (
        f"{value_text(round(lane.tokens), 'tok')} tokens in {count} {'burst' if count == 1 else 'bursts'}; "
        f"first after {three_digits_text(lane.bursts[0][0])} ms, last {three_digits_text(lane.bursts[-1][0])} ms"
    )
    if lane.joined > 1:
        summary += f"; {lane.joined} neighbouring bursts drawn as one"
    stalls = len(lane.stalls)
    return f"{summary}; {stalls} {'stall' if stalls == 1 else 'stalls'}"


def _lane_row(lane: ArmTokens) -> tuple[str, ...]:
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

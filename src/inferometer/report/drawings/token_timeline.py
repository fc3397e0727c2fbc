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
    path,
    px,
    rect,
    scale,
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
    for place, lane in enumerate(found.lanes):
        parts += _lane(lane, along, top + height * place, most, arms.index(lane.arm), width)
    total = max((lane.tokens for lane in found.lanes), default=0.0) or 1.0
    up = scale(0, total, graph, bottom + 24)
    parts.append(text(EDGE, bottom + 14, f"tokens so far (up to {value_text(round(total), 'tok')})", classes="dim"))
    for lane in found.lanes:
        if lane.bursts:
            arm = arms.index(lane.arm)
            parts.append(path(_so_far(lane, along, up), f"line-{arm % PALETTE} dash-{arm % 4}"))
    summary = "; ".join(f"{lane.arm}: {_lane_text(lane)}" for lane in found.lanes)
    alt = f"Arrival of the tokens of request {found.request}, from sending. {summary}."
    head = ("Arm", "trial", "outcome", "tokens", "bursts", "first token (ms)", "last token (ms)", "median gap (ms)",
            "longest gap (ms)", "stalls", "in stalls (ms)")  # fmt: skip
    return drawing(width, graph + 38, parts, alt, [head, *map(_lane_row, found.lanes)])


def _lane(lane: ArmTokens, along: Scale, top: float, most: float, arm: int, width: float) -> list[str]:
    name, label = shortened(lane.arm, 24), _lane_text(lane)
    if len(name) + len(label) > width / 6.6:
        label = label.partition("; ")[0]
    parts = [text(EDGE, top + 14, name, classes="strong")]
    parts.append(text(width - EDGE, top + 14, label, classes="dim", anchor="end"))
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


def _so_far(lane: ArmTokens, along: Scale, up: Scale) -> list[tuple[float, float]]:
    """Tokens so far, as a step curve."""
    found = [(along(0), up(0))]
    count = 0.0
    for at_ms, tokens in lane.bursts:
        found.append((along(at_ms), up(count)))
        count += tokens
        found.append((along(at_ms), up(count)))
    return found


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

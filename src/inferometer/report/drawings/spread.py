"""How are distributions and paired differences drawn?"""

from collections.abc import Sequence
from itertools import accumulate
from statistics import median

from inferometer.base.units import ratio_text, three_digits_text, value_text
from inferometer.report.drawings.marks import EDGE, WIDTH, diamond, ends_of, interval, interval_text, scatter
from inferometer.report.page.distribution import Distribution, Ratios, Shape
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
    scale,
    shortened,
    text,
)


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
        parts.append(mark(along(value), middle + scatter(place, len(shape.points)), arm, 2.8, "faint"))
    if shape.estimate is not None and shape.estimate.low is not None and shape.estimate.high is not None:
        parts += interval(along, shape.estimate.low, shape.estimate.high, middle + 20)
        if shape.estimate.value is not None:
            parts.append(diamond(along(shape.estimate.value), middle + 20))
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
    told = (f"{one.label} {ratio_text(found.ratio)}", interval_text(found), found.verdict) if found else ("", "", "")
    return (one.arm, one.baseline, str(one.n), str(one.below_1), *map(ratio_text, ends), *told)


def _ratio_range(known: Sequence[Ratios]) -> tuple[float, float]:
    """All points, 1, and the intervals as far as these reach at most three times as far (on a logarithm)."""
    points = [point for one in known for point in one.points if point > 0]
    ends = [end for one in known if one.difference for end in ends_of(one.difference) or () if end > 0]
    values = [one.difference.ratio for one in known if one.difference and one.difference.ratio]
    low, high = min([*points, *values, 1.0]), max([*points, *values, 1.0])
    reach = max(high / low, 1.02) ** 1.5
    low, high = max(low / reach, min([low, *ends])), min(high * reach, max([high, *ends]))
    room = max((high / low) ** 0.06, 1.005)
    return low / room, high * room


def _ratio_lane(one: Ratios, along: Scale, top: float, arm: int) -> list[str]:
    difference = one.difference
    told = ""
    if difference is not None and difference.ratio is not None:
        verdict = "none shown" if difference.verdict == "no difference shown" else difference.verdict
        told = f"{ratio_text(difference.ratio)} {interval_text(difference)} {verdict}".replace("  ", " ").strip()
    parts = [text(EDGE, top + 14, shortened(one.arm, 24), classes="strong")]
    parts.append(text(WIDTH - EDGE, top + 14, told or f"{one.n} pairs", classes="dim", anchor="end"))
    middle = top + 38
    for place, value in enumerate(one.points):
        parts.append(mark(along(value), middle + scatter(place, len(one.points)) * 0.8, arm, 2.8, "faint"))
    if difference is not None and difference.ratio is not None:
        ends = ends_of(difference)
        if ends:
            parts += interval(along, *ends, top + 62)
        parts.append(diamond(along(difference.ratio), top + 62))
    return parts


def _ratio_words(one: Ratios, found: Distribution) -> str:
    said = f"{one.arm}: {one.below_1} of {one.n} pairs are below 1" if one.n else f"{one.arm}: no pairs"
    if one.difference is None or one.difference.ratio is None:
        return said
    verdict = f", {one.difference.verdict}" if one.difference.verdict else ""
    return f"{said}; {one.label} {ratio_text(one.difference.ratio)} {interval_text(one.difference)}{verdict}"

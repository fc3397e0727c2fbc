"""Pictures of distributions: the values of each arm on one axis."""

from collections.abc import Sequence
from itertools import accumulate

from inferometer.base.units import three_digits_text, value_text
from inferometer.report.drawings.interval_marks import EDGE, WIDTH, diamond, interval, scatter, span_text
from inferometer.report.page.distribution import ArmDistribution, Distribution
from inferometer.report.svg import (
    PALETTE,
    Drawing,
    Scale,
    bottom_axis,
    drawing,
    line,
    mark,
    path,
    ring,
    scale,
    shortened,
    text,
)


def distribution_shapes(found: Distribution, arms: Sequence[str]) -> Drawing:
    """Each arm's values on one axis, with median and middle half: many values as a shape, few values as dots."""
    top = 4.0
    tops = list(accumulate((74.0 if shape.n else 28.0 for shape in found.shapes), initial=top))
    bottom = tops[-1]
    along = scale(found.edges[0], found.edges[-1], EDGE, WIDTH - EDGE, is_log=found.is_log)
    tallest = max((share for shape in found.shapes for share in shape.shares), default=0.0)
    axis = f"{found.unit}{', logarithmic' if found.is_log else ''}"
    parts = bottom_axis(along, top, bottom, axis, WIDTH)
    for y, shape in zip(tops, found.shapes, strict=False):
        parts += _shape(shape, found, along, y, tallest, arms.index(shape.arm))
    summary = "; ".join(f"{shape.arm}: {_shape_text(shape, found.unit)}" for shape in found.shapes)
    alt = f"{found.title} of each arm, {found.each}. {summary}."
    head = ("Arm", "n", *(f"P{percent} ({found.unit})" for percent in (5, 25, 50, 75, 95, 99)))
    rows = [
        (shape.arm, str(shape.n), *(value_text(shape.quantiles.get(p), found.unit) for p in (5, 25, 50, 75, 95, 99)))
        for shape in found.shapes
    ]
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *rows])


def _shape_text(shape: ArmDistribution, unit: str) -> str:
    if not shape.n:
        return "no values"
    low, middle, high = (three_digits_text(shape.quantiles[percent]) for percent in (5, 50, 95))
    if shape.n == 1:
        return f"{middle} {unit}, the only value"
    return f"median {middle} {unit}, nine in ten between {low} and {high}, n {shape.n}"


def _shape(
    shape: ArmDistribution, found: Distribution, along: Scale, top: float, tallest: float, arm: int
) -> list[str]:
    parts = [text(EDGE, top + 14, shortened(shape.arm, 24), classes="strong")]
    parts.append(text(WIDTH - EDGE, top + 14, _short(shape, found.unit), classes="dim", anchor="end"))
    middle, half = top + 44, 20.0
    if shape.shares:
        words = f"{shape.arm}: {_shape_text(shape, found.unit)}"
        heights = [half * (share / tallest) ** 0.5 if tallest else 0.0 for share in shape.shares]
        upper = [(along(edge), middle - height) for edge, height in _outline(found.edges, heights)]
        lower = [(along(edge), middle + height) for edge, height in _outline(found.edges, heights)]
        parts.append(path([*upper, *reversed(lower)], f"fill-{arm % PALETTE} shape", closed=True, tip=words))
    for place, value in enumerate(shape.points):
        parts.append(
            mark(
                along(value),
                middle + scatter(place, len(shape.points)),
                arm,
                2.8,
                "faint",
                f"{shape.arm}: {three_digits_text(value)} {found.unit}",
            )
        )
    if shape.estimate is not None and shape.estimate.low is not None and shape.estimate.high is not None:
        words = f"{shape.arm}: {span_text(shape.estimate, found.unit)}"
        parts += interval(along, shape.estimate.low, shape.estimate.high, middle + 20, words)
        if shape.estimate.value is not None:
            words = f"{shape.arm}: mean {three_digits_text(shape.estimate.value)} {found.unit}"
            parts.append(diamond(along(shape.estimate.value), middle + 20, words))
    elif shape.n > 1:
        parts += _quantile_marks(shape, found, along, middle, arm)
    return parts


def _quantile_marks(shape: ArmDistribution, found: Distribution, along: Scale, middle: float, arm: int) -> list[str]:
    """P5 to P95 as a thin line, the middle half as a thick one, the median as a ring."""
    low, quarter, mid, upper_quarter, high = (shape.quantiles[percent] for percent in (5, 25, 50, 75, 95))

    def span(name: str, start: float, end: float) -> str:
        return f"{shape.arm}: {name} {three_digits_text(start)} to {three_digits_text(end)} {found.unit}"

    thin, thick, words = f"line-{arm % PALETTE} dash-0", f"line-{arm % PALETTE} thick", span("P5 to P95", low, high)
    half, median = span("middle half", quarter, upper_quarter), f"{shape.arm}: median {three_digits_text(mid)}"
    return [
        line(along(low), middle, along(high), middle, thin, words),
        line(along(quarter), middle, along(upper_quarter), middle, thick, half),
        ring(along(mid), middle, f"{median} {found.unit}"),
    ]


def _short(shape: ArmDistribution, unit: str) -> str:
    if not shape.n:
        return "no values"
    if shape.estimate is not None and shape.estimate.value is not None:
        mean = f"mean {three_digits_text(shape.estimate.value)} {unit}"
        return f"{mean}, {shape.n} {'trial' if shape.n == 1 else 'trials'}"
    middle = three_digits_text(shape.quantiles[50])
    return f"median {middle} {unit}, P99 {three_digits_text(shape.quantiles[99])}, n {shape.n}"


def _outline(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    """The corners of a histogram's upper edge."""
    found = [(edges[0], 0.0)]
    for i, height in enumerate(heights):
        found += [(edges[i], height), (edges[i + 1], height)]
    return [*found, (edges[-1], 0.0)]

"""Pictures of paired differences: the ratio of each pair, and the interval of the comparison."""

from collections.abc import Sequence
from statistics import median

from inferometer.base.units import ratio_text
from inferometer.report.drawings.interval_marks import (
    EDGE,
    WIDTH,
    diamond,
    interval,
    interval_text,
    ratio_ends,
    scatter,
)
from inferometer.report.page.distribution import Distribution, PairedRatios
from inferometer.report.svg import Drawing, Scale, bottom_axis, drawing, line, mark, scale, shortened, text


def paired_ratios(found: Distribution, arms: Sequence[str]) -> Drawing | None:
    """Ratio of each further arm to the first, pair by pair, and the interval of the comparison; None without pairs."""
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
    summary = "; ".join(_ratio_text(one, found) for one in known)
    alt = f"{found.title}, pair by pair: ratio of each arm to {known[0].baseline}; {found.pair}. {summary}."
    head = ("Arm", "baseline", "pairs", "pairs below 1×", "lowest", "median", "highest", "in the table", "95% interval",
            "verdict")  # fmt: skip
    return drawing(WIDTH, bottom + 38, parts, alt, [head, *map(_ratio_row, known)])


def _ratio_row(one: PairedRatios) -> tuple[str, ...]:
    found = one.difference
    ends = (one.points[0], median(one.points), one.points[-1]) if one.points else (None, None, None)
    label = (f"{one.label} {ratio_text(found.ratio)}", interval_text(found), found.verdict) if found else ("", "", "")
    return (one.arm, one.baseline, str(one.n), str(one.below_1), *map(ratio_text, ends), *label)


def _ratio_range(known: Sequence[PairedRatios]) -> tuple[float, float]:
    """Range that shows all points, 1, and the intervals; an interval extends it at most threefold (on a log scale)."""
    points = [point for one in known for point in one.points if point > 0]
    ends = [end for one in known if one.difference for end in ratio_ends(one.difference) or () if end > 0]
    values = [one.difference.ratio for one in known if one.difference and one.difference.ratio]
    low, high = min([*points, *values, 1.0]), max([*points, *values, 1.0])
    reach = max(high / low, 1.02) ** 1.5
    low, high = max(low / reach, min([low, *ends])), min(high * reach, max([high, *ends]))
    room = max((high / low) ** 0.06, 1.005)
    return low / room, high * room


def _ratio_lane(one: PairedRatios, along: Scale, top: float, arm: int) -> list[str]:
    difference = one.difference
    label = ""
    if difference is not None and difference.ratio is not None:
        verdict = "≈ same" if difference.verdict == "same" else difference.verdict
        label = f"{ratio_text(difference.ratio)} {interval_text(difference)} {verdict}".replace("  ", " ").strip()
    parts = [text(EDGE, top + 14, shortened(one.arm, 24), classes="strong")]
    parts.append(text(WIDTH - EDGE, top + 14, label or f"{one.n} pairs", classes="dim", anchor="end"))
    middle = top + 38
    for place, value in enumerate(one.points):
        parts.append(
            mark(
                along(value),
                middle + scatter(place, len(one.points)) * 0.8,
                arm,
                2.8,
                "faint",
                (f"{one.arm}, a pair: {ratio_text(value)}"),
            )
        )
    if difference is not None and difference.ratio is not None:
        ends = ratio_ends(difference)
        if ends:
            parts += interval(along, *ends, top + 62, f"{one.arm}: interval {interval_text(difference)}")
        parts.append(diamond(along(difference.ratio), top + 62, f"{one.arm}: {label}"))
    return parts


def _ratio_text(one: PairedRatios, found: Distribution) -> str:
    summary = f"{one.arm}: {one.below_1} of {one.n} pairs are below 1" if one.n else f"{one.arm}: no pairs"
    if one.difference is None or one.difference.ratio is None:
        return summary
    verdict = f", {one.difference.verdict}" if one.difference.verdict else ""
    return f"{summary}; {one.label} {ratio_text(one.difference.ratio)} {interval_text(one.difference)}{verdict}"

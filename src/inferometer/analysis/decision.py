"""The decision of a comparison whose answers were checked: speed and right answers in one sentence."""

from collections.abc import Iterable, Iterator

from inferometer.analysis.answer_quality import QualityDifference, Share
from inferometer.analysis.comparison import Comparison, of_pair
from inferometer.analysis.verdicts import suppressing
from inferometer.metrics.rows import METRICS_BY_KEY

_LEAST_PROBLEMS = 5
"""Shares of fewer problems are not shown in lines; the JSON has all."""
_JOINED = {
    ("faster", "worse"): "faster but worse",
    ("faster", "better"): "faster and better",
    ("slower", "worse"): "slower and worse",
    ("slower", "better"): "slower but better",
    ("", "worse"): "worse",
    ("", "better"): "better",
}


def decisions(comparison: Comparison) -> list[str]:
    """A sentence for each pair of arms with checked answers; empty without them."""
    return [f"{one.arm} vs {one.baseline}: {_sentence(comparison, one)}" for one in comparison.quality]


def quality_of_pair(comparison: Comparison, baseline: str, arm: str) -> QualityDifference | None:
    """The comparison of the two arms' right answers; None without checks."""
    return of_pair(comparison.quality, baseline, arm)


def worse_text(comparison: Comparison, baseline: str, arm: str) -> str:
    """What a verdict on speed must add: that the arm's answers are shown to be worse; "" if they are not."""
    found = quality_of_pair(comparison, baseline, arm)
    if found is None or not found.is_worse:
        return ""
    if found.verdict == "worse":
        return f", but its answers are worse ({points_text(found.points)} points)"
    return f", but its answers are worse at {_parts_text(found.worse_parts)}"


def _parts_text(parts: Iterable[Share]) -> str:
    return ", ".join(
        f"{one.by} {one.name} ({one.baseline_percent:.0f}% → {one.arm_percent:.0f}% of {one.problems})" for one in parts
    )


def points_text(points: float) -> str:
    """With a sign: −32, +0.4."""
    text = f"{points:+.0f}" if abs(points) >= 1 else f"{points:+.1f}"
    return text.replace("-", "−")


def quality_lines(comparison: Comparison) -> list[str]:
    """Details of each pair: the shares of parts, the flips, and the noise floor."""
    return [line for one in comparison.quality for line in _details(one)]


def _sentence(comparison: Comparison, found: QualityDifference) -> str:
    speed, word, open_word = _speed(comparison, found.baseline, found.arm)
    begin = word or ("" if open_word in speed else open_word)
    begin += ", " if begin else ""
    if found.verdict in ("better", "worse"):
        end = _JOINED[word, found.verdict] + (open_word if word else "")
    elif found.verdict == "same":
        end = f"{begin}answers ≈ same (within ±{found.margin:g} points)"
    elif not found.is_any_right:
        end = f"{begin}answers not compared: none is right. Look at them, or take easier problems"
    else:
        end = f"{begin}answers inconclusive ({found.problems_needed:,} problems would tell)"
    if found.verdict != "worse" and found.worse_parts:
        end += f", but worse at {_parts_text(found.worse_parts)}"
    interval = f"{points_text(found.low_points)} to {points_text(found.high_points)}"
    return (
        f"{speed}, {points_text(found.points)} points: {end}. Right answers "
        f"{found.baseline_percent:.1f}% → {found.arm_percent:.1f}% of {found.problems} problems "
        f"(difference 95% CI {interval} points, {found.method})"
    )


def speed_text(comparison: Comparison, baseline: str, arm: str) -> str:
    """The primary metric's difference: `1.4× faster`, `1.02× the speed (speed inconclusive)`."""
    return _speed(comparison, baseline, arm)[0]


def _speed(comparison: Comparison, baseline: str, arm: str) -> tuple[str, str, str]:
    """The primary metric's difference in words, its verdict if it is one of speed, and what else is known of it."""
    row = comparison.primary_row
    one = None if row is None else of_pair(row.differences, baseline, arm)
    if comparison.invalid or row is None or one is None or one.ratio is None:
        return "speed not judged", "", "speed not judged"
    verdict, of_starts = (one.starts_verdict, " in these two starts") if one.verdict == "unknown" else (one.verdict, "")
    factor = one.ratio if row.better == "higher" else 1 / one.ratio if one.ratio else 1.0
    if verdict == "faster":
        return f"{_times(factor)} faster", "faster", of_starts
    if verdict == "slower":
        return f"{_times(1 / factor)} slower", "slower", of_starts
    if verdict in ("more", "less"):
        return f"{_times(one.ratio)} the {row.label.partition(' (')[0].lower()}", "", verdict
    shown = {"same": "≈ same speed", "inconclusive": "speed inconclusive"}.get(verdict, "speed not judged")
    return f"{_times(factor)} the speed ({shown})", "", shown


def _times(factor: float) -> str:
    return f"{factor:.1f}×" if factor >= 1.2 else f"{factor:.2f}×"


def _details(found: QualityDifference) -> Iterator[str]:
    yield (
        f"{found.arm} vs {found.baseline}: {found.lost} problems that only {found.baseline} solves (more often), "
        f"{found.gained} that only {found.arm} does"
    )
    noise = [f"{arm} {found.unstable[arm]} of {count}" for arm, count in found.repeated.items() if count]
    if noise:
        yield f"noise floor (problems that an arm did not answer alike in all rounds and samples): {', '.join(noise)}"
    by_part: dict[str, list[str]] = {}
    for part in (one for one in found.parts if one.problems >= _LEAST_PROBLEMS):
        shown = f"{part.name} {part.baseline_percent:.0f}% → {part.arm_percent:.0f}% of {part.problems}"
        by_part.setdefault(part.by, []).append(shown)
    for by, shares in by_part.items():
        yield f"by {by}: {'; '.join(shares)}"


def not_valid(comparison: Comparison, baseline: str, arm: str) -> str:
    """Why the primary metric's difference of an arm from the baseline is not valid; "" if it is."""
    found = suppressing(METRICS_BY_KEY[comparison.primary], (arm, baseline), comparison.findings)
    return f"not valid: {found[0].message}" if found else ""

"""Quantisation ladder: arms that differ only in the file of one model, by size, speed and right answers. Pure.

The first arm is the reference. The ladder names the smallest file whose answers are not shown to be worse. Each file
smaller than the right one must be shown to be worse, so a study of few problems names too small a file; the second
sentence then states how much worse it may be.
"""

from collections.abc import Iterator, Sequence

import msgspec

from inferometer.analysis.answer_quality import QualityDifference
from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference, of_pair
from inferometer.analysis.decision import points_text, quality_of_pair, speed_text
from inferometer.analysis.fidelity import FidelityDifference
from inferometer.analysis.set_ups import ArmSetUp
from inferometer.base.units import percent_text
from inferometer.core.arm_sets import quantisation_of


class Rung(msgspec.Struct, frozen=True):
    """One file. `speed`, `memory`, `quality` and `fidelity` compare it with the reference; None for the reference, and
    where unknown. `smaller_and_as_good`: a smaller file that is shown at least as fast (or the same) and whose answers
    are shown at least as good (or the same); "" for a file on the front."""

    arm: str
    model_bytes: int | None
    memory_gib: float | None
    memory: Difference | None
    speed: Difference | None
    quality: QualityDifference | None
    fidelity: FidelityDifference | None
    smaller_and_as_good: str = ""


class Ladder(msgspec.Struct, frozen=True):
    """`rungs`: the largest file first. `chosen`: the arm to use; "" where no file can be named. `sentences`: the result
    in words."""

    reference: str
    rungs: tuple[Rung, ...]
    chosen: str
    sentences: tuple[str, ...]


def is_ladder(set_ups: Sequence[ArmSetUp]) -> bool:
    """Whether the arms differ only in their model files, and these are files of one model by the name in the files, or
    by the files' names without the quantisation."""
    if len(set_ups) < 2 or not all(one.model for one in set_ups):
        return False
    if len({one.model for one in set_ups}) < len(set_ups) or not all(map(_differs_in_file_only, set_ups)):
        return False
    names = {one.model_name for one in set_ups}
    quantisations = [quantisation_of(one.model) for one in set_ups]
    is_one_stem = all(name for name, _ in quantisations) and len({rest for _, rest in quantisations}) == 1
    return is_one_stem or (len(names) == 1 and "" not in names)


def _differs_in_file_only(one: ArmSetUp) -> bool:
    return all(part.removesuffix(".gguf").endswith(one.model) for part in one.differs)


def ladder(comparison: Comparison) -> Ladder | None:
    """None where the arms are not a ladder."""
    if not comparison.ladder:
        return None
    reference = comparison.arms[0]
    known = {one.arm: one.model_bytes for one in comparison.set_ups}
    rungs = [_rung(comparison, reference, arm, known.get(arm)) for arm in comparison.arms]
    sized = all(one.model_bytes for one in rungs)
    rungs.sort(key=lambda one: -((one.model_bytes if sized else one.memory_gib) or 0))
    row = comparison.primary_row
    rungs = [
        msgspec.structs.replace(one, smaller_and_as_good=_dominating(comparison, row, one, rungs[place + 1 :]))
        for place, one in enumerate(rungs)
    ]
    chosen = _chosen(comparison, reference, rungs)
    return Ladder(reference, tuple(rungs), chosen, tuple(_sentences(comparison, reference, rungs, chosen)))


def ladder_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Empty where the arms are not a ladder."""
    found = ladder(comparison)
    return () if found is None else found.sentences


def _rung(comparison: Comparison, reference: str, arm: str, model_bytes: int | None) -> Rung:
    rows = {row.metric: row for row in comparison.rows}
    memory, row = rows.get("memory_gib"), comparison.primary_row
    return Rung(
        arm,
        model_bytes,
        None if memory is None else memory.values.get(arm),
        _difference(memory, reference, arm),
        _difference(row, reference, arm),
        quality_of_pair(comparison, reference, arm),
        of_pair(comparison.fidelity, reference, arm),
    )


def _difference(row: ComparisonRow | None, baseline: str, arm: str) -> Difference | None:
    return None if row is None else of_pair(row.differences, baseline, arm)


# --- the front ------------------------------------------------------------------------------------


def _dominating(comparison: Comparison, row: ComparisonRow | None, one: Rung, smaller: Sequence[Rung]) -> str:
    """The smallest of the smaller files that is shown to be as fast and as good as `one`."""
    return next((other.arm for other in reversed(smaller) if _is_as_good(comparison, row, other.arm, one.arm)), "")


def _is_as_good(comparison: Comparison, row: ComparisonRow | None, arm: str, than: str) -> bool:
    quality, speed = quality_of_pair(comparison, than, arm), _difference(row, than, arm)
    if quality is not None and speed is not None:
        is_good = quality.verdict in ("better", "same") and not quality.is_worse
        return is_good and _is_not_slower(row, speed, is_turned=False)
    quality, speed = quality_of_pair(comparison, arm, than), _difference(row, arm, than)
    if quality is None or speed is None:
        return False
    return quality.verdict in ("worse", "same") and _is_not_slower(row, speed, is_turned=True)


def _is_not_slower(row: ComparisonRow | None, found: Difference, *, is_turned: bool) -> bool:
    """Whether the arm of the difference (if turned: its baseline) is shown to be better, or the same."""
    if found.verdict == "same" or row is None or row.better is None or found.percent is None:
        return found.verdict == "same"
    is_shown = found.verdict in ("faster", "slower", "more", "less")
    return is_shown and ((found.percent > 0) == (row.better == "higher")) != is_turned


# --- the sentences --------------------------------------------------------------------------------


def _chosen(comparison: Comparison, reference: str, rungs: Sequence[Rung]) -> str:
    if comparison.invalid or not any(one.quality is not None and one.quality.is_any_right for one in rungs):
        return ""
    smaller = _smaller(reference, rungs)
    fit = [one.arm for one in smaller if one.quality is not None and not one.quality.is_worse]
    return fit[-1] if fit else reference


def _smaller(reference: str, rungs: Sequence[Rung]) -> list[Rung]:
    """The files that are smaller than the reference, the smallest last."""
    place = [one.arm for one in rungs].index(reference)
    return list(rungs[place + 1 :])


def _sentences(comparison: Comparison, reference: str, rungs: Sequence[Rung], chosen: str) -> Iterator[str]:
    smaller = _smaller(reference, rungs)
    if comparison.invalid:
        yield "No file is named, because the result is not valid."
    elif not smaller:
        yield f"{reference} is the smallest file: name the largest file first, as the reference."
    elif not chosen and any(one.quality for one in rungs):
        yield "No file is named, because no answer is right: look at the answers, or take easier problems."
    elif not chosen:
        yield from _unchecked(comparison, reference, smaller)
    elif chosen == reference:
        yield f"Keep {reference}: {_counted(smaller)} shown worse."
    else:
        found = next(one for one in smaller if one.arm == chosen)
        assert found.quality is not None
        yield (
            f"{chosen}: the smallest not shown worse than {reference} (margin {found.quality.margin:g} points), "
            f"{_cost(comparison, reference, found)}."
        )
        yield from _doubt(found.quality)
        yield from _shown_same(smaller, chosen)
    if chosen:
        yield from _shown_worse(smaller)
        missing = [one.arm for one in smaller if one.quality is None]
        yield from (f"{arm}: quality not checked, because it has no checked answer." for arm in missing)


def _counted(smaller: Sequence[Rung]) -> str:
    return "the smaller file is" if len(smaller) == 1 else f"all {len(smaller)} smaller files are"


def _cost(comparison: Comparison, reference: str, one: Rung) -> str:
    """Speed and memory compared with the reference; the size of the file where memory is unknown."""
    speed = speed_text(comparison, reference, one.arm)
    memory = one.memory
    if memory is not None and memory.percent is not None:
        word = "less" if memory.percent < 0 else "more"
        return f"{speed}, {abs(memory.percent):.0f}% {word} memory"
    sizes = {arm.arm: arm.model_bytes for arm in comparison.set_ups}
    first, own = sizes.get(reference), sizes.get(one.arm)
    return f"{speed}, a {100 * (1 - own / first):.0f}% smaller file" if first and own else speed


def _doubt(found: QualityDifference) -> Iterator[str]:
    """How much worse an inconclusive file may be."""
    if found.verdict == "inconclusive":
        yield (
            f"Its answers may still be up to {abs(found.low_points):.0f} points worse (95% CI "
            f"{points_text(found.low_points)} to {points_text(found.high_points)}, {found.problems} problems): "
            f"{found.problems_needed:,} problems would tell."
        )


def _shown_same(smaller: Sequence[Rung], chosen: str) -> Iterator[str]:
    """The smallest file that is shown to be as good, if it is not the one that was named."""
    good = [one for one in smaller if one.quality is not None and not one.quality.is_worse]
    shown = [one for one in good if one.quality is not None and one.quality.verdict in ("same", "better")]
    if shown and shown[-1].arm != chosen:
        yield f"{shown[-1].arm}: the smallest shown to be as good within the margin."


def _shown_worse(smaller: Sequence[Rung]) -> Iterator[str]:
    worse = [one.quality for one in smaller if one.quality is not None and one.quality.is_worse]
    if worse:
        yield f"Shown worse: {', '.join(f'{one.arm} ({points_text(one.points)} points)' for one in worse)}."


def _unchecked(comparison: Comparison, reference: str, smaller: Sequence[Rung]) -> Iterator[str]:
    smallest = smaller[-1]
    yield (
        f"{smallest.arm}: the smallest, {_cost(comparison, reference, smallest)} than {reference}. Quality not "
        "checked: use a workload with checks, such as builtin-checked (vs: --checked)."
    )
    flips = [(one.arm, one.fidelity.flip_rate_percent.value) for one in smaller if one.fidelity is not None]
    if flips:
        shown = ", ".join(f"{arm} {percent_text(value)}%" for arm, value in flips)
        yield f"Fidelity, tokens that differ from {reference}'s: {shown}."

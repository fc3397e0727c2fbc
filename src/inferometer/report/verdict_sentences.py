"""The verdict of a comparison in sentences: direction, size, interval and cost in memory of each set-up. Pure."""

import math
from collections.abc import Iterator, Sequence

from inferometer.analysis.comparison import Comparison, ComparisonRow, Difference
from inferometer.analysis.decision import decisions, worse_text
from inferometer.analysis.quantisation_ladder import ladder_sentences
from inferometer.base.units import not_zero, three_digits_text
from inferometer.report.short_cells import (
    DECIDED,
    against_first,
    arm_name,
    difference_of_pair,
    metric_in_sentence,
    order,
    signed_percent,
    value_cell,
)

MOST_COLUMNS = 4
"""Most set-ups that stand side by side; more are ranked."""


def verdict_sentences(comparison: Comparison) -> list[str]:
    """One sentence for each set-up that differs from the baseline, and one for all others together. Of a ladder: the
    file to use. Of a ranking: the best set-up, those that may be as good, and how many differ from the baseline."""
    invalid = _invalid_sentences(comparison)
    if invalid:
        return invalid
    row = comparison.primary_row
    if row is None or not any(row.n.values()):
        return [_nothing_measured(comparison)]
    if comparison.ladder:
        return list(ladder_sentences(comparison))
    if len(comparison.arms) > MOST_COLUMNS:
        return list(_ranking_sentences(row, comparison))
    if len(comparison.arms) == 1:
        return [_value_sentence(row, comparison.arms[0])]
    found = against_first(row, comparison)
    decided = sorted((one for one in found if one.verdict in DECIDED), key=lambda one: -abs(math.log(one.ratio or 1)))
    sentences = decisions(comparison) + [_decided_sentence(one, row, comparison) for one in decided]
    sentences += _open_sentences(found, comparison)
    sentences += _memory_sentences([one for one in found if one.verdict not in DECIDED], comparison)
    sentences += _without_value_sentences(row, comparison)
    return sentences or [f"No verdict on {metric_in_sentence(row)}."]


def _nothing_measured(comparison: Comparison) -> str:
    if not any(comparison.trials.values()):
        return "No verdict: no trial was completed."
    return f"No verdict: no trial has {comparison.primary}."


def _without_value_sentences(row: ComparisonRow, comparison: Comparison) -> Iterator[str]:
    """The set-ups that failed, and those whose trials lack the metric."""
    missing = [arm for arm in comparison.arms if not row.n.get(arm)]
    failed = [arm_name(arm) for arm in missing if not comparison.trials.get(arm)]
    unknown = [arm_name(arm) for arm in missing if comparison.trials.get(arm)]
    if failed:
        yield f"{', '.join(failed)}: no verdict, because no trial was completed."
    if unknown:
        yield f"{', '.join(unknown)}: no verdict, because no trial has {metric_in_sentence(row)}."


def _invalid_sentences(comparison: Comparison) -> list[str]:
    """The first invalid finding, and the verdicts that remain; empty if there is none."""
    if not comparison.invalid:
        return []
    texts = comparison.finding_texts("invalid")
    more = [f"({len(texts) - 1} more: --why)"] if len(texts) > 1 else []
    return [f"NOT VALID: {texts[0]}", *more, *worse_answers(comparison), *remaining_verdicts(comparison)]


def worse_answers(comparison: Comparison) -> list[str]:
    """The decisions on set-ups whose answers are worse: a comparison of speeds that is not valid shows them too."""
    judged = zip(decisions(comparison), comparison.quality, strict=True)
    return [sentence for sentence, one in judged if one.is_worse]


def remaining_verdicts(comparison: Comparison) -> list[str]:
    """Of a comparison with invalid findings: the verdicts of the set-ups that no such finding is about."""
    row = comparison.primary_row
    if row is None:
        return []
    found = against_first(row, comparison)
    decided = [_decided_sentence(one, row, comparison) for one in found if one.verdict in DECIDED]
    return [*decided, *_open_sentences([one for one in found if one.verdict in ("same", "inconclusive")], comparison)]


def _value_sentence(row: ComparisonRow, arm: str) -> str:
    """The value of a study's only set-up, with its interval."""
    one = row.estimates[arm]
    interval = ""
    if one.value is not None and one.low is not None and one.high is not None:
        interval = f" ({_interval_text(one.low, one.high)})"
    unit = f" {row.unit}" if row.unit else ""
    value = f"{value_cell(one, row.unit)}{unit}{interval}"
    return f"{arm_name(arm)}: {metric_in_sentence(row)} {value}. One set-up: nothing to compare."


def _interval_text(low: float, high: float) -> str:
    return f"95% CI {three_digits_text(low)}–{three_digits_text(high)}"


def _open_sentences(found: Sequence[Difference], comparison: Comparison) -> Iterator[str]:
    """The sentences about set-ups that are not shown to differ. Each set-up whose answers are worse has its own."""
    worse = {one.arm: worse_text(comparison, one.baseline, one.arm) for one in found}
    yield from _open_of([one for one in found if not worse[one.arm]], comparison)
    for one in found:
        if worse[one.arm]:
            yield from (f"{line.removesuffix('.')}{worse[one.arm]}." for line in _open_of([one], comparison))


def _open_of(found: Sequence[Difference], comparison: Comparison) -> Iterator[str]:
    baseline = arm_name(comparison.arms[0])
    same = [one for one in found if one.verdict == "same"]
    if same:
        yield f"{_names(same)}: ≈ same as {baseline} (within ±{comparison.equivalence_percent:g}%: {_spans(same)})."
    unclear = [one for one in found if one.verdict == "inconclusive"]
    if unclear:
        yield f"{_names(unclear)}: inconclusive ({_spans(unclear)})."
    by_reason: dict[str, list[Difference]] = {}
    for one in found:
        if one.verdict == "unknown" and one.starts_verdict and one.low_percent is not None:
            yield _starts_sentence(one)
        elif one.verdict == "unknown":
            by_reason.setdefault(f"needs {one.needs}" if one.needs else one.reason, []).append(one)
    for reason, ones in by_reason.items():
        yield f"{_names(ones)}: no verdict{f' ({reason})' if reason else ''}."


def _starts_sentence(found: Difference) -> str:
    """What one start of each engine shows, and why it is not a general verdict."""
    word = {"same": "≈ same"}.get(found.starts_verdict, found.starts_verdict)
    size = f"{signed_percent(found.percent)}% ({_spans([found])})"
    return (
        f"{arm_name(found.arm)}: {word}, {size}, for these two starts only. No general verdict: another start of an "
        "engine may be faster or slower."
    )


def _ranking_sentences(row: ComparisonRow, comparison: Comparison) -> Iterator[str]:
    """The best set-up of those that are shown to be better than the baseline; the highest value alone shows nothing."""
    first, top = comparison.arms[0], order(row)[0]
    found = against_first(row, comparison)
    shown = [one for one in found if one.verdict in DECIDED or one.starts_verdict in DECIDED]
    better = {one.arm: one for one in shown if _is_better(one, row)}
    best = next((arm for arm in order(row) if arm in better), first)
    if best == first:
        yield f"No set-up is shown to be better than {arm_name(first)}, the baseline, in {metric_in_sentence(row)}."
    else:
        yield "Best: " + _one_sentence(better[best], row, comparison)
    if top not in (best, first):
        one = next(one for one in found if one.arm == top)
        yield f"{'Lowest' if row.better == 'lower' else 'Highest'} mean: {_one_sentence(one, row, comparison)}"
    rivals = [difference_of_pair(row, best, arm) for arm in comparison.arms if arm not in (best, first)]
    close = [one for one in rivals if one is not None and one.verdict in ("same", "inconclusive")]
    if close and best != first:
        yield f"Not shown to be worse than {arm_name(best)}: {_names(close)}."
    wrong = [one for one in found if worse_text(comparison, one.baseline, one.arm)]
    if wrong:
        yield f"Answers are worse than those of {arm_name(first)}: {_names(wrong)}."
    only = ", for these starts only" if any(one.starts_verdict for one in found) else ""
    missing = [arm for arm in comparison.arms if not row.n.get(arm) and arm != first]
    left = len(found) - len(shown) - sum(one.arm in missing for one in found)
    counts = f"{len(better)} better, {len(shown) - len(better)} worse, {left} not decided"
    yield f"Against {arm_name(first)}{only}: {counts}."
    yield from _without_value_sentences(row, comparison)


def _is_better(found: Difference, row: ComparisonRow) -> bool:
    return ((found.percent or 0) > 0) == (row.better == "higher")


def _one_sentence(found: Difference, row: ComparisonRow, comparison: Comparison) -> str:
    if found.verdict in DECIDED:
        return _decided_sentence(found, row, comparison)
    return next(_open_sentences([found], comparison), f"{arm_name(found.arm)}.")


def _decided_sentence(found: Difference, row: ComparisonRow, comparison: Comparison) -> str:
    size, interval = _size_and_interval(found)
    what = "" if row.metric == "output_throughput" else f" in {metric_in_sentence(row)}"
    who = f"{arm_name(found.arm)} is {size} {found.verdict.upper()} than {arm_name(found.baseline)}{what}"
    memory = _memory_clause(found, comparison)
    return f"{who} ({interval}){memory}{worse_text(comparison, found.baseline, found.arm)}."


def _size_and_interval(found: Difference) -> tuple[str, str]:
    """The size without its sign, and its interval in the same direction: 19% and `95% CI 10–27%`."""
    assert found.percent is not None and found.low_percent is not None and found.high_percent is not None
    low, high = sorted((abs(found.low_percent), abs(found.high_percent)))
    digits = 0 if high - low >= 2 else 1
    percent = f"{abs(found.percent):.{digits}f}%"
    return percent, f"{found.confidence_percent or 95:.3g}% CI {not_zero(low, digits)}–{high:.{digits}f}%"


def _memory_sentences(found: Sequence[Difference], comparison: Comparison) -> Iterator[str]:
    """What set-ups without a verdict on the metric save or cost in memory: it may decide for them."""
    for one in found:
        clause = _memory_clause(one, comparison)
        if clause:
            yield f"{arm_name(one.arm)}{clause.removeprefix(' and')}."


def _memory_clause(found: Difference, comparison: Comparison) -> str:
    row = next((row for row in comparison.rows if row.metric == "memory_gib"), None)
    one = None if row is None else next((one for one in row.differences if _is_pair(one, found)), None)
    if one is None or one.percent is None or one.verdict not in ("more", "less") or row is comparison.primary_row:
        return ""
    return f" and uses {abs(one.percent):.0f}% {one.verdict} memory"


def _is_pair(one: Difference, other: Difference) -> bool:
    return (one.arm, one.baseline) == (other.arm, other.baseline)


def _names(found: Sequence[Difference]) -> str:
    return ", ".join(arm_name(one.arm) for one in found)


def _spans(found: Sequence[Difference]) -> str:
    return ", ".join(f"{signed_percent(one.low_percent)}..{signed_percent(one.high_percent)}%" for one in found)

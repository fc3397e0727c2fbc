"""Verdicts on the differences of a comparison, and marks on rows whose columns are defined differently.

A verdict is made from the interval that is shown, so that the two never disagree. Several verdicts given together need
wider intervals: see `_levels`.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from inferometer.analysis.column_definitions import definition_notes
from inferometer.analysis.comparison import ComparisonRow, Difference, Interval, Prompts, Verdict
from inferometer.analysis.estimates import SEVERAL_STARTS, Evidence, with_design
from inferometer.core.record import Finding
from inferometer.metrics import significance
from inferometer.metrics.intervals import CONFIDENCE
from inferometer.metrics.row_inputs import inputs_of
from inferometer.metrics.rows import Metric

_SPEED_UNITS = frozenset({"ms", "s", "tok/s", "char/s", "req/s"})
_ERROR = 1 - CONFIDENCE
_QUESTIONS: tuple[Prompts, ...] = ("sampled", "fixed")

Place = tuple[int, int]
"""A difference: the number of its row, and its number in the row."""


class Judged(msgspec.Struct, frozen=True):
    """A row and the evidence of each of its differences."""

    metric: Metric
    row: ComparisonRow
    evidence: tuple[Evidence, ...]


class Rules(msgspec.Struct, frozen=True):
    """How verdicts are given: `primary` is the key of the primary metric, `findings` those that suppress verdicts, and
    the others as in Comparison. `starts_sd_percent`: None if it is unknown how much starts vary."""

    primary: str
    findings: Sequence[Finding]
    prompts: Prompts
    equivalence_percent: float
    effect_percent: float
    starts_sd_percent: float | None = None


def with_verdicts(rows: Sequence[Judged], rules: Rules) -> tuple[tuple[ComparisonRow, ...], str]:
    """The rows with intervals and verdicts, and how these were adjusted for multiple comparisons."""
    places = [(r, d) for r, one in enumerate(rows) for d in range(len(one.evidence))]
    withheld = {(r, d): _withheld(rows[r], d, rules.findings) for r, d in places}
    repeats = _repeats(rows, rules.primary)
    if rules.starts_sd_percent is not None:
        rows = _with_known_starts(rows, rules.primary, rules.starts_sd_percent, repeats)
    judged = [at for at in places if not withheld[at] and at not in repeats and _is_judged(rows[at[0]], at[1])]
    primary = [at for at in judged if rows[at[0]].metric.key == rules.primary]
    others = [at for at in judged if rows[at[0]].metric.key != rules.primary]
    intervals = {
        question: _intervals(rows, primary, significance.holm_p_values, question)
        | _intervals(rows, others, significance.adjusted_p_values, question)
        for question in _QUESTIONS
    }
    confidence = 1 - _ERROR / max(1, len(primary))
    decided: dict[Place, Difference] = {}
    for r, d in places:
        found = rows[r].evidence[d]
        designed = with_design(found, rules.prompts, rules.effect_percent, confidence)
        of_place: dict[Prompts, Interval | None] = {
            one: _interval(rows, intervals[one], (r, d), repeats, one) for one in _QUESTIONS
        }
        known = _decided(designed, of_place, rules, rows[r].metric, withheld[r, d], found.one_start)
        same_as = rows[repeats[r, d][0]].metric.key if (r, d) in repeats else ""
        decided[r, d] = msgspec.structs.replace(known, same_as=same_as)
    with_differences = [
        msgspec.structs.replace(one.row, differences=tuple(decided[r, d] for d in range(len(one.evidence))))
        for r, one in enumerate(rows)
    ]
    return tuple(with_differences), _correction(rules.primary, len(primary), len(others))


def _withheld(judged: Judged, d: int, findings: Sequence[Finding]) -> str:
    """Why a difference gets no verdict; "" if it gets one."""
    found = judged.evidence[d].difference
    return _suppressed(judged.metric, found, findings) or _other_definition(judged.row, found)


def _is_judged(judged: Judged, d: int) -> bool:
    """Whether a difference needs a verdict from an interval: not if the values are equal in every trial."""
    found = judged.evidence[d].components
    if judged.metric.better is None or found is None or found.trials_variance is None:
        return False
    return bool(found.mean or found.trials_variance)


def _correction(primary: str, primaries: int, others: int) -> str:
    if not others and primaries < 2:
        return ""
    together = f"the {primaries} verdicts" if primaries > 1 else "the verdict"
    how = (
        " together are wrong in at most 5% of studies (Holm)" if primaries > 1 else " is wrong in at most 5% of studies"
    )
    parts = [f"{together} on {primary}{how}"] if primaries else []
    if others:
        parts.append(f"of the differences shown in the other {others}, at most 5% are wrong (Benjamini-Hochberg)")
    return "; ".join(parts) + ". The intervals are widened accordingly, so that each agrees with its verdict"


def _repeats(rows: Sequence[Judged], primary: str) -> dict[Place, Place]:
    """By difference, the difference of another row that states the same fact: of the primary row, else of the first."""
    found: dict[Place, Place] = {}
    order = sorted(range(len(rows)), key=lambda r: rows[r].metric.key != primary)
    for d in range(max((len(one.evidence) for one in rows), default=0)):
        kept: list[int] = []
        for r in order:
            if rows[r].metric.better is None:
                continue
            first = next((k for k in kept if rows[r].evidence[d].repeats(rows[k].evidence[d])), None)
            if first is None:
                kept.append(r)
            else:
                found[r, d] = (first, d)
    return found


def _with_known_starts(
    rows: Sequence[Judged], primary: str, percent: float, repeats: Mapping[Place, Place]
) -> list[Judged]:
    """The rows of the primary metric, and those that state the same fact, with a known variation between starts."""

    def known(r: int, d: int, found: Evidence) -> Evidence:
        source = repeats.get((r, d), (r, d))[0]
        return found.with_known_starts(percent) if rows[source].metric.key == primary else found

    return [
        msgspec.structs.replace(one, evidence=tuple(known(r, d, found) for d, found in enumerate(one.evidence)))
        for r, one in enumerate(rows)
    ]


# --- levels ---------------------------------------------------------------------------------------


def _intervals(
    rows: Sequence[Judged],
    places: Sequence[Place],
    adjust: Callable[[Sequence[float]], list[float]],
    question: Prompts,
) -> dict[Place, Interval]:
    """The intervals of differences that are judged together."""
    p_values = {(r, d): p for r, d in places if (p := rows[r].evidence[d].p_value(question)) is not None}
    adjusted = dict(zip(p_values, adjust(list(p_values.values())), strict=True))
    levels = _levels(p_values, adjusted, is_holm=adjust is significance.holm_p_values)
    found: dict[Place, Interval] = {}
    for r, d in places:
        interval = rows[r].evidence[d].interval(question, 1 - levels.get((r, d), _ERROR))
        if interval is not None:
            found[r, d] = msgspec.structs.replace(
                interval, p_value=p_values.get((r, d)), adjusted_p=adjusted.get((r, d))
            )
    return found


def _levels(p_values: Mapping[Place, float], adjusted: Mapping[Place, float], *, is_holm: bool) -> dict[Place, float]:
    """The level of each interval: the share of wrong intervals that it allows.

    With m verdicts given together, of which R differences are shown, an interval at the level R × 5% ÷ m excludes 0
    exactly where Benjamini and Hochberg show a difference, and of the intervals of the differences shown, 5% are wrong
    (Benjamini and Yekutieli 2005, JASA 100, 71-81). For Holm's procedure the level is 5% ÷ (m - R + 1). An interval of
    a difference that is not shown stays at 5% if it contains 0 there.
    """
    shown = sum(p <= _ERROR for p in adjusted.values())
    share = 1 / max(1, len(adjusted) - shown + 1) if is_holm else max(1, shown) / max(1, len(adjusted))
    return {place: _ERROR if p > _ERROR else share * _ERROR for place, p in p_values.items()}


def _interval(
    rows: Sequence[Judged],
    intervals: Mapping[Place, Interval],
    place: Place,
    repeats: Mapping[Place, Place],
    question: Prompts,
) -> Interval | None:
    """Of a difference; if it is not judged together with others, at its own or at the repeated row's level."""
    if place in intervals:
        return intervals[place]
    model = intervals.get(repeats[place]) if place in repeats else None
    row, number = place
    own = rows[row].evidence[number]
    if model is None:
        interval = own.interval(question, CONFIDENCE)
        return interval and msgspec.structs.replace(interval, p_value=own.p_value(question))
    interval = own.interval(question, model.confidence_percent / 100)
    return interval and msgspec.structs.replace(interval, p_value=model.p_value, adjusted_p=model.adjusted_p)


def with_definition_marks(rows: Sequence[ComparisonRow]) -> tuple[tuple[ComparisonRow, ...], list[str]]:
    """The rows with marks on the labels whose definitions differ between arms, and the notes that explain the marks."""
    differs = [{arm: row.differs.get(arm, "") for arm, count in row.n.items() if count} for row in rows]
    labels = [row.label for row in rows]
    marks, notes = definition_notes(labels, differs)
    marked = [f"{label} {mark}".rstrip() for label, mark in zip(labels, marks, strict=True)]
    return tuple(msgspec.structs.replace(row, label=label) for row, label in zip(rows, marked, strict=True)), notes


def _suppressed(metric: Metric, found: Difference, findings: Sequence[Finding]) -> str:
    """Why the findings suppress this verdict; "" if none does."""
    codes = {finding.code for finding in suppressing(metric, (found.arm, found.baseline), findings)}
    return f"withheld: {', '.join(sorted(codes))}" if codes else ""


def suppressing(metric: Metric, arms: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    """The findings that suppress a metric's verdicts between these arms.

    A finding suppresses the verdicts of the arm it names: of the rows that rest on what it withholds, or of all rows if
    it is invalid and names none."""
    inputs = inputs_of(metric.key, metric.group)
    return [
        finding
        for finding in findings
        if finding.arm in ("", *arms)
        and (not inputs.isdisjoint(finding.withholds) or (finding.severity == "invalid" and not finding.withholds))
    ]


def _other_definition(row: ComparisonRow, found: Difference) -> str:
    """Why two arms' values of a metric cannot be compared; "" if they can."""
    is_same = row.differs.get(found.arm) == row.differs.get(found.baseline)
    return "" if is_same else "the two columns define it differently"


# --- words ----------------------------------------------------------------------------------------


def _decided(
    found: Difference,
    intervals: Mapping[Prompts, Interval | None],
    rules: Rules,
    metric: Metric,
    withheld: str,
    one_start: tuple[str, ...],
) -> Difference:
    """The difference with both intervals and with the verdict of the one that is shown."""
    of_starts = intervals[rules.prompts]
    if not withheld and one_start and of_starts is not None and found.verdict:
        of_these = _verdict(metric, of_starts, rules.equivalence_percent)
        withheld = _one_start_reason(one_start, of_these)
        found = msgspec.structs.replace(found, needs=SEVERAL_STARTS, starts_verdict=of_these)
    worded: dict[Prompts, Interval | None] = {}
    for question, interval in intervals.items():
        if interval is not None:
            verdict = "unknown" if withheld else _verdict(metric, interval, rules.equivalence_percent)
            interval = msgspec.structs.replace(interval, verdict=verdict if found.verdict else "")
        worded[question] = interval
    found = msgspec.structs.replace(found, these_prompts=worded["fixed"], prompts_like_these=worded["sampled"])
    if withheld and found.verdict:
        found = msgspec.structs.replace(found, verdict="unknown", reason=withheld)
    return _with_shown(found, worded[rules.prompts])


def _with_shown(found: Difference, shown: Interval | None) -> Difference:
    """The difference with the interval that the comparison shows."""
    if shown is None:
        return found
    return msgspec.structs.replace(
        found,
        low_percent=shown.low_percent,
        high_percent=shown.high_percent,
        confidence_percent=shown.confidence_percent,
        basis=shown.basis,
        p_value=shown.p_value,
        adjusted_p=shown.adjusted_p,
        verdict=shown.verdict,
    )


def _verdict(metric: Metric, interval: Interval, equivalence_percent: float) -> Verdict:
    """By the interval alone. "unknown" if it does not cover other trials."""
    low, high = interval.low_percent, interval.high_percent
    if interval.p_value is None:
        return "unknown"
    if low <= 0 <= high:
        return "same" if max(-low, high) <= equivalence_percent else "inconclusive"
    if metric.unit in _SPEED_UNITS:
        return "faster" if (low > 0) == (metric.better == "higher") else "slower"
    return "more" if low > 0 else "less"


def _one_start_reason(arms: tuple[str, ...], verdict: Verdict) -> str:
    """Why trials of one start give no general verdict, and their verdict on these starts."""
    which = "these two starts" if len(arms) > 1 else f"this start of {', '.join(arms)}"
    word = "≈ same" if verdict == "same" else verdict
    return (
        f"{which}: {word}. Another start of an engine may be faster or slower: restart the engines between trials "
        "(restart: always), or state how much starts vary (`inferometer compare STUDY --starts-sd 1.5%`)"
    )

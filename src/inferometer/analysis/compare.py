"""What do the arms' trials show beside one another? Estimates with intervals, differences with verdicts, and findings.

docs/statistics.md says how the numbers are made; `stats` makes them.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean
from typing import Literal

import msgspec
import numpy as np

from inferometer.analysis.column_definitions import notes_of
from inferometer.analysis.thresholds import BURST_TOKENS
from inferometer.core.record import Finding
from inferometer.metrics import statistics
from inferometer.metrics.acceptance import Speculation
from inferometer.metrics.request_timing import MetricDialect
from inferometer.metrics.rows import Metric, is_detail, metric_rows, minimum_values
from inferometer.metrics.statistics import Floats, VarianceComponents
from inferometer.metrics.summary import TrialSummary

PRIMARY = "output_throughput"
"""The metric that a study is about unless it names another."""
EFFECT_PERCENT = 5.0
"""How many trials would show a difference of so much is said, unless another size is asked for: less rarely decides."""

Verdict = Literal["faster", "slower", "more", "less", "no difference shown", "unknown", ""]
"""`faster` and `slower` of times and rates, `more` and `less` of anything else; "" where neither way is better."""

_WHERE_KNOWN = frozenset({"open_loop", "phase", "energy"})
"""Groups of rows that are left out where no arm has them."""
_SPEEDS = frozenset({"ms", "s", "tok/s", "req/s"})


class Estimate(msgspec.Struct, frozen=True):
    """A metric of an arm: the mean over its `n` trials that have it, and its 95% interval.

    `basis`: what the interval covers: "trials and prompts", "trials", "prompts" (one trial), or "" where there is none,
    and then `reason` says why.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    basis: str = ""
    reason: str = ""


class Difference(msgspec.Struct, frozen=True):
    """`arm` against `baseline` in one metric.

    `ratio` is the geometric mean of the paired trials' ratios (of the means where the trials are no pairs, or hold
    zeros), `percent` the same as a difference, `low_percent` and `high_percent` its 95% interval, with `basis` and
    `reason` as in Estimate. `p_value` is not adjusted; `adjusted_p` is what verdicts of rows other than the
    primary go by. `detectable_percent`: the smallest difference that this design would have shown with 80% power.
    `trials_needed`: how many trials an arm would show a difference of the comparison's `effect_percent`; None where no
    number does, or it is not known. `prompts_percent`: the half-width that the prompts alone make.
    """

    arm: str
    baseline: str
    ratio: float | None = None
    percent: float | None = None
    low_percent: float | None = None
    high_percent: float | None = None
    verdict: Verdict = ""
    basis: str = ""
    reason: str = ""
    p_value: float | None = None
    adjusted_p: float | None = None
    detectable_percent: float | None = None
    trials_needed: int | None = None
    prompts_percent: float | None = None
    paired: bool = True


class ComparisonRow(msgspec.Struct, frozen=True):
    """One metric of every arm, and the differences of every pair: those against the first arm first.

    `differs`: of arms whose numbers another tool defined otherwise than we do, how. A label ends with a mark, as [1],
    where the arms' definitions are not the same; the comparison's notes tell what it means, and no verdict is given.
    `group`: one of `metrics.GROUPS`. `detail`: a reader can do without it at first.
    """

    metric: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    estimates: dict[str, Estimate]
    differences: tuple[Difference, ...]
    differs: dict[str, str] = {}
    group: str = ""
    detail: bool = False

    @property
    def values(self) -> dict[str, float | None]:
        return {arm: estimate.value for arm, estimate in self.estimates.items()}

    @property
    def n(self) -> dict[str, int]:
        return {arm: estimate.n for arm, estimate in self.estimates.items()}

    @property
    def differences_percent(self) -> dict[str, float | None]:
        """Of each further arm against the first."""
        baseline = next(iter(self.estimates))
        return {found.arm: found.percent for found in self.differences if found.baseline == baseline}

    def against(self, baseline: str, arm: str) -> Difference:
        """Of one pair. Raises StopIteration where the arms are not in this order."""
        return next(found for found in self.differences if (found.baseline, found.arm) == (baseline, arm))


class Comparison(msgspec.Struct, frozen=True):
    """The arms in order, the first being the baseline.

    `trials`: how many done trials each arm has. `primary`: the metric that the comparison is about. `looked_at`: the
    study went on until its result was narrow, and its intervals allow for that. `correction` names what was done about
    many verdicts. `invalid`: a finding says that the result may not be believed, and no verdict is given. `pairs`:
    which arms are compared, baseline and arm; empty where every arm is with every other.
    """

    arms: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    trials: dict[str, int]
    dialect: MetricDialect = "inferometer"
    primary: str = PRIMARY
    effect_percent: float = EFFECT_PERCENT
    looked_at: bool = False
    stopped: str = ""
    correction: str = ""
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    speculation: tuple[Speculation, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()

    def parts(self) -> tuple["Comparison", ...]:
        """What stands in one table each: every pair by itself, or all arms where there are no pairs."""
        return tuple(self._pair(baseline, arm) for baseline, arm in self.pairs) or (self,)

    def _pair(self, baseline: str, arm: str) -> "Comparison":
        def own(row: ComparisonRow) -> ComparisonRow:
            estimates = {name: row.estimates[name] for name in (baseline, arm)}
            found = tuple(one for one in row.differences if (one.baseline, one.arm) == (baseline, arm))
            return msgspec.structs.replace(row, estimates=estimates, differences=found)

        trials = {name: self.trials[name] for name in (baseline, arm)}
        return msgspec.structs.replace(
            self, arms=(baseline, arm), rows=tuple(map(own, self.rows)), trials=trials, pairs=()
        )

    @property
    def invalid(self) -> bool:
        return any(finding.severity == "invalid" for finding in self.findings)

    def said(self, severity: Literal["note", "warning", "invalid"]) -> list[str]:
        """The findings of that severity, in words; what was found in several trials of an arm is said once."""
        same: dict[tuple[str, str, int], list[Finding]] = {}
        for place, finding in enumerate(self.findings):
            if finding.severity == severity:
                key = (finding.code, finding.arm, place if finding.trial is None else -1)
                same.setdefault(key, []).append(finding)
        return [_said_once(found) for found in same.values()]

    @property
    def primary_row(self) -> ComparisonRow | None:
        """None where no trial has the metric."""
        return next((row for row in self.rows if row.metric == self.primary), None)


def _said_once(found: Sequence[Finding]) -> str:
    first, *others = found
    also = f" (Also in trial {', '.join(str(finding.trial) for finding in others)}.)" if others else ""
    return first.sentence + also


def compare(
    summaries: Sequence[TrialSummary],
    findings: Iterable[Finding] = (),
    *,
    primary: str = PRIMARY,
    effect_percent: float = EFFECT_PERCENT,
    looked_at: bool = False,
    speculation: Sequence[Speculation] = (),
    pairs: Sequence[tuple[str, str]] = (),
) -> Comparison:
    """The comparison of these trials; arms come in the order in which they first appear. Rows from due are there only
    where something was due at a time. `pairs`: baseline and arm, where not every arm is held against every other.

    Raises ValueError for no trials, for trials of different metric dialects or percentiles, and for an unknown primary
    metric.
    """
    if not summaries:
        raise ValueError("there is no trial to compare")
    if len({(summary.dialect, summary.percentiles) for summary in summaries}) > 1:
        raise ValueError("trials of different metric dialects or percentiles cannot be compared")
    by_arm: dict[str, list[TrialSummary]] = {summary.arm: [] for summary in summaries}
    for summary in summaries:
        if summary.state == "done":
            by_arm[summary.arm].append(summary)
    first = summaries[0]
    told = {key for one in summaries if one.tool for key, value in one.values.items() if value is not None}
    metrics = [row for row in metric_rows(first.percentiles) if row.group != "vllm" or row.key in told]
    if primary not in {metric.key for metric in metrics}:
        raise ValueError(f"there is no metric {primary!r}")
    found = (*findings, *_kinds_of_memory(by_arm), *_bursts(by_arm))
    is_invalid = any(finding.severity == "invalid" for finding in found)
    together = tuple(pairs) or tuple(combinations(by_arm, 2))
    judged = [(metric, _row(metric, by_arm, together, effect_percent, looked_at)) for metric in metrics]
    judged = [(metric, row) for metric, row in judged if metric.group not in _WHERE_KNOWN or any(row.n.values())]
    rows, correction = _with_verdicts(judged, primary, withheld=is_invalid)
    rows, definitions = _with_marks(rows)
    return Comparison(
        arms=tuple(by_arm),
        rows=rows,
        trials={arm: len(trials) for arm, trials in by_arm.items()},
        dialect=first.dialect,
        primary=primary,
        effect_percent=effect_percent,
        looked_at=looked_at,
        correction=correction,
        notes=(*_notes(by_arm), *definitions),
        findings=found,
        speculation=tuple(speculation),
        pairs=tuple(pairs),
    )


def difference_percent(value: float | None, baseline: float | None) -> float | None:
    """Of `value` against `baseline`; None where either is unknown or the baseline is 0."""
    if value is None or baseline is None or baseline == 0:
        return None
    return 100 * (value - baseline) / baseline


# --- one row --------------------------------------------------------------------------------------


def _row(
    metric: Metric,
    by_arm: dict[str, list[TrialSummary]],
    pairs: Sequence[tuple[str, str]],
    effect_percent: float,
    looked_at: bool,
) -> ComparisonRow:
    return ComparisonRow(
        metric=metric.key,
        label=metric.label,
        unit=metric.unit,
        better=metric.better,
        estimates={arm: _estimate(metric, trials, looked_at) for arm, trials in by_arm.items()},
        differences=tuple(
            _difference(metric, (base, by_arm[base]), (arm, by_arm[arm]), effect_percent, looked_at)
            for base, arm in pairs
        ),
        differs={
            arm: text
            for arm, trials in by_arm.items()
            for trial in trials[:1]
            if (text := trial.differs.get(metric.key)) and trial.values.get(metric.key) is not None
        },
        group=metric.group,
        detail=is_detail(metric.key),
    )


def _estimate(metric: Metric, trials: Sequence[TrialSummary], looked_at: bool) -> Estimate:
    known = [trial for trial in trials if trial.values.get(metric.key) is not None]
    points = _points(metric, known)
    if not known:
        return Estimate(None, None, None, 0)
    value = fmean(points)
    reason = _too_few(metric, known)
    if reason:
        return Estimate(value, None, None, len(known), reason=reason)
    replicates = _replicates(metric, known)
    logs = _is_positive(points, replicates)
    found = _spread(points, replicates, _prompts(known), logs=logs)
    half = statistics.half_width(found, sequential=looked_at)
    if half is None or not np.isfinite(half):
        return Estimate(value, None, None, len(known), reason=_ONE_TRIAL)
    low, high = found.mean - half, found.mean + half
    if logs:
        # around the mean that is shown: the geometric one is a little lower
        low, high = value * np.exp(low - found.mean), value * np.exp(high - found.mean)
    return Estimate(value, float(low), float(high), len(known), found.basis)


_ONE_TRIAL = "one trial an arm tells nothing of how trials differ"


def _difference(
    metric: Metric,
    base: tuple[str, list[TrialSummary]],
    other: tuple[str, list[TrialSummary]],
    effect_percent: float,
    looked_at: bool,
) -> Difference:
    baseline, arm = base[0], other[0]
    first, second = ([t for t in trials if t.values.get(metric.key) is not None] for _, trials in (base, other))
    none = Difference(arm, baseline, verdict="unknown" if metric.better else "")
    if not first or not second:
        return msgspec.structs.replace(none, verdict="", reason="an arm has no value")
    paired_first, paired_second = _pairs(first, second)
    paired = bool(paired_first)
    if paired:
        first, second = paired_first, paired_second
    before, after = _points(metric, first), _points(metric, second)
    drawn = _replicates(metric, first), _replicates(metric, second)
    logs = _is_positive(before, drawn[0]) and _is_positive(after, drawn[1])
    found = _spread_of_difference(first, second, (before, after), drawn, paired=paired, logs=logs)
    scale = fmean(before)
    if not logs and scale == 0:
        if set(before) == set(after) == {0.0}:
            return msgspec.structs.replace(none, paired=paired, p_value=1.0 if len(first) > 1 else None)
        return msgspec.structs.replace(none, paired=paired, reason="the baseline is 0: there is no ratio")

    def percent(distance: float) -> float:
        return 100 * float(np.expm1(distance)) if logs else max(-100.0, 100 * distance / scale)

    middle = percent(found.mean)
    known = msgspec.structs.replace(none, percent=middle, ratio=1 + middle / 100, paired=paired)
    reason = _too_few(metric, [*first, *second])
    half = statistics.half_width(found, sequential=looked_at)
    if reason or half is None or not np.isfinite(half):
        return msgspec.structs.replace(known, reason=reason or _ONE_TRIAL)
    effect = float(np.log1p(effect_percent / 100)) if logs else effect_percent / 100 * abs(scale)
    least = statistics.detectable_difference(found)
    of_prompts = statistics.half_width(msgspec.structs.replace(found, trials_variance=None))
    return msgspec.structs.replace(
        known,
        low_percent=percent(found.mean - half),
        high_percent=percent(found.mean + half),
        basis=found.basis,
        reason="" if found.trials_variance is not None else _ONE_TRIAL,
        p_value=statistics.p_value(found, sequential=looked_at),
        detectable_percent=None if least is None else percent(least) if logs else 100 * least / abs(scale),
        trials_needed=statistics.trials_needed(found, effect),
        prompts_percent=None if of_prompts is None else percent(of_prompts) if logs else 100 * of_prompts / abs(scale),
    )


def _pairs(
    first: Sequence[TrialSummary], second: Sequence[TrialSummary]
) -> tuple[list[TrialSummary], list[TrialSummary]]:
    """Trials of the same study and number, which followed one another; empty for trials of different studies."""
    others = {(trial.study, trial.number): trial for trial in second}
    both = [(trial, others[trial.study, trial.number]) for trial in first if (trial.study, trial.number) in others]
    return [one for one, _ in both], [other for _, other in both]


def _spread_of_difference(
    first: Sequence[TrialSummary],
    second: Sequence[TrialSummary],
    points: tuple[list[float], list[float]],
    drawn: tuple[list[Floats] | None, list[Floats] | None],
    *,
    paired: bool,
    logs: bool,
) -> VarianceComponents:
    """On the log scale where `logs`. Where the arms played other prompts, these are drawn by themselves in each."""
    (before, after), (drawn_before, drawn_after) = (
        [_scaled(np.array(own), logs) for own in points],
        [None if own is None else [_scaled(one, logs) for one in own] for own in drawn],
    )
    prompts = _prompts([*first, *second])
    differences: list[Floats] | None = None
    if drawn_before is not None and drawn_after is not None:
        shift = 0 if len({trial.plan for trial in (*first, *second)}) == 1 else 1
        both = zip(drawn_before, drawn_after, strict=False)
        differences = [np.roll(other, shift) - one for one, other in both]
    if paired:
        return statistics.variance_components(list(after - before), differences, prompts)
    of_prompts = None if differences is None else statistics.prompts_variance(differences, prompts)
    alone = [statistics.variance_components(list(own), None, prompts) for own in (before, after)]
    return statistics.unpaired_difference(alone[0], alone[1], of_prompts)


def _spread(
    points: Sequence[float], replicates: list[Floats] | None, prompts: int, *, logs: bool
) -> VarianceComponents:
    drawn = None if replicates is None else [_scaled(one, logs) for one in replicates]
    return statistics.variance_components(list(_scaled(np.array(points), logs)), drawn, prompts)


def _scaled(values: Floats, logs: bool) -> Floats:
    return np.log(values) if logs else values


def _is_positive(points: Sequence[float], replicates: Sequence[Floats] | None) -> bool:
    return min(points) > 0 and all(bool((one > 0).all()) for one in replicates or ())


def _points(metric: Metric, trials: Sequence[TrialSummary]) -> list[float]:
    return [value for trial in trials if (value := trial.values[metric.key]) is not None]


def _replicates(metric: Metric, trials: Sequence[TrialSummary]) -> list[Floats] | None:
    """Of every trial; None where one has none."""
    found = [trial.replicates.get(metric.key) for trial in trials]
    known = [one for one in found if one is not None and np.isfinite(one).all()]
    return known if len(known) == len(found) else None


def _prompts(trials: Sequence[TrialSummary]) -> int:
    return min(trial.requests for trial in trials)


def _too_few(metric: Metric, trials: Sequence[TrialSummary]) -> str:
    """Why a percentile of so few values has no interval; "" where it has one or where the count is not known."""
    counts = [trial.counts[metric.key] for trial in trials if metric.key in trial.counts]
    least = minimum_values(metric)
    if not counts or min(counts) >= least:
        return ""
    return f"{min(counts)} values a trial, and an interval of this percentile needs {least}"


# --- verdicts -------------------------------------------------------------------------------------


def _with_verdicts(
    judged: Sequence[tuple[Metric, ComparisonRow]], primary: str, *, withheld: bool
) -> tuple[tuple[ComparisonRow, ...], str]:
    """The primary row at 5%; all others together by the correction that is named. None where they are withheld."""
    places = [
        (r, d)
        for r, (metric, row) in enumerate(judged)
        for d, found in enumerate(row.differences)
        if metric.better is not None and metric.key != primary and found.p_value is not None
    ]
    p_values = [p for r, d in places if (p := judged[r][1].differences[d].p_value) is not None]
    adjusted = dict(zip(places, statistics.adjusted_p_values(p_values), strict=True))
    rows: list[ComparisonRow] = []
    for r, (metric, row) in enumerate(judged):
        differences = tuple(
            _judged(
                metric,
                found,
                adjusted.get((r, d)),
                is_primary=metric.key == primary,
                withheld=_WITHHELD if withheld else _unlike(row, found),
            )
            for d, found in enumerate(row.differences)
        )
        rows.append(msgspec.structs.replace(row, differences=differences))
    correction = ""
    if places:
        correction = (
            f"the verdict on {primary} is at 5%; those of the {len(places)} others are corrected together "
            "(Benjamini-Hochberg, 5% of those called different)"
        )
    return tuple(rows), correction


_WITHHELD = "withheld: the comparison is not valid"


def _unlike(row: ComparisonRow, found: Difference) -> str:
    """Why two arms' numbers of a metric are no match; "" where they are."""
    alike = row.differs.get(found.arm) == row.differs.get(found.baseline)
    return "" if alike else "the two columns define it differently"


def _with_marks(rows: Sequence[ComparisonRow]) -> tuple[tuple[ComparisonRow, ...], list[str]]:
    """The rows with marks on the labels of those whose arms' definitions differ, and what is to be said of them."""
    told = [{arm: row.differs.get(arm, "") for arm, count in row.n.items() if count} for row in rows]
    labels = [row.label for row in rows]
    marks, notes = notes_of(labels, told)
    marked = [f"{label} {mark}".rstrip() for label, mark in zip(labels, marks, strict=True)]
    return tuple(msgspec.structs.replace(row, label=label) for row, label in zip(rows, marked, strict=True)), notes


def _judged(
    metric: Metric, found: Difference, adjusted: float | None, *, is_primary: bool, withheld: str
) -> Difference:
    if not found.verdict:
        return found
    decisive = found.p_value if is_primary else adjusted
    if withheld:
        return msgspec.structs.replace(found, verdict="unknown", reason=withheld)
    if decisive is None:
        return msgspec.structs.replace(found, adjusted_p=adjusted, verdict="unknown")
    verdict: Verdict = "no difference shown"
    if decisive < 1 - statistics.CONFIDENCE and found.percent:
        rises = found.percent > 0
        if metric.unit in _SPEEDS:
            verdict = "faster" if rises == (metric.better == "higher") else "slower"
        else:
            verdict = "more" if rises else "less"
    return msgspec.structs.replace(found, adjusted_p=adjusted, verdict=verdict)


# --- what to know ---------------------------------------------------------------------------------


def _notes(by_arm: dict[str, list[TrialSummary]]) -> Iterable[str]:
    """Each note once; with its arms where it is not true of all."""
    arms_of: dict[str, list[str]] = {}
    for arm, trials in by_arm.items():
        for note in dict.fromkeys(note for trial in trials for note in trial.notes):
            arms_of.setdefault(note, []).append(arm)
    for note, arms in arms_of.items():
        yield note if len(arms) == len(by_arm) else f"{', '.join(arms)}: {note}"


def _kinds_of_memory(by_arm: dict[str, list[TrialSummary]]) -> Iterable[Finding]:
    kinds = {trial.memory_quantity for trials in by_arm.values() for trial in trials} - {None}
    if len(kinds) > 1:
        message = "Memory Usage is not of the same kind in all trials: its difference means nothing."
        yield Finding("warning", "memory-kind", message, "See the notes on what it is made of.")


def _bursts(by_arm: dict[str, list[TrialSummary]]) -> Iterable[Finding]:
    """Of each arm whose tokens come several at a time, which the gaps between chunks do not tell."""
    for arm, trials in by_arm.items():
        known = [size for trial in trials if (size := trial.values.get("tokens_per_burst")) is not None]
        if known and fmean(known) >= BURST_TOKENS:
            message = (
                f"its tokens come {fmean(known):.2g} at a time: rows of ITL and chunk gaps count the gaps within a "
                "burst too, which are nearly 0, so that their median says nothing of its speed."
            )
            yield Finding("note", "bursts", message, "Read TPOT, or ITL per token.", arm=arm)

"""The result of a comparison: estimates and differences with intervals, verdicts, findings and notes, as structs."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec

from inferometer.analysis.answer_quality import QualityDifference
from inferometer.analysis.fidelity import FidelityDifference
from inferometer.analysis.set_ups import ArmSetUp, StudyExtent
from inferometer.core.record import Finding
from inferometer.core.spec import PRIMARY_METRIC
from inferometer.metrics.acceptance import Speculation
from inferometer.metrics.request_timing import MetricDialect

PRIMARY = PRIMARY_METRIC
"""The default primary metric of a study."""
EFFECT_PERCENT = 5.0
"""Default size of the difference for which `trials_needed` is computed: smaller differences rarely decide anything."""

EQUIVALENCE_PERCENT = 2.0
"""Default bound of `same`: the program's own goal is to show differences of 2%."""

Verdict = Literal["faster", "slower", "more", "less", "same", "inconclusive", "unknown", ""]
"""`faster` and `slower` for times and rates, `more` and `less` for anything else: the interval excludes 0. `same`: the
interval contains 0 and lies within the equivalence bound. `inconclusive`: it contains 0 and more than that bound. "" if
neither direction of the metric is better."""
Prompts = Literal["sampled", "fixed"]
"""The question that an interval answers. `sampled`: what other prompts like these would show (covers other rounds and
other prompts). `fixed`: what these prompts would show again (covers other rounds only)."""


class Estimate(msgspec.Struct, frozen=True):
    """A metric of an arm: the mean over the `n` trials that have a value, and its 95% interval. `deviation`: standard
    deviation from run to run, None for one trial.

    `basis`: what the interval covers: "trials and prompts", "trials", "prompts" (one trial), or "" without an interval;
    `reason` then says why there is none.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    basis: str = ""
    reason: str = ""
    deviation: float | None = None


class Interval(msgspec.Struct, frozen=True):
    """An interval of a difference and the verdict made from it. `confidence_percent`: 95, or more if several verdicts
    are given together. `p_value`: not adjusted; None if the variation between trials is unknown. `adjusted_p`: adjusted
    for the verdicts given together. `basis` as in Estimate."""

    low_percent: float
    high_percent: float
    confidence_percent: float = 95.0
    basis: str = ""
    verdict: Verdict = ""
    p_value: float | None = None
    adjusted_p: float | None = None


class Difference(msgspec.Struct, frozen=True):
    """`arm` compared with `baseline` in one metric.

    `ratio`: geometric mean of the paired trials' ratios (of the means if the trials are not pairs or contain zeros).
    `percent`: the ratio as a difference. `these_prompts` and `prompts_like_these`: the intervals that answer the two
    questions of Prompts. `low_percent` to `adjusted_p` repeat the one that the comparison shows, with `basis` and
    `reason` as in Estimate. `needs`: what an unknown verdict needs, for example "368 requests"; or "several starts", if
    those of this study cannot show the comparison's `effect_percent`. `starts_verdict`: if all trials of an arm ran in
    one start of its engine, the verdict that holds for these starts only. `same_as`: the row that states the same fact,
    such as the throughput for the duration if the tokens are equal; both rows have one verdict. `detectable_percent`:
    the smallest difference that this design detects with 80% power. `trials_needed`: trials per arm that detect a
    difference of the comparison's `effect_percent`; None if no number of trials does, or if unknown. `prompts_needed`:
    prompts that detect it, if more trials cannot. `prompts_percent`: the half-width that is due to the prompts alone.
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
    confidence_percent: float | None = None
    these_prompts: Interval | None = None
    prompts_like_these: Interval | None = None
    needs: str = ""
    starts_verdict: Verdict = ""
    same_as: str = ""
    prompts_needed: int | None = None


class ComparisonRow(msgspec.Struct, frozen=True):
    """One metric of every arm, and the differences of every pair: those against the first arm come first.

    `differs`: by arm, how the tool that measured the arm defines the metric differently from us. If the arms'
    definitions differ, the label ends with a mark such as [1], a note of the comparison explains the mark, and no
    verdict is given. `group`: one of `metrics.rows.GROUPS`. `detail`: a short table leaves the row out.
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
        """Of each other arm against the first."""
        baseline = next(iter(self.estimates))
        return {found.arm: found.percent for found in self.differences if found.baseline == baseline}

    def against(self, baseline: str, arm: str) -> Difference:
        """The difference of one pair. Raises StopIteration if there is no such pair in this order."""
        return next(found for found in self.differences if (found.baseline, found.arm) == (baseline, arm))


class _Compared(Protocol):
    @property
    def baseline(self) -> str: ...

    @property
    def arm(self) -> str: ...


_AnyDifference = TypeVar("_AnyDifference", bound=_Compared)


def of_pair(differences: Iterable[_AnyDifference], baseline: str, arm: str) -> _AnyDifference | None:
    """The difference of `arm` from `baseline`; None if these were not compared in this order."""
    return next((one for one in differences if (one.baseline, one.arm) == (baseline, arm)), None)


class Comparison(msgspec.Struct, frozen=True):
    """The arms in order; the first is the baseline.

    `trials`: number of done trials by arm. `primary`: key of the primary metric. `looked_at`: the study continued until
    its result was narrow enough, and its intervals allow for that. `correction`: how the verdicts were adjusted for
    multiple comparisons. `prompts`: which of the two intervals the differences repeat. `equivalence_percent`: bound of
    the verdict `same`. `invalid`: a finding says that the result is not valid, so that no verdict is given. `pairs`:
    the pairs that are compared, as baseline and arm; empty if every arm is compared with every other.
    `quality`: differences in right answers, if answers were checked. `fidelity`: differences in token probabilities, if
    the fidelity pass ran. `starts_sd_percent`: standard deviation of the primary metric from start to start of an
    engine, if somebody stated it; verdicts on one start per arm need it. `ladder`: whether the arms are files of one
    model (see `analysis.quantisation_ladder`).
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
    set_ups: tuple[ArmSetUp, ...] = ()
    extent: StudyExtent | None = None
    prompts: Prompts = "sampled"
    equivalence_percent: float = EQUIVALENCE_PERCENT
    quality: tuple[QualityDifference, ...] = ()
    fidelity: tuple[FidelityDifference, ...] = ()
    starts_sd_percent: float | None = None
    ladder: bool = False

    def parts(self) -> tuple["Comparison", ...]:
        """One comparison per table: each of `pairs` separately, or this comparison if there are none."""
        return tuple(self._pair(baseline, arm) for baseline, arm in self.pairs) or (self,)

    def _pair(self, baseline: str, arm: str) -> "Comparison":
        def row_of_pair(row: ComparisonRow) -> ComparisonRow:
            estimates = {name: row.estimates[name] for name in (baseline, arm)}
            differences = tuple(found for found in row.differences if (found.baseline, found.arm) == (baseline, arm))
            return msgspec.structs.replace(row, estimates=estimates, differences=differences)

        trials = {name: self.trials[name] for name in (baseline, arm)}
        rows = tuple(map(row_of_pair, self.rows))
        return msgspec.structs.replace(self, arms=(baseline, arm), rows=rows, trials=trials, pairs=())

    @property
    def invalid(self) -> bool:
        return any(finding.severity == "invalid" for finding in self.findings)

    def finding_texts(self, severity: Literal["note", "warning", "invalid"]) -> list[str]:
        """The findings of a severity as text. Findings with the same code and arm in several trials are merged."""
        merged: dict[tuple[str, str, int], list[Finding]] = {}
        for position, finding in enumerate(self.findings):
            if finding.severity == severity:
                key = (finding.code, finding.arm, position if finding.trial is None else -1)
                merged.setdefault(key, []).append(finding)
        return [_merged_text(found) for found in merged.values()]

    @property
    def primary_row(self) -> ComparisonRow | None:
        """None if no trial has the metric."""
        return next((row for row in self.rows if row.metric == self.primary), None)


def _merged_text(found: Sequence[Finding]) -> str:
    first, *others = found
    also = f" (Also in trial {', '.join(str(finding.trial) for finding in others)}.)" if others else ""
    return first.sentence + also

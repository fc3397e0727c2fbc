"""The result of a search: what was tried, and the decision from the confirmation alone."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from inferometer.analysis.comparison import Comparison, Difference
from inferometer.analysis.decision import not_valid, quality_of_pair
from inferometer.analysis.search.proposals import Settings
from inferometer.analysis.search.racing import Race
from inferometer.base.units import value_text
from inferometer.core.search_settings import Constraint, Search, Value

BASELINE = "baseline"


class Tried(msgspec.Struct, frozen=True):
    """One setting of the search. `gain_percent`: compared with the baseline in the same rounds, with a 95% interval
    that does not allow for the choice among many settings; None without a value. `left`: why it left the search."""

    name: str
    settings: dict[str, Value]
    gain_percent: float | None
    low_percent: float | None
    high_percent: float | None
    rounds: int
    left: str = ""


class Decision(msgspec.Struct, frozen=True):
    """`chosen`: the arm to use, BASELINE where no setting pays. `sentences`: the decision in words. `difference`: the
    confirmed gain of the winner, from fresh rounds on held-out prompts; None where nothing was confirmed."""

    chosen: str
    sentences: tuple[str, ...]
    difference: Difference | None = None


class TuneResult(msgspec.Struct, frozen=True):
    """`command`, `request`: of the chosen arm, with the fields of its requests. `gain_is`: what the gains are of, with
    their direction."""

    decision: Decision
    tried: tuple[Tried, ...]
    gain_is: str
    parameters: tuple[str, ...]
    scales: tuple[str, ...]
    trials: int
    command: str = ""
    request: dict[str, Any] = {}  # JSON of any shape
    notes: tuple[str, ...] = ()


def setting_name(search: Search, settings: Settings) -> str:
    """`n_max 8, p_min 0.4`: the last name of each parameter that varies, or its whole path where two share the last
    name."""
    varied = {path: value for path, value in zip(search.parameters, settings, strict=True) if path in search.varied}
    last = [path.partition(".")[2] or path for path in varied]
    names = [path if last.count(short) > 1 else short for path, short in zip(varied, last, strict=True)]
    return ", ".join(
        f"{name} {'(empty)' if value == '' else value}" for name, value in zip(names, varied.values(), strict=True)
    )


def tried(search: Search, race: Race[Settings]) -> tuple[Tried, ...]:
    """Every setting that was measured or refused, the best first."""
    measured = sorted((one for one, found in race.values.items() if found), key=lambda one: -race.mean(one))
    order = [*measured, *(one for one, found in race.values.items() if not found)]
    return tuple(_tried(search, one, race) for one in order)


def _tried(search: Search, one: Settings, race: Race[Settings]) -> Tried:
    values, settings = race.values[one], dict(zip(search.parameters, one, strict=True))
    name, left = setting_name(search, one), race.left.get(one, "")
    if not values:
        return Tried(name, settings, None, None, None, 0, left)
    low, high = race.interval(one)
    return Tried(name, settings, _percent(race.mean(one)), _percent(low), _percent(high), len(values), left)


def _percent(log: float) -> float | None:
    return 100 * math.expm1(log) if math.isfinite(log) else None


def none_left(race: Race[Settings]) -> str:
    """Why a search has no setting to confirm."""
    if race.values.keys() <= race.dropped:
        reasons = Counter(race.left[one].partition(":")[0] for one in race.dropped)
        counts = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
        return f"None of the {len(race.dropped)} settings can be used: {counts}."
    return "None looked better in the search."


# --- the decision ---------------------------------------------------------------------------------


def decision(
    comparison: Comparison, ranked: Sequence[str], constraints: Sequence[Constraint], *, minimise: bool
) -> Decision:
    """From the confirmation. `ranked`: the confirmed arms in the order of the search, the winner first. `minimise`:
    whether a smaller value of the objective is better.

    The first arm that is valid and keeps the constraints is judged. It pays if its interval against the baseline
    excludes 0 in the better direction."""
    row = comparison.primary_row
    notes: list[str] = []
    for arm in ranked:
        if row is None or not row.n.get(arm) or not row.n.get(BASELINE):
            notes.append(f"{arm} has no value in the confirmation.")
        elif why := not_valid(comparison, BASELINE, arm):
            notes.append(f"{arm} is {why}")
        elif broken := _broken(comparison, arm, constraints):
            notes.append(f"{arm} does not keep the constraint {broken}")
        else:
            return _judged(comparison, arm, ranked, notes, minimise=minimise)
    return Decision(BASELINE, ("No setting pays: keep the baseline.", *notes))


def _judged(
    comparison: Comparison, arm: str, ranked: Sequence[str], notes: Sequence[str], *, minimise: bool
) -> Decision:
    row = comparison.primary_row
    assert row is not None
    found = row.against(BASELINE, arm)
    span = _span(found)
    if not _is_better(found, minimise=minimise):
        first = f"No setting pays: keep the baseline. The best of the search, {arm}, is {span} in {row.label}."
        return Decision(BASELINE, (first, *notes), found)
    lines = [f"Use {arm}: {span} in {row.label} compared with the baseline, on held-out prompts."]
    others = [other for other in ranked if other != arm and row.n.get(other)]
    lines += [_against_runner_up(row.against(*_pair(ranked, arm, other)), arm, other) for other in others]
    return Decision(arm, (*lines, *_memory(comparison, arm), *_quality(comparison, arm), *notes), found)


def _pair(ranked: Sequence[str], arm: str, other: str) -> tuple[str, str]:
    """The two arms in the order of the comparison."""
    first, second = sorted((arm, other), key=ranked.index)
    return first, second


def _is_better(found: Difference, *, minimise: bool) -> bool:
    low, high = found.low_percent, found.high_percent
    if low is None or high is None or found.p_value is None or found.verdict == "unknown":
        return False
    return high < 0 if minimise else low > 0


def _span(found: Difference) -> str:
    if found.percent is None:
        return "unknown"
    if found.low_percent is None or found.high_percent is None:
        return f"{found.percent:+.1f}% (no interval: {found.reason})"
    ends = f"{found.low_percent:+.1f}% to {found.high_percent:+.1f}%"
    return f"{found.percent:+.1f}% ({found.confidence_percent or 95:.0f}% CI {ends})"


def _against_runner_up(found: Difference, arm: str, other: str) -> str:
    is_open = found.verdict in ("inconclusive", "same", "unknown", "")
    words = "The two are not shown to differ" if is_open else f"{found.arm} compared with {found.baseline}"
    return f"Runner-up {other}: {words} ({_span(found)})."


def _memory(comparison: Comparison, arm: str) -> list[str]:
    row = next((one for one in comparison.rows if one.metric == "memory_gib"), None)
    before, after = (None, None) if row is None else (row.values.get(BASELINE), row.values.get(arm))
    if before is None or after is None:
        return []
    change = f"{100 * (after / before - 1):+.1f}%" if before else "unknown"
    return [f"Memory: {value_text(before, 'GiB')} → {value_text(after, 'GiB')} GiB ({change})."]


def _quality(comparison: Comparison, arm: str) -> list[str]:
    found = quality_of_pair(comparison, BASELINE, arm)
    if found is None:
        return []
    words = {"same": "not worse", "worse": "worse", "better": "better"}.get(found.verdict, "inconclusive")
    return [
        f"Right answers: {words} ({found.points:+.1f} points, 95% CI {found.low_points:+.1f} to "
        f"{found.high_points:+.1f}, {found.problems} problems)."
    ]


# --- constraints ----------------------------------------------------------------------------------


def _broken(comparison: Comparison, arm: str, constraints: Sequence[Constraint]) -> str:
    """The first constraint that the arm does not keep, with the evidence; "" if it keeps all."""
    rows = {row.metric: row for row in comparison.rows}
    for one in constraints:
        row = rows.get(one.metric)
        if one.limit is None:
            if why := _worse_than_baseline(comparison, arm, one):
                return why
        elif row is not None and one.holds(row.values.get(arm)) is False:
            return f"“{one.text}”: {value_text(row.values[arm] or 0.0, row.unit)} {row.unit}"
    return ""


def _worse_than_baseline(comparison: Comparison, arm: str, one: Constraint) -> str:
    if one.metric.startswith("checks_passed"):
        found = quality_of_pair(comparison, BASELINE, arm)
        return f"“{one.text}”: {found.points:+.1f} points" if found is not None and found.verdict == "worse" else ""
    row = next((row for row in comparison.rows if row.metric == one.metric), None)
    if row is None or row.better is None or not row.n.get(arm):
        return ""
    difference = row.against(BASELINE, arm)
    is_worse = difference.verdict in ("slower", "less" if row.better == "higher" else "more")
    return f"“{one.text}”: {_span(difference)}" if is_worse else ""


def broken_limit(values: Mapping[str, float | None], constraints: Sequence[Constraint]) -> str:
    """The first limit that these mean values exceed, with the value; "" if they keep all. Constraints relative to the
    baseline are judged in the confirmation."""
    for one in constraints:
        value = values.get(one.metric)
        if value is not None and one.holds(value) is False:
            return f"violates “{one.text}”: {value:.4g}"
    return ""

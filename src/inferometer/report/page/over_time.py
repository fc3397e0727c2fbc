"""Curves of a trial over time: tokens per second, requests under way, memory, power, clocks, CPU use.

With interleaved requests, all curves but that of memory are of the arm's own turns: a step's value leaves out the time
in which the arm waited, and a step in which it waited most of the time has none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Literal

import msgspec
import numpy as np

from inferometer.analysis.validity import ArmTrials
from inferometer.base.units import NS_PER_S, gib, seconds
from inferometer.core import quantities
from inferometer.core.grouped_values import Ints
from inferometer.core.record import Sample
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics.measures import TrialView
from inferometer.metrics.memory import engine_samples, held_bytes, memory_quantity
from inferometer.metrics.series import Floats
from inferometer.metrics.trial_columns import burst_times
from inferometer.metrics.turns import turns_of, whole_intervals_within, within

MOST_BUCKETS = 240
MOST_OF_TOKENS = 60
MOST_TRIALS = 8
_LEAST_WORKED = 0.2
"""Share of a step in which an arm must have had its turn: less is too short for a rate."""
_BUCKETS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class Curve(msgspec.Struct, frozen=True):
    """One arm's values. `at_s` counts from the start of the plan, so that loading lies before 0."""

    arm: str
    at_s: tuple[float, ...]
    values: tuple[float, ...]


class CurveGroup(msgspec.Struct, frozen=True):
    """Data of one picture: every arm's curve of one quantity. `note` describes one value."""

    key: str
    title: str
    unit: str
    note: str
    curves: tuple[Curve, ...]


class TrialCurves(msgspec.Struct, frozen=True):
    """The trials with the same number, one of each arm."""

    number: int
    quantities: tuple[CurveGroup, ...]


class _ProbeCurve(msgspec.Struct, frozen=True):
    """A quantity from the probes: mean or maximum per device within a step, then combined over the devices."""

    quantity: str
    title: str
    unit: str
    over_devices: Literal["sum", "mean", "max"]
    within: Literal["mean", "max"] = "mean"


_PROBE_CURVES = (
    _ProbeCurve(quantities.POWER_W, "GPU power", "W", "sum"),
    _ProbeCurve(quantities.SM_CLOCK_MHZ, "GPU clock", "MHz", "mean"),
    _ProbeCurve(quantities.MEMORY_CLOCK_MHZ, "GPU memory clock", "MHz", "mean"),
    _ProbeCurve(quantities.GPU_TEMPERATURE_C, "GPU temperature", "°C", "max", "max"),
    _ProbeCurve(quantities.GPU_UTILIZATION_PERCENT, "GPU utilisation", "%", "mean"),
    _ProbeCurve(quantities.ENGINE_CPU_CORES, "Engine CPU", "cores", "sum"),
    _ProbeCurve(quantities.OTHER_CPU_CORES, "CPU of other processes", "cores", "sum"),
)
_REDUCERS: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "mean": fmean, "max": max}


def runs(cases: Sequence[ArmTrials]) -> tuple[TrialCurves, ...]:
    """The first MOST_TRIALS trials by number, with the quantities that any arm has."""
    by_number: defaultdict[int, list[tuple[str, TrialView]]] = defaultdict(list)
    for case in cases:
        for trial in case.trials:
            if trial.trial.plan_started_ns is not None and trial.size:
                by_number[trial.trial.number].append((case.name, trial))
    found: list[TrialCurves] = []
    for number in sorted(by_number)[:MOST_TRIALS]:
        trials = by_number[number]
        quantities = [
            _quantity("tokens", "Tokens per second", "tok/s", "output tokens that arrived", _tokens, trials),
            _quantity("concurrency", "Requests under way", "requests", "sent and not ended", _under_way, trials),
            _quantity("memory", "Engine memory", "GiB", "maximum in each step", _memory, trials),
            *(
                _quantity(one.quantity, one.title, one.unit, f"{one.within} in each step", _reader(one), trials)
                for one in _PROBE_CURVES
            ),
        ]
        found.append(TrialCurves(number, tuple(one for one in quantities if any(curve.at_s for curve in one.curves))))
    return tuple(one for one in found if one.quantities)


def bucket_s(span_s: float) -> float:
    """Width of a step for a trial of this length: a round width that gives at most MOST_BUCKETS steps, if possible."""
    return next((width for width in _BUCKETS_S if span_s / width <= MOST_BUCKETS), span_s / MOST_BUCKETS)


def _quantity(
    key: str,
    title: str,
    unit: str,
    note: str,
    of: Callable[[TrialView, float], dict[int, float]],
    trials: Sequence[tuple[str, TrialView]],
) -> CurveGroup:
    """One picture, with the same step width for all arms. `of` returns values by step number, from the plan's start."""
    width = max(bucket_s(_span_s(trial)) for _, trial in trials)
    if key == "tokens":  # short steps would show bursts and prefills, which the token timeline shows already
        width = max(bucket_s(_span_s(trial) * MOST_BUCKETS / MOST_OF_TOKENS) for _, trial in trials)
    curves = [_curve(arm, of(trial, width), width) for arm, trial in trials]
    if key != "memory" and any(turns_of(trial.trial) for _, trial in trials):
        note += ", in the arm's own turns"
    return CurveGroup(key, title, unit, f"{note}, steps of {width:g} s", tuple(curves))


def _curve(arm: str, values: dict[int, float], width: float) -> Curve:
    steps = sorted(values)
    return Curve(arm, tuple(round((step + 0.5) * width, 3) for step in steps), tuple(values[step] for step in steps))


def _span_s(trial: TrialView) -> float:
    stamps = [sample.at_ns for sample in trial.trial.samples] + [int(trial.records.numbers["done_ns"].max())]
    return seconds(max(stamps) - min([0, *stamps]))


def _step(at_ns: float, trial: TrialView, width: float) -> int:
    return int((at_ns - (trial.trial.plan_started_ns or 0)) // (width * NS_PER_S))


def _tokens(trial: TrialView, width: float) -> dict[int, float]:
    """Output rate from the plan's start to its end, without the last, incomplete step unless it is the only one."""
    last = _step(int(trial.records.numbers["done_ns"].max()), trial, width)
    counted: Floats = np.zeros(max(1, last))
    some = False
    for at_ns, tokens in burst_times(trial):
        some |= bool(len(at_ns))
        steps = (at_ns - (trial.trial.plan_started_ns or 0)) // round(width * NS_PER_S)
        within = (steps >= 0) & (steps < len(counted))
        counted += np.bincount(steps[within], tokens[within], minlength=len(counted))
    if not some:
        return {}
    return _while_working({step: float(count) / width for step, count in enumerate(counted)}, trial, width)


def _under_way(trial: TrialView, width: float) -> dict[int, float]:
    """Requests under way, averaged over the time of each step."""
    sent = trial.records.numbers["sent_ns"] != UNKNOWN
    if not sent.any():
        return {}
    began_ns, step_ns = trial.trial.plan_started_ns or 0, width * NS_PER_S
    sent_ns, done_ns = (trial.records.numbers[name][sent] - began_ns for name in ("sent_ns", "done_ns"))
    edges: Floats = np.arange(int(done_ns.max() // step_ns) + 2, dtype=np.float64) * step_ns
    busy = np.diff(_time_since(sent_ns, edges) - _time_since(done_ns, edges)) / step_ns
    return _while_working({step: round(float(count), 9) for step, count in enumerate(busy)}, trial, width)


def _time_since(stamps_ns: Ints, edges: Floats) -> Floats:
    """At each edge: the sum of the times that have passed since each of the stamps before it, ns."""
    ordered = np.sort(stamps_ns)
    reached = np.searchsorted(ordered, edges)
    return reached * edges - np.concatenate(([0.0], np.cumsum(ordered, dtype=np.float64)))[reached]


def _while_working(values: dict[int, float], trial: TrialView, width: float) -> dict[int, float]:
    """Values per second of each step, per second of the arm's own turns; unchanged for a trial without turns."""
    turns = turns_of(trial.trial)
    if not turns:
        return values
    worked: defaultdict[int, float] = defaultdict(float)
    step_ns, began_ns = width * NS_PER_S, trial.trial.plan_started_ns or 0
    for start, end in turns:
        for step in range(_step(start, trial, width), _step(end, trial, width) + 1):
            begin = began_ns + step * step_ns
            worked[step] += max(0.0, min(end, begin + step_ns) - max(start, begin)) / step_ns
    return {step: value / worked[step] for step, value in values.items() if worked[step] >= _LEAST_WORKED}


def _memory(trial: TrialView, width: float) -> dict[int, float]:
    samples, found = engine_samples(trial.trial), dict[int, float]()
    for at_ns, value in held_bytes(samples, memory_quantity(samples)).items():
        step = _step(at_ns, trial, width)
        found[step] = max(gib(value), found.get(step, 0.0))
    return found


def _reader(read: _ProbeCurve) -> Callable[[TrialView, float], dict[int, float]]:
    def values(trial: TrialView, width: float) -> dict[int, float]:
        samples = [sample for sample in trial.trial.samples if sample.quantity == read.quantity]
        if turns := turns_of(trial.trial):
            covers_time = read.quantity in (quantities.ENGINE_CPU_CORES, quantities.OTHER_CPU_CORES)
            samples = whole_intervals_within(turns, samples) if covers_time else within(turns, samples)
        return _over_devices(samples, read, lambda at_ns: _step(at_ns, trial, width))

    return values


def _over_devices(samples: Sequence[Sample], read: _ProbeCurve, step_of: Callable[[int], int]) -> dict[int, float]:
    """The steps in which every device was read, each combined over the devices."""
    by_step: defaultdict[int, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_step[step_of(sample.at_ns)][f"{sample.device}/{sample.pid}"].append(sample.value)
    devices = {device for step in by_step.values() for device in step}
    return {
        step: _REDUCERS[read.over_devices](_REDUCERS[read.within](values) for values in each.values())
        for step, each in by_step.items()
        if len(each) == len(devices)
    }

"""Was the machine warm, steady and quiet, did the client keep up, and did everything succeed?"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, median

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, each
from inferometer.core.record import Finding, Sample
from inferometer.metrics.measures import RequestView, TrialView
from inferometer.metrics.request_measures import cached_tokens
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.statistics import robust_line, trend_p_value


@each
def not_warm(case: ArmTrials) -> Iterable[Finding]:
    """The first request of a trial against the rest, in time per token and in TTFT for its length."""
    for name, of in (("time per output token", _tpots), ("TTFT for its length", _ttft_residuals)):
        found = [share for trial in case.done if (share := _first_excess(of(trial))) is not None]
        slow = [share for share in found if share > 0]
        if slow and 2 * len(slow) > len(found):
            yield case.finding(
                "warning",
                "not-warm",
                f"the first request is {median(slow):.0%} slower than the rest in {name} "
                f"({len(slow)} of {len(found)} trials).",
                "Give more warm-ups (`warmups:`), so that compiling, paging and rising clocks come before.",
            )


def _first_excess(values: Sequence[float]) -> float | None:
    """By how much the first is above the median of the rest if it is an outlier, 0 if it is none; None for too few."""
    if len(values) < thresholds.WARM_LEAST_REQUESTS:
        return None
    first, rest = values[0], np.array(values[1:])
    middle = float(np.median(rest))
    deviation = float(np.median(np.abs(rest - middle)))
    excess = (first - middle) / middle if middle > 0 else 0.0
    is_outlier = excess > thresholds.WARM_EXCESS and 0.6745 * (first - middle) > thresholds.WARM_Z * deviation
    return excess if is_outlier else 0.0


def _in_order(trial: TrialView) -> list[RequestView]:
    """Successful requests as they were sent."""
    sent = [request for request in trial.requests if request.timing is not None]
    return sorted(sent, key=lambda request: request.record.sent_ns or 0)


def _tpots(trial: TrialView) -> list[float]:
    return [tpot for request in _in_order(trial) if request.timing and (tpot := request.timing.tpot_ns) is not None]


def _ttft_residuals(trial: TrialView) -> list[float]:
    """TTFT less what a prompt of its length takes (Theil-Sen line, which a few outliers do not move), around the middle
    TTFT, so that they are times."""
    rows = [
        (request.timing.ttft_ns, request.timing.prompt_tokens - (cached_tokens(request.record) or 0))
        for request in _in_order(trial)
        if request.timing and request.timing.prompt_tokens is not None
    ]
    if len(rows) < thresholds.WARM_LEAST_REQUESTS:
        return []
    times, tokens = np.array(rows, np.float64).T
    if len(set(tokens)) == 1:
        return list(times)
    if len(set(tokens[1:])) < 3:
        return []  # no line to hold the first one against
    slope, intercept = robust_line(tokens[1:].tolist(), times[1:].tolist())
    return list(times - (slope * tokens + intercept) + float(np.median(times)))


@each
def drift(case: ArmTrials) -> Iterable[Finding]:
    changes = [_trend_percent(_tpots(trial)) for trial in case.done]
    rising, falling = ([c for c in changes if c is not None and (c > 0) == is_up] for is_up in (True, False))
    drifting = max(rising, falling, key=len)
    if 2 * len(drifting) > len(changes):
        yield case.finding(
            "warning",
            "drift",
            f"time per output token goes by {median(drifting):+.0f}% from the first to the last request "
            f"({len(drifting)} of {len(changes)} trials).",
            "Heat, clocks or a filling cache: let it settle (`settle:`), and look at clocks and temperatures.",
        )
    values = [METRICS_BY_KEY["output_throughput"].value(trial) for trial in case.done]
    rates = [rate for rate in values if rate]  # a trial in which nothing succeeded is a matter of `failures`
    if len(rates) > 1 and max(rates) > min(rates) * (1 + thresholds.TRIALS_SPREAD_PERCENT / 100):
        yield case.finding(
            "warning",
            "trials-differ",
            f"its trials differ by {100 * (max(rates) / min(rates) - 1):.0f}% in throughput "
            f"({', '.join(f'{rate:.4g}' for rate in rates)} tok/s).",
            "Something else changed between them: the interval is as wide as that; more trials narrow it.",
        )


def _trend_percent(values: Sequence[float]) -> float | None:
    """The change from the first to the last by a robust line, where it is one; None where there is no trend."""
    if len(values) < thresholds.DRIFT_LEAST_REQUESTS:
        return None
    if not trend_p_value(values) < thresholds.DRIFT_LEVEL:
        return None
    slope, intercept = robust_line(range(len(values)), values)
    change = 100 * slope * (len(values) - 1) / intercept if intercept > 0 else 0.0
    return change if abs(change) > thresholds.DRIFT_PERCENT else None


def gpu_state(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Clocks, power limit and throttling, where they were read."""
    clocks: dict[str, float] = {}
    limits: set[tuple[str | None, float]] = set()
    for case in cases:
        reasons = {int(value) for trial in case.done for value in of_own_gpus(trial, "throttle_reasons")}
        hot = [words for bit, words in thresholds.THERMAL_REASONS.items() if any(reason & bit for reason in reasons)]
        if hot:
            yield case.finding(
                "warning",
                "throttled",
                f"the GPU was slowed down by heat or power (NVML: {'; '.join(hot)}).",
                "Cool it, let it settle between trials (`settle:`), or set a clock that it can hold.",
            )
        read = [value for trial in case.done for value in of_own_gpus(trial, "sm_clock_mhz")]
        if read:
            clocks[case.name] = fmean(read)
        limits |= {
            (sample.device, sample.value)
            for trial in case.done
            for sample in _of_own_gpus(trial)
            if sample.quantity == "power_limit_w"
        }
    if clocks and max(clocks.values()) > min(clocks.values()) * (1 + thresholds.CLOCK_PERCENT / 100):
        said = ", ".join(f"{name} {clock:.0f} MHz" for name, clock in clocks.items())
        yield Finding(
            "warning",
            "clocks-differ",
            f"the GPU's mean clock differs between the arms ({said}).",
            "A difference of this size may be the clock's: let it settle, or fix the clocks.",
        )
    changed = {
        device: sorted(watts for other, watts in limits if other == device)
        for device, _ in limits
        if sum(other == device for other, _ in limits) > 1
    }
    for device, watts in changed.items():
        yield Finding(
            "warning",
            "power-limit",
            f"the power limit of GPU {device} changed during the study ({', '.join(f'{one:g} W' for one in watts)}).",
            "Set it before, and measure again.",
        )


def of_own_gpus(trial: TrialView, quantity: str) -> list[float]:
    """Readings while the plan was played, of the GPUs that the engine has memory on; of all where that is not known."""
    return [sample.value for sample in _since_the_plan(trial, _of_own_gpus(trial)) if sample.quantity == quantity]


def sampled(trial: TrialView, quantity: str) -> list[float]:
    """Readings while the plan was played."""
    return [sample.value for sample in _since_the_plan(trial, trial.trial.samples) if sample.quantity == quantity]


def _of_own_gpus(trial: TrialView) -> list[Sample]:
    samples = trial.trial.samples
    own = {sample.device for sample in samples if sample.quantity == "gpu_memory_bytes" and sample.value > 0}
    return [sample for sample in samples if not own or sample.device is None or sample.device in own]


def _since_the_plan(trial: TrialView, samples: Iterable[Sample]) -> list[Sample]:
    began_ns = trial.trial.plan_started_ns
    return [] if began_ns is None else [sample for sample in samples if sample.at_ns >= began_ns]


# --- the machine and the client -------------------------------------------------------------------


@each
def machine_busy(case: ArmTrials) -> Iterable[Finding]:
    for trial in case.done:
        used = sampled(trial, "other_cpu_cores")
        if used and case.cores is not None and fmean(used) > thresholds.BUSY_CPU_SHARE * case.cores:
            yield case.finding(
                "warning",
                "machine-busy",
                f"other processes used {fmean(used):.1f} of {case.cores} cores.",
                "End them, or measure again when the machine is quiet.",
                trial.trial.number,
            )
        gpu = of_own_gpus(trial, "other_gpu_percent")
        if gpu and fmean(gpu) > thresholds.BUSY_GPU_PERCENT:
            yield case.finding(
                "warning",
                "gpu-busy",
                f"other processes used {fmean(gpu):.0f}% of the GPU.",
                "End them, or give the engine a GPU of its own (CUDA_VISIBLE_DEVICES).",
                trial.trial.number,
            )


@each
def told_by_trials(case: ArmTrials) -> Iterable[Finding]:
    """What was found while a trial ran: the client's own part, a lost worker."""
    for trial in case.trials:
        for finding in trial.trial.findings:
            if finding.severity == "note":
                continue  # what the client cost where it was far from its limits
            yield msgspec.structs.replace(finding, arm=case.name, trial=trial.trial.number)


@each
def failures(case: ArmTrials) -> Iterable[Finding]:
    for trial in case.trials:
        if trial.trial.state != "done":
            reason = next(iter(trial.trial.error.splitlines()), "")
            yield case.finding(
                "warning",
                "trial-failed",
                f"it did not end well ({trial.trial.state}{f': {reason}' if reason else ''}) and is left out.",
                "Mend the cause (an engine's log is in the study's logs/ folder), and run the study again.",
                trial.trial.number,
            )
    asked = sum(len(trial.requests) for trial in case.done)
    failed = [request.record for trial in case.done for request in trial.requests if request.timing is None]
    if not failed:
        return
    share = len(failed) / asked
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(record.outcome for record in failed).most_common())
    shown = next((record.error.strip().splitlines()[0].rstrip(".") for record in failed if record.error.strip()), "")
    yield case.finding(
        "invalid" if share > thresholds.FAILED_INVALID_SHARE else "warning",
        "failures",
        f"{len(failed)} of {asked} requests failed ({kinds}) and are in no latency and no token count"
        + (f"; the first: {shown}." if shown else "."),
        "The others had the server to themselves: mend the cause, or ask for less at once.",
    )


@each
def too_few_trials(case: ArmTrials) -> Iterable[Finding]:
    if len(case.done) == 1:
        yield case.finding(
            "note",
            "one-trial",
            "it has one trial: intervals cover other prompts only, and no verdict is given.",
            "Ask for three trials or more (`trials: 3`).",
        )

"""Checks that the machine was warm, stable and idle otherwise, and that requests and trials succeeded."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, median

import msgspec
import numpy as np

from inferometer.analysis import thresholds
from inferometer.analysis.same_requests import failed_requests
from inferometer.analysis.validity.arm_trials import ArmTrials, for_each_arm
from inferometer.analysis.validity.taking_turns import cpu_of_waiting
from inferometer.base.units import three_digits_text
from inferometer.core import quantities
from inferometer.core.grouped_values import Ints
from inferometer.core.record import INTERRUPTED, Finding, RequestRecord, Sample
from inferometer.core.record_columns import UNKNOWN, RecordColumns
from inferometer.metrics.measures import TrialView, paired
from inferometer.metrics.rows import METRICS_BY_KEY
from inferometer.metrics.series import Floats
from inferometer.metrics.significance import robust_line, trend_p_value
from inferometer.metrics.trial_columns import cached_prompt_tokens, known_or_0
from inferometer.metrics.turns import turns_of, whole_intervals_within, within


@for_each_arm
def not_warm(case: ArmTrials) -> Iterable[Finding]:
    """The first request of a trial is slower than the rest, in time per token or in TTFT for its length."""
    for name, values_of in (("time per output token", _tpots), ("TTFT for its length", _ttft_residuals)):
        found = [share for trial in case.done if (share := _first_excess(values_of(trial))) is not None]
        slow = [share for share in found if share > 0]
        if slow and 2 * len(slow) > len(found):
            yield case.finding(
                "warning",
                "not-warm",
                f"the first request is {median(slow):.0%} slower than the rest in {name} "
                f"({len(slow)} of {len(found)} trials).",
                "Add warm-ups (`warmups:`), so that compilation, paging and rising clocks come before the measurement.",
            )


def _first_excess(values: Sequence[float]) -> float | None:
    """How far the first value is above the median of the rest, as a share, if it is an outlier; 0 if it is not; None
    for too few values."""
    if len(values) < thresholds.WARM_LEAST_REQUESTS:
        return None
    first, rest = values[0], np.array(values[1:])
    middle = float(np.median(rest))
    deviation = float(np.median(np.abs(rest - middle)))
    excess = (first - middle) / middle if middle > 0 else 0.0
    is_outlier = excess > thresholds.WARM_EXCESS and 0.6745 * (first - middle) > thresholds.WARM_Z * deviation
    return excess if is_outlier else 0.0


def _successful_in_order(trial: TrialView) -> Ints:
    """The positions of successful requests, in the order in which they were sent."""
    timed = np.flatnonzero(trial.timing.timed)
    return timed[np.argsort(trial.records.numbers["sent_ns"][timed], kind="stable")]


def _tpots(trial: TrialView) -> list[float]:
    times = trial.timing.tpot_ns[_successful_in_order(trial)]
    return times[~np.isnan(times)].tolist()


def _ttft_residuals(trial: TrialView) -> list[float]:
    """TTFT minus the expected TTFT for the prompt's length (Theil-Sen line, robust to a few outliers), plus the median
    TTFT, so that the values are times."""
    order = _successful_in_order(trial)
    order = order[trial.timing.prompt_tokens[order] != UNKNOWN]
    if len(order) < thresholds.WARM_LEAST_REQUESTS:
        return []
    times = trial.timing.ttft_ns[order].astype(np.float64)
    tokens = (trial.timing.prompt_tokens - known_or_0(cached_prompt_tokens(trial)))[order].astype(np.float64)
    if len(np.unique(tokens)) == 1:
        return list(times)
    if len(np.unique(tokens[1:])) < 3:
        return []  # too few lengths for a line
    slope, intercept = robust_line(tokens[1:].tolist(), times[1:].tolist())
    return list(times - (slope * tokens + intercept) + float(np.median(times)))


def drift(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Time per token that changes over a trial, and trials whose throughput differs."""
    rates = [_rates(case) for case in arms]
    for place, case in enumerate(arms):
        yield from _drifting(case)
        yield from _trials_differ(case, rates[place], rates[:place] + rates[place + 1 :])


def _drifting(case: ArmTrials) -> Iterator[Finding]:
    changes = [_trend_percent(_tpots(trial)) for trial in case.done]
    rising, falling = ([c for c in changes if c is not None and (c > 0) == is_up] for is_up in (True, False))
    drifting = max(rising, falling, key=len)
    if 2 * len(drifting) > len(changes):
        yield case.finding(
            "warning",
            "drift",
            f"time per output token changes by {median(drifting):+.0f}% from the first to the last request "
            f"({len(drifting)} of {len(changes)} trials).",
            "Heat, clocks or a filling cache can be the cause: add idle time between trials (`settle:`), and check "
            "clocks and temperatures.",
        )


def _trials_differ(case: ArmTrials, known: "_Rates", others: "Sequence[_Rates]") -> Iterator[Finding]:
    if len(known) < 2:
        return
    (worst, slow), (best, fast) = (choose(known, key=lambda one: one[0]) for choose in (min, max))
    if best > worst * (1 + thresholds.TRIALS_SPREAD_PERCENT / 100):
        alone = best > worst * _others_ratio(fast, slow, others) * (1 + thresholds.TRIALS_SPREAD_PERCENT / 100)
        changed = alone and _slower_share(fast, slow) >= thresholds.TRIALS_SLOWER_SHARE
        yield case.finding(
            "warning" if changed else "note",
            "trials-differ",
            f"its trials differ by {100 * (best / worst - 1):.0f}% in throughput "
            f"({', '.join(f'{rate:.4g}' for rate, _ in known)} tok/s).",
            "Something else changed between the trials and makes the interval wide. Add trials to narrow it."
            if changed
            else "",
        )


_Rates = list[tuple[float, TrialView]]


def _rates(case: ArmTrials) -> _Rates:
    """Throughput of each trial; `failures` reports a trial in which nothing succeeded."""
    values = [(METRICS_BY_KEY["output_throughput"].value(trial), trial) for trial in case.done]
    return [(rate, trial) for rate, trial in values if rate]


def _others_ratio(fast: TrialView, slow: TrialView, others: Sequence[_Rates]) -> float:
    """By which factor the other arms were faster in the round of `fast` than in that of `slow`; 1 if unknown. What all
    arms of a round have in common is not in the comparison of its pairs."""
    ratios: list[float] = []
    for other in others:
        rates = {trial.trial.number: rate for rate, trial in other}
        if fast.trial.number in rates and slow.trial.number in rates:
            ratios.append(rates[fast.trial.number] / rates[slow.trial.number])
    return max(1.0, median(ratios)) if ratios else 1.0


def _slower_share(fast: TrialView, slow: TrialView) -> float:
    """Share of the requests that took at least 5% longer in the slower one of two trials; 1 without a request in
    both."""
    mine, theirs = paired(fast, slow, fast.timing.timed, slow.timing.timed)
    longer = slow.timing.latency_ns[theirs] > 1.05 * fast.timing.latency_ns[mine]
    return float(longer.mean()) if len(longer) else 1.0


def _trend_percent(values: Sequence[float]) -> float | None:
    """The change from the first to the last value along a robust line, percent; None if there is no trend."""
    if len(values) < thresholds.DRIFT_LEAST_REQUESTS:
        return None
    if not trend_p_value(values) < thresholds.DRIFT_LEVEL:
        return None
    slope, intercept = robust_line(range(len(values)), values)
    change = 100 * slope * (len(values) - 1) / intercept if intercept > 0 else 0.0
    return change if abs(change) > thresholds.DRIFT_PERCENT else None


def gpu_state(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Throttling, different clocks, and changed power limits, if they were read."""
    for case in arms:
        yield from _throttling(case)
    clocks = {
        case.name: fmean(read)
        for case in arms
        if (read := [value for trial in case.done for value in engine_gpu_readings(trial, quantities.SM_CLOCK_MHZ)])
    }
    if clocks and max(clocks.values()) > min(clocks.values()) * (1 + thresholds.CLOCK_PERCENT / 100):
        by_arm = ", ".join(f"{name} {clock:.0f} MHz" for name, clock in clocks.items())
        yield Finding(
            "warning",
            "clocks-differ",
            f"the GPU's mean clock differs between the arms ({by_arm}).",
            "The clock alone can cause a difference of this size: add idle time (`settle:`), or fix the clocks.",
        )
    yield from _changed_power_limits(arms)


def _throttling(case: ArmTrials) -> Iterator[Finding]:
    reasons = {int(value) for trial in case.done for value in engine_gpu_readings(trial, quantities.THROTTLE_REASONS)}
    thermal = [words for bit, words in thresholds.THERMAL_REASONS.items() if any(reason & bit for reason in reasons)]
    if thermal:
        yield case.finding(
            "warning",
            "throttled",
            f"heat or power limits slowed the GPU down (NVML: {'; '.join(thermal)}).",
            "Improve cooling, add idle time between trials (`settle:`), or set a clock that the GPU can sustain.",
        )


def _changed_power_limits(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    limits: dict[str | None, set[float]] = {}
    for sample in (sample for case in arms for trial in case.done for sample in _engine_gpu_samples(trial)):
        if sample.quantity == quantities.POWER_LIMIT_W:
            limits.setdefault(sample.device, set()).add(sample.value)
    for device, watts in limits.items():
        if len(watts) > 1:
            yield Finding(
                "warning",
                "power-limit",
                f"the power limit of GPU {device} changed during the study "
                f"({', '.join(f'{limit:g} W' for limit in sorted(watts))}).",
                "Set the limit before the study, and measure again.",
            )


def engine_gpu_readings(trial: TrialView, quantity: str) -> list[float]:
    """Readings during the plan, of the GPUs on which the engine holds memory; of all GPUs if that is unknown."""
    return [sample.value for sample in _during_plan(trial, _engine_gpu_samples(trial)) if sample.quantity == quantity]


def sampled(trial: TrialView, quantity: str) -> list[float]:
    """Readings during the plan; with interleaved requests, during the arm's turns."""
    return [sample.value for sample in _during_plan(trial, trial.trial.samples) if sample.quantity == quantity]


def _engine_gpu_samples(trial: TrialView) -> list[Sample]:
    samples = trial.trial.samples
    engine_gpus = {
        sample.device for sample in samples if sample.quantity == quantities.GPU_MEMORY_BYTES and sample.value > 0
    }
    return [sample for sample in samples if not engine_gpus or sample.device is None or sample.device in engine_gpus]


def _during_plan(trial: TrialView, samples: Iterable[Sample]) -> list[Sample]:
    start_ns = trial.trial.plan_started_ns
    if start_ns is None:
        return []
    turns = turns_of(trial.trial)
    return within(turns, tuple(samples)) if turns else [sample for sample in samples if sample.at_ns >= start_ns]


# --- the machine and the client -------------------------------------------------------------------


def machine_busy(cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Other processes that used CPU or GPU during a trial."""
    for case in cases:
        yield from _busy(case, cases)


def _busy(case: ArmTrials, cases: Sequence[ArmTrials]) -> Iterator[Finding]:
    for trial in case.done:
        used = _other_cpu(trial, cpu_of_waiting(case, cases, trial.trial.number))
        if used is not None and case.cores is not None and used > thresholds.BUSY_CPU_SHARE * case.cores:
            yield case.finding(
                "warning",
                "machine-busy",
                f"other processes used {used:.1f} of {case.cores} cores.",
                "Stop them, or measure again when the machine is idle.",
                trial.trial.number,
            )
        gpu = _other_gpu(trial)
        if gpu and fmean(gpu) > thresholds.BUSY_GPU_PERCENT:
            yield case.finding(
                "warning",
                "gpu-busy",
                f"other processes used {fmean(gpu):.0f}% of the GPU.",
                "Stop them, or reserve a GPU for the engine (CUDA_VISIBLE_DEVICES).",
                trial.trial.number,
            )


def _other_cpu(trial: TrialView, of_waiting: float) -> float | None:
    """Cores that processes other than the round's engines used, on average from the plan's start to its end. With
    interleaved requests a reading may cover the turns of several arms, so the mean over the whole round is taken."""
    start_ns = trial.trial.plan_started_ns
    turns = turns_of(trial.trial)
    if start_ns is None:
        return None
    end_ns = turns[-1][1] if turns else None
    used = [
        one.value
        for one in trial.trial.samples
        if one.quantity == quantities.OTHER_CPU_CORES
        and one.at_ns >= start_ns
        and (end_ns is None or one.at_ns <= end_ns)
    ]
    return max(0.0, fmean(used) - of_waiting) if used else None


def _other_gpu(trial: TrialView) -> list[float]:
    """Percent of the engine's GPUs that other processes used, in readings that lie wholly in one turn: in it, the
    engines of other arms should be quiet."""
    turns = turns_of(trial.trial)
    if not turns:
        return engine_gpu_readings(trial, quantities.OTHER_GPU_PERCENT)
    samples = [one for one in _engine_gpu_samples(trial) if one.quantity == quantities.OTHER_GPU_PERCENT]
    devices = {one.device for one in samples}
    return [
        one.value
        for device in devices
        for one in whole_intervals_within(turns, [sample for sample in samples if sample.device == device])
    ]


@for_each_arm
def trial_findings(case: ArmTrials) -> Iterable[Finding]:
    """What was recorded during a trial: a refused field, a client that could not keep up, a lost worker."""
    for trial in case.trials:
        for finding in trial.trial.findings:
            if (finding.severity, finding.code) == ("note", "client") and not finding.withholds:
                continue  # its overhead when it was far from its limits
            yield msgspec.structs.replace(finding, arm=case.name, trial=trial.trial.number)


@for_each_arm
def other_clients(case: ArmTrials) -> Iterable[Finding]:
    """A server that processed more requests at a time than this client ever had open."""
    for trial in case.done:
        began_ns, ours = trial.trial.plan_started_ns, _most_open(trial)
        ended_ns = trial.records.numbers["done_ns"].max(initial=0)
        read = [
            sample.value
            for sample in trial.trial.samples
            if sample.quantity == quantities.REQUESTS_RUNNING and began_ns is not None
            if began_ns <= sample.at_ns <= ended_ns
        ]
        more = [value for value in read if value > ours]
        if len(more) >= max(thresholds.OTHER_CLIENTS_LEAST, thresholds.OTHER_CLIENTS_SHARE * len(read)):
            yield case.finding(
                "warning",
                "other-clients",
                f"its server processed up to {max(more):.0f} requests at a time, and this client had {ours} open at "
                f"most: others use the server ({len(more)} of {len(read)} readings).",
                "Measure when nobody else uses the server: its speed and its counters are of all clients.",
                trial.trial.number,
                withholds=("draft_counts",),
            )


def _most_open(trial: TrialView) -> int:
    """The most requests, measured or not, that were open at one time."""
    sent_ns, done_ns = (trial.records.numbers[name] for name in ("sent_ns", "done_ns"))
    sent = sent_ns != UNKNOWN
    times = np.concatenate([sent_ns[sent], done_ns[sent]])
    steps = np.repeat([1, -1], sent.sum())
    return int(np.cumsum(steps[np.lexsort((-steps, times))]).max(initial=0))


@for_each_arm
def server_elsewhere(case: ArmTrials) -> Iterable[Finding]:
    """A server that is not among the processes that were started, such as one in a container."""
    of_trials = [
        [fact for fact in trial.trial.facts if fact.name == quantities.SERVER_ELSEWHERE] for trial in case.done
    ]
    if any(of_trials):
        yield case.finding(
            "warning",
            "server-elsewhere",
            f"{next(filter(None, of_trials))[0].value}: memory and CPU are those of a launcher, not of the server.",
            "Start the server itself, or measure it as `external` with its `container:` or `pid:`.",
            withholds=("memory",),
        )


@for_each_arm
def failures(case: ArmTrials) -> Iterable[Finding]:
    """Trials and requests that failed."""
    for trial in case.trials:
        if trial.trial.state == "running" or trial.trial.error == INTERRUPTED:
            message, action = "the trial was interrupted and is excluded.", "Continue the study with run --resume."
            yield case.finding("warning", "trial-failed", message, action, trial.trial.number)
        elif trial.trial.state != "done":
            reason = next(iter(trial.trial.error.splitlines()), "")
            yield case.finding(
                "warning",
                "trial-failed",
                f"the trial did not complete and was excluded ({trial.trial.state}{f': {reason}' if reason else ''}).",
                "Fix the cause (the engine's log is in the study's logs/ folder), and run the study again.",
                trial.trial.number,
            )
    total = sum(trial.size for trial in case.done)
    failed = [
        trial.records.record(place) for trial in case.done for place in np.flatnonzero(~trial.timing.timed).tolist()
    ]
    if not failed:
        return
    share = len(failed) / total
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(record.outcome for record in failed).most_common())
    shown = next((record.error.strip().splitlines()[0].rstrip(".") for record in failed if record.error.strip()), "")
    yield case.finding(
        "invalid" if share > thresholds.FAILED_INVALID_SHARE else "warning",
        "failures",
        f"{len(failed)} of {total} requests failed ({kinds}); latencies and token counts exclude them"
        + (f". First error: {shown}." if shown else "."),
        "The remaining requests had a less loaded server. Fix the cause, or reduce the load.",
    )


def other_requests(arms: Sequence[ArmTrials]) -> Iterator[Finding]:
    """Requests that failed in this arm and not in the baseline, or the reverse, in the same trial."""
    first, *others = arms
    base = {trial.trial.number: trial for trial in first.done}
    for case in others:
        pairs = [(base[trial.trial.number], trial) for trial in case.done if trial.trial.number in base]
        total = sum(trial.size for _, trial in pairs)
        if case.plan != first.plan or not total:
            continue
        unlike = sum(len(failed_requests(one) ^ failed_requests(other)) for one, other in pairs)
        many = unlike > thresholds.OTHER_REQUESTS_SHARE * total
        if unlike:
            yield case.finding(
                "warning" if many else "note",
                "other-requests",
                f"{unlike} of {total} requests failed in it or in {first.name}, and not in both: "
                + ("the arms answered other requests." if many else "they are in neither arm's latencies."),
                "Fix the failures: totals of the rest are not rates of a server that answers everything."
                if many
                else "",
                withholds=("work", "latency") if many else (),
            )


@for_each_arm
def silence(case: ArmTrials) -> Iterable[Finding]:
    """A time in which the server sent nothing, with requests under way, far longer than its requests usually wait."""
    for trial in case.done:
        waits = _longest_pauses_s(trial.records)
        longest = float(waits.max(initial=0.0))
        if len(waits) < thresholds.SILENCE_LEAST_REQUESTS or longest < thresholds.SILENCE_S:
            continue
        usual = float(np.median(waits))
        if longest > thresholds.SILENCE_RATIO * usual:
            count = int((waits > thresholds.SILENCE_RATIO * usual).sum())
            yield case.finding(
                "note",
                "silence",
                f"the server sent nothing for {longest:.1f} s in {count} of {len(waits)} requests; usually the longest "
                f"pause of a request is {usual:.2g} s.",
                "Look at the server's log at that time: a model that was unloaded, memory that ran out, another job.",
                trial.trial.number,
            )


def _longest_pauses_s(records: RecordColumns) -> Floats:
    """Of each request that was sent: the longest of the times from the sending to the first event, between events, and
    to the end, in s."""
    sent_ns, done_ns = records.numbers["sent_ns"], records.numbers["done_ns"]
    longest = done_ns - np.where(sent_ns == UNKNOWN, done_ns, sent_ns)
    some = np.flatnonzero(records.event_counts)
    if len(some):
        longest[some] = np.maximum(records.first_ns[some] - sent_ns[some], done_ns[some] - records.last_ns[some])
        steps = np.maximum.reduceat(records.steps, records.starts[:-1][some])  # 0 for a request with one event
        longest[some] = np.maximum(longest[some], steps)
    return longest[sent_ns != UNKNOWN] / 1e9


@for_each_arm
def resent_requests(case: ArmTrials) -> Iterable[Finding]:
    """Requests that were sent twice, because the server closed the connection as they came.

    In older studies the times begin with the second sending, and so do not contain the closed connection.
    """
    requests = sum(trial.size for trial in case.done)
    twice = [
        trial.records.record(place)
        for trial in case.done
        for place in np.flatnonzero(trial.records.numbers["resent"]).tolist()
    ]
    if earlier := sum(_sent_after_connecting(record) for record in twice):
        yield case.finding(
            "note",
            "resent",
            f"{earlier} of {requests} requests were sent again over a new connection. Their times begin with the "
            "second sending, as an earlier version of this program measured.",
            "",
        )
    if again := len(twice) - earlier:
        lost_ms = _lost_ms(twice)
        ttfts = np.concatenate([trial.timing.ttft_ns[trial.timing.timed] for trial in case.done])
        usual_ms = float(np.median(ttfts)) / 1e6
        is_dear = lost_ms is None or lost_ms > max(thresholds.RESENT_LEAST_MS, thresholds.RESENT_COST * usual_ms)
        many = again > thresholds.RESENT_SHARE * requests and is_dear
        yield case.finding(
            "warning" if many else "note",
            "resent",
            f"{again} of {requests} requests were sent again, because the server closed their connection at once. "
            + ("" if lost_ms is None else f"That took {lost_ms:.2g} ms of a TTFT of {three_digits_text(usual_ms)} ms. ")
            + "Their times begin with the first sending.",
            "The server or a proxy before it drops connections under load: see its log and its keep-alive limits."
            if many
            else "",
        )


def _lost_ms(twice: Sequence[RequestRecord]) -> float | None:
    """Median time from the first sending to the new connection; None where it is unknown."""
    known = [
        record.connected_ns - record.sent_ns
        for record in twice
        if record.connected_ns is not None and record.sent_ns is not None and record.connected_ns > record.sent_ns
    ]
    return median(known) / 1e6 if known else None


def _sent_after_connecting(record: RequestRecord) -> bool:
    """Whether `sent_ns` of a request that was sent twice is of the second time: then its connection was open."""
    return None not in (record.sent_ns, record.connected_ns) and (record.connected_ns or 0) <= (record.sent_ns or 0)


@for_each_arm
def too_few_trials(case: ArmTrials) -> Iterable[Finding]:
    """An arm with a single trial."""
    if len(case.done) == 1:
        yield case.finding(
            "note",
            "one-trial",
            "it has only one trial: intervals cover other prompts only, and there is no verdict.",
            "Run at least three trials (`trials: 3`).",
        )

"""Measures of a whole trial: counts, token totals, stalls, memory, energy, and vLLM's peaks."""

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from inferometer.base.units import NS_PER_S, gib
from inferometer.metrics import acceptance, trial_columns
from inferometer.metrics.energy import energy_j, mean_power_w, per_token
from inferometer.metrics.measures import TrialView, Values
from inferometer.metrics.memory import held_bytes, memory_quantity
from inferometer.metrics.phases import Phase, peaks, phases_of
from inferometer.metrics.request_measures import cached_tokens, output_characters
from inferometer.metrics.request_timing import RequestTiming
from inferometer.metrics.turns import working_clock


def completed(trial: TrialView) -> int:
    return len(trial.timings)


def failed(trial: TrialView) -> int:
    return len(trial.requests) - len(trial.timings)


def total_input_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None if the count of any of them is unknown."""
    return _sum_if_all_known(timing.prompt_tokens for timing in trial.timings)


def total_output_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None if the count of any of them is unknown."""
    return _sum_if_all_known(timing.output_tokens for timing in trial.timings)


def total_output_characters(trial: TrialView) -> int | None:
    """Over successful requests; None if no text was kept."""
    return _sum_or_none(trial, output_characters) or None


def total_tokens(trial: TrialView) -> int | None:
    """Input and output tokens of successful requests; None if either is unknown."""
    return _sum_if_all_known((total_input_tokens(trial), total_output_tokens(trial)))


def drafted_tokens(trial: TrialView) -> int | None:
    """By the server's timings; None if they report no drafting."""
    return _sum_or_none(trial, acceptance.drafted)


def accepted_tokens(trial: TrialView) -> int | None:
    return _sum_or_none(trial, acceptance.accepted)


def cached_prompt_tokens(trial: TrialView) -> int | None:
    """Prompt tokens from the server's prefix cache, over ok requests; None if the server never reported any."""
    return _sum_of_known(cached_tokens(request.record) for request in trial.requests if request.record.ok)


def stalls(trial: TrialView) -> int | None:
    """Number of gaps between bursts longer than `STALL_MULTIPLE` times the request's median gap."""
    found = trial_columns.bursts(trial)
    return int(np.count_nonzero(found.is_stall())) if found.delivered.any() else None


def memory_gib(trial: TrialView) -> float | None:
    """Highest sum over processes and devices at one moment, of the quantity that `memory_quantity` names."""
    samples = trial.trial.samples
    held = held_bytes(samples, memory_quantity(samples))
    return gib(max(held.values())) if held else None


def phase_memory_gib(phase: Phase, trial: TrialView) -> float | None:
    """As `memory_gib`, within one phase of the trial."""
    peak = trial.cached(phase_memory_gib, _peaks_by_phase).get(phase)
    return None if peak is None else gib(peak)


def _peaks_by_phase(trial: TrialView) -> dict[Phase, float]:
    samples = trial.trial.samples
    held = held_bytes(samples, memory_quantity(samples))
    return peaks(held, phases_of(trial.trial)) if held else {}


def trial_energy_j(trial: TrialView) -> float | None:
    """See `energy.energy_j`."""
    return energy_j(trial.trial)


def trial_mean_power_w(trial: TrialView) -> float | None:
    """See `energy.mean_power_w`."""
    return mean_power_w(trial.trial)


def energy_j_per_token(trial: TrialView) -> float | None:
    """Energy per output token; None if either is unknown, or no token was generated."""
    return per_token(energy_j(trial.trial), total_output_tokens(trial))


def peak_chunks(trial: TrialView) -> int:
    """vLLM's "peak output token throughput": most chunks (not tokens) in a whole second since the first sending."""
    sent = _sent(trial)
    if not sent:
        return 0
    first_ns = np.array([sent_ns + timing.ttft_ns for sent_ns, timing in sent], np.int64)
    gaps = trial_columns.counted_gaps(trial)
    place = np.cumsum([request.timing is not None and request.record.sent_ns is not None for request in trial.requests])
    owners = place[gaps.positions] - 1
    so_far = np.cumsum(gaps.values.astype(np.int64))
    before = np.zeros(len(sent), np.int64)
    begins = np.flatnonzero(np.diff(owners, prepend=-1))
    before[owners[begins]] = so_far[begins] - gaps.values[begins].astype(np.int64)
    later_ns = first_ns[owners] + so_far - before[owners]
    return int(np.bincount(np.concatenate((first_ns, later_ns)) // NS_PER_S).max())


def peak_requests(trial: TrialView) -> int:
    """vLLM's "peak concurrent requests": most requests in flight at some time within the same whole second."""
    changes = Counter(sent // NS_PER_S for sent, _ in _sent(trial))
    changes.subtract((sent + timing.latency_ns) // NS_PER_S + 1 for sent, timing in _sent(trial))
    return max(accumulate(change for _, change in sorted(changes.items())), default=0)


def _sent(trial: TrialView) -> list[tuple[int, RequestTiming]]:
    """Send time, ns after the first sending, and timing of each successful request. The clock stands still while other
    arms have their turns."""
    return trial.cached(_sent, _sent_requests)


def _sent_requests(trial: TrialView) -> list[tuple[int, RequestTiming]]:
    worked_ns = working_clock(trial.trial)
    sent = [
        (worked_ns(r.record.sent_ns), r.timing) for r in trial.requests if r.timing and r.record.sent_ns is not None
    ]
    first_ns = min((at_ns for at_ns, _ in sent), default=0)
    return [(at_ns - first_ns, timing) for at_ns, timing in sent]


def _sum_if_all_known(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _sum_of_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _sum_or_none(trial: TrialView, values_of: Values) -> int | None:
    """None if no request has a value."""
    values = trial.series(values_of).values
    return int(values.sum()) if len(values) else None

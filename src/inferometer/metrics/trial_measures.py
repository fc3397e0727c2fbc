"""Measures of a whole trial: counts, token totals, stalls, memory, energy, and vLLM's peaks."""

import numpy as np

from inferometer.base.units import NS_PER_S, gib
from inferometer.core.grouped_values import Bools, Ints
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics import acceptance, trial_columns
from inferometer.metrics.energy import energy_j, mean_power_w, per_token
from inferometer.metrics.measures import TrialView, Values
from inferometer.metrics.memory import engine_samples, held_bytes, memory_quantity
from inferometer.metrics.phases import Phase, peaks, phases_of
from inferometer.metrics.request_measures import output_characters
from inferometer.metrics.turns import turns_of, working_clock


def completed(trial: TrialView) -> int:
    """Number of measured requests that succeeded."""
    return int(trial.timing.timed.sum())


def failed(trial: TrialView) -> int:
    """Number of measured requests that did not succeed."""
    return trial.size - completed(trial)


def total_input_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None if the count of any of them is unknown."""
    return trial.timing.total_prompt_tokens()


def total_output_tokens(trial: TrialView) -> int | None:
    """Over successful requests; None if the count of any of them is unknown."""
    return trial.timing.total_output_tokens()


def total_output_characters(trial: TrialView) -> int | None:
    """Over successful requests; None if no text was kept."""
    return _sum_or_none(trial, output_characters) or None


def total_tokens(trial: TrialView) -> int | None:
    """Input and output tokens of successful requests; None if either is unknown."""
    read, written = total_input_tokens(trial), total_output_tokens(trial)
    return None if read is None or written is None else read + written


def drafted_tokens(trial: TrialView) -> int | None:
    """By the server's timings; None if they report no drafting."""
    return _sum_or_none(trial, acceptance.drafted)


def accepted_tokens(trial: TrialView) -> int | None:
    """Drafted tokens that were accepted; None if the engine reports none."""
    return _sum_or_none(trial, acceptance.accepted)


def cached_prompt_tokens(trial: TrialView) -> int | None:
    """Prompt tokens from the server's prefix cache, over ok requests; None if the server never reported any."""
    counts = trial_columns.cached_prompt_tokens(trial)[trial.records.ok]
    known = counts[counts != UNKNOWN]
    return int(known.sum()) if len(known) else None


def stalls(trial: TrialView) -> int | None:
    """Number of gaps between bursts longer than `STALL_MULTIPLE` times the request's median gap."""
    return len(trial_columns.stalls(trial).values) if trial_columns.bursts(trial).delivered.any() else None


def memory_gib(trial: TrialView) -> float | None:
    """Highest sum over processes and devices at one moment, of the quantity that `memory_quantity` names."""
    samples = engine_samples(trial.trial)
    held = held_bytes(samples, memory_quantity(samples))
    return gib(max(held.values())) if held else None


def phase_memory_gib(phase: Phase, trial: TrialView) -> float | None:
    """As `memory_gib`, within one phase of the trial."""
    peak = trial.cached(phase_memory_gib, _peaks_by_phase).get(phase)
    return None if peak is None else gib(peak)


def _peaks_by_phase(trial: TrialView) -> dict[Phase, float]:
    samples = engine_samples(trial.trial)
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
    sent_ns, sent = _sent(trial)
    if not len(sent_ns):
        return 0
    first_ns = np.zeros(trial.size, np.int64)
    first_ns[sent] = sent_ns + trial.timing.ttft_ns[sent]
    counts = np.bincount(first_ns[sent] // NS_PER_S)
    for part in trial_columns.counted_gaps(trial).parts():  # whole requests
        since_ns = np.cumsum(part.values.astype(np.int64))
        begins = np.flatnonzero(np.diff(part.positions, prepend=-1))
        before_ns = np.append(0, since_ns)[begins]
        shift_ns = first_ns[part.positions[begins]] - before_ns
        at_ns = since_ns + np.repeat(shift_ns, np.diff(begins, append=len(since_ns)))
        found = np.bincount(at_ns // NS_PER_S, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return int(counts.max())


def peak_requests(trial: TrialView) -> int:
    """vLLM's "peak concurrent requests": most requests in flight at some time within the same whole second."""
    sent_ns, sent = _sent(trial)
    if not len(sent_ns):
        return 0
    begun = sent_ns // NS_PER_S
    ended = (sent_ns + trial.timing.latency_ns[sent]) // NS_PER_S + 1
    _, places = np.unique(np.concatenate((begun, ended)), return_inverse=True)
    return int(
        np.cumsum(
            np.bincount(places[: len(begun)], minlength=len(places))
            - np.bincount(places[len(begun) :], minlength=len(places))
        ).max()
    )


def _sent(trial: TrialView) -> tuple[Ints, Bools]:
    """Send time of each successful request, ns after the first sending; and which those are. The clock stands still
    while other arms have their turns."""
    return trial.cached(_sent, _sent_requests)


def _sent_requests(trial: TrialView) -> tuple[Ints, Bools]:
    sent = trial.timing.timed & (trial.records.numbers["sent_ns"] != UNKNOWN)
    at_ns = trial.records.numbers["sent_ns"][sent]
    if turns_of(trial.trial):
        at_ns = np.array(list(map(working_clock(trial.trial), at_ns.tolist())), np.int64)
    return at_ns - (at_ns.min() if len(at_ns) else 0), sent


def _sum_or_none(trial: TrialView, values_of: Values) -> int | None:
    """None if no request has a value."""
    values = trial.series(values_of).values
    return int(values.sum()) if len(values) else None

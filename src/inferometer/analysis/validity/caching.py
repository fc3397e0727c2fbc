"""Prefix cache: trials that a cache helped unequally, and what was done against it."""

from collections.abc import Iterable
from statistics import median

from inferometer.analysis import thresholds
from inferometer.analysis.validity.arm_trials import ArmTrials, fact_of, for_each_arm
from inferometer.core import quantities
from inferometer.core.record import Finding
from inferometer.core.record_columns import UNKNOWN
from inferometer.metrics.measures import TrialView
from inferometer.metrics.trial_columns import cached_prompt_tokens


@for_each_arm
def cache_differs(case: ArmTrials) -> Iterable[Finding]:
    """Trials of one arm of which a prefix cache helped some and not others."""
    shares = [share for trial in case.done if (share := cached_share(trial)) is not None]
    if len(shares) > 1 and max(shares) - min(shares) > thresholds.CACHE_SHARE:
        by_trial = ", ".join(f"{share:.0%}" for share in shares)
        yield _finding(
            case, f"the share of its prompt tokens from the prefix cache differs between trials ({by_trial})."
        )
        return
    if len(shares) < len(case.done) and case.arm.runs_already and (ratio := _first_trial_excess(case)) is not None:
        yield _finding(
            case,
            f"its first trial took {ratio:.1f} times as long to the first token as the later ones, in nearly every "
            "request: the server knows the prompts by then.",
        )


def _finding(case: ArmTrials, message: str) -> Finding:
    return case.finding("invalid", "cache-differs", message, cache_advice(case))


@for_each_arm
def cache_kept(case: ArmTrials) -> Iterable[Finding]:
    """Servers that run already and keep prompts: what was done against it, or that nothing was."""
    found = [fact_of(trial, quantities.PREFIX_CACHE) for trial in case.done]
    if "prefix" in found:
        yield case.finding(
            "note",
            "cache-kept",
            f"the server answers a repeated prompt from its prefix cache. In {found.count('prefix')} of {len(found)} "
            "trials each prompt began with a new number, so that earlier trials did not help.",
            "",
        )
    helped = (
        case.done if case.arm.runs_already else case.done[1:]
    )  # nothing was sent to a new server before its first trial
    if any(fact_of(trial, quantities.PREFIX_CACHE_AT_END) == "used" for trial in helped):
        yield case.finding(
            "warning",
            "cache-kept",
            "the server answers a repeated prompt from its prefix cache after a trial, but did not before it.",
            cache_advice(case),
        )


def cached_share(trial: TrialView) -> float | None:
    """Share of the prompt tokens that the server reports as cached; None if it reports none for any request."""
    taken, prompt = cached_prompt_tokens(trial), trial.timing.prompt_tokens
    known = trial.timing.timed & (prompt != UNKNOWN) & (prompt != 0) & (taken != UNKNOWN)
    return float(taken[known].sum() / prompt[known].sum()) if known.any() else None


def cache_advice(case: ArmTrials) -> str:
    """How to keep the arm's prefix cache from helping, for its engine."""
    if not case.arm.runs_already:
        return (
            "Restart the engine for each trial (`restart: always`), or disable its prefix cache "
            "(llama.cpp: `sampling: {extra_body: {cache_prompt: false}}`; vLLM: --no-enable-prefix-caching)."
        )
    facts = [fact for trial in case.trials for fact in trial.trial.facts]
    if any(fact.source == "/props" for fact in facts):
        return "Remove `cache_prompt` from `extra_body`: without it, Inferometer asks llama.cpp not to use its cache."
    versions = [fact for fact in facts if fact.name == quantities.ENGINE_VERSION]
    if any(fact.value.startswith("SGLang") for fact in versions):
        return "Start the server with --disable-radix-cache."
    if any(fact.source == "/version" for fact in versions):
        return "Start the server with --no-enable-prefix-caching."
    return "Switch the server's prefix cache off, or restart the server before the study and measure one trial."


def _first_trial_excess(case: ArmTrials) -> float | None:
    """Median ratio of the first trial's TTFT to the median of the later ones, request by request; None if it is small,
    or if a prefix or a switch kept the cache out."""
    if len(case.done) < 2 or any(
        fact_of(trial, quantities.PREFIX_CACHE) not in (None, "used", "unknown", "not used") for trial in case.done
    ):
        return None
    first, *later = [_ttfts(trial) for trial in case.done]
    pairs = [
        (before, median(after))
        for index, before in first.items()
        if (after := [times[index] for times in later if times.get(index)])
    ]
    ratios = [before / after for before, after in pairs]
    least_ns = 1e6 * thresholds.CACHE_TTFT_MS
    slower = [before for before, after in pairs if before > max(thresholds.CACHE_TTFT_RATIO * after, after + least_ns)]
    is_clear = len(ratios) >= thresholds.CACHE_LEAST_REQUESTS and len(slower) >= thresholds.CACHE_SLOWER * len(ratios)
    return median(ratios) if is_clear else None


def _ttfts(trial: TrialView) -> dict[int, int]:
    timed = trial.timing.timed
    return dict(zip(trial.index[timed].tolist(), trial.timing.ttft_ns[timed].tolist(), strict=True))

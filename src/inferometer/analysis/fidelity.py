"""Fidelity: how far an arm's token probabilities are from the baseline's, on answers to the same prompts. Pure.

Two answers to a prompt have the same context up to and including their first different token. Only these places are
compared: later, each arm continues a different text. At a place both servers gave their most likely tokens. With the
tokens that both lists have, and all others as one outcome "rest", the divergence of Kullback and Leibler,
sum of p log(p / q), is a lower bound of the divergence over the whole vocabulary (log-sum inequality). The upper bound
assumes that no token of the arm is less likely than e^-16, where llama-perplexity's --kl-divergence cuts, too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from inferometer.base.lazy import lazy_module
from inferometer.core.continuation import Continuation, TokenChoice
from inferometer.metrics.intervals import CONFIDENCE

special = lazy_module("scipy.special")

_LOWEST_LOG = -16.0
_TAIL = (1 - CONFIDENCE) / 2


class Bounded(msgspec.Struct, frozen=True):
    """A value and its 95% interval over prompts. `high` None: not known to be limited."""

    value: float
    low: float
    high: float | None


class FidelityDifference(msgspec.Struct, frozen=True):
    """`arm` compared with `baseline` at the `places` (tokens) of `prompts` where both had the same context.

    `mean_kl`: divergence of the arm from the baseline for each token, in nats, at least; `mean_kl_most`: at most; both
    None where a server gave no probabilities. `rest_percent`: the baseline's probability outside the tokens that both
    servers listed. `flip_rate_percent`: first different tokens for each 100 places. `tokens_until_difference`: the
    median over prompts; None if more than half of the answers never differ. `identical`: prompts whose answers do not
    differ.
    """

    baseline: str
    arm: str
    prompts: int
    places: int
    identical: int
    flip_rate_percent: Bounded
    tokens_until_difference: Bounded | None
    mean_kl: Bounded | None
    mean_kl_most: float | None
    rest_percent: float | None


class _Place(msgspec.Struct, frozen=True):
    """Divergence at one place, between two bounds, and the baseline's probability outside the common tokens."""

    least: float
    most: float
    rest: float


class _Prompt(msgspec.Struct, frozen=True):
    """`places`: tokens with the same context. `differs`: whether the last of them differs."""

    places: int
    differs: bool
    divergences: tuple[_Place, ...]


def fidelity_difference(
    baseline: tuple[str, Mapping[str, Continuation]], arm: tuple[str, Mapping[str, Continuation]]
) -> FidelityDifference | None:
    """None if the arms have no answer to the same request."""
    (base_name, base), (arm_name, other) = baseline, arm
    found = [_compared(base[name], other[name]) for name in base if name in other]
    found = [one for one in found if one.places]
    if not found:
        return None
    known = [one for one in found if one.divergences]
    divergences = [place for one in known for place in one.divergences]
    return FidelityDifference(
        baseline=base_name,
        arm=arm_name,
        prompts=len(found),
        places=sum(one.places for one in found),
        identical=sum(not one.differs for one in found),
        flip_rate_percent=_flip_rate(found),
        tokens_until_difference=_tokens_until_difference(found),
        mean_kl=_mean_kl(known) if known else None,
        mean_kl_most=math.fsum(one.most for one in divergences) / len(divergences) if known else None,
        rest_percent=100 * math.fsum(one.rest for one in divergences) / len(divergences) if known else None,
    )


def fidelity_differences(
    continuations: Mapping[str, Mapping[str, Continuation]], pairs: Sequence[tuple[str, str]]
) -> tuple[FidelityDifference, ...]:
    """Of each pair, given as baseline and arm, with answers to the same requests; `continuations` by arm."""
    found = (
        fidelity_difference((baseline, continuations.get(baseline, {})), (arm, continuations.get(arm, {})))
        for baseline, arm in pairs
    )
    return tuple(one for one in found if one is not None)


def fidelity_lines(differences: Sequence[FidelityDifference]) -> Iterator[str]:
    """A line for each pair."""
    for one in differences:
        yield f"fidelity, {one.arm} vs {one.baseline}: {'; '.join(_parts(one))}"


def _parts(one: FidelityDifference) -> Iterator[str]:
    if one.mean_kl is None:
        yield "mean KL unknown (a server gave no probabilities)"
    else:
        yield (
            f"mean KL at least {kl_text(one.mean_kl.value)} nats per token (95% CI {kl_text(one.mean_kl.low)} to "
            f"{kl_text(one.mean_kl.high or 0)}; {one.rest_percent or 0:.1f}% of the probability is outside the listed "
            f"tokens, so at most {kl_text(one.mean_kl_most or 0)})"
        )
    flips = one.flip_rate_percent
    yield f"flips at {flips.value:.2g}% of tokens (95% CI {flips.low:.2g} to {flips.high or 100:.2g}%)"
    until = one.tokens_until_difference
    if until is None:
        yield "more than half of the answers never differ"
    else:
        high = "no limit" if until.high is None else f"{until.high:.0f}"
        yield f"median {until.value:.0f} tokens until the first difference (95% CI {until.low:.0f} to {high})"
    yield f"{one.identical} of {one.prompts} answers identical; {one.places:,} tokens compared"


def kl_text(value: float) -> str:
    """Three significant digits: 0.0123, 1.2e-05."""
    return f"{value:.3g}"


# --- one prompt -----------------------------------------------------------------------------------


def _compared(base: Continuation, other: Continuation) -> _Prompt:
    """The places up to and including the first difference. An answer that ended differs from one that goes on."""
    divergences: list[_Place] = []
    places = 0
    for ours, theirs in zip_longest(base.tokens, other.tokens):
        places += 1
        if ours is None or theirs is None:
            return _Prompt(places, differs=True, divergences=tuple(divergences))
        if (place := divergence(ours, theirs)) is not None:
            divergences.append(place)
        if ours.token != theirs.token:
            return _Prompt(places, differs=True, divergences=tuple(divergences))
    return _Prompt(places, differs=False, divergences=tuple(divergences))


def divergence(base: TokenChoice, other: TokenChoice) -> _Place | None:
    """None where a server gave no probabilities. See the module."""
    p, q = dict(base.top), dict(other.top)
    if not p or not q:
        return None
    common = p.keys() & q.keys()
    inner = math.fsum(math.exp(p[one]) * (p[one] - max(q[one], _LOWEST_LOG)) for one in common)
    p_rest = max(0.0, 1 - math.fsum(math.exp(p[one]) for one in common))
    q_rest = max(math.exp(_LOWEST_LOG), 1 - math.fsum(math.exp(q[one]) for one in common))
    least = max(0.0, inner + (p_rest * math.log(p_rest / q_rest) if p_rest else 0.0))
    listed = [value for name, value in p.items() if name not in common]
    outside = math.fsum(math.exp(value) * max(0.0, value - _LOWEST_LOG) for value in listed)
    tail = max(0.0, p_rest - math.fsum(map(math.exp, listed)))
    most = inner + outside + tail * max(0.0, min(p.values()) - _LOWEST_LOG)
    return _Place(least, max(least, most), p_rest)


# --- all prompts ----------------------------------------------------------------------------------


def _mean_kl(prompts: Sequence[_Prompt]) -> Bounded:
    sums = [math.fsum(place.least for place in one.divergences) for one in prompts]
    return _ratio(sums, [len(one.divergences) for one in prompts], most=None)


def _flip_rate(prompts: Sequence[_Prompt]) -> Bounded:
    """In percent. Without any flip, the upper end is that of Clopper and Pearson for this many places."""
    places = [one.places for one in prompts]
    flips = [100.0 * one.differs for one in prompts]
    if not any(flips):
        return Bounded(0.0, 0.0, 100 * (1 - _TAIL ** (1 / sum(places))))
    return _ratio(flips, places, most=100.0)


def _ratio(sums: Sequence[float], counts: Sequence[int], most: float | None) -> Bounded:
    """A ratio of sums over prompts, with Student's interval from its linear form (Cochran 1977, section 6.4)."""
    count, total = len(sums), sum(counts)
    value = math.fsum(sums) / total
    if count < 2:
        return Bounded(value, 0.0, most)
    spread = math.fsum((one - value * size) ** 2 for one, size in zip(sums, counts, strict=True))
    quantile: Any = special.stdtrit(count - 1, 1 - _TAIL)
    half = float(quantile) * math.sqrt(spread * count / (count - 1)) / total
    high = value + half
    return Bounded(value, max(0.0, value - half), high if most is None else min(most, high))


def _tokens_until_difference(prompts: Sequence[_Prompt]) -> Bounded | None:
    """The median of equal tokens before the first difference, with the interval of its order statistics."""
    found = sorted(one.places - 1 if one.differs else math.inf for one in prompts)
    count = len(found)
    middle = (found[(count - 1) // 2] + found[count // 2]) / 2
    if math.isinf(middle):
        return None
    below: Any = special.bdtr(range(count + 1), count, 0.5)
    rank = int((below < _TAIL).sum())  # the quantile of the binomial distribution
    low, high = (found[rank - 1], found[count - rank]) if rank else (0.0, math.inf)
    return Bounded(middle, low, None if math.isinf(high) else high)

"""Fidelity: what is compared, and that the bounds of the divergence hold."""

import math
import random

import pytest

from inferometer.analysis.fidelity import divergence, fidelity_difference
from inferometer.core.continuation import Continuation, TokenChoice


def token(text: str, **shares: float) -> TokenChoice:
    return TokenChoice(text, tuple((name, math.log(share)) for name, share in shares.items()))


def answer(*tokens: TokenChoice) -> Continuation:
    return Continuation(tokens)


SURE = token("a", a=0.9, b=0.1)
UNSURE = token("a", a=0.5, b=0.5)
FLIPPED = token("b", a=0.4, b=0.6)
KL_UNSURE = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
KL_FLIPPED = 0.9 * math.log(0.9 / 0.4) + 0.1 * math.log(0.1 / 0.6)


def test_places_count_up_to_and_including_the_first_difference():
    base = {"p": answer(SURE, SURE, SURE, SURE)}
    other = {"p": answer(UNSURE, FLIPPED, SURE, UNSURE)}
    found = fidelity_difference(("base", base), ("arm", other))
    assert found.places == 2
    assert found.mean_kl.value == pytest.approx((KL_UNSURE + KL_FLIPPED) / 2)
    assert found.flip_rate_percent.value == pytest.approx(50)
    assert found.tokens_until_difference.value == 1


def test_equal_arms_have_no_divergence_and_no_flip():
    base = {str(number): answer(SURE, UNSURE) for number in range(10)}
    found = fidelity_difference(("base", base), ("arm", base))
    assert (found.identical, found.prompts, found.mean_kl.value, found.flip_rate_percent.value) == (10, 10, 0, 0)
    assert found.tokens_until_difference is None
    assert found.flip_rate_percent.high == pytest.approx(100 * (1 - 0.025 ** (1 / 20)))


def test_an_answer_that_ends_earlier_differs_where_it_ends():
    found = fidelity_difference(("base", {"p": answer(SURE, SURE)}), ("arm", {"p": answer(SURE)}))
    assert (found.identical, found.places, found.tokens_until_difference.value) == (0, 2, 1)


def test_a_server_without_probabilities_has_flips_but_no_divergence():
    found = fidelity_difference(("base", {"p": answer(TokenChoice("a"))}), ("arm", {"p": answer(FLIPPED)}))
    assert found.mean_kl is None
    assert found.flip_rate_percent.value == 100


def test_arms_without_a_common_request_are_not_compared():
    assert fidelity_difference(("base", {"p": answer(SURE)}), ("arm", {"q": answer(SURE)})) is None


def test_the_bounds_contain_the_divergence_of_the_whole_vocabulary():
    draw = random.Random(1)
    for _ in range(200):
        logits = [draw.gauss(0, 3) for _ in range(100)]
        moved = [one + draw.gauss(0, 0.5) for one in logits]
        p, q = (
            {str(place): math.exp(one - _log_sum(all_)) for place, one in enumerate(all_)} for all_ in (logits, moved)
        )
        whole = sum(share * math.log(share / q[name]) for name, share in p.items())
        found = divergence(_top(p), _top(q))
        assert found.least <= whole + 1e-9
        assert whole <= found.most + 1e-9


def test_half_of_the_prompts_give_the_median_and_its_interval():
    lengths = range(1, 22)
    base = {str(n): answer(*[SURE] * 30) for n in lengths}
    other = {str(n): answer(*[SURE] * n, FLIPPED) for n in lengths}
    until = fidelity_difference(("base", base), ("arm", other)).tokens_until_difference
    assert (until.value, until.low, until.high) == (11, 6, 16)


def _log_sum(logits: list[float]) -> float:
    return math.log(sum(map(math.exp, logits)))


def _top(shares: dict[str, float]) -> TokenChoice:
    best = sorted(shares, key=shares.__getitem__, reverse=True)[:20]
    return TokenChoice(best[0], tuple((name, math.log(shares[name])) for name in best))

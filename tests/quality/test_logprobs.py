"""Every form in which servers give token probabilities is read as the same tokens."""

import math

import pytest

from inferometer.base.redactor import Redactor
from inferometer.core.continuation import Continuation, TokenChoice
from inferometer.quality.logprobs import continuation_of, fields, masked

HALF = math.log(0.5)
CHAT = {"choices": [{"finish_reason": "stop", "logprobs": {"content": [
    {"token": "Hi", "bytes": [72, 105], "logprob": HALF, "top_logprobs": [
        {"token": "Hi", "bytes": [72, 105], "logprob": HALF},
        {"token": "Ho", "logprob": math.log(0.25)}]}]}}]}  # fmt: skip
COLUMNS = {"choices": [{"finish_reason": "stop", "logprobs": {
    "tokens": ["Hi"], "token_logprobs": [HALF], "top_logprobs": [{"Hi": HALF, "Ho": math.log(0.25)}]}}]}  # fmt: skip
LLAMA = {"completion_probabilities": [{"token": "Hi", "logprob": HALF, "top_logprobs": [
    {"token": "Hi", "logprob": HALF}, {"token": "Ho", "logprob": math.log(0.25)}]}]}  # fmt: skip
OLD_LLAMA = {"completion_probabilities": [{"content": "Hi", "probs": [
    {"tok_str": "Hi", "prob": 0.5}, {"tok_str": "Ho", "prob": 0.25}]}]}  # fmt: skip


@pytest.mark.parametrize("answer", [CHAT, COLUMNS, LLAMA, OLD_LLAMA], ids=["chat", "completions", "llama", "old llama"])
def test_each_form_gives_the_tokens_and_their_most_likely_alternatives(answer):
    found = continuation_of(answer)
    (token,) = found.tokens
    assert token.token == "Hi"
    assert {name: math.exp(value) for name, value in token.top} == pytest.approx({"Hi": 0.5, "Ho": 0.25}, abs=1e-5)


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"choices": []}, {"choices": [{"message": {"content": "Hi"}, "logprobs": None}]},
     {"choices": [{"logprobs": {"content": []}}]}, {"choices": [{"logprobs": {"tokens": "Hi"}}]}, {"choices": [3]}],
)  # fmt: skip
def test_an_answer_without_probabilities_is_recognised(answer):
    assert continuation_of(answer) is None


def test_a_drafted_token_without_alternatives_is_still_a_token():
    answer = {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": 0.0, "top_logprobs": []}]}}]}
    assert continuation_of(answer).tokens[0].top == ()


def test_halves_of_one_character_are_told_apart_by_their_bytes():
    pieces = [{"token": "", "bytes": [240, 159], "logprob": HALF}, {"token": "", "bytes": [240, 158], "logprob": -2.0}]
    answer = {"choices": [{"logprobs": {"content": [{**pieces[0], "top_logprobs": pieces}]}}]}
    (token,) = continuation_of(answer).tokens
    assert token.token == "0xf09f"
    assert [name for name, _ in token.top] == ["0xf09f", "0xf09e"]


def test_the_fields_of_each_api():
    assert fields("openai-chat", 20) == {"stream": False, "logprobs": True, "top_logprobs": 20}
    assert fields("openai", 20) == {"stream": False, "logprobs": 20}


def test_a_secret_is_masked_also_where_it_goes_over_several_tokens():
    tokens = tuple(TokenChoice(text, ((text, -0.1), ("sesame-7", -3.0))) for text in ("say sesa", "me-7", "!"))
    found = masked(Continuation(tokens, "stop sesame-7"), Redactor.of(["sesame-7"]))
    assert [token.token for token in found.tokens] == ["say ****", "****", "!"]
    assert "sesame" not in str(found)

"""Token probabilities in a server's answer: the request fields that ask for them, and the forms that answers have.

Forms: OpenAI's chat (`logprobs.content`), OpenAI's completions (`logprobs.tokens`, as vLLM and SGLang send it), and
llama-server's (`completion_probabilities`, in its present and its older form). Pure.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

from inferometer.base.redactor import Redactor
from inferometer.core.continuation import Continuation, TokenChoice

TOP = 20
"""Most likely tokens to ask for: the most that OpenAI's chat API and vLLM's default give."""
FEWEST = 5
"""The most that OpenAI's completions give."""


def fields(dialect: str, top: int) -> dict[str, Any]:
    """Fields of a request that ask for the `top` most likely tokens at each place, in one piece."""
    asked = {"logprobs": True, "top_logprobs": top} if dialect == "openai-chat" else {"logprobs": top}
    return {"stream": False, **asked}


def continuation_of(answer: Any) -> Continuation | None:
    """The answer's tokens; None if the server gave no log-probabilities. `answer`: JSON of any shape."""
    choices = _list(_of(answer, "choices"))
    choice = choices[0] if choices else answer
    finish = _of(choice, "finish_reason")
    found = _of(choice, "logprobs")
    own = "completion_probabilities"
    content = _list(_of(found, "content")) or _list(_of(choice, own)) or _list(_of(answer, own))
    tokens = [_entry(one) for one in content] if content else _columns(found)
    if not tokens:
        return None
    return Continuation(tuple(tokens), finish if isinstance(finish, str) else "")


def masked(continuation: Continuation, redactor: Redactor) -> Continuation:
    """The tokens with each character of a secret as `*`, also where it goes over several tokens."""
    text = "".join(token.token for token in continuation.tokens)
    hidden = redactor.mask(text)
    tokens: list[TokenChoice] = []
    at = 0
    for token in continuation.tokens:
        shown = hidden[at : at + len(token.token)]
        at += len(token.token)
        top = tuple((shown if name == token.token else redactor.mask(name), value) for name, value in token.top)
        tokens.append(TokenChoice(shown, top))
    return Continuation(tuple(tokens), redactor.redact(continuation.finish_reason))


def _entry(entry: Any) -> TokenChoice:
    """A token of the chat form, or of llama-server's forms; the older one has probabilities (`probs`)."""
    top = [(_key(one), _number(_of(one, "logprob"))) for one in _list(_of(entry, "top_logprobs"))]
    top += [(_key(one), _log(_of(one, "prob"))) for one in _list(_of(entry, "probs"))]
    return TokenChoice(_key(entry), _sums(top))


def _columns(found: Any) -> list[TokenChoice]:
    """The tokens of the completions form: a list for each field, one element for each token."""
    names = [one for one in _list(_of(found, "tokens")) if isinstance(one, str)]
    tops = _list(_of(found, "top_logprobs"))
    tops += [None] * (len(names) - len(tops))
    pairs = [
        [(name, _number(value)) for name, value in cast("dict[str, Any]", one).items()] if isinstance(one, dict) else []
        for one in tops
    ]
    return [TokenChoice(name, _sums(top)) for name, top in zip(names, pairs, strict=False)]


def _sums(pairs: Sequence[tuple[str, float | None]]) -> tuple[tuple[str, float], ...]:
    """One entry for each text: tokens with the same text are one outcome, whose probability is their sum."""
    found: dict[str, float] = {}
    for name, value in pairs:
        if value is not None:
            found[name] = found.get(name, 0.0) + math.exp(min(value, 0.0))
    return tuple((name, round(math.log(share), 6)) for name, share in found.items() if share > 0)


def _key(entry: Any) -> str:
    """The token's bytes where they are given: texts of incomplete characters are all alike."""
    values = _list(_of(entry, "bytes"))
    if values and all(isinstance(one, int) and 0 <= one < 256 for one in values):
        data = bytes(values)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return f"0x{data.hex()}"
    texts = (_of(entry, name) for name in ("token", "tok_str", "content"))
    return next((text for text in texts if isinstance(text, str)), "")


def _of(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return list(cast("list[Any]", value)) if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _log(value: Any) -> float | None:
    share = _number(value)
    return math.log(share) if share else None

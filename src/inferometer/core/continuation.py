"""Answers with the probabilities of their tokens, as the fidelity pass stores them."""

import msgspec


class TokenChoice(msgspec.Struct, frozen=True, array_like=True):
    """One token of an answer. `token`: its text, or its bytes as `0x…` where they are not UTF-8. `top`: the most likely
    tokens at this place and their log-probabilities (natural logarithm); empty where the server gave none."""

    token: str
    top: tuple[tuple[str, float], ...] = ()


class Continuation(msgspec.Struct, frozen=True):
    """One arm's answer to one request. `finish_reason`: "" if the server gave none."""

    tokens: tuple[TokenChoice, ...]
    finish_reason: str = ""

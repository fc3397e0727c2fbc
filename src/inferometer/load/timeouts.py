"""Timeouts of a request: which limit has expired, by what the request waits for and since when. Pure."""

import re

from inferometer.core.spec import Timeouts

_CHUNK_EDGE = re.compile(rb"\r\n(?:[0-9a-fA-F]+\r\n)?")
_OVERLAP = 200  # bytes searched again, so that a token split over two reads is found


class TokenWatch:
    """When the last token arrived, as far as the bytes so far show. Updated a few times per second, and only if a limit
    needs it."""

    __slots__ = ("_searched", "last_ns")

    def __init__(self) -> None:
        self._searched = 0
        self.last_ns: int | None = None

    def update(self, pattern: re.Pattern[bytes], raw: bytearray, read_ns: int) -> None:
        """`pattern` matches an event with output. `raw`: all bytes so far; `read_ns`: when the last of them came."""
        if len(raw) == self._searched:
            return
        new = bytes(memoryview(raw)[max(0, self._searched - _OVERLAP) :])
        count = len(pattern.findall(_CHUNK_EDGE.sub(b"", new)))
        if self._searched:
            before = bytes(memoryview(raw)[max(0, self._searched - _OVERLAP) : self._searched])
            count -= len(pattern.findall(_CHUNK_EDGE.sub(b"", before)))
        if count > 0:
            self.last_ns = read_ns
        self._searched = len(raw)


def expired_timeout(
    limits: Timeouts, now_ns: int, opened_ns: int, connected: bool, sent_ns: int | None, token_ns: int | None
) -> str:
    """The limit that has expired, as a message; "" if none has. `token_ns`: when the last token came, None before the
    first."""
    if not connected:
        return _expired(now_ns - opened_ns, limits.connect_s, "to connect")
    if sent_ns is None:
        return ""
    message = _expired(now_ns - sent_ns, limits.request_s, "for the answer")
    if not message and token_ns is None:
        message = _expired(now_ns - sent_ns, limits.first_token_s, "for the first token")
    if not message and token_ns is not None:
        message = _expired(now_ns - token_ns, limits.between_tokens_s, "for the next token")
    return message


def _expired(waited_ns: int, limit_s: float | None, what: str) -> str:
    return f"waited {limit_s:g} s {what}" if limit_s is not None and waited_ns > limit_s * 1e9 else ""

"""Has a request waited for too long? Of what it was waiting for, and since when; pure."""

import re

from inferometer.core.spec import Timeouts

_CHUNK_EDGE = re.compile(rb"\r\n(?:[0-9a-fA-F]+\r\n)?")
_OVERLAP = 200  # of what was looked at before, so that a token cut by two reads is seen


class TokenWatch:
    """When the last token came, as far as the bytes so far show it: looked for a few times a second, and only where a
    limit asks for it. `pattern` is what an event with output holds."""

    __slots__ = ("_looked", "last_ns")

    def __init__(self) -> None:
        self._looked = 0
        self.last_ns: int | None = None

    def look(self, pattern: re.Pattern[bytes], raw: bytearray, read_ns: int) -> None:
        """`raw`: all that came; `read_ns`: when the last of it did."""
        if len(raw) == self._looked:
            return
        new = bytes(memoryview(raw)[max(0, self._looked - _OVERLAP) :])
        seen = len(pattern.findall(_CHUNK_EDGE.sub(b"", new)))
        if self._looked:
            before = bytes(memoryview(raw)[max(0, self._looked - _OVERLAP) : self._looked])
            seen -= len(pattern.findall(_CHUNK_EDGE.sub(b"", before)))
        if seen > 0:
            self.last_ns = read_ns
        self._looked = len(raw)


def too_long(
    limits: Timeouts, now_ns: int, opened_ns: int, connected: bool, sent_ns: int | None, token_ns: int | None
) -> str:
    """What was waited for longer than its limit allows; "" where there is patience left. `token_ns`: the last one's
    coming, None before the first."""
    if not connected:
        return _past(now_ns - opened_ns, limits.connect_s, "to connect")
    if sent_ns is None:
        return ""
    said = _past(now_ns - sent_ns, limits.request_s, "for the answer")
    if not said and token_ns is None:
        said = _past(now_ns - sent_ns, limits.first_token_s, "for the first token")
    if not said and token_ns is not None:
        said = _past(now_ns - token_ns, limits.between_tokens_s, "for the next token")
    return said


def _past(waited_ns: int, limit_s: float | None, what: str) -> str:
    return f"waited {limit_s:g} s {what}" if limit_s is not None and waited_ns > limit_s * 1e9 else ""

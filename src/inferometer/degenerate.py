"""Is this answer broken? Loops, one repeated piece, nothing, or text that compresses as no text does."""

import zlib

from inferometer import thresholds


def broken(text: str) -> str:
    """How the answer is broken, in a word or two; "" where it is not."""
    if not text.strip():
        return "empty"
    if "\ufffd" in text:
        return "no UTF-8"
    if loop_chars(text) > max(thresholds.LOOP_CHARS, thresholds.LOOP_SHARE * len(text)):
        return "loops"
    if len(text) >= thresholds.COMPRESSION_CHARS and compression_ratio(text) > thresholds.COMPRESSION_RATIO:
        return "repeats itself"
    return ""


def loop_chars(text: str) -> int:
    """How many characters at the end are one piece again and again, at least `LOOP_REPEATS` times; 0 for none."""
    longest = 0
    for period in range(1, min(thresholds.LOOP_PERIOD, len(text) // thresholds.LOOP_REPEATS) + 1):
        place = len(text) - 1
        while place >= period and text[place] == text[place - period]:
            place -= 1
        repeated = len(text) - 1 - place + period
        if repeated >= thresholds.LOOP_REPEATS * period:
            longest = max(longest, repeated)
    return longest


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of its zlib form."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 1.0

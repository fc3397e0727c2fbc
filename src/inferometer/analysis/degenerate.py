"""Is this answer broken? Loops, one repeated piece, nothing, or text that compresses as no text does."""

import zlib

from inferometer.analysis import thresholds


def broken(text: str) -> str:
    """How the answer is broken, in a word or two; "" where it is not."""
    if not text.strip():
        return "empty"
    if _has_lost_characters(text):
        return "no UTF-8"
    if _is_loop(text):
        return "loops"
    if len(text) >= thresholds.COMPRESSION_CHARS and compression_ratio(text) > thresholds.COMPRESSION_RATIO:
        return "repeats itself"
    return ""


def _has_lost_characters(text: str) -> bool:
    """Replacement characters, but for those that stand for one character which the length asked cut at the end."""
    rest = text.rstrip("\ufffd")
    return "\ufffd" in rest or len(text) - len(rest) > thresholds.CUT_CHARACTERS or not rest.strip()


def _is_loop(text: str) -> bool:
    repeated = loop_chars(text)
    if repeated > max(thresholds.LOOP_CHARS, thresholds.LOOP_SHARE * len(text)):
        return True
    return repeated > thresholds.WHOLE_LOOP_CHARS and repeated == len(text.strip())


def loop_chars(text: str) -> int:
    """How many characters at the end are one piece again and again, at least `LOOP_REPEATS` times; 0 for none."""
    longest = 0
    periods: list[int] = []
    for period in range(1, min(thresholds.LOOP_PERIOD, len(text) // thresholds.LOOP_REPEATS) + 1):
        if not text.endswith(text[-period:] * thresholds.LOOP_REPEATS):
            continue
        if any(period % shorter == 0 for shorter in periods):
            continue  # that loop once more
        periods.append(period)
        place = len(text) - 1 - period
        while place >= 0 and text[place] == text[place + period]:
            place -= 1
        longest = max(longest, len(text) - 1 - place)
    return longest


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of its zlib form."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 1.0

"""Detection of broken answers: empty, invalid UTF-8, loops, and text that compresses too well."""

import zlib
from collections.abc import Iterator

from inferometer.analysis import thresholds

_END_CHARS = 4


def defect(text: str) -> str:
    """The kind of defect of an answer, in a word or two; "" for a sound answer."""
    if not text.strip():
        return "empty"
    if _has_lost_characters(text):
        return "invalid UTF-8"
    if _is_loop(text):
        return "loops"
    if len(text) >= thresholds.COMPRESSION_CHARS and compression_ratio(text) > thresholds.COMPRESSION_RATIO:
        return "repeats itself"
    return ""


def _has_lost_characters(text: str) -> bool:
    """Whether the text has replacement characters, except at its end, where the length limit may have cut a
    character."""
    rest = text.rstrip("\ufffd")
    return "\ufffd" in rest or len(text) - len(rest) > thresholds.CUT_CHARACTERS or not rest.strip()


def _is_loop(text: str) -> bool:
    repeated = loop_chars(text)
    if repeated > max(thresholds.LOOP_CHARS, thresholds.LOOP_SHARE * len(text)):
        return True
    return repeated > thresholds.WHOLE_LOOP_CHARS and repeated == len(text.strip())


def loop_chars(text: str) -> int:
    """Number of characters at the end that repeat one piece at least `LOOP_REPEATS` times; 0 if there is no loop."""
    longest = 0
    periods: list[int] = []
    for period in _possible_periods(text, min(thresholds.LOOP_PERIOD, len(text) // thresholds.LOOP_REPEATS)):
        if not text.endswith(text[-period:] * thresholds.LOOP_REPEATS):
            continue
        if any(period % shorter == 0 for shorter in periods):
            continue  # the same loop, counted twice or more
        periods.append(period)
        longest = max(longest, period + _common_end(text[:-period], text))
    return longest


def _possible_periods(text: str, most: int) -> Iterator[int]:
    """Lengths of a piece, up to `most`, that the text's end may repeat, in rising order: the last characters also
    precede the piece. Few lengths remain, and each costs a comparison."""
    yield from range(1, min(_END_CHARS, most + 1))
    if most < _END_CHARS:
        return
    end, last = text[-_END_CHARS:], len(text) - _END_CHARS
    place = last - _END_CHARS
    while (place := text.rfind(end, max(0, last - most), place + _END_CHARS)) >= 0:
        yield last - place
        place -= 1


def _common_end(first: str, second: str) -> int:
    """Length of the common end of two texts, characters."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[len(first) - middle : len(first) - low] == second[len(second) - middle : len(second) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def compression_ratio(text: str) -> float:
    """Bytes of the text divided by bytes of its zlib-compressed form; 1 for an empty text."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else 1.0

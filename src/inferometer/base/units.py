"""Formatting of numbers: times, bytes, rates. No other module formats numbers; internal values are ns and bytes."""

import math
from collections.abc import Sequence
from itertools import pairwise

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BYTES_PER_MIB = 1024**2
BYTES_PER_GIB = 1024**3

COUNT_UNITS = frozenset({"requests", "tok", "chunks", "stalls"})
"""Units of counts; their means over trials need not be whole numbers."""


def ms(ns: float) -> float:
    """Nanoseconds as milliseconds."""
    return ns / NS_PER_MS


def seconds(ns: float) -> float:
    """Nanoseconds as seconds."""
    return ns / NS_PER_S


def gib(count_bytes: float) -> float:
    """Bytes as GiB (1024³ bytes)."""
    return count_bytes / BYTES_PER_GIB


def duration_text(ns: float) -> str:
    """A duration for reading: 850 ms, 4.2 s, 3 min 05 s, 2 h 07 min."""
    whole_s = seconds(ns)
    if whole_s < 1:
        return f"{ms(ns):.0f} ms"
    if whole_s < 60:
        return f"{whole_s:.1f} s"
    if whole_s < 3600:
        return f"{int(whole_s) // 60} min {int(whole_s) % 60:02d} s"
    return f"{int(whole_s) // 3600} h {int(whole_s) % 3600 // 60:02d} min"


def bytes_text(count_bytes: float) -> str:
    """A size for reading: 512 B, 3.4 MiB, 18.48 GiB."""
    if count_bytes < 1024:
        return f"{count_bytes:.0f} B"
    if count_bytes < BYTES_PER_MIB:
        return f"{count_bytes / 1024:.1f} KiB"
    if count_bytes < BYTES_PER_GIB:
        return f"{count_bytes / BYTES_PER_MIB:.1f} MiB"
    return f"{gib(count_bytes):.2f} GiB"


def value_text(value: float | None, unit: str) -> str:
    """A metric's value without its unit: counts as integers; their means and percentages with 1 decimal; other values
    with 2 decimals, or three digits below 0.1 (0.0461, 0.05). None: n/a."""
    if value is None:
        return "n/a"
    if unit in COUNT_UNITS:
        return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
    if unit == "%":
        return percent_text(value)
    if 0 < abs(value) < 0.1:
        digits = three_digits_text(value).rstrip("0")
        return digits if len(digits.partition(".")[2]) >= 2 else f"{value:.2f}"
    return f"{value:.2f}"


def uncertain_text(value: float, half: float) -> str:
    """A value with the half width of its interval, which determines the digits: 23 ±12, 11.010 ±0.007, 1100 ±1300.

    By the Particle Data Group's rule (Review of Particle Physics, introduction, "Rounding"), the half width has two
    digits if it begins with 100 to 354, else one, and the value has as many decimals. The value has two to six digits;
    a half width too small for that is omitted.
    """
    decimals = _decimals_of_half(half)
    half_text = _rounded(half, decimals)
    if value:
        first = math.floor(math.log10(abs(value)))
        most = 5 - first
        if decimals > most:
            return _rounded(value, max(2, min(most, 6)))
        decimals = max(decimals, 1 - first)
    return f"{_rounded(value, decimals)} ±{half_text}"


def interval_texts(percent: float, low: float, high: float) -> tuple[str, str]:
    """A difference in percent and its interval: 17.4 and [10.3, 25.0]. The width of the interval determines the
    decimals, at most 2. An end that is not 0 is never written as 0: readers look at which side of 0 the interval
    lies."""
    decimals = 1
    if high > low:
        decimals = min(2, max(0, 1 - math.floor(math.log10((high - low) / 2))))
    return _rounded(percent, decimals), f"[{_end_text(low, decimals)}, {_end_text(high, decimals)}]"


_MOST_PERCENT = 9999
"""A larger end of an interval is written as >9999."""


def _end_text(end: float, decimals: int) -> str:
    if end > _MOST_PERCENT:
        return f">{_MOST_PERCENT}"
    text = _rounded(end, decimals)
    if end and not float(text):
        return _rounded(end, min(6, -math.floor(math.log10(abs(end)))))
    return text


def _decimals_of_half(half: float) -> int:
    """Decimals of a half width; negative for digits left of the decimal point."""
    first = math.floor(math.log10(half))
    return (1 if half / 10.0**first < 3.545 else 0) - first


def _rounded(value: float, decimals: int) -> str:
    """Rounds also to tens and hundreds (negative `decimals`); never returns -0."""
    text = f"{round(value, decimals):.{max(0, decimals)}f}"
    return text.removeprefix("-") if not float(text) else text


def percent_text(value: float | None) -> str:
    """A percentage or a difference in percent, 1 decimal, never -0.0; None: n/a."""
    if value is None:
        return "n/a"
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def three_digits_text(value: float | None) -> str:
    """A rate with three significant digits and no exponent: 0.00214, 7.30, 748; None: n/a."""
    if value is None:
        return "n/a"
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def model_size_text(count_bytes: float | None) -> str:
    """A model size in llama-bench's form: 284.95 MiB, 18.48 GiB; None: n/a."""
    if count_bytes is None:
        return "n/a"
    return f"{gib(count_bytes):.2f} GiB" if count_bytes >= BYTES_PER_GIB else f"{count_bytes / BYTES_PER_MIB:.2f} MiB"


def parameters_text(count: float | None) -> str:
    """A parameter count in llama-bench's form: 281.07 M, 32.76 B; None: n/a."""
    if count is None:
        return "n/a"
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def rate_text(mean_per_s: float | None, deviation_per_s: float | None) -> str:
    """A rate with its standard deviation in llama-bench's form: 37.71 ± 0.02; None: n/a."""
    if mean_per_s is None:
        return "n/a"
    return f"{mean_per_s:.2f} ± " + ("n/a" if deviation_per_s is None else f"{deviation_per_s:.2f}")


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick label of an axis, with enough decimals to differ from its neighbours; 25k for 25000."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    steps = [abs(after - before) for before, after in pairwise(ticks) if after != before]
    finest = min([*steps, abs(value)]) if steps else abs(value)
    decimals = max(0, -math.floor(math.log10(finest) + 1e-9))
    text = f"{value:.{min(decimals + 1, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio_text(ratio: float | None) -> str:
    """A ratio: 0.944×, 1.12×, 25.1×; None: n/a."""
    if ratio is None:
        return "n/a"
    return f"{ratio:.3f}×" if ratio < 10 else f"{three_digits_text(ratio)}×"


def rate_per_s(count: float, over_ns: int) -> float:
    """`count` per second; 0 if no time has passed, because a planned start may still lie in the future."""
    return count / seconds(over_ns) if over_ns > 0 else 0.0


def rate_shown(per_s: float) -> str:
    """A rate for a live display: one decimal."""
    return f"{per_s:.1f}"


def ms_text(value_ms: float) -> str:
    """Milliseconds for a live display: 345, 4.5, 0.42."""
    return f"{value_ms:.0f}" if value_ms >= 100 else f"{value_ms:.1f}" if value_ms >= 1 else f"{value_ms:.2f}"


def watts_text(watts: float) -> str:
    """Watts without decimals."""
    return f"{watts:.0f}"


def rounded_percent(percent: float, digits: int) -> str:
    """A difference in percent with its sign: +12.3, −4.0; above +999 as +>999. `digits`: decimals at least."""
    return "+>999" if percent > 999 else not_zero(percent, digits, "+").replace("-", "−")


def not_zero(percent: float, digits: int, sign: str = "") -> str:
    """A number that is not 0 is never written as 0: readers look at which side of 0 an interval lies."""
    while percent and digits < 4 and not float(f"{percent:.{digits}f}"):
        digits += 1
    return f"{percent:{sign}.{digits}f}"

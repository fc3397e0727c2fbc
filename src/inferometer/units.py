"""How are times, bytes and rates written? The only place that formats numbers; everything inside is ns and bytes."""

import math
from collections.abc import Sequence
from itertools import pairwise

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BYTES_PER_MIB = 1024**2
BYTES_PER_GIB = 1024**3

COUNT_UNITS = frozenset({"requests", "tok", "chunks"})
"""Units of things that are counted; their means over trials need not be whole."""


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
    """A span for a person: 850 ms, 4.2 s, 3 min 05 s, 2 h 07 min."""
    whole_s = seconds(ns)
    if whole_s < 1:
        return f"{ms(ns):.0f} ms"
    if whole_s < 60:
        return f"{whole_s:.1f} s"
    if whole_s < 3600:
        return f"{int(whole_s) // 60} min {int(whole_s) % 60:02d} s"
    return f"{int(whole_s) // 3600} h {int(whole_s) % 3600 // 60:02d} min"


def bytes_text(count_bytes: float) -> str:
    """A size for a person: 512 B, 3.4 MiB, 18.48 GiB."""
    if count_bytes < 1024:
        return f"{count_bytes:.0f} B"
    if count_bytes < BYTES_PER_MIB:
        return f"{count_bytes / 1024:.1f} KiB"
    if count_bytes < BYTES_PER_GIB:
        return f"{count_bytes / BYTES_PER_MIB:.1f} MiB"
    return f"{gib(count_bytes):.2f} GiB"


def value_text(value: float | None, unit: str) -> str:
    """A metric's value without its unit: counts as integers, percent with 1 decimal, all else with 2; None: n/a."""
    if value is None:
        return "n/a"
    if unit in COUNT_UNITS and value == int(value):
        return f"{value:.0f}"
    return percent_text(value) if unit == "%" else f"{value:.2f}"


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
    """As llama-bench writes it: 284.95 MiB, 18.48 GiB; None: n/a."""
    if count_bytes is None:
        return "n/a"
    return f"{gib(count_bytes):.2f} GiB" if count_bytes >= BYTES_PER_GIB else f"{count_bytes / BYTES_PER_MIB:.2f} MiB"


def parameters_text(count: float | None) -> str:
    """As llama-bench writes it: 281.07 M, 32.76 B; None: n/a."""
    if count is None:
        return "n/a"
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def rate_text(mean_per_s: float | None, deviation_per_s: float | None) -> str:
    """A rate with its deviation, as llama-bench writes it: 37.71 ± 0.02; None: n/a."""
    if mean_per_s is None:
        return "n/a"
    return f"{mean_per_s:.2f} ± " + ("n/a" if deviation_per_s is None else f"{deviation_per_s:.2f}")


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A value of an axis, with as many decimals as tell it from its neighbours; 25k for 25000."""
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
    """0.944×, 1.12×, 25.1×; None: n/a."""
    if ratio is None:
        return "n/a"
    return f"{ratio:.3f}×" if ratio < 10 else f"{three_digits_text(ratio)}×"

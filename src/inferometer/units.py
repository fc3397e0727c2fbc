"""How are times, bytes and rates written? The only place that formats numbers; everything inside is ns and bytes."""

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

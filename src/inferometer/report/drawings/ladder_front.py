"""Picture of a quantisation ladder: speed over memory, one mark for each file, its shape the verdict on its answers."""

from inferometer.analysis.quantisation_ladder import Ladder, Rung
from inferometer.base.units import gib
from inferometer.report.drawings.interval_marks import EDGE, WIDTH
from inferometer.report.svg import Drawing, bottom_axis, drawing, legend, line, mark, path, scale, shortened, text

_LEFT, _HEIGHT = 56.0, 220.0
_VERDICTS = {
    "reference": ("reference", 0),
    "same": ("as good, shown", 2),
    "better": ("as good, shown", 2),
    "inconclusive": ("not shown worse", 3),
    "worse": ("shown worse", 1),
    "": ("not checked", 4),
}
"""By the verdict on the answers: the words of the legend, and the mark."""


def ladder_front(found: Ladder) -> Drawing | None:
    """None where fewer than two files have both values. The line joins the files of the front."""
    known = [(one, size) for one in found.rungs if (size := _size(found, one)) is not None and _gain(found, one)]
    if len(known) < 2:
        return None
    kinds = {one.arm: _VERDICTS[_verdict(found, one)] for one, _ in known}
    names, top = legend(list(dict.fromkeys(kinds.values())), WIDTH)
    ends = [end for one, _ in known for end in _gain(found, one)]
    bottom = top + _HEIGHT
    along = scale(min(size for _, size in known), max(size for _, size in known), _LEFT + 20, WIDTH - 24)
    up = scale(min(-1.0, *ends), max(1.0, *ends), bottom, top + 16)
    is_memory = all(one.memory_gib is not None for one in found.rungs)
    title = "memory (GiB)" if is_memory else "size of the file (GiB)"
    parts = [*names, *bottom_axis(along, top, bottom, title, WIDTH)]
    for tick in up.ticks():
        parts.append(line(_LEFT, up(tick), WIDTH - EDGE, up(tick), "grid"))
        parts.append(text(_LEFT - 6, up(tick) + 4, f"{tick:+g}%", classes="dim", anchor="end"))
    front = [(along(size), up(_gain(found, one)[0])) for one, size in known if not one.smaller_and_as_good]
    parts.append(path(front, "line-7 faint"))
    rows = [("file", title, "speed (%)", "95% interval (%)", "answers")]
    for one, size in known:
        (gain, low, high), (words, shape) = _gain(found, one), kinds[one.arm]
        x, tip = along(size), f"{one.arm}: {gain:+.1f}%, {size:.3g} GiB, {words}"
        parts += [line(x, up(low), x, up(high), f"line-{shape}", tip), mark(x, up(gain), shape, 4.5, tip=tip)]
        parts.append(text(min(max(x, _LEFT + 30), WIDTH - 40), up(high) - 6, shortened(one.arm, 14), anchor="middle"))
        rows.append((one.arm, f"{size:.3f}", f"{gain:+.1f}", f"{low:+.1f} to {high:+.1f}", words))
    alt = f"Speed compared with {found.reference} over {title}, {len(known)} files of one model."
    return drawing(WIDTH, bottom + 38, parts, alt, rows)


def _size(found: Ladder, one: Rung) -> float | None:
    if all(rung.memory_gib is not None for rung in found.rungs):
        return one.memory_gib
    return None if one.model_bytes is None else gib(one.model_bytes)


def _gain(found: Ladder, one: Rung) -> tuple[float, ...]:
    """Speed compared with the reference, and both ends of its interval, in percent; empty if unknown."""
    if one.arm == found.reference:
        return 0.0, 0.0, 0.0
    speed = one.speed
    if speed is None or speed.percent is None:
        return ()
    low = speed.percent if speed.low_percent is None else speed.low_percent
    return speed.percent, low, speed.percent if speed.high_percent is None else speed.high_percent


def _verdict(found: Ladder, one: Rung) -> str:
    if one.arm == found.reference:
        return "reference"
    return "" if one.quality is None else one.quality.verdict

"""Picture of a search: the gain of every setting over one parameter, with intervals."""

from collections.abc import Mapping

from inferometer.analysis.search.result import Tried, TuneResult
from inferometer.core.search_settings import Value
from inferometer.report.drawings.interval_marks import EDGE, WIDTH, scatter
from inferometer.report.svg import Drawing, Scale, bottom_axis, drawing, line, mark, scale, text

_LEFT, _TOP, _HEIGHT = 56.0, 14.0, 200.0


def response_curve(result: TuneResult, path: str, *, is_log: bool = False) -> Drawing:
    """One dot for each setting: its value of the parameter, and its gain in percent with its interval. Settings without
    a result are left out. Values of a choice stand side by side."""
    known = [one for one in result.tried if one.gain_percent is not None]
    values = [one.settings[path] for one in known]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {
        value: float(str(value)) if is_number else float(place)
        for place, value in enumerate(dict.fromkeys(sorted(values, key=str)))
    }
    is_log = is_log and is_number and min(places.values()) > 0
    along = scale(min(places.values()), max(places.values()), _LEFT + 24, WIDTH - 24, is_log=is_log)
    ends = [end for one in known for end in (one.low_percent, one.high_percent, one.gain_percent) if end is not None]
    up = scale(min(-1.0, *ends), max(1.0, *ends), _TOP + _HEIGHT, _TOP)
    parts = _frame(along, up, path, {} if is_number else places)
    for place, one in enumerate(known):
        parts += _dot(one, along(places[one.settings[path]]) + scatter(place, len(known)) * 0.3, up)
    best = known[0]
    alt = (
        f"Gain by {path}: {len(known)} settings; the best of the search is {best.name} with {best.gain_percent:+.1f}%."
    )
    rows = [(str(one.settings[path]), one.name, f"{one.gain_percent:+.1f}", _span(one)) for one in known]
    return drawing(WIDTH, _TOP + _HEIGHT + 44, parts, alt, [(path, "setting", "gain (%)", "95% interval (%)"), *rows])


def _frame(along: Scale, up: Scale, path: str, names: Mapping[Value, float]) -> list[str]:
    """The axes; the line of the baseline is dashed."""
    bottom = _TOP + _HEIGHT
    parts = [] if names else bottom_axis(along, _TOP, bottom, path, WIDTH)
    for name, place in names.items():
        parts.append(text(along(place), bottom + 18, str(name), anchor="middle"))
    parts += [text(WIDTH / 2, bottom + 38, path, classes="dim", anchor="middle")] if names else []
    for tick in up.ticks():
        parts.append(line(_LEFT, up(tick), WIDTH - EDGE, up(tick), "grid"))
        parts.append(text(_LEFT - 6, up(tick) + 4, f"{tick:+g}%", classes="dim", anchor="end"))
    return [*parts, line(_LEFT, up(0), WIDTH - EDGE, up(0), "one", "the baseline")]


def _dot(one: Tried, x: float, y: Scale) -> list[str]:
    assert one.gain_percent is not None
    words = f"{one.name}: {one.gain_percent:+.1f}% {_span(one)}"
    parts: list[str] = []
    if one.low_percent is not None and one.high_percent is not None:
        parts.append(line(x, y(one.low_percent), x, y(one.high_percent), "line-0 faint", words))
    return [*parts, mark(x, y(one.gain_percent), 1 if one.left else 0, 3.2, "faint" if one.left else "", words)]


def _span(one: Tried) -> str:
    if one.low_percent is None or one.high_percent is None:
        return ""
    return f"{one.low_percent:+.1f} to {one.high_percent:+.1f}"

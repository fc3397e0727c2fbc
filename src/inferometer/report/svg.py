"""SVG building blocks: scales with round ticks, shapes with classes, and the style sheet that colours the classes.

Shapes carry classes (`fill-0`, `line-1`) instead of colours, so that one picture works in light mode, in dark mode and
on paper. A page defines the colours as CSS variables (data/pictures.css). A standalone file gets the colours inserted,
because not every SVG viewer supports variables.
"""

import importlib.resources
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from inferometer.base.units import tick_text

PALETTE = 8
"""Number of colours in `pictures.css`; further arms reuse them with other dashes and shapes."""


class Drawing(msgspec.Struct, frozen=True):
    """A picture. `svg` contains `alt`; `rows` are the same data as a table, the head first."""

    svg: str
    alt: str
    rows: tuple[tuple[str, ...], ...]
    width: float
    height: float


class Scale(msgspec.Struct, frozen=True):
    """Maps values to pixels; values outside are drawn on the edge."""

    low: float
    high: float
    from_px: float
    to_px: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.from_px + share * (self.to_px - self.from_px)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the scale, at most `most` (on a log scale one more)."""
        if self.is_log:
            for multiples in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
                found = [
                    factor * 10.0**power
                    for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                    for factor in multiples
                    if self.low <= factor * 10.0**power <= self.high
                ]
                if len(found) <= most + 1:
                    return found if len(found) > 1 else [self.low, self.high]
            return found[:: -(-len(found) // most)]
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(low: float, high: float, from_px: float, to_px: float, *, is_log: bool = False) -> Scale:
    """A scale from `low` to `high`, widened if both are equal."""
    if high <= low:
        low, high = (low / 1.1, low * 1.1) if is_log else (low - abs(low) * 0.1 - 0.5, low + abs(low) * 0.1 + 0.5)
    return Scale(low, high, from_px, to_px, is_log)


def visible(content: str) -> str:
    """The text with characters that act instead of being read made visible: control characters as their symbols (ESC
    as ␛), marks that change the text's direction by their number, halves of surrogate pairs as U+FFFD."""
    return content if content.isprintable() else _ACTIVE.sub(_symbol, content)


_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def _symbol(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"⟨U+{code:04X}⟩"


def escaped(content: str) -> str:
    """Text for SVG: escaped, with invisible characters shown."""
    return escape(visible(content))


def px(value: float) -> str:
    """The number with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, content: str, *, classes: str = "ink", anchor: str = "start", more: str = "") -> str:
    """A text element; `more` follows in the dim style."""
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    then = f'<tspan class="dim" dx="10">{escaped(more)}</tspan>' if more else ""
    return f'<text class="{classes}" x="{px(x)}" y="{px(y)}"{at}>{escaped(content)}{then}</text>'


def _tip(words: str) -> str:
    """The attribute with what a mark shows to the pointer and the keyboard."""
    return f' data-tip="{escaped(words)}"' if words else ""


def line(x1: float, y1: float, x2: float, y2: float, classes: str, tip: str = "") -> str:
    """A straight line. `tip`: shown to the pointer and the keyboard."""
    return f'<path class="{classes}" d="M{px(x1)} {px(y1)}L{px(x2)} {px(y2)}"{_tip(tip)}/>'


def path(points: Iterable[tuple[float, float]], classes: str, *, closed: bool = False, tip: str = "") -> str:
    """Straight lines through the points; `closed`: back to the first."""
    steps = "L".join(f"{px(x)} {px(y)}" for x, y in points)
    return f'<path class="{classes}" d="M{steps}{"Z" if closed else ""}"{_tip(tip)}/>'


def series(steps: str, classes: str, form: str, values: Iterable[str]) -> str:
    """A path with a value for each of its points (each M, L and V of `steps`). `form`: the text of a point; {0} and {1}
    are the parts of its value, which a comma separates."""
    return (
        f'<path class="{classes}" d="{steps}" data-form="{escaped(form)}" data-values="{escaped(" ".join(values))}"/>'
    )


def plot(along: Scale, top: float, bottom: float, parts: Iterable[str]) -> str:
    """The part of a picture that is cut at its edges, so that the page's script can stretch it along the axis."""
    size = (
        f'x="{px(along.from_px)}" y="{px(top)}" width="{px(along.to_px - along.from_px)}" height="{px(bottom - top)}"'
    )
    box = f"{px(along.from_px)} {px(top)} {px(along.to_px - along.from_px)} {px(bottom - top)}"
    ends = f'data-low="{along.low:.6g}" data-high="{along.high:.6g}"'
    return f'<svg class="plot" {size} viewBox="{box}" {ends}><g class="zooms">{"".join(parts)}</g></svg>'


def rect(x: float, y: float, width: float, height: float, classes: str, tip: str = "") -> str:
    """A rectangle, at least half a unit wide so that it can be seen."""
    shape = f'class="{classes}" x="{px(x)}" y="{px(y)}" width="{px(max(width, 0.5))}" height="{px(height)}"'
    return f"<rect {shape}{_tip(tip)}/>"


def ring(x: float, y: float, tip: str = "") -> str:
    """A circle that marks a middle."""
    return f'<circle class="middle" cx="{px(x)}" cy="{px(y)}" r="4"{_tip(tip)}/>'


def mark(x: float, y: float, arm: int, size: float = 3.2, classes: str = "", tip: str = "") -> str:
    """One value as a dot. Each arm has its own shape, so that arms differ by more than colour."""
    corners: Sequence[tuple[float, float]]
    match arm % 4:
        case 0:
            dot = f'class="fill-{arm % PALETTE} {classes}" cx="{px(x)}" cy="{px(y)}" r="{px(size)}"'
            return f"<circle {dot}{_tip(tip)}/>"
        case 1:
            corners = ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
        case 2:
            corners = ((0, -1.15), (1.05, 0.8), (-1.05, 0.8))
        case _:
            corners = ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0))
    return path(
        ((x + a * size, y + b * size) for a, b in corners), f"fill-{arm % PALETTE} {classes}", closed=True, tip=tip
    )


def bottom_axis(along: Scale, top: float, bottom: float, title: str, width: float, *, suffix: str = "") -> list[str]:
    """Ticks with grid lines up to `top`, their values below `bottom`, and the title below these, all within `width`."""
    found = ['<g class="ticks">']
    ticks = along.ticks()
    for value in ticks:
        found.append(line(along(value), top, along(value), bottom, "grid"))
        label = tick_text(value, ticks) + suffix
        half = 3.6 * len(label)
        x = min(max(along(value), half), width - half)
        found.append(text(x, bottom + 15, label, classes="dim", anchor="middle"))
    found.append("</g>")
    found.append(text((along.from_px + along.to_px) / 2, bottom + 32, title, classes="dim", anchor="middle"))
    return found


def legend(names: Sequence[tuple[str, int]], width: float) -> tuple[list[str], float]:
    """The arms' names with line and shape, in as many rows as needed; and the height of these rows."""
    found: list[str] = []
    x, y = 2.0, 11.0
    for name, arm in names:
        label = shortened(name)
        needed = 34 + 7.2 * len(label) + 14
        if x > 2 and x + needed > width:
            x, y = 2.0, y + 18
        found.append(line(x, y - 4, x + 26, y - 4, f"line-{arm % PALETTE} dash-{arm % 4}"))
        found.append(mark(x + 13, y - 4, arm))
        found.append(text(x + 32, y, label))
        x += needed
    return found, y + 8


def shortened(name: str, most: int = 30) -> str:
    """The name, cut at `most` characters with an ellipsis."""
    return name if len(name) <= most else name[: most - 1] + "…"


def drawing(width: float, height: float, parts: Iterable[str], alt: str, rows: Iterable[tuple[str, ...]]) -> Drawing:
    """The finished picture. `alt`: its text; `rows`: its table."""
    return Drawing(svg(width, height, parts, alt), alt, tuple(rows), width, height)


def svg(width: float, height: float, parts: Iterable[str], alt: str, classes: str = "") -> str:
    """The complete SVG element; it scales to the width of its container."""
    size = f'viewBox="0 0 {px(width)} {px(height)}" width="{px(width)}" height="{px(height)}"'
    inside = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture {classes}" {size} role="img" '
        f'aria-label="{escaped(alt)}">{inside}</svg>'
    )


def data(name: str) -> str:
    """The text of a file in this package's `data/`."""
    return importlib.resources.files("inferometer.report").joinpath("data", name).read_text(encoding="utf-8")


def standalone(drawing: Drawing, title: str) -> str:
    """A standalone SVG file: light colours, its own background, with the title on top."""
    sheet = data("pictures.css")
    colours = dict(re.findall(r"--([\w-]+):\s*([^;]+);", sheet.partition("}")[0]))
    rules = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], sheet.partition("/* marks */")[2])
    inside = drawing.svg.partition(">")[2].removesuffix("</svg>")
    lines = textwrap.wrap(title, int(drawing.width / 8))[:3]
    top = 20 + 18 * len(lines)
    width, height = drawing.width + 2 * _MARGIN, drawing.height + top + _MARGIN
    parts = [
        f"<title>{escaped(title)}</title><desc>{escaped(drawing.alt)}</desc><style>{rules}</style>",
        f'<rect width="100%" height="100%" fill="{colours["ground"]}"/>',
        *(text(_MARGIN, 24 + 18 * i, line, classes="strong") for i, line in enumerate(lines)),
        f'<g transform="translate({_MARGIN} {top})">{inside}</g>',
    ]
    return svg(width, height, parts, drawing.alt) + "\n"


_MARGIN = 12

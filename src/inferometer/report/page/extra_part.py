"""A part of the page that only some commands add: lines, pictures and a table."""

import msgspec

from inferometer.report.svg import Drawing


class ExtraPart(msgspec.Struct, frozen=True):
    """`anchor`: its id on the page. `drawings`: each with its title. `rows`: a table, the head first; may be empty."""

    anchor: str
    title: str
    lines: tuple[str, ...]
    drawings: tuple[tuple[str, Drawing], ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

"""What has this machine, and what would mend what it lacks? Findings as lines or as JSON."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inferometer.doctor import Finding

_MARKS = {"has": "ok  ", "part": "part", "none": "none"}
_WIDTH = 99


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output instead of lines.")] = False,
) -> None:
    """What this machine has (engines, GPUs, permissions, clocks), and for what is missing the command that mends it."""
    from inferometer.doctor import examine

    if as_json:
        import msgspec

        content = {"findings": msgspec.to_builtins(list(examine()))}
        print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
        return
    group = ""
    for finding in examine():
        if finding.group != group:
            print(f"{'' if group == '' else chr(10)}{finding.group}", flush=True)
            group = finding.group
        print(_lines(finding), flush=True)


def _lines(finding: "Finding") -> str:
    """The finding, and below it the command; wrapped, but never inside the command."""
    begin = f"  {_MARKS[finding.state]}  {finding.name + ':':20}"
    said = textwrap.fill(finding.said, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    return f"{said}\n{' ' * len(begin)}-> {finding.mend}" if finding.mend else said

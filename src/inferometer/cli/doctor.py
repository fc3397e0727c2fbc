"""`inferometer doctor`: what this machine has and lacks, as lines or as JSON."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inferometer.checks.diagnosis import Diagnosis

_MARKS = {"has": "ok  ", "part": "part", "none": "none"}
_WIDTH = 99


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check this machine: engines, GPUs, sensors, permissions.

    For each thing that is missing, the command that fixes it is printed.
    """
    from inferometer.checks.diagnosis import examine

    if as_json:
        import msgspec

        content = {"diagnoses": msgspec.to_builtins(list(examine()))}
        print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
        return
    group = ""
    for diagnosis in examine():
        if diagnosis.group != group:
            print(f"{'' if group == '' else chr(10)}{diagnosis.group}", flush=True)
            group = diagnosis.group
        print(_lines(diagnosis), flush=True)


def _lines(diagnosis: "Diagnosis") -> str:
    """The diagnosis, wrapped, with the command that fixes the problem unwrapped below."""
    begin = f"  {_MARKS[diagnosis.state]}  {diagnosis.name + ':':20}"
    said = textwrap.fill(diagnosis.said, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    return f"{said}\n{' ' * len(begin)}-> {diagnosis.mend}" if diagnosis.mend else said

"""Reference pages made from the code: commands, study file, metrics and export columns."""

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from inferometer.cli import app
from inferometer.core import schedule, spec
from inferometer.core.workload_settings import WorkloadSettings
from inferometer.exports.metric_table import METRIC_COLUMNS
from inferometer.exports.request_table import EVENT_COLUMNS, EVENT_TEXT, REQUEST_COLUMNS
from inferometer.metrics.rows import METRICS
from inferometer.workloads.catalog import settings_struct, workload_kinds

PAGES = ("commands.md", "study-file.md", "metrics-list.md", "export-columns.md")

EXIT_CODES = """\
| exit code | means |
| --- | --- |
| 0 | done |
| 1 | a trial failed, or every request of it |
| 2 | the request itself was wrong: flags, the study file, a file that is not there. Nothing was started |
| 3 | done, but the comparison may not be believed; the reasons stand above the table |
| 130 | interrupted |
"""


def pages() -> dict[str, str]:
    """The text of each of PAGES."""
    texts = ("\n".join(lines) + "\n" for lines in (commands_page(), study_file_page(), metrics_page(), columns_page()))
    return dict(zip(PAGES, texts, strict=True))


def commands_page() -> Iterator[str]:
    yield "# Commands\n"
    yield "Made from the program's own definitions; `inferometer COMMAND --help` says the same.\n"
    yield EXIT_CODES
    for name, command in sorted(commands().items()):
        yield from _command(name, command)


def commands() -> dict[str, TyperCommand]:
    """The program's commands by name, as typer made them."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {name: command for name, command in group.commands.items() if isinstance(command, TyperCommand)}


def _command(name: str, command: TyperCommand) -> Iterator[str]:
    context = command.context_class(command, info_name=f"inferometer {name}")
    yield f"## inferometer {name}\n"
    yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n")) + "\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield "| flag | is |\n| --- | --- |"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:  # a hidden one has none
            yield _row(f"`{record[0]}`", record[1])
    yield ""


def study_file_page() -> Iterator[str]:
    yield "# The study file\n"
    yield "Made from the structs in `core/spec.py` and `core/schedule.py`. An unknown field is an error.\n"
    yield "An arm may also have `base:`, another arm whose fields it takes; its own win, and `env` is merged.\n"
    structs: list[Any] = []
    _collect(spec.Spec, structs)
    for struct in structs:
        yield from _struct(struct)


def _collect(kind: Any, structs: list[Any]) -> None:
    """Every struct that this type can hold, in order of mention, each once."""
    if kind is WorkloadSettings:
        for each in workload_kinds():
            _collect(settings_struct(each), structs)
        return
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in structs:
            return
        structs.append(kind)
        for hint in typing.get_type_hints(kind).values():
            _collect(hint, structs)
    for member in typing.get_args(kind):
        _collect(member, structs)


def _struct(struct: Any) -> Iterator[str]:
    tag = struct.__struct_config__.tag
    place = "schedule" if struct.__module__ == schedule.__name__ else "workload"
    yield f"## {struct.__name__}" + (f": `{place}: {{kind: {tag}}}`" if tag else "") + "\n"
    yield " ".join((struct.__doc__ or "").split()) + "\n"
    yield "| field | type | default |\n| --- | --- | --- |"
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        yield _row(f"`{field.name}`", _type(hints[field.name]), _default(field))
    yield ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "must be given"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        own = msgspec.to_builtins(value)
        return f"`{msgspec.json.encode(own).decode()}`"
    return "none" if value is None else f"`{msgspec.json.encode(value).decode()}`"


WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "none",
    typing.Any: "any",
}


def _type(kind: Any) -> str:
    """The type in words: `text`, `whole number or none`, `map of text to Arm`, …"""
    if kind is WorkloadSettings:
        return " or ".join(_type(settings_struct(each)) for each in workload_kinds())
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(member) for member in members)
    if origin is typing.Literal:
        return " or ".join(f"`{member}`" for member in members)
    if origin is dict:
        return f"map of {_type(members[0])} to {_type(members[1])}"
    if origin in (tuple, list):
        return f"list of {_type(members[0])}"
    if kind in WORDS:
        return WORDS[kind]
    return f"[{kind.__name__}](#{_anchor(kind)})"


def _anchor(struct: Any) -> str:
    tag = struct.__struct_config__.tag
    place = "schedule" if struct.__module__ == schedule.__name__ else "workload"
    return struct.__name__.lower() + (f"-{place}-kind-{tag.replace('+', '')}" if tag else "")


def columns_page() -> Iterator[str]:
    yield "# Export columns\n"
    yield "Made from `inferometer.exports`. Columns of text exist only with `--with-text`.\n"
    tables = {"Metrics": METRIC_COLUMNS, "Requests": REQUEST_COLUMNS, "Events": (*EVENT_COLUMNS, EVENT_TEXT)}
    for name, columns in tables.items():
        yield f"## {name}\n\n| column | type | meaning |\n| --- | --- | --- |"
        yield from (_row(f"`{column.name}`", column.kind, column.description) for column in columns)
        yield ""


def metrics_page() -> Iterator[str]:
    yield "# List of metrics\n"
    yield "Made from `metrics/rows.py`; formulas are in [metrics](metrics.md). `--metric` takes the key.\n"
    yield "Groups are those of the table; rows of the group `vllm` are in vLLM's block and result file alone.\n"
    yield "| key | label | unit | better | group |\n| --- | --- | --- | --- | --- |"
    for metric in METRICS:
        yield _row(f"`{metric.key}`", metric.label, metric.unit, metric.better or "", metric.group)


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for text in pages().values():
        print(text)

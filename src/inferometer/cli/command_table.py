"""The commands by group, each with its one-line summary. A command's module is imported when the command is called."""

import difflib
import importlib
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperGroup

from inferometer.base.errors import RequestWrong

if TYPE_CHECKING:
    from typer.core import TyperCommand


class CommandEntry(NamedTuple):
    """`place` is `module.function` below `inferometer.cli`. `summary` has at most 60 characters: help cuts none off."""

    place: str
    summary: str


COMMANDS = {
    "Compare": {
        "vs": CommandEntry("vs.vs", "Compare set-ups: quote each one, no file needed."),
        "run": CommandEntry("run.run", "Run a study file: all arms, same requests, one verdict."),
        "tune": CommandEntry("tune.tune", "Search settings, confirm the winner, or keep the baseline."),
        "map": CommandEntry("map.map_study", "Speed-up by concurrency, and where it breaks even."),
        "compare": CommandEntry("compare.compare", "Compare studies and other tools' results side by side."),
        "report": CommandEntry("report.report", "Write one HTML page with verdict, tables and pictures."),
        "plot": CommandEntry("report.plot", "Draw one picture of a study, as SVG or PNG."),
    },
    "Measure": {
        "bench": CommandEntry("bench.bench", "Benchmark a running server, with vLLM's flags."),
        "engine-bench": CommandEntry("engine_bench.engine_bench", "Measure the engine alone, as llama-bench does."),
    },
    "Look at results": {
        "check": CommandEntry("check.check", "Check the answers of a stored study, in a sandbox."),
        "fidelity": CommandEntry("fidelity.fidelity", "Compare the token probabilities of a study's arms."),
        "show": CommandEntry("show.show", "Show what a study or another tool's file contains."),
        "list": CommandEntry("show.list_studies", "List the studies in a folder with their results."),
        "explain": CommandEntry("explain.explain", "Explain a metric: definition, clock, caution."),
        "export": CommandEntry("export.export", "Write a study as CSV, JSON, Parquet, Markdown or zip."),
    },
    "Set up": {
        "demo": CommandEntry("demo.demo", "Try it: does a quantised KV cache pay? No GPU needed."),
        "models": CommandEntry("models.models", "List models that have a name, or fetch one."),
        "engines": CommandEntry("engines.engines", "List the engines, and the flags that one takes."),
        "doctor": CommandEntry("doctor.doctor", "Check this machine: engines, GPUs, sensors, permissions."),
        "standin": CommandEntry("standin.standin", "Make model files with the size and shape of real ones."),
        "calibrate": CommandEntry("calibrate.calibrate", "Measure the timing error and limits of this client."),
    },
}


def _load(name: str, entry: CommandEntry) -> "TyperCommand":
    """The command as typer makes it from the function's signature and docstring."""
    module_name, function_name = entry.place.split(".")
    module = importlib.import_module(f"inferometer.cli.{module_name}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=getattr(module, "COMMAND_CLASS", None))(getattr(module, function_name))
    command: Any = typer.main.get_command(app)  # a TyperCommand: the app has exactly one command
    return command


class _LazyCommands(MutableMapping[str, Any]):
    """Commands by name, each loaded on first access. Any: typer's command class has moved between its versions."""

    def __init__(self) -> None:
        self._entries = {name: entry for group in COMMANDS.values() for name, entry in group.items()}
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._entries[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class CommandGroups(TyperGroup):
    """The program's commands, loaded when they are called and listed by group in `--help`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _LazyCommands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names. Raises RequestWrong with the nearest names, and how to list all."""
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-") or name in self.commands):
            near = difflib.get_close_matches(name, list(self.commands), n=2, cutoff=0.6)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise RequestWrong(f"there is no command {name!r}.{hint} All commands: inferometer --help")
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write_paragraph()
        formatter.write_text("Options and examples of a command: inferometer help COMMAND")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, entries in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:12}", entry.summary) for name, entry in entries.items()])

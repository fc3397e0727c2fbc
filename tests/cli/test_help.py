"""Help: groups, summaries that fit, and a start that imports little."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from inferometer.cli import app
from inferometer.cli.command_table import COMMANDS

SOURCE = Path(__file__).parents[2] / "src"
ENTRIES = {name: entry for group in COMMANDS.values() for name, entry in group.items()}


def python(code: str, *words: str) -> str:
    """What `code` prints in a source tree without an installation, on a terminal 80 columns wide."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(SOURCE), *site_folders()]}\n{code}", *words],
        env={"PATH": os.environ["PATH"], "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def site_folders() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def test_help_lists_every_command_by_group_with_its_whole_summary():
    shown = python("from inferometer.cli import main; main()", "--help")
    for title, entries in COMMANDS.items():
        assert f"\n{title}:\n" in shown
        for name, entry in entries.items():
            assert f"  {name:12}  {entry.summary}\n" in shown
    listed = shown.partition("\n")[2]  # the first line has "COMMAND [ARGS]..."
    assert "..." not in listed
    assert "…" not in listed


def test_help_of_a_command_is_printed_by_both_of_its_forms():
    run = "from inferometer.cli import main; main()"
    assert python(run, "help", "explain") == python(run, "explain", "--help")
    assert "inferometer help COMMAND" in python(run, "help")


@pytest.mark.parametrize("name", ENTRIES)
def test_a_summary_is_short_and_the_first_sentence_of_the_command_s_own_help(name):
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    assert len(ENTRIES[name].summary) <= 60
    assert (program.commands[name].help or "").partition("\n\n")[0] == ENTRIES[name].summary


def test_help_imports_no_heavy_package_and_no_command():
    heavy = {
        *(
            "numpy",
            "scipy",
            "msgspec",
            "rich",
            "jinja2",
            "huggingface_hub",
            "tokenizers",
            "gguf",
            "xllamacpp",
            "psutil",
        ),
        *("httptools", "pynvml", "pyarrow", "plotly", "sqlite3", "asyncio"),
    }
    code = (
        "from inferometer.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n"
        f"    print(sorted({{name.partition('.')[0] for name in sys.modules}} & {heavy}))\n"
        "    print(sorted(name for name in sys.modules if name.startswith('inferometer.cli.')))"
    )
    assert python(code, "--help").splitlines()[-2:] == ["[]", "['inferometer.cli.command_table']"]


def test_a_source_tree_without_an_installation_has_a_version():
    code = (
        "import importlib.metadata as metadata\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = missing\n"
        "from inferometer.cli import main; main()"
    )
    assert python(code, "--version") == "inferometer unknown (not installed)\n"

"""The command line: `main` runs the command that was asked for and sets the exit code. One module for each command.

May import every other package. Each imports it inside the command's function, so that `--help` starts fast.
"""

import errno
import io
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from inferometer.base.errors import InferometerError
from inferometer.base.text import escape_for_display
from inferometer.cli.command_table import CommandGroups
from inferometer.study.interrupts import treat_termination_as_interrupt

app = typer.Typer(
    name="inferometer",
    cls=CommandGroups,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs 150 ms at every start
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from inferometer.base.version import version

        print(f"inferometer {version()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("-V", "--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Compare LLM servers on your own hardware: what is faster, by how much, how sure."""


def _show_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback without the secrets of the environment and of `--header`: a user may send it to somebody."""
    import re
    import traceback
    from itertools import pairwise

    from inferometer.base.redactor import Redactor
    from inferometer.core.redaction import secrets_of_environment

    given = [word for flag, word in pairwise(sys.argv) if flag == "--header"]
    given += [word.partition("=")[2] for word in sys.argv if word.startswith("--header=")]
    values = [part for word in given for part in (re.split("[=:]", word, maxsplit=1)[-1], word.rpartition(" ")[2])]
    redactor = Redactor.of([*values, *secrets_of_environment(os.environ)])
    sys.stderr.write(redactor.redact("".join(traceback.format_exception(kind, error, trace))))


_PLACE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)
"""What is wrong with a file or folder of the user's machine, and no defect of the program."""


def _place_problem(error: OSError) -> str:
    """Which file or folder cannot be used, why, and what to do; "" for an error that is a defect of the program."""
    if error.filename is None:
        return ""
    from inferometer.standin.cache import default_cache_dir

    place, cache = Path(os.fsdecode(error.filename)), default_cache_dir()
    is_cache = place in (cache, *cache.parents) or place.is_relative_to(cache)
    if not is_cache and error.errno not in _PLACE_ERRORS:
        return ""
    hint = "Check its permissions and the free space."
    if is_cache:
        hint = f"Model files are kept in {cache}; set INFEROMETER_CACHE to another folder."
    return f"{place} cannot be used: {error.strerror}. {hint}"


def main() -> None:
    """Run the program. An error that a user can act on prints one message; any other error shows its traceback."""
    treat_termination_as_interrupt()
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows "?" instead of ending the program
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if sys.argv[1:2] == ["help"]:  # `help vs` as git has it
            sys.argv[1:] = [*sys.argv[2:], "--help"]
        if sys.argv[1:2] == ["bench"]:
            from inferometer.cli.bench_flags import spread_flags

            sys.argv[1:] = spread_flags(sys.argv[1:])
        app()
    except InferometerError as error:
        print(f"inferometer: {escape_for_display(str(error), lines=True)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if not (problem := _place_problem(error)):
            raise
        print(f"inferometer: {escape_for_display(problem)}", file=sys.stderr)
        sys.exit(2)
    finally:
        sys.excepthook = _show_defect  # typer installs its own hook

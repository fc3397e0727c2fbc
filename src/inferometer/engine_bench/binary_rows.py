"""Rows measured by the user's own llama-bench: runs it and reads its JSON line by line."""

import difflib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from inferometer.base.errors import RequestWrong, TrialFailed
from inferometer.engines.failure_log import advice
from inferometer.engines.process_group import ending, stop_group
from inferometer.foreign.llama_bench_output import row_of_line, rows_of
from inferometer.llama_bench.row import BenchRow

NAME = "llama-bench"
HELP_TIMEOUT_S = 60.0
OURS = ("-o", "--output", "-oe", "--output-err", "-h", "--help")
"""Flags that are not passed on, because inferometer reads the program's output."""

FLASH_ATTN = {"on": "1", "off": "0", "auto": "-1"}
"""The numbers that llama-bench uses for -fa, as an argument and in its JSON."""

_LOG_LINES = 20


def binary_path(given: str | None) -> str | None:
    """The program at `given`, or the one on PATH; None if PATH has none. Raises RequestWrong for a wrong path."""
    found = shutil.which(given or NAME)
    if found is not None or given is None:
        return found
    path = Path(given)
    if path.is_dir():
        raise RequestWrong(f"--llama-bench: {given} is a folder: name the program in it ({path / NAME}?)")
    if path.exists():
        raise RequestWrong(f"--llama-bench: {given} is not executable: try chmod +x {given}")
    raise RequestWrong(
        f"--llama-bench: {given} not found. Give the path of a llama-bench, or omit the flag to measure through "
        "a server."
    )


def check_binary(binary: str, flags: Sequence[str]) -> None:
    """Raises RequestWrong if the program is not llama-bench, or does not know one of the flags. Measures nothing."""
    text = _help(binary)
    if "--n-prompt" not in text:
        shown = " ".join(text.split())[:200] or "nothing"
        raise RequestWrong(f"--llama-bench: {binary} is not llama-bench: its --help prints: {shown}")
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    for flag in (word.partition("=")[0] for word in flags if re.match(r"--?[a-z]", word)):
        if flag in OURS:
            raise RequestWrong(f"{flag} is not passed on to llama-bench: use --format for the output.")
        if flag.replace("_", "-") not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise RequestWrong(f"{binary} has no flag {flag}.{hint} Its --help lists its flags.")
    if "-fa" in flags and "-1" in flags[flags.index("-fa") + 1].split(",") and "--flash-attn <0|1>" in text:
        raise RequestWrong(f"-fa auto: {binary} supports only on and off: use -fa 0 or -fa 1.")


def rows_by_binary(binary: str, flags: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[BenchRow]:
    """Yield each row when it is measured. Raises TrialFailed if the program fails; leaves no process behind."""
    lines = "jsonl" in _help(binary)
    command = [binary, *flags, "-o", "jsonl" if lines else "json"]
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise RequestWrong(f"{binary} cannot be started: {error.strerror}") from error
        try:
            assert process.stdout is not None
            if lines:
                yield from (row for line in process.stdout if (row := row_of_line(line)) is not None)
                code = process.wait()
            else:
                text = process.stdout.read()
                code = process.wait()
                yield from rows_of(text) if code == 0 else ()
        finally:
            stop_group(process)  # type: ignore[arg-type]  # of text, where it expects one of bytes: it reads nothing
            process.stdout.close() if process.stdout else None
        if code != 0:
            stderr.seek(0)
            end = stderr.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
            raise TrialFailed(_failure(command, code, end))


def _failure(command: Sequence[str], code: int, end: Sequence[str]) -> str:
    shown = "\n".join(f"  {line}" for line in end) or "  (nothing)"
    otherwise = "Run the command by itself, with -v, to see more."
    return (
        f"llama-bench failed: {ending(code)}.\nStarted as: {' '.join(command)}\nThe end of its output:\n{shown}\n"
        f"Try: {advice(chr(10).join(end), otherwise)}"
    )


def _help(binary: str) -> str:
    try:
        done = subprocess.run(
            [binary, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HELP_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise RequestWrong(f"--llama-bench: {binary} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RequestWrong(f"--llama-bench: {binary} --help did not end in {HELP_TIMEOUT_S:g} s") from error
    return done.stdout.decode(errors="replace")

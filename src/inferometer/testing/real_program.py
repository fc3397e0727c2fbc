"""Runs of the real program in tests, and the processes that it left behind."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from inferometer.engines.process_group import is_alive


def scripted_engine(*flags: str) -> str:
    """A `command:` of the scripted engine, as YAML."""
    words = [sys.executable, "-m", "inferometer.testing.scripted_engine", "--port", "{port}", *flags]
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def program(*words: str, cwd: Path, env: dict[str, str] | None = None, shell: str = "") -> subprocess.Popen[str]:
    """The program itself; `shell`: what a shell does before it becomes the program."""
    command = [sys.executable, "-m", "inferometer", *words]
    if shell:
        command = ["/bin/sh", "-c", f"{shell} exec {shlex.join(command)}"]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )


def run(*words: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = program(*words, cwd=cwd, env=env)
    shown, said = process.communicate()
    return process.returncode, shown, said


def wait_gone(pids: Iterable[int]) -> list[int]:
    """Those of the processes that live on after half a minute."""
    until_s = time.monotonic() + 30
    left = [pid for pid in pids if is_alive(pid)]
    while left and time.monotonic() < until_s:
        time.sleep(0.02)
        left = [pid for pid in left if is_alive(pid)]
    return left


def processes_with(text: str) -> list[int]:
    """Living processes whose command line or environment has `text` in it."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(text in word for word in words) and is_alive(process.pid):
            found.append(process.pid)
    return found

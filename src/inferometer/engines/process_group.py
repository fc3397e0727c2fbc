"""The end of an engine's processes: the process, its group and its descendants, so that none is left."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

LOG = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0


def stop_group(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ends the process, its group and its descendants: SIGTERM, then after `timeout_s` SIGKILL.

    A Ctrl-C on the way ends the patience, never the stopping; it is raised when no process is left.
    """
    with interrupts_later() as noted:
        strays = _descendants(process.pid)
        _signal_all(process, strays, signal.SIGTERM)
        _wait_gone(process, strays, timeout_s, noted)
        if _left(process, strays):
            _signal_all(process, strays, signal.SIGKILL)
            _wait_gone(process, strays, KILL_TIMEOUT_S, ())
        if process.stdin is not None:
            process.stdin.close()
        left = _left(process, strays)
        if left:
            LOG.error("processes %s could not be killed; the kernel holds them (a driver?)", sorted(left))
        if process.pid not in left:
            process.wait()  # it is a zombie at most: reaped here


@contextlib.contextmanager
def interrupts_later() -> Iterator[Sequence[int]]:
    """While it lasts a Ctrl-C is noted in the list, and raised at its end: one that falls between a process's birth and
    our knowing of it, or into its stopping, would leave it behind."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted  # signals go to the main thread alone
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        signal.raise_signal(signal.SIGINT)


def ending(code: int) -> str:
    """How a process ended: an exit code, or the signal's name with what it usually means."""
    if 128 < code < 160:  # a shell's, or a container's, word for a signal
        return f"exit code {code}, {ending(128 - code)}"
    if code >= 0:
        return f"exit code {code}"
    meanings = {
        signal.SIGKILL: "out of memory?",
        signal.SIGILL: "a build for another CPU?",
        signal.SIGSEGV: "the engine crashed",
        signal.SIGABRT: "the engine gave up",
    }
    try:
        name = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}"
    return f"killed by {name.name}" + (f": {meanings[name]}" if name in meanings else "")


def is_alive(pid: int) -> bool:
    """True for a process that is no zombie. A zombie is dead: in a container nobody may ever come to reap it."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _descendants(pid: int) -> set[int]:
    """Processes below `pid`: also those that left its group."""
    import psutil

    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def _left(process: subprocess.Popen[bytes], strays: set[int]) -> set[int]:
    """Living pids of the group, and of `strays`."""
    found: set[int] = set()
    for pid in _pids():
        try:
            if (pid in strays or os.getpgid(pid) == process.pid) and is_alive(pid):
                found.add(pid)
        except ProcessLookupError:
            continue
    return found


def _pids() -> list[int]:
    import psutil

    return psutil.pids()


def _signal_all(process: subprocess.Popen[bytes], strays: set[int], which: signal.Signals) -> None:
    for pid in _left(process, strays):
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            continue


def _wait_gone(process: subprocess.Popen[bytes], strays: set[int], timeout_s: float, noted: Sequence[int]) -> None:
    """Until none is left, the patience is over, or an interrupt is noted."""
    until_s = time.monotonic() + timeout_s
    while _left(process, strays) and time.monotonic() < until_s and not noted:
        time.sleep(0.01)

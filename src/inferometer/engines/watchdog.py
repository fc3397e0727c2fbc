"""The watchdog: a small process that ends an engine if this program is killed. A pipe that closes tells it.

Started by path, with nothing of the package imported. Nothing that a program does for itself helps against `kill -9`:
the pipe's other end is closed by the kernel. The engine and its descendants are known by a mark in their environment
(Linux), and by the engine's session: whatever one of these misses the other finds, even where we died in the moment
between starting the engine and telling of it.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

MARK = "INFEROMETER_ENGINE"
_OVER = b"over\n"
_PATIENCE_S = 3.0
_LOOK_EVERY_S = 0.02


class Watchdog:
    """Watches over the process that is started with `env` in its environment, and over all that it starts."""

    def __init__(self) -> None:
        mark = secrets.token_hex(8)
        self.env = {MARK: mark}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends the program's own group must not end the one who cleans up after it
        )

    def watch(self, pid: int) -> None:
        """The engine's process, which leads a session."""
        self._tell(b"%d\n" % pid)

    def over(self) -> None:
        """The engine is gone, and its number may soon be another's."""
        self._tell(_OVER)

    def dismiss(self) -> None:
        """There is nothing to watch any more; an engine that was never said to be over is ended by its mark: one whose
        start was interrupted, before its number was known."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2.0 + 2 * _PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, word: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed the watchdog: then there is none
            self._process.stdin.write(word)
            self._process.stdin.flush()


@contextlib.contextmanager
def watching() -> Iterator[Watchdog]:
    """A watchdog until the block ends."""
    watchdog = Watchdog()
    try:
        yield watchdog
    finally:
        watchdog.dismiss()


# --- in the watchdog's process --------------------------------------------------------------------


def main() -> None:
    mark = f"{MARK}={sys.argv[1]}".encode()
    said = b""
    while data := os.read(0, 64):
        said += data
    words = said.split()
    if _OVER.strip() in words:
        return
    session = next((int(word) for word in words if word.isdigit()), 0)
    # The engine may be about to begin: what was started just before our end is looked for a while longer.
    for signal_number, patience_s in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, _PATIENCE_S)):
        signalled: set[int] = set()
        until_s = time.monotonic() + patience_s
        quiet_until_s = time.monotonic() + (0.3 if signal_number == signal.SIGTERM else 0.0)
        while time.monotonic() < until_s:
            found = _left(mark, session)
            for pid in found - signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal_number)
            signalled |= found
            if not found and time.monotonic() >= quiet_until_s:
                return
            time.sleep(_LOOK_EVERY_S)


def _left(mark: bytes, session: int) -> set[int]:
    """Living processes with the mark, or of the session; where there is no /proc, the session's leader's group."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return _group(session)
    pids = {int(name) for name in names if name.isdigit()} - {os.getpid()}
    return {pid for pid in pids if _is_alive(pid) and (_in_session(pid, session) or _is_marked(pid, mark))}


def _group(leader: int) -> set[int]:
    """`{-leader}`, which os.kill takes for the group, while anything of it lives."""
    if not leader:
        return set()
    try:
        os.kill(-leader, 0)
    except (ProcessLookupError, PermissionError):
        return set()
    return {-leader}


def _is_alive(pid: int) -> bool:
    """A zombie is dead: nobody may ever come to reap it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _in_session(pid: int, session: int) -> bool:
    try:
        return bool(session) and os.getsid(pid) == session
    except OSError:
        return False


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


if __name__ == "__main__":
    main()

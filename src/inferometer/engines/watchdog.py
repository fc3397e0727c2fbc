"""The watchdog: a small process that ends an engine if this program is killed.

It is started by path and imports nothing from the package. A program cannot react to `kill -9`, but the kernel closes
its end of the pipe, and the watchdog sees that. It finds the engine and its descendants by a mark in their environment
(Linux) and by the engine's session. The mark also finds an engine whose pid was not yet sent when we were killed.
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
    """Watches the process that is started with `env` in its environment, and all of its descendants."""

    def __init__(self) -> None:
        mark = secrets.token_hex(8)
        self.env = {MARK: mark}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the program's group must not end the watchdog
        )

    def watch(self, pid: int) -> None:
        """Send the pid of the engine's process, which leads a session."""
        self._tell(b"%d\n" % pid)

    def over(self) -> None:
        """The engine has ended; its pid may soon belong to another process."""
        self._tell(_OVER)

    def dismiss(self) -> None:
        """Stop watching. An engine that was not reported as over is ended: its start was interrupted before its pid
        was known, and the watchdog finds it by its mark."""
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
        with contextlib.suppress(BrokenPipeError):  # the watchdog itself was killed
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
    # The engine may just be starting: look a little longer for a process that began just before our end.
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
    """Living processes with the mark or in the session; without /proc, the group of the session's leader."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return _group(session)
    pids = {int(name) for name in names if name.isdigit()} - {os.getpid()}
    return {pid for pid in pids if _is_alive(pid) and (_in_session(pid, session) or _is_marked(pid, mark))}


def _group(leader: int) -> set[int]:
    """`{-leader}`, which os.kill reads as the group, while a process of it is alive; else empty."""
    if not leader:
        return set()
    try:
        os.kill(-leader, 0)
    except (ProcessLookupError, PermissionError):
        return set()
    return {-leader}


def _is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie, which may never be reaped."""
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

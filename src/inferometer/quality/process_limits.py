"""Running one program to its end under limits on time, memory, processes and output."""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from inferometer.base.errors import InferometerError

_LOOK_EVERY_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 65536
_LONGEST_END_S = 5.0

Stopped = Literal["", "time", "memory", "processes", "output", "interrupt"]


class SandboxBroken(InferometerError):
    """The sandbox worked before and no longer does."""


class ProgramLimits(msgspec.Struct, frozen=True):
    """What one program may use. `wall_s`: seconds by the clock. `memory_bytes`: resident memory of all its processes.
    `address_space`: also limit each process's address space to twice `memory_bytes`; runtimes that reserve much more
    than they use (node, Java, Go) cannot start under it. `files`: open files per process. `disk_bytes`: files in /tmp.
    `output_bytes`: of each output stream. `interrupt`: the program ends as soon as this is set."""

    wall_s: float = 10.0
    memory_bytes: int = 1024**3
    address_space: bool = True
    processes: int = 64
    files: int = 128
    disk_bytes: int = 128 * 1024**2
    output_bytes: int = 256 * 1024
    interrupt: threading.Event | None = None


class Ended(msgspec.Struct, frozen=True):
    """How a program ended. `status`: its exit status, negative for a signal; None if a limit stopped it, and then
    `stopped` names the limit. `output`, `errors`: the beginning of its two streams. `is_started`: false if the sandbox
    around it failed before the program began."""

    status: int | None
    stopped: Stopped
    output: str
    errors: str
    wall_s: float
    is_started: bool = True


def run_limited(
    command: Sequence[str],
    limits: ProgramLimits,
    told: int | None = None,
    **popen: Any,  # the options of Popen
) -> Ended:
    """Runs the command to its end, and ends its process group.

    `told`: a pipe into which a sandbox writes its status, as bwrap does: the pid of its namespace's init, and the exit
    status of a program that began. On return, no process of that namespace is left."""
    began_s = time.monotonic()
    process: Any = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **popen,
    )
    watched = _Watched(process, limits, began_s, told)
    try:
        stopped = watched.follow()
    finally:
        watched.end()
    return Ended(
        None if stopped else process.returncode,
        stopped,
        bytes(watched.output[0]).decode(errors="replace"),
        bytes(watched.output[1]).decode(errors="replace"),
        time.monotonic() - began_s,
        bool(stopped) or watched.is_started,
    )


class _Watched:
    """A running program, its output so far, and its limits."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", limits: ProgramLimits, began_s: float, told: int | None
    ) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process = process
        self._limits = limits
        self._told = told
        self._deadline_s = began_s + limits.wall_s
        self._streams: list[IO[bytes]] = [process.stdout, process.stderr]
        self.output = (bytearray(), bytearray())
        self.is_started = True

    def follow(self) -> Stopped:
        """Until the program ends or reaches a limit."""
        with selectors.DefaultSelector() as selector:
            for place, stream in enumerate(self._streams):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, place)
            while self._process.poll() is None:
                if selector.get_map():
                    ready = selector.select(_LOOK_EVERY_S)
                else:
                    time.sleep(_LOOK_EVERY_S)
                    ready = []
                for key, _ in ready:
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                if stopped := self._reached():
                    return stopped
        for place in (0, 1):
            while self._read(place) and not self._is_full(place):
                pass
        return "output" if self._is_full(0) or self._is_full(1) else ""

    def end(self) -> None:
        """Ends every process, waits for them, and closes the streams."""
        if self._told is not None:
            status = _status(self._told)
            self.is_started = "exit-code" in status
            if "child-pid" in status:
                _end_process(status["child-pid"])
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in self._streams:
            stream.close()

    def _read(self, place: int) -> bool:
        """Whether the stream is still open."""
        try:
            block = os.read(self._streams[place].fileno(), _READ_BYTES)
        except BlockingIOError:
            return self._process.returncode is None
        self.output[place].extend(block[: self._limits.output_bytes + 1 - len(self.output[place])])
        return bool(block)

    def _is_full(self, place: int) -> bool:
        return len(self.output[place]) > self._limits.output_bytes

    def _reached(self) -> Stopped:
        if self._limits.interrupt is not None and self._limits.interrupt.is_set():
            return "interrupt"
        if time.monotonic() >= self._deadline_s:
            return "time"
        if self._is_full(0) or self._is_full(1):
            return "output"
        pids = _descendants(self._process.pid)
        if len(pids) > self._limits.processes + 8:  # the sandbox's own processes
            return "processes"
        return "memory" if sum(map(_resident_bytes, pids)) > self._limits.memory_bytes else ""


def _status(told: int) -> dict[str, int]:
    """The members of the JSON documents in the pipe, one a line."""
    os.set_blocking(told, False)
    found: dict[str, int] = {}
    with contextlib.suppress(BlockingIOError, msgspec.MsgspecError):
        for line in os.read(told, _READ_BYTES).splitlines():
            found |= msgspec.json.decode(line, type=dict[str, int])
    return found


def _end_process(pid: int) -> None:
    """Ends the init of a namespace and waits for its end, which comes after that of every process inside."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], _LONGEST_END_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def _descendants(pid: int) -> list[int]:
    found, places = [pid], [pid]
    while places:
        new = [child for place in places for child in _children(place)]
        found += new
        places = new
    return found


def _children(pid: int) -> list[int]:
    """Children of all threads of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (path / "children").read_text().split())
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0

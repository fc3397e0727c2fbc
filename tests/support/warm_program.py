"""The command line in a process that is forked from one that has imported it: each run saves half a second of imports.

`inferometer` and `start` run the command line as `subprocess.run` and `subprocess.Popen` would: in a process with its
own arguments, folder, environment and output. Only variables that Python itself reads at its start (PYTHON…) are
ignored. What a start imports is tested in tests/cli/test_help.py, and with a Python that has just started, in
tests/cli/test_terminal.py and README's commands.

The first use starts the server, which ends with the process that started it:

    warm_program.py serve SOCKET        answers on a Unix socket: reads a call, forks, sends the exit code
    warm_program.py call SOCKET WORD…   a call from a shell
"""

import functools
import gc
import importlib
import json
import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_COMMANDS = ("bench", "compare", "engine_bench", "export", "report", "run", "show", "vs")
IMPORTED = (
    *("asyncio", "jinja2", "numpy", "rich.live", "rich.progress", "rich.table", "scipy.special", "sqlite3", "yaml"),
    *(f"inferometer.cli.{name}" for name in _COMMANDS),
    *(f"inferometer.{name}" for name in ("exports", "foreign.inputs", "load.driver", "report.html_page", "study.loop")),
)
"""None of these may read the environment when it is imported."""


class _Call(NamedTuple):
    argv: list[str]
    cwd: str
    env: dict[str, str]


# --- the caller -----------------------------------------------------------------------------------


class Started:
    """The program while it runs, with the methods of `subprocess.Popen`."""

    def __init__(self, argv: list[str], cwd: Path, env: Mapping[str, str] | None) -> None:
        self._files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(3)]  # noqa: SIM115
        call = _Call(argv, str(cwd), dict(os.environ if env is None else env))
        self._connection, self.pid = _begun(_server(), call, [file.fileno() for file in self._files])
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutError."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = _code(self._connection)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and standard error, when the program has ended. Raises TimeoutError."""
        self.wait(timeout)
        texts: list[str] = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
            file.close()
        _, shown, said = texts
        return shown, said


def start(*words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Started:
    """Start the program. `env`: the whole environment; this process's if None."""
    return Started([str(word) for word in words], cwd or Path.cwd(), env)


def inferometer(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 100
) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end. `env`: the whole environment; this process's if None. Raises TimeoutError."""
    started = start(*words, cwd=cwd, env=env)
    try:
        shown, said = started.communicate(timeout_s)
    except TimeoutError:
        started.send_signal(signal.SIGKILL)
        raise
    return subprocess.CompletedProcess([str(word) for word in words], started.wait(), shown, said)


def run(*words: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error. `env` is added to this process's."""
    done = inferometer(*words, cwd=cwd, env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


def program() -> str:
    """The start of a shell's command line that runs the program."""
    return shlex.join([sys.executable, "-I", "-S", __file__, "call", _server()])


@functools.cache
def _server() -> str:
    """The socket of this process's server."""
    path = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket")
    source = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": source},
        start_new_session=True,  # Ctrl-C ends the tests, and these close the server's standard input
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    _running.append(process)
    return path


_running: list["subprocess.Popen[bytes]"] = []
"""Held, because a server whose Popen is collected has no standard input any more."""


def _begun(server: str, call: _Call, fds: Sequence[int]) -> tuple[socket.socket, int]:
    """The connection on which the exit code will come, and the program's process."""
    message = json.dumps(call).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    socket.send_fds(connection, [struct.pack("I", len(message))], fds)
    connection.sendall(message)
    (pid,) = struct.unpack("i", connection.recv(4, socket.MSG_WAITALL))
    return connection, pid


def _code(connection: socket.socket) -> int:
    (code,) = struct.unpack("i", connection.recv(4, socket.MSG_WAITALL))
    return code


# --- the server -----------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Answer calls until standard input closes. In a fork that is the program, this returns to the program's `main`."""
    from typer.testing import CliRunner

    for name in IMPORTED:
        importlib.import_module(name)
    CliRunner().invoke(importlib.import_module("inferometer.cli").app, ["compare", path])  # imports what parsing needs
    gc.freeze()  # a fork that ends does not look through all of this
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        os.write(1, b"ready\n")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks leave nothing behind
        while True:
            readable, _, _ = select.select([listener, 0], [], [])
            if 0 in readable:
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                break
            connection.close()
    _answer(connection)


def _answer(connection: socket.socket) -> None:
    head, fds, _, _ = socket.recv_fds(connection, 4, 3)
    (size,) = struct.unpack("I", head)
    message = b""
    while len(message) < size:
        message += connection.recv(size - len(message))
    ended, lives = os.pipe()  # closed at its other end when the program has ended
    child = os.fork()
    if child == 0:
        connection.close()
        os.close(ended)
        return _become(_Call(*json.loads(message)), fds)
    for fd in (lives, *fds):
        os.close(fd)
    connection.sendall(struct.pack("i", child))
    readable, _, _ = select.select([connection, ended], [], [])
    if ended not in readable:  # nobody waits for the program any more
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    connection.send(struct.pack("i", os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(call: _Call, fds: Sequence[int]) -> None:
    for standard, fd in enumerate(fds):
        os.dup2(fd, standard)
        os.close(fd)
    os.chdir(call.cwd)
    os.environ.clear()
    os.environ.update(call.env)
    sys.argv = ["inferometer", *call.argv]
    stdin, stdout, stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in enumerate("rww"))
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = stdin, stdout, stderr


if __name__ == "__main__":
    if sys.argv[1] == "call":
        sys.exit(_code(_begun(sys.argv[2], _Call(sys.argv[3:], os.getcwd(), dict(os.environ)), [0, 1, 2])[0]))
    serve(sys.argv[2])
    importlib.import_module("inferometer.cli").main()

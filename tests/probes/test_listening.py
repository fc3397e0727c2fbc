"""Which processes accept connections: the server, and not a program that only started it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inferometer.probes.listening import listens

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")


@needs_proc
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "a path"])
def test_a_process_with_a_listening_socket_listens(host: str, tmp_path: Path):
    family = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}.get(host, socket.AF_UNIX)
    with socket.socket(family) as listener:
        try:
            listener.bind(str(tmp_path / "s") if family == socket.AF_UNIX else (host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        assert listens([os.getpid()]) is True


@needs_proc
def test_a_launcher_with_an_open_connection_does_not_listen():
    program = "import socket, sys; a, b = socket.socketpair(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        assert listens([launcher.pid]) is False
        launcher.kill()


def test_what_the_system_does_not_show_is_unknown(tmp_path: Path):
    assert listens([os.getpid()], tmp_path) is None
    assert listens([]) is None

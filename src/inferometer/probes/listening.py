"""Listening sockets of processes: does an engine's process tree hold the server, or only a launcher?"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTEN = "0A"  # TCP_LISTEN of Linux, in /proc/net/tcp
_ACCEPTS = 1 << 16  # __SO_ACCEPTCON, in /proc/net/unix


def listens(pids: Iterable[int], proc: Path = Path("/proc")) -> bool | None:
    """Whether any of these processes accepts connections; None if the system does not show it: without /proc, and for
    processes of other users."""
    is_known = False
    for pid in pids:
        try:
            own = {os.readlink(entry.path) for entry in os.scandir(proc / str(pid) / "fd")}
            accepting = {f"socket:[{inode}]" for inode in _accepting(proc / str(pid) / "net")}
        except (FileNotFoundError, ProcessLookupError):  # it has ended, or closed a file
            continue
        except OSError:
            return None
        is_known = True
        if own & accepting:
            return True
    return False if is_known else None


def _accepting(net: Path) -> Iterator[str]:
    """Inodes of the sockets that accept connections, in the network that a process sees."""
    for name in ("tcp", "tcp6"):
        yield from (fields[9] for fields in _lines(net / name) if len(fields) > 9 and fields[3] == _LISTEN)
    yield from (fields[6] for fields in _lines(net / "unix") if len(fields) > 6 and int(fields[3], 16) & _ACCEPTS)


def _lines(path: Path) -> Iterator[list[str]]:
    """The fields of each line after the head; none where the file is missing (a kernel without IPv6)."""
    if path.exists():
        yield from (line.split() for line in path.read_text().splitlines()[1:])

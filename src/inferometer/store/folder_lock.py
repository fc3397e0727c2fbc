"""May this run write to this study? One at a time: a lock that the kernel takes back when its holder dies."""

import contextlib
import datetime
import fcntl
import os
from pathlib import Path

from inferometer.base.errors import RequestWrong

NAME = "study.lock"


class FolderLock:
    """Held from its making until `release`. What a killed run left of it is no obstacle: only the kernel's lock
    counts, and the file's text is only for the message."""

    def __init__(self, folder: Path) -> None:
        """Raises RequestWrong where another run holds it, OSError where there can be none."""
        self._path = folder / NAME
        self._fd = self._locked(folder)
        os.ftruncate(self._fd, 0)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        os.write(self._fd, f"process {os.getpid()} on {os.uname().nodename}, since {now}\n".encode())

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._fd)

    def _locked(self, folder: Path) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_the_file(fd):
                    return fd
            except BlockingIOError as error:
                holder = os.read(fd, 200).decode(errors="replace").strip() or "a process that has said no more"
                os.close(fd)
                raise RequestWrong(
                    f"another run writes to {folder}: {holder}. Wait for its end, or choose another folder with --out."
                ) from error
            except OSError:
                os.close(fd)
                raise
            os.close(fd)

    def _is_the_file(self, fd: int) -> bool:
        """False where the one before removed it between our opening and our locking."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

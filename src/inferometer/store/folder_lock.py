"""Lock of a study folder: one run at a time writes to it, and the kernel releases the lock when a run dies."""

import contextlib
import datetime
import fcntl
import os
from pathlib import Path

from inferometer.base.errors import RequestWrong

NAME = "study.lock"


class FolderLock:
    """Held from creation until `release`. A lock file that a killed run left behind does no harm: only the kernel's
    lock counts, and the text of the file is only for the message."""

    def __init__(self, folder: Path) -> None:
        """Raises RequestWrong if another run holds the lock, OSError if the folder allows no lock."""
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
                if self._is_still_the_file(fd):
                    return fd
            except BlockingIOError as error:
                holder = os.read(fd, 200).decode(errors="replace").strip() or "an unknown process"
                os.close(fd)
                raise RequestWrong(
                    f"another run writes to {folder}: {holder}. "
                    "Wait for it to end, or choose another folder with --out."
                ) from error
            except OSError:
                os.close(fd)
                raise
            os.close(fd)

    def _is_still_the_file(self, fd: int) -> bool:
        """False if the previous holder removed the file after we opened it and before we locked it."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

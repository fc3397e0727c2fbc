"""The sandbox: one program in its own namespaces, with no network, no files of the user, and limits.

A program sees the system's programs read-only, a private /tmp in memory, a private /proc, and nothing else: no home,
no environment, no other process, no socket. It runs as an unprivileged user and ends at its limits, with every process
that it started.
"""

import contextlib
import functools
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec

from inferometer.base.errors import RequestWrong
from inferometer.quality.containers import PROBE_S, Container, found_container
from inferometer.quality.process_limits import Ended, ProgramLimits, SandboxBroken, run_limited
from inferometer.quality.system_calls import filter_program

__all__ = ["Bubblewrap", "Ended", "ProgramLimits", "Sandbox", "SandboxBroken", "Unsandboxed", "find_sandbox"]

WORK = "/tmp/work"
"""The folder of the program's files, and its working directory."""
_NOBODY = 65534
_ETC = ("alternatives", "ld.so.cache", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "java-25-openjdk",
        "php", "perl", "mono")  # fmt: skip
"""Folders of /etc that toolchains read; none holds anything of the user."""
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/lib/go/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs:/usr/local/lib/node_modules:/usr/lib/node_modules",
    "GOCACHE": "/tmp/.cache",
    "GO111MODULE": "off",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
INSTALL = "sudo apt-get install bubblewrap"
_OLDEST_NAMESPACED_COUNT = (5, 14)
"""From this kernel on, a limit on processes counts those of one sandbox, not all processes of the user."""


class Sandbox(Protocol):
    """A place where a program of a stranger runs. `python`: the Python interpreter inside."""

    @property
    def name(self) -> str: ...

    @property
    def python(self) -> str: ...

    def run(self, command: Sequence[str], files: Mapping[str, str], limits: ProgramLimits) -> Ended:
        """Runs the command in a new folder with these files. Several threads may call it at once. Raises SandboxBroken
        if the program never began: an answer is not wrong because of that."""
        ...

    def has(self, program: str) -> bool:
        """Whether the program is installed where the sandbox finds it."""
        ...


class Interpreter(msgspec.Struct, frozen=True):
    """A Python for checks: its path, the folders that it needs, and the folder of its packages inside."""

    path: str
    folders: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()


class Bubblewrap:
    """Linux namespaces by bwrap."""

    name = "bubblewrap"

    def __init__(self, program: str, interpreter: Interpreter) -> None:
        self._program = program
        self._interpreter = interpreter
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._filter = filter_program(platform.machine())

    @property
    def python(self) -> str:
        return self._interpreter.path

    def has(self, program: str) -> bool:
        found = shutil.which(program, path=_ENVIRONMENT["PATH"])
        return found is not None and os.path.realpath(found).startswith("/usr/")

    def run(self, command: Sequence[str], files: Mapping[str, str], limits: ProgramLimits) -> Ended:
        with contextlib.ExitStack() as stack:
            descriptors: list[int] = []

            def passed(content: bytes) -> str:
                descriptors.append(stack.enter_context(_descriptor(content)))
                return str(descriptors[-1])

            given = [
                part
                for name, text in files.items()
                for part in ("--perms", "0644", "--file", passed(text.encode(errors="replace")), f"{WORK}/{name}")
            ]
            seccomp = [] if self._filter is None else ["--seccomp", passed(self._filter)]
            whole = [self._program, *self._namespaces(limits), *given, *seccomp, "--remount-ro", "/", "--chdir", WORK]
            told, tells = os.pipe()
            stack.callback(os.close, told)
            stack.callback(os.close, tells)
            switched = {} if self._user is None else {"user": self._user, "group": self._user, "extra_groups": ()}
            inside = ["--", *_with_resource_limits(limits, counts_processes=True), *command]
            command = [*whole, "--json-status-fd", str(tells), *inside]
            passed_on = [*descriptors, tells]
            try:
                ended = run_limited(command, limits, told, env={}, cwd="/", pass_fds=passed_on, **switched)
            except OSError as error:
                raise SandboxBroken(f"{self._program} cannot be started: {error}") from error
        if not ended.is_started:
            raise SandboxBroken(f"bubblewrap can no longer start a program: {ended.errors.strip()[-300:]}")
        return ended

    def _namespaces(self, limits: ProgramLimits) -> list[str]:
        words = "--unshare-all --unshare-user --disable-userns --die-with-parent --new-session".split()
        words += ["--cap-drop", "ALL"]
        words += ["--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "sandbox", "--clearenv"]
        words += [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]
        words += ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib64", "lib32"):
            path = Path("/") / name
            if path.is_symlink():
                words += ["--symlink", os.readlink(path).lstrip("/"), str(path)]
            elif path.is_dir():
                words += ["--ro-bind", str(path), str(path)]
        for name in _ETC:
            words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for folder in self._interpreter.folders:
            words += ["--ro-bind", folder, folder]
        for source, target in self._interpreter.packages:
            words += ["--ro-bind", source, target]
        if self._interpreter.packages:
            words += ["--setenv", "PYTHONPATH", _PACKAGES]
        size = str(limits.disk_bytes)
        words += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
        return [*words, "--size", size, "--tmpfs", "/tmp", "--perms", "0755", "--dir", WORK]


class Unsandboxed:
    """No sandbox: programs run as the user, with limits only. For `--unsafe-checks`."""

    name = "none"
    python = sys.executable

    def has(self, program: str) -> bool:
        return shutil.which(program) is not None

    def run(self, command: Sequence[str], files: Mapping[str, str], limits: ProgramLimits) -> Ended:
        with tempfile.TemporaryDirectory(prefix="inferometer-check-", ignore_cleanup_errors=True) as folder:
            for name, text in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", errors="replace")
            has_prlimit = shutil.which("prlimit") is not None
            before = _with_resource_limits(limits, counts_processes=False) if has_prlimit else []
            environment = _ENVIRONMENT | {"PATH": os.environ.get("PATH", ""), "HOME": folder, "TMPDIR": folder}
            return run_limited([*before, *command], limits, env=environment, cwd=folder)


def find_sandbox() -> Sandbox:
    """The sandbox of this machine. Raises RequestWrong, with the command that installs one, where there is none."""
    found, reason = sandbox_state()
    if found is None:
        raise RequestWrong(
            f"answers cannot be checked: they are programs that a model wrote, and there is no sandbox to run them in "
            f"({reason}). --unsafe-checks runs them without one: they can then read and change your files."
        )
    return found


def sandbox_state() -> tuple[Sandbox | None, str]:
    """The sandbox, or None and why there is none, for `inferometer doctor`: bubblewrap, else a container."""
    found, reason = _bubblewrap()
    if found is not None:
        return found, ""
    container, other = _container()
    return container, "" if container is not None else f"{reason}; {other}"


@functools.cache
def _container() -> tuple[Container | None, str]:
    return found_container()


@functools.cache
def _bubblewrap() -> tuple[Bubblewrap | None, str]:
    program = shutil.which("bwrap")
    if program is None and sys.platform != "linux":
        return None, "bubblewrap needs Linux: install podman or docker"
    if program is None:
        return None, f"bubblewrap is not installed: {INSTALL}"
    interpreter = _interpreter()
    if interpreter is None:
        return None, "no Python that an unprivileged user can read: sudo apt-get install python3"
    found = Bubblewrap(program, interpreter)
    try:
        ended = found.run([found.python, "-c", "print('ready')"], {}, ProgramLimits(wall_s=PROBE_S))
    except (OSError, SandboxBroken) as error:
        said = str(error)
    else:
        if ended.output.strip() == "ready":
            return found, ""
        if ended.stopped:
            return None, f"bubblewrap did not start a program within {PROBE_S:g} s: wait until the machine is less busy"
        said = (ended.errors.strip().splitlines() or [f"status {ended.status}"])[-1]
    return None, f"bubblewrap cannot make namespaces here ({said}): {_namespace_advice()}"


def _namespace_advice() -> str:
    if Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
        return "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    return "sudo sysctl user.max_user_namespaces=15000; in a container, allow user namespaces to it"


# --- parts of the command -------------------------------------------------------------------------


def _with_resource_limits(limits: ProgramLimits, *, counts_processes: bool) -> list[str]:
    """The program that sets limits which a process cannot raise again, to be put before the command."""
    words = ["prlimit", f"--nofile={limits.files}", f"--fsize={limits.disk_bytes}", "--core=0", "--memlock=0"]
    words.append(f"--cpu={round(limits.wall_s) + 1}")
    if counts_processes and _kernel() >= _OLDEST_NAMESPACED_COUNT:
        words.append(f"--nproc={limits.processes}")
    if limits.address_space:
        words.append(f"--as={2 * limits.memory_bytes}")
    return [*words, "--"]


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdecimal())


@contextlib.contextmanager
def _descriptor(content: bytes) -> Iterator[int]:
    """A descriptor from which bwrap reads the content; bwrap closes it before the program starts."""
    descriptor = os.memfd_create("file", 0)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


# --- the interpreter ------------------------------------------------------------------------------

_PACKAGES = "/packages"


def _interpreter() -> Interpreter | None:
    """This program's own Python if an unprivileged user may read it, else the system's."""
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    prefix = os.path.realpath(sys.base_prefix)
    if _readable_by_others(base) and _readable_by_others(prefix):
        folders = () if prefix == "/usr" or prefix.startswith("/usr/") else (prefix,)
        return Interpreter(base, folders, _numpy())
    system = "/usr/bin/python3"
    if not os.path.exists(system):
        return None
    version = subprocess.run(
        [system, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
    ).stdout.split()
    is_same = version == [str(part) for part in sys.version_info[:2]]
    return Interpreter(system, (), _numpy() if is_same else ())


def _numpy() -> tuple[tuple[str, str], ...]:
    """numpy's folders, which the tests of some problem sets import."""
    spec = find_spec("numpy")
    if spec is None or spec.origin is None:
        return ()
    folder = Path(spec.origin).parent
    found = [folder, folder.with_name("numpy.libs")]
    return tuple(
        (str(one), f"{_PACKAGES}/{one.name}") for one in found if one.is_dir() and _readable_by_others(str(one))
    )


def _readable_by_others(path: str) -> bool:
    """Whether the unprivileged user of the sandbox can reach the path: always true unless we run as root."""
    if os.geteuid() != 0:
        return True
    place = Path(path)
    return all(one.stat().st_mode & stat.S_IXOTH for one in (place, *place.parents) if one.is_dir()) and bool(
        place.stat().st_mode & stat.S_IROTH
    )

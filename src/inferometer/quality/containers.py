"""The sandbox by containers: podman or docker, without network, where bubblewrap cannot be used.

A program sees the files of an image, a private /tmp in memory, and its own files read-only. The image is one that this
machine has already: nothing is downloaded.
"""

import functools
import math
import os
import resource
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from inferometer.quality.process_limits import Ended, ProgramLimits, SandboxBroken, run_limited
from inferometer.quality.system_calls import container_profile

PROGRAMS = ("podman", "docker")
"""In order of preference: podman needs no service that runs as root."""
IMAGE_VARIABLE = "INFEROMETER_CHECK_IMAGE"
IMAGE = "docker.io/library/python:3-slim"
_NOBODY = "65534:65534"
_USER_PROCESSES = 16_384
_FILES, _PROFILE = "files", "seccomp.json"
_KILLED = 137
"""Exit status of a program that `timeout` or a memory limit has ended."""
PROBE_S = 60.0
"""Seconds in which a sandbox must run its first program, on a busy machine too."""
_START_S = 20.0
"""A container may take this long to start; added to the time limit of a program."""

_INSIDE = """
echo "$1" >&2; shift
seconds=$1; ulimit -c 0; test "$2" = 0 || ulimit -v "$2"; shift 2
mkdir /tmp/work && cp -R /files/. /tmp/work && cd /tmp/work && exec timeout -s KILL "$seconds" "$@"
"""
"""Arguments: a word that shows that the container runs, seconds, KiB of address space (0: no limit), the command."""


class Container:
    """Containers by podman or docker."""

    python = "python3"

    def __init__(self, program: str, image: str) -> None:
        self.name = Path(program).name
        self._program = program
        self.image = image
        self.has = functools.cache(self._has)

    def run(self, command: Sequence[str], files: Mapping[str, str], limits: ProgramLimits) -> Ended:
        """Raises SandboxBroken if the program never began."""
        word, name = secrets.token_hex(8), f"inferometer-check-{secrets.token_hex(8)}"
        allowed = msgspec.structs.replace(limits, wall_s=limits.wall_s + _START_S)
        with tempfile.TemporaryDirectory(prefix="inferometer-check-", ignore_cleanup_errors=True) as folder:
            os.chmod(folder, 0o755)
            (Path(folder) / _PROFILE).write_text(container_profile())
            (Path(folder) / _FILES).mkdir()
            for file, text in files.items():
                path = Path(folder) / _FILES / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", errors="replace")
            address_kib = 2 * limits.memory_bytes // 1024 if limits.address_space else 0
            inside = ["sh", "-c", _INSIDE, "sh", word, str(math.ceil(limits.wall_s)), str(address_kib), *command]
            try:
                ended = run_limited([*self._options(name, folder, limits), self.image, *inside], allowed, cwd="/")
            except OSError as error:
                raise SandboxBroken(f"{self._program} cannot be started: {error}") from error
            if ended.stopped:
                self._end(name)
        if word not in ended.errors and not ended.stopped:
            raise SandboxBroken(f"{self.name} can no longer start a container: {ended.errors.strip()[-300:]}")
        ended = msgspec.structs.replace(ended, errors=ended.errors.replace(f"{word}\n", "", 1))
        if ended.status != _KILLED:
            return ended
        return msgspec.structs.replace(
            ended, status=None, stopped="time" if ended.wall_s >= limits.wall_s else "memory"
        )

    def _options(self, name: str, folder: str, limits: ProgramLimits) -> list[str]:
        memory = str(limits.memory_bytes)
        words = [self._program, "run", "--rm", "--name", name, "--pull=never", "--network=none", "--read-only"]
        words += ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=label=disable"]
        words += [f"--security-opt=seccomp={folder}/{_PROFILE}", f"--ulimit=cpu={math.ceil(limits.wall_s) + 1}"]
        words += [f"--user={_NOBODY}", "--hostname=sandbox", f"--pids-limit={limits.processes}"]
        words += [f"--memory={memory}", f"--memory-swap={memory}", f"--ulimit=nofile={limits.files}:{limits.files}"]
        words += [f"--ulimit=fsize={limits.disk_bytes}:{limits.disk_bytes}", f"--ulimit=nproc={_user_processes()}"]
        words += [f"--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777,size={limits.disk_bytes}"]
        words += [
            f"--volume={folder}/{_FILES}:/files:ro",
            "--env=HOME=/tmp",
            "--env=GOCACHE=/tmp/.cache",
            "--env=GO111MODULE=off",
        ]
        return [*words, "--env=PYTHONDONTWRITEBYTECODE=1", "--env=PYTHONHASHSEED=0", "--entrypoint="]

    def _end(self, name: str) -> None:
        """Ends and removes a container whose client was ended, with every process in it; also one that never began."""
        subprocess.run([self._program, "rm", "--force", name], check=False, capture_output=True)

    def _has(self, program: str) -> bool:
        ended = self.run(["sh", "-c", 'command -v "$1"', "sh", program], {}, ProgramLimits())
        return ended.status == 0


def _user_processes() -> str:
    """Limit for all processes of the user `_NOBODY`. By default podman asks for more than a root user without
    CAP_SYS_RESOURCE (in a container, for example) may set."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return str(_USER_PROCESSES if most == resource.RLIM_INFINITY else min(most, _USER_PROCESSES))


def found_container(programs: Sequence[str] = PROGRAMS) -> tuple[Container | None, str]:
    """The first of the programs that can start a container, or None and why there is none."""
    reasons: list[str] = []
    image = os.environ.get(IMAGE_VARIABLE, IMAGE)
    for name in programs:
        program = shutil.which(name)
        if program is None:
            continue
        container = Container(program, image)
        try:
            ended = container.run([container.python, "-c", "print('ready')"], {}, ProgramLimits(wall_s=PROBE_S))
        except SandboxBroken as error:
            reasons.append(f"{name}: {_advice(str(error), name, image)}")
            continue
        if ended.output.strip() == "ready":
            return container, ""
        said = (ended.errors.strip().splitlines() or [f"status {ended.status}"])[-1]
        reasons.append(f"{name}: the image {image} cannot run python3 ({said}); name another one in {IMAGE_VARIABLE}")
    return None, "; ".join(reasons) or f"not installed: {', '.join(programs)}"


def _advice(said: str, name: str, image: str) -> str:
    said = said.removeprefix(f"{name} can no longer start a container: ").replace(f"{name}: ", "")
    lowered = said.lower()
    if "image" in lowered and ("not known" in lowered or "no such image" in lowered or "unable to find" in lowered):
        return f"there is no image {image}: {name} pull {image}"
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(("See '", "Run '"))]
    return (lines or ["it cannot start a container"])[-1].strip().rstrip(".")

import io
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from inferometer.quality.containers import PROGRAMS as PROGRAMS_OF_CONTAINERS
from inferometer.quality.containers import Container, found_container
from inferometer.quality.sandbox import Bubblewrap, ProgramLimits, Sandbox, SandboxBroken, sandbox_state

PROGRAMS: dict[str, str] = runpy.run_path(str(Path(__file__).with_name("hostile_programs.py")))["PROGRAMS"]
LIMITS = ProgramLimits(wall_s=1.5, memory_bytes=256 * 1024**2, disk_bytes=32 * 1024**2, output_bytes=64 * 1024)
KILLED_BY_FILTER = (-signal.SIGSYS, 128 + signal.SIGSYS)
"""Exit statuses of a program that called the kernel in a forbidden way."""
CANARY = "the-canary-of-this-test"
_FOUND, _REASON = sandbox_state()


@pytest.fixture
def sandbox() -> Sandbox:
    if _FOUND is None and (os.environ.get("CI") or sys.platform != "linux"):
        pytest.skip(f"there is no sandbox on this machine: {_REASON}")
    assert _FOUND is not None, _REASON
    return _FOUND


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Things that a hostile program looks for; yields their names, and whether a server got a connection."""
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("INFEROMETER_SECRET", CANARY)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0inferometer-{os.getpid()}")
        abstract.listen()
        server.settimeout(0)
        names = {
            "port": str(server.getsockname()[1]),
            "abstract": f"inferometer-{os.getpid()}",
            "secret": str(tmp_path / "secret"),
            "folder": str(tmp_path / "folder"),
            "parent": str(os.getpid()),
            "canary": CANARY,
        }
        yield names, server, tmp_path


def filled(program: str, names: dict[str, str]) -> str:
    return re.sub(r"\{(port|abstract|secret|folder|parent|canary)\}", lambda found: names[found[1]], program)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_does_no_harm_leaves_nothing_and_ends_in_time(name, sandbox, machine):
    assert attack(name, sandbox, machine) < LIMITS.wall_s + 1


@pytest.fixture(scope="module", params=PROGRAMS_OF_CONTAINERS)
def container(request):
    """A container, the files of its image, which are not the user's, and how long three programs take to start."""
    found, reason = found_container([request.param])
    if found is None:
        pytest.skip(f"there is no container of {request.param} on this machine: {reason}")
    return found, files_of_image(found), seconds_of_three(found)


def seconds_of_three(container: Container) -> float:
    began_s = time.monotonic()
    for _ in range(3):
        container.run(["true"], {}, LIMITS)
    return time.monotonic() - began_s


def files_of_image(container: Container) -> set[str]:
    def run(*words: str) -> bytes:
        return subprocess.run([container.name, *words], capture_output=True, check=True).stdout

    made = run("create", "--network=none", container.image, "true").decode().strip()
    try:
        with tarfile.open(fileobj=io.BytesIO(run("export", made))) as files:
            return {f"/{name.removeprefix('./')}" for name in files.getnames()}
    finally:
        run("rm", made)


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_does_no_harm_in_a_container_either(name, container, machine):
    """`make quality` runs it. Starting and removing a container may take as long as three of them take; if a busy
    machine needs longer, the program is run again."""
    found, image_files, start_s = container
    for attempt in range(4):
        took_s = attack(name, found, machine, image_files)
        if took_s < LIMITS.wall_s + 1 + start_s:
            break
        assert attempt < 3, (took_s, start_s)
        start_s = seconds_of_three(found)
    wait_until(lambda: not container_names(found))


def container_names(container: Container) -> list[str]:
    command = [container.name, "ps", "--all", "--format", "{{.Names}}", "--filter", "name=inferometer-check"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def attack(name: str, sandbox: Sandbox, machine, image_files: frozenset[str] = frozenset()) -> float:
    """Runs a hostile program, asserts that it did no harm and left nothing, and returns how long it took. What it finds
    in `image_files` is no escape."""
    names, server, tmp_path = machine
    mark = f"hostile-{os.getpid()}-{abs(hash(name))}"
    began_s = time.monotonic()
    ended = sandbox.run([sandbox.python, "main.py", mark], {"main.py": filled(PROGRAMS[name], names)}, LIMITS)
    took_s = time.monotonic() - began_s
    escaped = [line for line in ended.output.splitlines() if "ESCAPED" in line and line.split()[0] not in image_files]
    assert not escaped and CANARY not in ended.output + ended.errors
    if "REFUSED" in PROGRAMS[name] and not ended.stopped and ended.status not in KILLED_BY_FILTER:
        assert "REFUSED" in ended.output, ended
    assert len(ended.output) <= LIMITS.output_bytes + 1
    with pytest.raises(BlockingIOError):
        server.accept()
    assert not [one for one in psutil.process_iter(["cmdline"]) if mark in (one.info["cmdline"] or [])]
    assert (tmp_path / "secret").read_text() == CANARY
    assert not list((tmp_path / "folder").iterdir())
    return took_s


def test_every_process_of_a_sandbox_ends_with_the_process_that_started_it(sandbox):
    code = (
        "from inferometer.quality.sandbox import *\n"
        "s = find_sandbox()\n"
        "command = [s.python, '-c', 'import time; time.sleep(60)', "
        f"'orphan-{os.getpid()}']\n"
        "s.run(command, {}, ProgramLimits(wall_s=60))"
    )
    child = subprocess.Popen([sys.executable, "-c", code])

    def running():
        return [
            one for one in psutil.process_iter(["cmdline"]) if f"orphan-{os.getpid()}" in (one.info["cmdline"] or [])
        ]

    wait_until(lambda: any(one.name().startswith("python") for one in running()))
    child.kill()
    child.wait()
    wait_until(lambda: not running())


def wait_until(holds):
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 10 s")


@pytest.mark.parametrize(
    ("program", "stopped"),
    [
        ("import time; time.sleep(60)", "time"),
        ("x = []\nwhile True: x.append(bytes(b'x' * 10**7))", "memory"),
        ("print('x' * 10**6)", "output"),
    ],
)
def test_a_limit_that_stopped_a_program_is_named(sandbox, program, stopped):
    limits = ProgramLimits(wall_s=2, memory_bytes=128 * 1024**2, address_space=False, output_bytes=1000)
    assert sandbox.run([sandbox.python, "-c", program], {}, limits).stopped == stopped


def test_text_that_is_not_unicode_reaches_a_program(sandbox):
    ended = sandbox.run([sandbox.python, "-c", "print(open('x').read())"], {"x": "a\ud800b"}, ProgramLimits())
    assert ended.output == "a?b\n"


def test_a_program_that_ends_has_its_status_and_its_output(sandbox):
    program = "import sys; print(open('data.txt').read()); sys.stderr.write('said'); sys.exit(3)"
    ended = sandbox.run([sandbox.python, "main.py"], {"main.py": program, "data.txt": "held"}, ProgramLimits())
    assert (ended.status, ended.stopped, ended.output, ended.errors) == (3, "", "held\n", "said")


def test_a_sandbox_that_fails_is_not_taken_for_a_program_that_fails(sandbox):
    broken = Bubblewrap("bwrap", msgspec.structs.replace(sandbox._interpreter, folders=("/nowhere",)))
    with pytest.raises(SandboxBroken, match="/nowhere"):
        broken.run(["true"], {}, ProgramLimits())


def test_many_programs_run_at_once(sandbox):
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(
                sandbox.run([sandbox.python, "-c", f"print({n})"], {}, ProgramLimits()).output
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{n}\n" for n in range(8))

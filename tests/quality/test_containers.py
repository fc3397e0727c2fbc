"""Where bubblewrap is missing, programs run in a container of podman or docker. The container programs are fakes that
run the command themselves: they show what is asked of podman, not that podman holds it."""

import json
import sys
from pathlib import Path

import pytest

from inferometer.quality import sandbox
from inferometer.quality.containers import Container, found_container
from inferometer.quality.process_limits import ProgramLimits, SandboxBroken

FAKE = """#!{python}
import json, os, pathlib, subprocess, sys, tempfile
asked, log = sys.argv[1:], pathlib.Path(__file__).with_name("asked")
with log.open("a") as file:
    file.write(json.dumps(asked) + "\\n")
if asked[0] != "run":
    sys.exit(0)
if {says!r}:
    print({says!r}, file=sys.stderr)
    sys.exit(125)
command = asked[asked.index("sh"):]
(files,) = (one.split("=")[1].split(":")[0] for one in asked if one.startswith("--volume="))
with tempfile.TemporaryDirectory() as folder:
    command[2] = command[2].replace("/files", files).replace("/tmp/work", folder + "/work").replace("ulimit", ":")
    status = subprocess.call(command)
    sys.exit(128 - status if status < 0 else status)
"""


def fake(folder: Path, name: str, says: str = "") -> Path:
    """A program that answers as `name` does; `says`: it fails with this message."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(FAKE.format(python=sys.executable, says=says))
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path, monkeypatch):
    """PATH has no other programs of sandboxes, and the image is the usual one."""
    monkeypatch.delenv("INFEROMETER_CHECK_IMAGE", raising=False)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name, **_: next(map(str, (tmp_path / "bin").glob(name)), None))
    caches = sandbox._bubblewrap, sandbox._container
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / "bin"
    for cache in caches:
        cache.cache_clear()


def asked_of(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def test_without_bubblewrap_programs_run_in_a_container_without_network_and_rights(only):
    fake(only, "podman")
    found = sandbox.find_sandbox()
    ended = found.run(["sh", "-c", "cat data.txt; echo said >&2; exit 3"], {"data.txt": "held"}, ProgramLimits())
    assert (found.name, ended.status, ended.stopped, ended.output, ended.errors) == ("podman", 3, "", "held", "said\n")
    run = asked_of(only)[-1]
    for option in ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                   "--pull=never", "--user=65534:65534", "--pids-limit=64"):  # fmt: skip
        assert option in run
    assert not [one for one in run if one.startswith("--volume=") and not one.endswith(":/files:ro")]


def test_a_program_at_its_time_limit_is_ended_and_so_is_its_container(only):
    container = Container(str(fake(only, "docker")), "image")
    ended = container.run(["sleep", "600"], {}, ProgramLimits(wall_s=1))
    assert (ended.status, ended.stopped) == (None, "time")


def test_a_container_that_does_not_start_is_not_a_wrong_answer(only):
    container = Container(str(fake(only, "docker", "Cannot connect to the Docker daemon")), "image")
    with pytest.raises(SandboxBroken, match="docker can no longer start a container: Cannot connect"):
        container.run(["true"], {}, ProgramLimits())


@pytest.mark.parametrize(
    ("name", "says", "advice"),
    [
        ("podman", "Error: docker.io/library/python:3-slim: image not known", "podman pull docker.io/library/python:3"),
        ("docker", "docker: Error response from daemon: No such image: python:3-slim", "docker pull docker.io/library"),
        ("docker", "Cannot connect to the Docker daemon. Is it running?", "Is it running?"),
        ("docker", "docker: no daemon runs.\n\nRun 'docker run --help' for more information", "docker: no daemon runs"),
        ("podman", "crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted", "Operation not permitted"),
    ],
)
def test_the_reason_why_there_is_no_container_says_what_to_do(only, name, says, advice):
    fake(only, name, says)
    found, reason = found_container()
    assert found is None
    assert reason.startswith(f"{name}: ") and advice in reason and reason.count(f"{name}: ") == 1


def test_docker_is_used_where_there_is_no_podman(only):
    fake(only, "docker")
    assert sandbox.find_sandbox().name == "docker"


def test_a_language_is_there_if_the_image_has_its_program(only):
    container = Container(str(fake(only, "podman")), "image")
    assert container.has("sh")
    assert not container.has("no-such-program")

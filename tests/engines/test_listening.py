"""Engines listen on this machine alone unless told otherwise, and no start command goes through a shell by itself."""

import shutil
from pathlib import Path

import pytest

from inferometer.base.errors import SpecInvalid
from inferometer.core.spec import Arm
from inferometer.core.spec_file import parse
from inferometer.engines.command import Command
from inferometer.engines.embedded import settings_of
from inferometer.engines.llama_server import LlamaServer
from inferometer.engines.sglang import SgLang
from inferometer.engines.vllm import Vllm
from inferometer.standin.pairs import standin_pair
from inferometer.testing import llama_server_shim, openai_server_shim


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arm]:
    folder = tmp_path_factory.mktemp("engines")
    model = str(standin_pair(folder, "tiny")[0])
    others = {name: str(openai_server_shim.write_binary(folder / name, name)) for name in ("vllm", "sglang")}
    llama = str(llama_server_shim.write_binary(folder / "llama-server"))
    return {
        "llama-server": Arm(engine="llama-server", model=model, binary=llama),
        **{name: Arm(engine=name, model="owner/name", binary=binary) for name, binary in others.items()},
    }


ENGINES = {"llama-server": LlamaServer, "vllm": Vllm, "sglang": SgLang}


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_is_told_to_listen_on_this_machine_alone(arms: dict[str, Arm], name: str):
    launch = ENGINES[name]().launch(arms[name])
    assert launch.command.count("--host") == 1
    assert launch.command[launch.command.index("--host") + 1] == "127.0.0.1"
    assert launch.base_url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_listens_where_the_arm_says(arms: dict[str, Arm], name: str):
    arm = arms[name]
    launch = ENGINES[name]().launch(Arm(arm.engine, arm.model, binary=arm.binary, args=("--host", "0.0.0.0")))
    assert launch.command.count("--host") == 1
    assert launch.command[launch.command.index("--host") + 1] == "0.0.0.0"
    assert launch.base_url.startswith("http://127.0.0.1:")  # it is asked here all the same


def test_the_embedded_engine_listens_on_this_machine_alone():
    assert settings_of(Arm("embedded", "m"), port=1).host == "127.0.0.1"


def test_a_command_is_words_that_no_shell_reads(tmp_path: Path):
    echo = shutil.which("echo") or "echo"
    word = "$(touch owned); `touch owned` | > owned {port}"
    command = Command().launch(Arm("command", command=(echo, word), cwd=str(tmp_path))).command
    assert command[0] == echo
    assert command[1].startswith("$(touch owned); `touch owned` | > owned ")
    assert len(command) == 2


def test_only_shell_true_makes_a_line_go_to_a_shell():
    assert Command().launch(Arm("command", command="server {port}", shell=True)).command[:2] == ("/bin/sh", "-c")
    for arm in ("command: server --port 1", "command: server, shell: false", "command: [a, b], shell: true"):
        with pytest.raises(SpecInvalid, match="shell"):
            parse(f"arms: {{a: {{engine: command, {arm}}}}}", "x")

import os
import socket
import sys
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong
from inferometer.core.spec import Arm, Draft
from inferometer.engines.command_line import Address, address_of, given, in_place, names_port, own_command, program

HERE = Address("127.0.0.1", 5000)


def arm(**fields: object) -> Arm:
    return Arm(**{"engine": "command", "model": "m.gguf", **fields})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ((), None),
        (("--port", "80"), "80"),
        (("--port=81",), "81"),
        (("--port", "80", "--port", "82"), "82"),
        (("--port",), None),
        (("--portal", "9"), None),
    ],
)
def test_the_last_value_given_holds(args: tuple[str, ...], value: str | None):
    assert given(args, "--port") == value


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_what_is_no_port_is_refused(port: str):
    with pytest.raises(RequestWrong, match="is not a port number"):
        address_of(arm(args=("--port", port)))


def test_a_port_in_use_is_refused_with_a_way_out():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RequestWrong, match=f"already listens on 127.0.0.1:{port}.*a free one is chosen"):
            address_of(arm(args=("--port", str(port))))


def test_an_address_of_ipv6_is_asked_in_brackets():
    assert Address("::1", 80).base_url == "http://[::1]:80"


def test_placeholders_of_a_list_are_filled_in_word_by_word():
    command = ("serve", "{model}", "--draft={draft_model}", "--at", "{host}:{port}", '{"a": {"b": 1}}', "{messages}")
    own = arm(command=command, draft=Draft(model="d e.gguf"))
    filled = ("serve", "m.gguf", "--draft=d e.gguf", "--at", "127.0.0.1:5000", '{"a": {"b": 1}}', "{messages}")
    assert own_command(own, HERE) == filled


def test_placeholders_of_a_line_for_the_shell_are_quoted():
    own = arm(command="exec serve {model} --port {port} 2>&1", shell=True, model="a model's.gguf")
    assert own_command(own, HERE) == ("/bin/sh", "-c", "exec serve 'a model'\"'\"'s.gguf' --port 5000 2>&1")


@pytest.mark.parametrize(
    ("command", "model", "message"),
    [
        (("serve", "{prot}"), "m", "there is no {prot}; did you mean {port}?"),
        (("serve", "{model}"), "", "it names {model}, and the arm has no model:"),
        (("serve", "{draft_model}"), "m", "it names {draft_model}, and the arm has no draft: with a model"),
    ],
)
def test_a_placeholder_without_a_value_is_refused(command: tuple[str, ...], model: str, message: str):
    with pytest.raises(RequestWrong) as caught:
        own_command(arm(command=command, model=model), HERE)
    assert message in str(caught.value)


def test_whether_a_command_is_told_the_port_is_known():
    assert names_port(arm(command=("a", "--port={port}")))
    assert names_port(arm(command="a {port}", shell=True))
    assert not names_port(arm(command=("a", "{port", "}")))


def test_a_relative_program_is_looked_for_in_the_arms_own_directory(tmp_path: Path):
    binary = tmp_path / "bin" / "serve"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert program(arm(binary="bin/serve", cwd=str(tmp_path)), "serve", "") == str(binary)
    assert program(arm(env={"PATH": str(binary.parent)}), "serve", "") == str(binary)
    with pytest.raises(RequestWrong, match=r"there is no such file\. Build it\."):
        program(arm(binary="bin/other", cwd=str(tmp_path)), "serve", "Build it.")


def test_an_engine_that_is_no_program_here_says_how_to_get_it():
    with pytest.raises(RequestWrong, match=r"no-such-engine: it is not on PATH\. pip install it"):
        program(arm(), "no-such-engine", "pip install it")


def test_models_keep_their_place_when_the_engine_starts_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").write_text("")
    there = in_place(arm(cwd=os.path.dirname(sys.executable), draft=Draft(model="owner/name")))
    assert there.model == str(tmp_path / "m.gguf")
    assert there.draft is not None and there.draft.model == "owner/name"
    with pytest.raises(RequestWrong, match="cwd: nowhere is not a directory"):
        in_place(arm(cwd="nowhere"))
